"""Bars written anew between others, and bars to go on from: what is kept is kept to the word."""

from __future__ import annotations

import base64

import pytest
from model_helpers import tiny_base

from plagal.model.base import load
from plagal.model.language_model import LanguageModel
from plagal.music.arranger import arrange
from plagal.music.midi import to_midi_bytes
from plagal.serving.controls import read_request
from plagal.serving.order import cut_bars, understand
from plagal.serving.writer import write
from plagal.tokens import grammar
from plagal.tokens.codec import encode


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(tiny_base(tmp_path_factory.mktemp("base")))


def words_of(style: str = "worship", bars: int = 8) -> list[str]:
    return encode(arrange(None, style, key="Db", seed=3, bars=bars))


def test_refilled_bars_are_new_and_all_others_kept(lm: LanguageModel) -> None:
    words = words_of()
    refill = {"piece": "p", "first_bar": 3, "last_bar": 4}
    heard: list[str] = []
    order = understand(read_request({"refill": refill}), 1, lambda _: words)
    (new,) = write(lm, [order], 3000, lambda _, word: heard.append(word))
    before, after = cut_bars(words), cut_bars(new)
    assert grammar.accepts(new) and heard == new
    assert len(after) == len(before)
    assert [bar for bar, (old, now) in enumerate(zip(before, after, strict=True)) if old != now] == [3, 4]


@pytest.mark.parametrize("bars", [(1, 2), (7, 8), (1, 8)])
def test_the_first_and_the_last_bars_can_be_refilled(lm: LanguageModel, bars: tuple[int, int]) -> None:
    words = words_of()
    refill = {"piece": "p", "first_bar": bars[0], "last_bar": bars[1]}
    (new,) = write(lm, [understand(read_request({"refill": refill}), 1, lambda _: words)], 3000)
    assert grammar.accepts(new)
    kept = [bar for bar in range(1, 9) if not bars[0] <= bar <= bars[1]]
    assert [cut_bars(new)[bar] for bar in kept] == [cut_bars(words)[bar] for bar in kept]


def test_a_tempo_that_the_refilled_bars_brought_still_holds_after_them() -> None:
    note = ["NOTE_ON_60", "DUR_HALF", "VEL_MF"]
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_66", "BAR_START", "BEAT_0", *note]
    words += ["BAR_START", "BEAT_0", "TEMPO_120", *note, "BAR_START", "BEAT_1", *note, "SONG_END"]
    order = understand(read_request({"refill": {"piece": "p", "first_bar": 2, "last_bar": 2}}), 1, lambda _: words)
    assert " ".join(order.after) == "BAR_START BEAT_0 TEMPO_120 BEAT_1 NOTE_ON_60 DUR_HALF VEL_MF"


def test_bars_to_go_on_from_are_kept_to_the_word(lm: LanguageModel) -> None:
    midi = base64.b64encode(to_midi_bytes(arrange(None, "gospel_jazz", key="F", seed=5, bars=4))).decode()
    for seed in range(4):
        order = understand(read_request({"continue": {"midi": midi, "from_bar": 3}, "bars": 2}), seed)
        (new,) = write(lm, [order], 3000)
        assert grammar.accepts(new) and new.count("BAR_START") == 5
        assert cut_bars(new)[:4] == cut_bars(["SONG_START", *order.head])
