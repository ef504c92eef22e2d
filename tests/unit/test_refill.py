"""Bars written anew between others, and bars to go on from: what is kept is kept to the word."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise

import pytest
from model_helpers import tiny_base

from plagal.asking.request import read_request
from plagal.compose.opening import following_words, opening_words
from plagal.compose.write import FILLINGS, draft, leads_into, write
from plagal.model.base import load
from plagal.model.scorer import ModelScorer
from plagal.music.arranger.arrange import arrange
from plagal.music.edits import bar_edges
from plagal.music.midi import to_midi_bytes
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode
from plagal.tokens.grammar import cut_bars


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ModelScorer:
    return ModelScorer(load(tiny_base(tmp_path_factory.mktemp("base"))))


def words_of(style: str = "worship", bars: int = 8) -> list[str]:
    return encode(arrange(None, style, key="Db", seed=3, bars=bars))


def bars_of(words: Sequence[str]) -> list[tuple[str, ...]]:
    """What stands before the first bar, then each bar, without the piece's first and last word."""
    head, bars = cut_bars([word for word in words if word not in ("SONG_START", "SONG_END")])
    return [head, *(bar.words for bar in bars)]


def test_refilled_bars_are_new_and_all_others_kept(scorer: ModelScorer) -> None:
    words = words_of()
    heard: list[str] = []
    asked = read_request({"refill": {"piece": "p", "first_bar": 3, "last_bar": 4}}, find=lambda _: words)
    (new,) = write(scorer, [asked], max_words=3000, on_word=lambda _, word: heard.append(word))
    before, after = bars_of(words), bars_of(new)
    assert grammar.accepts(new) and heard == new
    assert len(after) == len(before)
    assert [bar for bar, (old, now) in enumerate(zip(before, after, strict=True)) if old != now] == [3, 4]


@pytest.mark.parametrize("bars", [(1, 2), (7, 8), (1, 8)])
def test_the_first_and_the_last_bars_can_be_refilled(scorer: ModelScorer, bars: tuple[int, int]) -> None:
    words = words_of()
    asked = read_request({"refill": {"words": words, "first_bar": bars[0], "last_bar": bars[1]}})
    (new,) = write(scorer, [asked], max_words=3000)
    assert grammar.accepts(new)
    kept = [bar for bar in range(1, 9) if not bars[0] <= bar <= bars[1]]
    assert [bars_of(new)[bar] for bar in kept] == [bars_of(words)[bar] for bar in kept]


def test_a_tempo_that_the_refilled_bars_brought_still_holds_after_them() -> None:
    note = ["NOTE_ON_60", "DUR_HALF", "VEL_MF"]
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_66", "BAR_START", "BEAT_0", *note]
    words += ["BAR_START", "BEAT_0", "TEMPO_120", *note, "BAR_START", "BEAT_1", *note, "SONG_END"]
    asked = read_request({"refill": {"words": words, "first_bar": 2, "last_bar": 2}})
    assert " ".join(following_words(asked)) == "BAR_START BEAT_0 TEMPO_120 BEAT_1 NOTE_ON_60 DUR_HALF VEL_MF"


def test_bars_to_go_on_from_are_kept_to_the_word(scorer: ModelScorer) -> None:
    midi = base64.b64encode(to_midi_bytes(arrange(None, "gospel_jazz", key="F", seed=5, bars=4))).decode()
    for seed in range(4):
        asked = read_request({"continue": {"midi": midi, "from_bar": 3}, "bars": 2, "seed": seed})
        (new,) = write(scorer, [asked], max_words=3000)
        assert grammar.accepts(new) and new.count("BAR_START") == 5
        assert bars_of(new)[:4] == bars_of(opening_words(asked)[:-1])


def test_of_several_drafts_the_one_is_kept_that_leads_best_into_what_follows(scorer: ModelScorer) -> None:
    words = words_of()
    asked = read_request({"refill": {"words": words, "first_bar": 3, "last_bar": 4}})
    heard: list[str] = []
    (kept,) = write(scorer, [asked], max_words=3000, on_draft=lambda _, word: heard.append(word))
    assert heard.count("SONG_END") == FILLINGS
    seeds = [asked.again(asked.seed + number * 1_000_003) for number in range(FILLINGS)]
    drafts = draft(scorer, seeds, max_words=3000)
    after = following_words(asked)
    scores = leads_into(scorer, asked, drafts, after)
    assert len({tuple(words) for words in drafts}) == FILLINGS
    assert all(-8 < score < 0 for score in scores) and len(set(scores)) == FILLINGS
    assert kept == [*drafts[scores.index(max(scores))][:-1], *after, "SONG_END"]


def bar_with(*words: str) -> list[str]:
    chord = ["NOTE_ON_48", "DUR_HALF", "VEL_MF", "NOTE_ON_64", "DUR_HALF", "VEL_MF"]
    metre = [word for word in words if word.startswith("TIMESIG_")]
    return ["BAR_START", *metre, "BEAT_0", *(word for word in words if word not in metre), *chord]


def test_bars_that_carry_a_modulation_and_a_tempo_stay_in_the_new_key_at_the_new_tempo(scorer: ModelScorer) -> None:
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_66"]
    for number in range(1, 13):
        words += bar_with(*(["KEY_Db", "TEMPO_120"] if number == 5 else []))
    words.append("SONG_END")
    asked = read_request({"refill": {"words": words, "first_bar": 5, "last_bar": 8}})
    (new,) = write(scorer, [asked], max_words=3000)
    score = decode(new).score
    line = 4 * 96
    for onset in (line, 8 * 96):
        assert [key for key in score.keys if key.onset <= onset][-1].fifths == -5
        tempo = [tempo for tempo in score.tempos if tempo.onset <= onset][-1]
        assert tempo.quarters_per_minute == pytest.approx(120, rel=0.02)
    assert [key for key in score.keys if key.onset < line][-1].fifths == 0


@pytest.mark.parametrize("bars", [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (2, 6)])
def test_every_bar_keeps_its_metre_where_bars_over_a_change_are_refilled(
    scorer: ModelScorer, bars: tuple[int, int]
) -> None:
    words = ["SONG_START", "TIMESIG_4_4", "TEMPO_90"]
    for metre in (None, None, "3_4", None, "7_8", None):
        words += bar_with(*([f"TIMESIG_{metre}"] if metre else []))
    words.append("SONG_END")
    asked = read_request({"refill": {"words": words, "first_bar": bars[0], "last_bar": bars[1]}})
    (new,) = write(scorer, [asked], max_words=3000)
    edges = bar_edges(decode(new).score)
    lengths = [after - before for before, after in pairwise(edges)]
    assert lengths == [96, 96, 72, 72, 84, 84]
