"""Writing pieces: valid by construction, as asked for, the same for the same seed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from model_helpers import tiny_base

from plagal.asking.request import Request, read_request
from plagal.asking.wording import prompt_for
from plagal.compose.sampling import Sampler
from plagal.compose.write import draft
from plagal.corpus.formats import training_row
from plagal.model import base
from plagal.model.loss import make_windows
from plagal.model.scorer import ModelScorer
from plagal.plumbing.errors import WordsError
from plagal.tokens import grammar
from plagal.tokens.vocabulary import COUNT_WORDS, MUSIC_WORDS


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ModelScorer:
    return ModelScorer(base.load(tiny_base(tmp_path_factory.mktemp("base"))))


def ask(prompt: str = "x", **asked: Any) -> Request:
    return read_request({"prompt": prompt, **asked})


def test_every_piece_is_valid_even_from_random_weights(scorer: ModelScorer) -> None:
    pieces = draft(scorer, [ask(f"piece {i}", seed=i) for i in range(12)], max_words=150)
    assert all(grammar.accepts(words) for words in pieces)
    assert all(len(words) <= 150 for words in pieces)


def test_a_piece_has_the_head_and_the_bars_that_were_asked_for(scorer: ModelScorer) -> None:
    asked = [ask(key="Db", metre="3/4", tempo=66, bars=bars) for bars in (1, 2, 5)]
    pieces = draft(scorer, asked, max_words=2000)
    assert [words.count("BAR_START") for words in pieces] == [1, 2, 5]
    assert all(words[1:4] == ["KEY_Db", "TIMESIG_3_4", "TEMPO_66"] and grammar.accepts(words) for words in pieces)


def test_same_seed_same_pieces_and_another_seed_others(scorer: ModelScorer) -> None:
    first, again, other = (draft(scorer, [ask(bars=2, seed=seed)]) for seed in (1, 1, 2))
    assert first == again != other


def test_a_piece_is_the_same_whatever_is_written_beside_it(scorer: ModelScorer) -> None:
    alone = draft(scorer, [ask(bars=2, seed=9)])
    beside = draft(scorer, [ask("y", bars=5, seed=3), ask(bars=2, seed=9), ask("z", bars=1)])
    assert beside[1] == alone[0]


def test_a_context_longer_than_the_window_goes_on(scorer: ModelScorer) -> None:
    scorer.lm.config["plagal"] = {"window": 96}
    try:
        pieces = draft(scorer, [ask(bars=12), ask("y", bars=3)], max_words=600)
    finally:
        del scorer.lm.config["plagal"]
    assert all(grammar.accepts(words) for words in pieces) and len(pieces[0]) > 96


@pytest.fixture
def contexts(scorer: ModelScorer, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the model is given to read for the first row, pass by pass."""
    seen: list[list[int]] = []
    opened = scorer.open

    def recording(rows: int, columns: Any) -> Any:
        reader = opened(rows, columns)
        read = reader.read

        def noting(given: Any, wanted: Any) -> Any:
            seen.append(list(given[0]))
            return read(given, wanted)

        monkeypatch.setattr(reader, "read", noting)
        return reader

    monkeypatch.setattr(scorer, "open", recording)
    return seen


def counts_in(scorer: ModelScorer, ids: list[int]) -> list[str]:
    """The word behind each bar line that the model reads."""
    line = scorer.spelling.spelling_of["BAR_START"][0]
    word_of = {token: word for word, (token,) in scorer.spelling.spelling_of.items()}
    return [word_of[after] for token, after in pairwise(ids) if token == line]


def test_a_model_that_writes_reads_the_bars_that_are_left_where_training_text_has_them(
    scorer: ModelScorer, contexts: list[list[int]]
) -> None:
    request = ask("slow worship ballad in Db", bars=5, seed=4)
    (words,) = draft(scorer, [request], max_words=2000)
    text = training_row(prompt_for(request)[0], words, {})["text"]
    (window,) = make_windows(scorer.lm, [text], 8192)
    assert contexts[-1] == window.ids[: len(contexts[-1])].tolist()
    assert counts_in(scorer, contexts[-1]) == ["BARS_5", "BARS_4", "BARS_3", "BARS_2", "BARS_1"]
    assert not set(words) & set(COUNT_WORDS)


def test_bars_that_are_left_are_counted_rightly_behind_a_cut_of_the_window(
    scorer: ModelScorer, contexts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scorer.lm.config, "plagal", {"window": 200})
    draft(scorer, [ask(bars=12, seed=2)], max_words=2000)
    down = [f"BARS_{bars}" for bars in range(12, 0, -1)]
    heard = [counts_in(scorer, ids) for ids in contexts]
    assert all(some in (down[at : at + len(some)] for at in range(12)) for some in heard if some)
    assert heard[-1][-1] == "BARS_1" and len(heard[-1]) < 12


