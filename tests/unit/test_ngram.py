"""The counting floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plagal.evaluation.ngram import NGram, best_ngrams, xz_nats
from plagal.tokens.vocabulary import END_MARK

CHOICES = ["a", "b", "c", "d", END_MARK]
PIECES = [["a", "b", "c"] * 5, ["a", "b", "d"] * 4, ["a", "c"]]


@given(st.integers(1, 6), st.lists(st.sampled_from("abcd"), max_size=12))
def test_every_distribution_sums_to_one(order: int, words: list[str]) -> None:
    log_probs = NGram(PIECES, CHOICES, order).log_probs(words)
    assert log_probs.shape == (len(words) + 1, len(CHOICES))
    assert np.exp(log_probs.astype(float)).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@given(st.integers(1, 6), st.lists(st.sampled_from("abcd"), max_size=12))
def test_nats_are_those_of_the_distributions(order: int, words: list[str]) -> None:
    model = NGram(PIECES, CHOICES, order)
    log_probs = model.log_probs(words)
    columns = [CHOICES.index(word) for word in [*words, END_MARK]]
    assert model.nats(words) == pytest.approx(-log_probs[np.arange(len(columns)), columns].sum(), rel=1e-4)


def test_a_context_that_decides_is_learned() -> None:
    model = NGram([["a", "b"] * 20 + ["c", "d"] * 20] * 5, CHOICES, 2)
    assert np.exp(model.log_probs(["a", "b"])[1, 1]) > 0.95


def test_a_word_seen_after_many_others_beats_one_seen_often_after_one() -> None:
    # What makes it Kneser-Ney: "d" is frequent but only ever follows "c"; after something new, "b" is likelier.
    pieces = [["c", "d"] * 30, ["a", "b"], ["b", "b"], ["d", "b"], ["c", "b"]]
    model = NGram(pieces, [*CHOICES[:-1], "e", END_MARK], 2)
    after_new = np.exp(model.log_probs(["e", "a"])[1])
    assert after_new[1] > after_new[3]


def test_the_best_model_is_the_one_that_foretells_the_held_out_pieces() -> None:
    useful, useless = [["a", "b", "c"] * 10], [["d", "a"] * 10]
    held_out = [["a", "b", "c"] * 4]
    best = best_ngrams([useless, useful], {"some": held_out}, CHOICES, (1, 3))["some"]
    assert best.order == 3
    assert best.nats(held_out[0]) == pytest.approx(NGram(useful, CHOICES, 3).nats(held_out[0]))


def test_samples_keep_to_what_is_allowed_and_repeat_with_the_seed() -> None:
    model = NGram(PIECES, CHOICES, 3)
    mask = np.array([True, True, False, False, True])
    first, again = (model.sample([["a"]] * 20, lambda piece, words: mask, 30, seed=5) for _ in range(2))
    assert first == again
    assert {word for words in first for word in words} <= {"a", "b"}
    assert max(map(len, first)) <= 30


def test_samples_stop_where_the_rules_say_that_a_piece_is_done() -> None:
    model = NGram(PIECES, CHOICES, 2)
    samples = model.sample([["a"], ["b"]], lambda piece, words: None if len(words) == 4 else np.ones(5, bool), 50, 0)
    assert all(len(words) <= 4 for words in samples)


def test_xz_needs_little_for_what_it_has_seen() -> None:
    drawing = np.random.default_rng(0)
    known = [[CHOICES[choice] for choice in drawing.integers(0, 4, 400)] for _ in range(3)]
    fresh = [[CHOICES[choice] for choice in drawing.integers(0, 4, 400)]]
    nats = xz_nats(known, {"known": known[:1], "fresh": fresh})
    assert nats["known"] < 0.2 * nats["fresh"]
    assert nats["fresh"] > 400 * np.log(4) * 0.9
