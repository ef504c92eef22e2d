"""Tunes set for four voices, as hymnals print them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from plagal.music.arranger.arrange import arrange, played_chords
from plagal.music.arranger.tunebook import tune_book
from plagal.music.score import DURATION, ONSET, PITCH, VELOCITY, Score


@pytest.fixture(scope="module")
def settings() -> list[Score]:
    return [arrange(tune, "hymnal", seed=number) for number, tune in enumerate(tune_book()[::4])]


def test_no_moment_strikes_more_than_four_notes_and_most_strike_three_or_four(settings: list[Score]) -> None:
    counts = np.concatenate([np.unique(score.notes[:, ONSET], return_counts=True)[1] for score in settings])
    assert counts.max() == 4
    assert (counts >= 3).mean() > 0.6


def test_the_tune_lies_on_top_wherever_it_is_struck() -> None:
    tune = tune_book()[0]
    score = arrange(tune, "hymnal", key="F", seed=1)
    shift = {(int(score.notes[score.notes[:, ONSET] == onset, PITCH].max()) - pitch) % 12
             for onset, pitch, _ in tune.notes if onset in score.notes[:, ONSET]}  # fmt: skip
    assert len(shift) == 1


def test_loudness_is_flat_but_for_the_softer_notes_between_beats(settings: list[Score]) -> None:
    for score in settings:
        assert set(score.notes[:, VELOCITY].tolist()) <= {65, 80}
    assert any((score.notes[:, VELOCITY] == 65).any() for score in settings)


def test_outer_voices_never_march_in_octaves_or_fifths_for_long(settings: list[Score]) -> None:
    parallel = moves = 0
    for score in settings:
        outer = []
        for onset in np.unique(score.notes[:, ONSET]):
            keys = score.notes[score.notes[:, ONSET] == onset, PITCH]
            if len(keys) == 4:
                outer.append((int(keys.min()), int(keys.max())))
        for (low, high), (next_low, next_high) in pairwise(outer):
            if low != next_low and high != next_high:
                moves += 1
                parallel += (high - low) % 12 in (0, 7) and (next_high - next_low) % 12 == (high - low) % 12
    assert parallel < 0.03 * moves


def test_every_key_is_let_go_before_it_is_struck_again(settings: list[Score]) -> None:
    for score in settings:
        order = np.lexsort((score.notes[:, ONSET], score.notes[:, PITCH]))
        notes = score.notes[order]
        same = notes[1:, PITCH] == notes[:-1, PITCH]
        assert (notes[1:, ONSET][same] >= (notes[:-1, ONSET] + notes[:-1, DURATION])[same]).all()


def test_inversions_are_named_by_their_bass(settings: list[Score]) -> None:
    chords = [chord for score in settings for _, chord in played_chords(score)]
    assert any(chord.bass != chord.root for chord in chords)