def test_bars_to_refill_are_counted_to_the_end_of_the_whole_piece(
    scorer: ModelScorer, contexts: list[list[int]]
) -> None:
    bar = ["BAR_START", "BEAT_0", "NOTE_ON_60", "DUR_WHOLE", "VEL_MF"]
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80", *(6 * bar), "SONG_END"]
    draft(scorer, [read_request({"refill": {"words": words, "first_bar": 3, "last_bar": 4}})])
    assert counts_in(scorer, contexts[-1]) == ["BARS_6", "BARS_5", "BARS_4", "BARS_3"]


def test_music_to_go_on_from_that_breaks_the_grammar_is_a_named_error(scorer: ModelScorer) -> None:
    with pytest.raises(WordsError, match="DUR_QUARTER"):
        draft(scorer, [read_request({"continue": {"words": ["SONG_START", "BAR_START", "DUR_QUARTER", "SONG_END"]}})])


def test_a_long_beginning_leaves_as_much_room_for_new_bars_as_none(scorer: ModelScorer) -> None:
    dense = ["BAR_START", *(f"{word}" for beat in range(4) for word in (f"BEAT_{beat}", *_chord_of(8)))]
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80", *(20 * dense), "SONG_END"]
    asked = read_request({"continue": {"words": words}, "bars": 8})
    (piece,) = draft(scorer, [asked], max_words=1280)
    assert grammar.accepts(piece) and piece.count("BAR_START") == 28


def _chord_of(notes: int) -> list[str]:
    return [word for pitch in range(40, 40 + 3 * notes, 3) for word in (f"NOTE_ON_{pitch}", "DUR_QUARTER", "VEL_MF")]


def test_words_are_passed_on_as_they_are_written(scorer: ModelScorer) -> None:
    heard: dict[int, list[str]] = {0: [], 1: []}
    pieces = draft(scorer, [ask(bars=1), ask("y", bars=2)], on_word=lambda row, word: heard[row].append(word))
    assert [heard[0], heard[1]] == pieces


def test_the_sampler_keeps_to_the_mask_and_to_top_p() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]] * 2000, dtype=np.float32))
    masks = np.array([[True, True, True, False]] * 2000)
    uniforms = ((np.arange(2000) + 0.5) / 2000).astype(np.float32)
    shares = np.bincount(Sampler(1.0, 1.0).draw(logits, masks, uniforms), minlength=4) / 2000
    assert shares == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=2e-3)
    assert set(Sampler(1.0, 0.8).draw(logits, masks, uniforms)) == {0, 1}
    assert set(Sampler(0.0, 1.0).draw(logits, masks, uniforms)) == {0}


def test_the_last_bit_of_a_sum_decides_no_word() -> None:
    """Another processor, or a batch of another size, rounds otherwise. Drawn in the order of their weights, words of
    nearly one weight changed places: 17 of these draws gave another word."""
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 0.3, (4000, 600)).astype(np.float32)
    rounded = (logits + draw.normal(0, 1e-5, logits.shape)).astype(np.float32)
    masks, uniforms = np.ones(logits.shape, dtype=np.bool_), draw.random(4000, dtype=np.float32)
    sampler = Sampler(0.9, 0.9)
    one, other = (sampler.draw(scores, masks, uniforms) for scores in (logits, rounded))
    assert np.count_nonzero(one != other) <= 4


def test_a_key_a_metre_and_a_tempo_asked_for_never_change_within_the_piece(scorer: ModelScorer) -> None:
    asked = [ask(key="Db", metre="3/4", tempo=66, bars=4, seed=seed) for seed in range(4)]
    for words in draft(scorer, asked, max_words=300):
        held = [word for word in words if word.startswith(("KEY_", "TIMESIG_", "TEMPO_"))]
        assert held == ["KEY_Db", "TIMESIG_3_4", "TEMPO_66"]


def test_no_bar_is_silent_even_when_the_model_wants_nothing_but_bar_lines(
    scorer: ModelScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = MUSIC_WORDS.index("BAR_START")

    def bar_line_first(_sampler: Sampler, _logits: object, masks: np.ndarray, _uniforms: object) -> np.ndarray:
        return np.where(masks[:, bar], bar, masks.argmax(axis=1))

    monkeypatch.setattr(Sampler, "draw", bar_line_first)
    (words,) = draft(scorer, [ask(key="C", metre="4/4", tempo=120, bars=6)], max_words=2000)
    bars = " ".join(words).split("BAR_START")[1:]
    assert len(bars) == 6
    assert all("NOTE_ON_" in bar for bar in bars)


def test_writing_gives_the_blas_threads_back(scorer: ModelScorer) -> None:
    from plagal.model.cpu import blas

    before = blas.blas_threads()
    draft(scorer, [ask(bars=1)])
    assert blas.blas_threads() == before
