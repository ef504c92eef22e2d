"""Why a piece is left out."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from corpus_helpers import hymn

from plagal.corpus.reading import Limits, bar_count, reason_to_leave_out
from plagal.music.grid import regular
from plagal.music.score import Metre, Score

LIMITS = Limits(min_notes=24, max_notes=2000, min_bars=4, max_bars=64)


def of_rows(rows: list[tuple[int, int, int, int]]) -> Score:
    return regular(Score(np.array(rows, dtype=np.int32).reshape(-1, 4)))


def test_a_hymn_is_kept():
    assert reason_to_leave_out(hymn(1), LIMITS) is None


def test_nothing_to_play_is_no_piano_part():
    assert reason_to_leave_out(of_rows([]), LIMITS) == "no piano part"


def test_few_notes_and_few_bars_are_too_short():
    assert reason_to_leave_out(of_rows([(t * 24, 60 + t % 7, 24, 80) for t in range(20)]), LIMITS) == "too short"
    assert reason_to_leave_out(of_rows([(t * 6, 60 + t % 7, 6, 80) for t in range(40)]), LIMITS) == "too short"


def test_many_notes_or_bars_are_too_long():
    assert reason_to_leave_out(hymn(1, bars=65), LIMITS) == "too long"
    assert reason_to_leave_out(hymn(1, bars=60), replace(LIMITS, max_notes=300)) == "too long"


def test_a_drone_is_degenerate():
    assert reason_to_leave_out(of_rows([(t * 24, 60, 24, 80) for t in range(60)]), LIMITS) == "degenerate"


def test_a_wall_of_notes_is_degenerate():
    rows = [(t * 6, pitch, 6, 80) for t in range(80) for pitch in range(40, 60)]
    assert reason_to_leave_out(of_rows(rows), LIMITS) == "degenerate"


def test_onsets_anywhere_have_no_beat_grid():
    rng = random.Random(5)
    rows = [(rng.randrange(96 * 20), rng.randrange(50, 70), 20, 80) for _ in range(300)]
    assert reason_to_leave_out(of_rows(rows), LIMITS) == "no beat grid"


def test_triplets_are_on_the_grid():
    rows = [(t * 8, 60 + t % 7, 8, 80) for t in range(200)]
    assert reason_to_leave_out(of_rows(rows), LIMITS) is None


def test_bars_are_counted_through_a_change_of_metre():
    score = replace(hymn(1, bars=8), metres=(Metre(0, 4, 4), Metre(384, 3, 4)))
    assert bar_count(score) == 4 + 6


def test_chords_rolled_by_a_tick_still_have_a_beat_grid():
    rows = [(t * 12 + voice % 2, 50 + 5 * voice + t % 5, 11, 80) for t in range(100) for voice in range(4)]
    assert reason_to_leave_out(of_rows(rows), LIMITS) is None
