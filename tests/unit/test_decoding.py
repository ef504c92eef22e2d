"""Writing pieces: valid by construction, as asked for, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from model_helpers import tiny_base

from plagal.compose.decoding import Request, Sampler, generate
from plagal.model import base
from plagal.plumbing.errors import WordsError
from plagal.tokens import grammar
from plagal.tokens.vocabulary import MUSIC_WORDS


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> base.LanguageModel:
    return base.load(tiny_base(tmp_path_factory.mktemp("base")))


def test_every_piece_is_valid_even_from_random_weights(lm: base.LanguageModel) -> None:
    pieces = generate(lm, [Request(f"piece {i}") for i in range(12)], seed=1, max_words=150)
    assert all(grammar.accepts(words) for words in pieces)
    assert all(len(words) <= 150 for words in pieces)


def test_a_piece_has_the_head_and_the_bars_that_were_asked_for(lm: base.LanguageModel) -> None:
    head = ("KEY_Db", "TIMESIG_3_4", "TEMPO_66")
    pieces = generate(lm, [Request("x", head, bars=n) for n in (1, 2, 5)], seed=2, max_words=2000)
    assert [words.count("BAR_START") for words in pieces] == [1, 2, 5]
    assert all(tuple(words[1:4]) == head and grammar.accepts(words) for words in pieces)


def test_same_seed_same_pieces_and_another_seed_others(lm: base.LanguageModel) -> None:
    requests = [Request("x", bars=2)] * 3
    first, again, other = (generate(lm, requests, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({tuple(words) for words in first}) == 3


def test_a_request_with_its_own_seed_ignores_its_place(lm: base.LanguageModel) -> None:
    a = generate(lm, [Request("x", bars=2, seed=9)])
    b = generate(lm, [Request("x", bars=2, seed=9)], seed=5)
    assert a == b


def test_a_context_longer_than_the_window_goes_on(lm: base.LanguageModel) -> None:
    lm.config["plagal"] = {"window": 96}
    try:
        pieces = generate(lm, [Request("x", bars=12), Request("y", bars=3)], seed=3, max_words=600)
    finally:
        del lm.config["plagal"]
    assert all(grammar.accepts(words) for words in pieces) and len(pieces[0]) > 96


def test_a_head_that_breaks_the_grammar_is_a_named_error(lm: base.LanguageModel) -> None:
    with pytest.raises(WordsError, match="DUR_QUARTER"):
        generate(lm, [Request("x", ("DUR_QUARTER",))])


def test_words_are_told_as_they_are_written(lm: base.LanguageModel) -> None:
    heard: dict[int, list[str]] = {0: [], 1: []}
    pieces = generate(lm, [Request("x", bars=1), Request("y", bars=2)], on_word=lambda n, word: heard[n].append(word))
    assert [heard[0], heard[1]] == pieces


def test_the_sampler_keeps_to_the_mask_and_to_top_p() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]] * 2000, dtype=np.float32))
    masks = np.array([[True, True, True, False]] * 2000)
    uniforms = ((np.arange(2000) + 0.5) / 2000).astype(np.float32)
    shares = np.bincount(Sampler(1.0, 1.0).draw(logits, masks, uniforms), minlength=4) / 2000
    assert shares == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=2e-3)
    assert set(Sampler(1.0, 0.8).draw(logits, masks, uniforms)) == {0, 1}
    assert set(Sampler(0.0, 1.0).draw(logits, masks, uniforms)) == {0}


def test_a_key_a_metre_and_a_tempo_asked_for_never_change_within_the_piece(lm: base.LanguageModel) -> None:
    head = ["KEY_Db", "TIMESIG_3_4", "TEMPO_66"]
    for words in generate(lm, [Request("x", tuple(head), 4)] * 4, seed=5, max_words=300):
        assert [word for word in words if word.startswith(("KEY_", "TIMESIG_", "TEMPO_"))] == head


def test_no_bar_is_silent_even_when_the_model_wants_nothing_but_bar_lines(
    lm: base.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = MUSIC_WORDS.index("BAR_START")

    def bar_line_first(_sampler: Sampler, _logits: object, masks: np.ndarray, _uniforms: object) -> np.ndarray:
        return np.where(masks[:, bar], bar, masks.argmax(axis=1))

    monkeypatch.setattr(Sampler, "draw", bar_line_first)
    (words,) = generate(lm, [Request("x", ("KEY_C", "TIMESIG_4_4", "TEMPO_120"), bars=6)], max_words=2000)
    bars = " ".join(words).split("BAR_START")[1:]
    assert len(bars) == 6
    assert all("NOTE_ON_" in each for each in bars)
