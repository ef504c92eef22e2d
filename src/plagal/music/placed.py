"""Chords and melody notes at places in bars: what a piece is asked to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plagal.music.chords import Chord
from plagal.music.score import TICKS_PER_QUARTER

_EIGHTH_TICKS = TICKS_PER_QUARTER // 2


@dataclass(frozen=True, slots=True)
class PlacedChord:
    """`bar` from 0 over the whole piece, `tick` from its bar line."""

    bar: int
    tick: int
    chord: Chord


@dataclass(frozen=True, slots=True)
class PlacedNote:
    """One note of a melody: `bar` from 0, `tick` from its bar line, `ticks` long."""

    bar: int
    tick: int
    pitch: int
    ticks: int


def spread_chords(
    progression: Sequence[Sequence[Chord]], bars: int, bar_ticks: int, first_bar: int = 0
) -> tuple[PlacedChord, ...]:
    """A progression, bar by bar, over `bars` bars from `first_bar` on, again and again. Chords of one bar share it
    equally; a share that would begin between eighths begins on the beat before, where there are beats enough."""
    placed = []
    for number in range(bars if progression else 0):
        chords = progression[number % len(progression)]
        beat = TICKS_PER_QUARTER if len(chords) * TICKS_PER_QUARTER <= bar_ticks else 1
        for place, chord in enumerate(chords):
            tick = bar_ticks * place // len(chords)
            if tick % _EIGHTH_TICKS:
                tick -= tick % beat
            placed.append(PlacedChord(first_bar + number, tick, chord))
    return tuple(placed)
