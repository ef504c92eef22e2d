"""A take beside its score: which notes were right, early, late, missing, and which stand nowhere.

The take is aligned by its pitches alone, then timed against itself: each note by where the notes around it say that it
belongs. So a slow take is right, and one that slows down as well; a note is late where the others are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.music.grid import bar_lines, last_event
from plagal.music.performance.played import seconds_at
from plagal.music.score import ONSET, PITCH, TICKS_PER_QUARTER, Score
from plagal.plumbing.errors import InputError

RIGHT, EARLY, LATE, MISSING = "right", "early", "late", "missing"

TOLERANCE_QUARTERS = 0.2
"""A note may be off by so much: 100 ms at 120 quarters a minute, which trained listeners begin to notice."""
MOST_NOTES = 4000
"""Of a take and of a score: the alignment holds a number for each pair."""
_SAME_PIECE = 0.5
"""Of the take's notes, that must be found in the score in its order: two pieces in one key share a third."""
_IN_TIME = 0.35
"""Of the notes found, that must be in time: of another piece's one in five is by chance."""
_FARTHEST_QUARTERS = 0.75
"""A note of the right pitch farther from its place is not late, but another."""
_CHORD_S = 0.05
"""What is struck within so many seconds of its first note is taken for one chord."""
_AROUND = 8
"""Matched notes before and after one that say where it belongs."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What became of the score's notes, and what the take has besides."""

    verdicts: tuple[str, ...]
    """For each note of the score: "right", "early", "late" or "missing"."""
    off_quarters: Floats
    """For each note of the score, how much later it came than it should have; NaN where it is missing."""
    extra: tuple[int, ...]
    """Rows of the take's notes that stand nowhere in the score."""
    quarters_per_minute: float
    """The take's own tempo."""
    bars: tuple[int, ...]
    """For each note of the score its bar, the first is 1."""

    def count(self, verdict: str) -> int:
        return self.verdicts.count(verdict)

    def by_bar(self) -> dict[int, dict[str, int]]:
        """For each bar with notes how many were right, early, late and missing."""
        table: dict[int, dict[str, int]] = {}
        for bar, verdict in zip(self.bars, self.verdicts, strict=True):
            row = table.setdefault(bar, dict.fromkeys((RIGHT, EARLY, LATE, MISSING), 0))
            row[verdict] += 1
        return table


def compare(score: Score, take: Score, tolerance_quarters: float = TOLERANCE_QUARTERS) -> Comparison:
    """Compare a take with its score. Both are scores as `plagal.music.midi.read_midi` gives them; of the take only its
    times in seconds and its pitches count. Raises InputError where the take is another piece, is empty or too long."""
    for what, piece in (("score", score), ("take", take)):
        if not 0 < len(piece.notes) <= MOST_NOTES:
            raise InputError(f"the {what} has {len(piece.notes)} notes; 1 to {MOST_NOTES} can be compared")
    times = seconds_at(take, take.notes[:, ONSET])
    order = _by_chords(times, take.notes[:, PITCH])
    pairs = dict(_aligned(score.notes[:, PITCH], take.notes[order, PITCH]))
    matched = {row: int(order[place]) for row, place in pairs.items()}
    quarters = score.notes[:, ONSET] / TICKS_PER_QUARTER
    rows = np.array(sorted(matched), dtype=np.int64)
    clock = _Clock(quarters[rows], times[[matched[row] for row in rows.tolist()]])
    free = [row for row in range(len(take.notes)) if row not in set(matched.values())]
    for row in range(len(score.notes)) if len(rows) > 1 else ():  # what came so late that others overtook it
        if row not in matched:
            pitch, quarter = int(score.notes[row, PITCH]), float(quarters[row])
            near = [other for other in free if take.notes[other, PITCH] == pitch]
            best = min(near, key=lambda other: abs(clock.off(quarter, float(times[other]))), default=None)
            if best is not None and abs(clock.off(quarter, float(times[best]))) < _FARTHEST_QUARTERS:
                matched[row] = best
                free.remove(best)
    offs = np.full(len(score.notes), np.nan)
    for row, other in matched.items():
        offs[row] = clock.off(float(quarters[row]), float(times[other]))
    right = int(np.count_nonzero(np.abs(offs) <= tolerance_quarters))
    if len(matched) < _SAME_PIECE * len(take.notes) or right < _IN_TIME * len(matched):
        raise InputError(
            f"the take is of another piece: {right} of its {len(take.notes)} notes are where the score has them"
        )
    verdicts = tuple(
        MISSING if np.isnan(value) else EARLY if value < -tolerance_quarters else
        LATE if value > tolerance_quarters else RIGHT for value in offs
    )  # fmt: skip
    lines, _ = bar_lines(score.metres, last_event(score))
    bars = np.searchsorted(lines, score.notes[:, ONSET], side="right").tolist()
    return Comparison(verdicts, offs, tuple(free), 60 / clock.pace, tuple(bars))


def _by_chords(times: Floats, pitches: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Rows of a take, chords from below: fingers of a chord come in any order."""
    chord, first, chords = -1, -1.0, []
    for time in times.tolist():
        if chord < 0 or time - first > _CHORD_S:
            chord, first = chord + 1, time
        chords.append(chord)
    return np.lexsort((pitches, np.array(chords)))


def _aligned(score: npt.NDArray[np.int32], take: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """The longest sequence of pitches that both have in one order, as pairs of rows."""
    table = np.zeros((len(score) + 1, len(take) + 1), dtype=np.int16)
    for row, pitch in enumerate(score.tolist()):
        taken = np.maximum(table[row, 1:], table[row, :-1] + (take == pitch))
        table[row + 1, 1:] = np.maximum.accumulate(taken)
    pairs: list[tuple[int, int]] = []
    row, place = len(score), len(take)
    while row and place:
        here = table[row, place]
        if here == table[row - 1, place]:
            row -= 1
        elif here == table[row, place - 1]:
            place -= 1
        else:
            row, place = row - 1, place - 1
            pairs.append((row, place))
    return pairs[::-1]


class _Clock:
    """Where a place of the score lies in the take, by the matched notes around it."""

    def __init__(self, quarters: Floats, times: Floats) -> None:
        self.quarters, self.times = quarters, times
        self.pace = _pace(quarters, times, 0.5)
        """Seconds a quarter."""

    def off(self, quarter: float, time: float) -> float:
        """How many quarters after its place something happens."""
        first = int(np.searchsorted(self.quarters, quarter, side="left"))
        last = int(np.searchsorted(self.quarters, quarter, side="right"))
        near = np.r_[max(0, first - _AROUND) : first, last : min(len(self.quarters), last + _AROUND)]
        if len(near) < 2:
            return 0.0
        pace = _pace(self.quarters[near], self.times[near], self.pace)
        expected = np.median(self.times[near] - pace * self.quarters[near]) + pace * quarter
        return float((time - expected) / pace)


def _pace(quarters: Floats, times: Floats, usual: float) -> float:
    """Seconds a quarter: the median over pairs of notes (Theil 1950), so that one late note changes nothing."""
    step = max(1, len(quarters) // 64)
    chosen, at = quarters[::step], times[::step]
    apart = chosen[:, None] - chosen[None, :]
    pairs = apart > 0
    slopes: Sequence[float] = ((at[:, None] - at[None, :])[pairs] / apart[pairs]).tolist()
    middle = float(np.median(slopes)) if slopes else usual
    return middle if middle > 0 else usual
