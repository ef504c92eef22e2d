"""Whether a piece is fit to learn from: each reason for leaving one out has a name, and is counted under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plagal.music.grid import bar_lines, last_event
from plagal.music.score import ONSET, PITCH, TICKS_PER_QUARTER, Score

MIN_GRID_SHARE = 0.6
"""Share of onsets on the eight commonest of the beat's 24 positions below which a piece has no beat grid. Onsets at
random give a third, by chance some more in short pieces; all notation at hand gives 0.93 or more, rolled chords too."""
GRID_POSITIONS = 8
MIN_DISTINCT_PITCHES = 5
MAX_SAME_PITCH_SHARE = 0.5
MAX_NOTES_PER_QUARTER = 24.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Inclusive."""

    min_notes: int
    max_notes: int
    min_bars: int
    max_bars: int
    min_confidence: float = 0.5
    """Of playing that was heard: how sure its beats and bars must be."""


def bar_count(score: Score) -> int:
    """Bars from the start to the one in which the last note begins, as the words count them."""
    return len(bar_lines(score.metres, last_event(score))[0])


def grid_share(score: Score) -> float:
    """Share of onsets on the eight positions within the beat that are commonest in this piece."""
    times = np.bincount(score.notes[:, ONSET] % TICKS_PER_QUARTER, minlength=TICKS_PER_QUARTER)
    return float(np.sort(times)[-GRID_POSITIONS:].sum() / times.sum())


def reason_to_leave_out(score: Score, limits: Limits) -> str | None:
    """Why this regular score is no use for training, in a word or two; None where it is."""
    count = len(score.notes)
    if count == 0:
        return "no piano part"
    if count < limits.min_notes or (bars := bar_count(score)) < limits.min_bars:
        return "too short"
    if count > limits.max_notes or bars > limits.max_bars:
        return "too long"
    if _degenerate(score):
        return "degenerate"
    return "no beat grid" if grid_share(score) < MIN_GRID_SHARE else None


def _degenerate(score: Score) -> bool:
    """A drone, a test tone or a wall of notes."""
    _, times = np.unique(score.notes[:, PITCH], return_counts=True)
    quarters = max(1.0, (int(score.notes[-1, ONSET]) - int(score.notes[0, ONSET])) / TICKS_PER_QUARTER)
    return bool(
        len(times) < MIN_DISTINCT_PITCHES
        or times.max() > MAX_SAME_PITCH_SHARE * len(score.notes)
        or len(score.notes) / quarters > MAX_NOTES_PER_QUARTER
    )
