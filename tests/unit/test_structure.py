"""The second judge: bars that return, compression, distance, on pieces whose form is known."""

from __future__ import annotations

import numpy as np
import pytest

from plagal.evaluation.structure import UNTOUCHED, compression, returns, structure
from plagal.music.score import Metre, Score, Tempo

BAR = 96
"""Ticks of 4/4."""


def score_of(bars: list[list[int]]) -> Score:
    """Eighth notes: the pitches of each bar."""
    notes = [(bar * BAR + 12 * place, pitch, 12, 80) for bar, pitches in enumerate(bars)
             for place, pitch in enumerate(pitches)]  # fmt: skip
    return Score(np.array(notes, dtype=np.int32), (Metre(0, 4, 4),), (Tempo(0, 80.0),))


def drawn(bars: int, seed: int) -> list[list[int]]:
    return np.random.default_rng(seed).integers(48, 80, (bars, 8)).tolist()


def test_bars_that_return_after_four_are_heard_at_four_and_not_at_two() -> None:
    phrase = drawn(4, 1)
    piece = score_of(phrase + phrase)
    assert returns(piece, 4) == 1.0
    assert returns(piece, 2) < 0.2


def test_a_piece_too_short_for_a_lag_has_no_figure_of_it() -> None:
    assert returns(score_of(drawn(8, 1)), 8) is None
    assert returns(score_of(drawn(16, 1)), 8) is not None


def test_what_repeats_compresses_more_and_a_transposed_repeat_as_well() -> None:
    phrase = drawn(4, 2)
    again = compression(score_of(phrase * 2))
    higher = compression(score_of(phrase + [[pitch + 3 for pitch in bar] for bar in phrase]))
    new = compression(score_of(phrase + drawn(4, 3)))
    assert again > 1.2 * new and higher == pytest.approx(again, rel=0.1)


def test_compression_is_the_same_in_every_key() -> None:
    piece = drawn(8, 4)
    assert compression(score_of(piece)) == compression(score_of([[pitch - 5 for pitch in bar] for bar in piece]))


def test_music_is_nearer_to_its_own_kind_than_one_repeated_bar_is() -> None:
    real = [score_of(drawn(4, seed) * 2) for seed in range(12)]
    alike = structure([score_of(drawn(4, seed) * 2) for seed in range(20, 32)], real)["distance"]
    stuck = structure([score_of(drawn(1, seed) * 8) for seed in range(20, 32)], real)["distance"]
    assert alike < stuck


def test_nothing_that_steering_decides_is_among_the_untouched_features() -> None:
    decided = ("scale", "key", "pitch_class", "chroma", "polyphony", "clashes", "tritones", "bass", "voice", "range")
    assert not [name for name in UNTOUCHED if any(word in name for word in decided)]
