"""What was learned by heart is found, in any key."""

import numpy as np
from music_helpers import EMPTY, arranged, melody, transposed

from plagal.evaluation.features import window
from plagal.evaluation.structure import TrainingMusic, bar_shapes, steps, window_hashes
from plagal.music.score import Score

RNG = np.random.default_rng(2)
TRAINING = [arranged("worship", seed) for seed in (3, 4)]
OWN = melody(RNG.integers(40, 90, 200).tolist(), ticks=7)


def test_a_transposed_copy_is_a_copy_to_its_last_note() -> None:
    found = TrainingMusic(TRAINING).measure([transposed(TRAINING[0], 3)])
    assert found is not None
    assert found.longest_run == len(TRAINING[0].notes)
    assert found.bars_seen == 1.0


def test_music_of_its_own_shares_only_short_runs() -> None:
    found = TrainingMusic(TRAINING).measure([OWN])
    assert found is not None
    assert found.longest_run < 6


def test_a_known_chord_at_the_end_is_no_copied_bar_before_it() -> None:
    chord = np.array([[8 * 96, pitch, 96, 80] for pitch in (36, 55, 60, 64, 72)], dtype=np.int32)
    new = Score(np.concatenate([OWN.notes[OWN.notes[:, 0] < 8 * 96], chord]))
    found = TrainingMusic([*TRAINING, Score(chord)]).measure([new])
    assert found is not None
    assert found.inner_bars_seen == 0.0 and (found.bars_seen or 0) > 0.05


def test_the_longest_run_is_exact() -> None:
    for length in (4, 5, 9, 23, 61):
        stolen = TRAINING[0].notes[10 : 10 + length].copy()
        tail = np.array([[stolen[-1, 0] + 1000, 100, 5, 80], [stolen[-1, 0] + 1011, 30, 5, 80]], dtype=np.int32)
        mixed = Score(np.concatenate([stolen, tail]))
        assert TrainingMusic(TRAINING).longest_run(mixed) == length


def test_a_run_never_goes_on_from_one_training_piece_into_the_next() -> None:
    whole = melody([60, 62, 64, 65, 67, 69, 71, 72], ticks=7)
    halves = [Score(whole.notes[:4]), Score(whole.notes[4:])]
    assert TrainingMusic(halves).longest_run(whole) == 4


def test_nothing_was_copied_where_there_is_nothing() -> None:
    assert TrainingMusic([]).longest_run(OWN) == 0
    assert TrainingMusic(TRAINING).measure([]) is None
    assert TrainingMusic(TRAINING).longest_run(EMPTY) == 0
    assert len(steps(EMPTY)) == 0


def test_bars_are_seen_wherever_they_stand() -> None:
    later = window(TRAINING[1], 5, 3)
    assert set(bar_shapes(later)) <= set(bar_shapes(TRAINING[1]))


def test_hashes_of_equal_windows_are_equal_and_of_others_are_not() -> None:
    codes = np.array([1, 2, 3, 1, 2, 3, 2, 1], dtype=np.uint64)
    hashes = window_hashes(codes, 3)
    assert hashes[0] == hashes[3]
    assert len(np.unique(hashes)) == 5
