"""Bars of a score, and windows of some bars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plagal.music.grid import bar_lines
from plagal.music.score import DURATION, ONSET, TICKS_PER_QUARTER, Metre, Notes, Score

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bar:
    """A bar from tick `begin` to tick `end`; numbers count from 1."""

    number: int
    begin: int
    end: int
    metre: Metre

    @property
    def beat(self) -> int:
        """What a musician taps, in ticks: a dotted quarter in 6/8, 9/8, 12/8; else the note that the metre names, but
        nothing shorter than a quarter in metres over 4 or less."""
        if self.metre.denominator == 8 and self.metre.numerator % 3 == 0:
            return 3 * TICKS_PER_QUARTER // 2
        return max(4 * TICKS_PER_QUARTER // self.metre.denominator, 1)


def bars_of(score: Score) -> list[Bar]:
    """The bars from the start to the one in which the last note sounds; none where there are no notes."""
    if not len(score.notes):
        return []
    last = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max()) - 1
    metres = tuple(metre for metre in score.metres if metre.onset <= last) or (Metre(0, 4, 4),)
    lines, lengths = bar_lines(metres, last)
    place = np.searchsorted([metre.onset for metre in metres], lines, side="right") - 1
    return [
        Bar(number, int(line), int(line + length), metres[max(which, 0)])
        for number, (line, length, which) in enumerate(zip(lines, lengths, place, strict=True), 1)
    ]


def cut(notes: Notes, begin: int, end: int) -> Notes:
    """Notes that begin in [begin, end), shifted so that `begin` is 0, and ending at `end` at the latest."""
    some = notes[(notes[:, ONSET] >= begin) & (notes[:, ONSET] < end)].copy()
    some[:, DURATION] = np.minimum(some[:, DURATION], end - some[:, ONSET])
    some[:, ONSET] -= begin
    return some


def window(score: Score, first: int, bars: int) -> Score:
    """`bars` bars from the `first` (counted from 0) as a score of their own: notes and metres only."""
    inside = bars_of(score)[first : first + bars]
    begin = inside[0].begin
    metres: list[Metre] = []
    for bar in inside:
        metre = replace(bar.metre, onset=bar.begin - begin)
        if not metres or (metre.numerator, metre.denominator) != (metres[-1].numerator, metres[-1].denominator):
            metres.append(metre)
    return Score(cut(score.notes, begin, inside[-1].end), tuple(metres), score.tempos[:1])


def windows(score: Score, bars: int, most: int) -> list[Score]:
    """At most `most` windows of `bars` bars, spread evenly from the first bar to the last; the whole score where it is
    no longer than one; none where it has no notes."""
    count = len(bars_of(score))
    if not count:
        return []
    starts = np.unique(np.linspace(0, max(count - bars, 0), most).round().astype(int))
    return [window(score, int(start), bars) for start in starts if count > bars or start == 0]
