"""Note values: how long a note may be written in one piece, where it must be split and tied, where triplets stand.

Times are ticks of the score's grid, from the bar line. A span that begins and ends on 32nds is written plainly; one
that does not is part of a triplet, which fills a beat, half a beat or two beats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from plagal.music.score import TICKS_PER_QUARTER, Metre

_NAMES = {192: "breve", 96: "whole", 48: "half", 24: "quarter", 12: "eighth", 6: "16th", 3: "32nd"}
_PLAIN = {
    ticks + (ticks // 2 if dots else 0): (name, dots)
    for ticks, name in _NAMES.items()
    for dots in (0, 1)
    if not (dots and ticks == 3)
}
"""Ticks -> name and dots."""
_SHORTEST = 3
_BAR_LINE, _HALF_BAR, _BEAT, _EIGHTH, _SIXTEENTH, _FINER = 5, 4, 3, 2, 1, 0
"""How strong a place in the bar is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One note head's worth: when it begins, what it lasts [ticks], how it is drawn."""

    start: int
    ticks: int
    value: str
    dots: int
    triplet: tuple[int, int] | None = None
    """First and last tick of the triplet that it is part of."""

    @property
    def end(self) -> int:
        return self.start + self.ticks


@lru_cache(maxsize=64)
def groups(numerator: int, denominator: int) -> tuple[int, ...]:
    """Where the beats of a bar begin, and where it ends [ticks]: quarters, dotted quarters in 6/8, 2 + 2 + 3 in 7/8."""
    unit = 4 * TICKS_PER_QUARTER // denominator
    bar = numerator * unit
    if denominator >= 8 and numerator % 3 == 0 and numerator > 3:
        return tuple(range(0, bar + 1, 3 * unit))
    if denominator >= 8 and unit * numerator % TICKS_PER_QUARTER:
        pair = 2 * unit
        whole = (numerator - 3) // 2 if numerator > 3 else 0
        return (*(pair * number for number in range(whole + 1)), bar) if numerator > 3 else (0, bar)
    step = TICKS_PER_QUARTER if bar % TICKS_PER_QUARTER == 0 else unit
    return tuple(range(0, bar + 1, step))


@lru_cache(maxsize=64)
def _strengths(numerator: int, denominator: int) -> tuple[int, ...]:
    """How strong each tick of a bar is."""
    beats = groups(numerator, denominator)
    bar = beats[-1]
    strengths = [_FINER] * (bar + 1)
    for begin, end in pairwise(beats):
        for tick in range(begin, end):
            inside = tick - begin
            strengths[tick] = _EIGHTH if inside % 12 == 0 else _SIXTEENTH if inside % 6 == 0 else _FINER
    for beat in beats:
        strengths[beat] = _BEAT
    count = len(beats) - 1
    if (count % 2 == 0 and count > 2) or (count == 2 and beats[1] == 36):
        strengths[beats[count // 2]] = _HALF_BAR
    strengths[0] = strengths[bar] = _BAR_LINE
    return tuple(strengths)


def triplets(edges: Iterable[int], metre: Metre) -> list[tuple[int, int]]:
    """The triplets that a voice needs in a bar, where its notes and rests begin and end at `edges`."""
    marks = sorted(set(edges))
    beats = groups(metre.numerator, metre.denominator)
    spans: list[tuple[int, int]] = []
    taken = 0
    for number, begin in enumerate(beats[:-1]):
        end = beats[number + 1]
        odd = [mark for mark in marks if begin < mark < end and mark % _SHORTEST]
        if not odd or begin < taken:
            continue
        after = beats[number + 2] if number % 2 == 0 and number + 2 < len(beats) else end
        if after - begin == 48 and [mark - begin for mark in marks if begin < mark < after] == [16, 32]:
            spans.append((begin, after))  # three quarters over two beats
            taken = after
            continue
        size = 24 if end - begin == 24 and begin + 12 not in marks else 12
        for low in range(begin, end, size):
            if any(low < mark < low + size for mark in odd):
                spans.append((low, low + size))
    return spans


def pieces(
    start: int, end: int, metre: Metre, spans: Sequence[tuple[int, int]] = (), rest: bool = False
) -> list[Piece]:
    """A note or rest from `start` to `end` within one bar, as it is written: split at the strongest place inside that
    it may not hide. `spans`: the triplets of its voice."""
    for low, high in spans:
        if start < high and end > low and not (start <= low and end >= high):
            inner = [
                Piece(a, b - a, *_in_triplet(b - a), (low, high)) for a, b in _cut(max(start, low), min(end, high))
            ]
            before = pieces(start, low, metre, spans, rest) if start < low else []
            after = pieces(high, end, metre, spans, rest) if end > high else []
            return before + inner + after
    strengths = _strengths(metre.numerator, metre.denominator)
    ticks = end - start
    inside = range(start + 1, end)
    strongest = max(inside, key=lambda tick: (strengths[tick], tick), default=start)
    compound = metre.denominator >= 8
    hides = strengths[strongest] > strengths[start] and not (
        not rest and not compound and _is_syncope(start, strongest, end, strengths)
    )
    if rest and strengths[strongest] >= _BEAT and not compound and metre.numerator == 3:
        hides = ticks < metre.bar_ticks
    if rest and compound and strengths[strongest] >= _BEAT and strengths[start] < _HALF_BAR:
        hides = True
    if compound and ticks == 18 and start % 36 in (0, 18):
        hides = False
    if ticks in _PLAIN and (not hides or ticks == _SHORTEST):
        return [Piece(start, ticks, *_PLAIN[ticks])]
    if ticks <= _SHORTEST:
        return [Piece(start, ticks, "32nd", 0)]
    first = strongest
    if not hides:  # not one value: the longest that fits before a place of the greatest strength
        first = next(
            (tick for tick in sorted(inside, key=lambda tick: (-strengths[tick], -tick)) if tick - start in _PLAIN),
            strongest,
        )
    return pieces(start, first, metre, spans, rest) + pieces(first, end, metre, spans, rest)


def _is_syncope(start: int, middle: int, end: int, strengths: Sequence[int]) -> bool:
    """Quarter-half-quarter and eighth-quarter-eighth are read at a glance, and written so."""
    return middle - start == end - middle and (end - start, strengths[middle]) in (
        (24, _BEAT), (48, _HALF_BAR), (48, _BEAT),
    )  # fmt: skip


def _in_triplet(ticks: int) -> tuple[str, int]:
    return _PLAIN[ticks * 3 // 2]


def _cut(start: int, end: int) -> list[tuple[int, int]]:
    """A span within a triplet as values that have a name there."""
    cuts = []
    while start < end:
        ticks = max((t for t in (32, 24, 16, 12, 8, 4, 2) if t <= end - start and t * 3 // 2 in _PLAIN), default=2)
        cuts.append((start, start + ticks))
        start += ticks
    return cuts
