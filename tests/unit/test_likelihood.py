"""Figures from distributions over words."""

import numpy as np
import pytest

from plagal.evaluation.likelihood import (
    FACETS,
    LikelihoodScorer,
    PieceLikelihood,
    compare,
    facet_of,
    grammar_masks,
    ratio_interval,
    spellings,
    summarise,
)
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS

NOTE = ["DUR_QUARTER", "VEL_MF"]
WORDS = ["SONG_START", "KEY_C", "BAR_START", "BEAT_0", "NOTE_ON_60", *NOTE, "NOTE_ON_64", *NOTE, "SONG_END"]
CHOICES = [*MUSIC_WORDS, END_MARK]


def certain(words: list[str], probability: float) -> np.ndarray:
    """Distributions that give each right word `probability` and share the rest evenly."""
    log_probs = np.full((len(words) + 1, len(CHOICES)), np.log((1 - probability) / (len(CHOICES) - 1)))
    for row, word in enumerate([*words, END_MARK]):
        log_probs[row, CHOICES.index(word)] = np.log(probability)
    return log_probs.astype(np.float32)


def test_nats_are_summed_over_all_words_and_split_without_loss() -> None:
    piece = LikelihoodScorer(CHOICES).score("tune", WORDS, certain(WORDS, 0.5))
    assert piece.notes == 2
    assert sum(piece.nats) == pytest.approx((len(WORDS) + 1) * np.log(2), rel=1e-5)
    assert piece.nats[FACETS.index("pitch")] == pytest.approx(2 * np.log(2), rel=1e-5)
    assert piece.nats[FACETS.index("harmony")] == pytest.approx(np.log(2), rel=1e-5)


def test_perplexity_counts_the_subwords_of_the_text_whatever_the_model_reads() -> None:
    figures = summarise([LikelihoodScorer(CHOICES).score("tune", WORDS, certain(WORDS, 0.5))], seed=0)
    assert figures is not None
    subwords = sum(len(spellings()[word]) for word in [*WORDS, END_MARK])
    assert figures.perplexity == pytest.approx(2 ** ((len(WORDS) + 1) / subwords), rel=1e-5)
    assert figures.token_accuracy == 1.0


def test_a_word_that_the_grammar_forces_is_no_choice() -> None:
    masks = np.ones((len(WORDS) + 1, len(CHOICES)), dtype=bool)
    masks[0] = False
    masks[0, 0] = True
    wrong_first = certain(WORDS, 0.5)
    wrong_first[0] = certain(["SONG_END"], 0.5)[0]
    piece = LikelihoodScorer(CHOICES, lambda words: masks).score("tune", WORDS, wrong_first)
    assert (piece.choices, piece.choice_hits) == (len(WORDS), len(WORDS))


def test_a_model_that_knows_nothing_gains_nothing_from_ties() -> None:
    flat = np.full((len(WORDS) + 1, len(CHOICES)), -np.log(len(CHOICES)), dtype=np.float32)
    piece = LikelihoodScorer(CHOICES).score("tune", WORDS, flat)
    assert piece.choice_hits == pytest.approx((len(WORDS) + 1) / len(CHOICES), rel=1e-3)


def test_distributions_of_another_piece_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        LikelihoodScorer(CHOICES).score("tune", WORDS, certain(WORDS[:-1], 0.5))


@pytest.mark.parametrize(
    ("word", "facet"),
    [("BAR_START", "when"), ("BEAT_1.333", "when"), ("NOTE_ON_21", "pitch"), ("DUR_HALF_TIED", "length"),
     ("VEL_SILENT", "loudness"), ("CHORD_Db13", "harmony"), ("KEY_F#m", "harmony"), (END_MARK, "when")],
)  # fmt: skip
def test_words_decide_what_their_name_says(word: str, facet: str) -> None:
    assert facet_of(word) == facet


def piece(tune: str, nats: float, notes: int = 10) -> PieceLikelihood:
    return PieceLikelihood(tune, notes, (nats, 0.0, 0.0, 0.0, 0.0), 50, 25.0, 20, 10.0)


def test_many_settings_of_one_tune_do_not_narrow_the_interval() -> None:
    few = [piece(f"tune{index}", 40.0 + index) for index in range(6)]
    many = [one for one in few for _ in range(20)]
    narrow, wide = (summarise(some, seed=1) for some in (many, few))
    assert narrow is not None
    assert wide is not None
    assert narrow.nats_interval == pytest.approx(wide.nats_interval)
    assert narrow.tunes == 6


def test_the_interval_of_one_tune_is_not_made_up() -> None:
    assert ratio_interval(np.array([1.0, 2.0]), np.array([1.0, 1.0]), ["a", "a"], seed=0) is None
    assert summarise([], seed=0) is None


def test_a_comparison_needs_the_same_pieces_on_both_sides() -> None:
    ours = [piece("a", 9.0), piece("b", 18.0)]
    theirs = [piece("a", 10.0), piece("b", 20.0)]
    compared = compare(ours, theirs, seed=0)
    assert compared is not None
    assert compared[0] == pytest.approx(0.9)
    assert compared[1] == pytest.approx((0.9, 0.9))
    with pytest.raises(ValueError, match="same pieces"):
        compare(ours, theirs[:1], seed=0)


def test_the_same_seed_gives_the_same_interval() -> None:
    pieces = [piece(f"tune{index}", 30.0 + index**1.5) for index in range(9)]
    first, again, other = (summarise(pieces, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_the_grammar_leaves_no_choice_at_the_start_and_at_the_end() -> None:
    allowed = grammar_masks(WORDS).sum(axis=1)
    assert (allowed[0], allowed[-1]) == (1, 1)
    assert allowed[WORDS.index("DUR_QUARTER")] > 1
