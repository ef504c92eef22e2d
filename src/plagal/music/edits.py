"""A score changed as a player is asked to: another key, tempo or loudness, swung, cut; every other note stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from plagal.music.chords import parse_chord
from plagal.music.grid import FASTEST, SLOWEST, bar_lines, last_event, regular
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    TICKS_PER_QUARTER,
    VELOCITY,
    Key,
    Marker,
    Metre,
    Pedal,
    Score,
    Tempo,
)  # fmt: skip
from plagal.plumbing.errors import ChordError, InputError

A_DYNAMIC = 15
"""Of velocity: from one dynamic to the next, as from mf to f."""
_SWUNG = {6: 8, 12: 16, 18: 20}
"""Ticks within a quarter: straight eighths and sixteenths, and where they are swung."""
Event = TypeVar("Event", Metre, Tempo, Key, Pedal)


def shifts_that_fit(score: Score, most: int) -> range:
    """Semitones up to `most` either way that keep every note on the piano."""
    pitches = score.notes[:, PITCH]
    return range(max(-most, LOWEST_PITCH - int(pitches.min())), min(most, HIGHEST_PITCH - int(pitches.max())) + 1)


def transpose(score: Score, semitones: int) -> Score:
    """The piece that many semitones higher, its keys and chord symbols with it. It must fit (`shifts_that_fit`)."""
    notes = score.notes.copy()
    notes[:, PITCH] += semitones
    if len(notes) and not LOWEST_PITCH <= notes[:, PITCH].min() <= notes[:, PITCH].max() <= HIGHEST_PITCH:
        raise ValueError(f"{semitones:+d} semitones leave the piano's 88 keys")
    keys = tuple(key_of((key_tonic(key) + semitones) % 12, key.minor, key.onset) for key in score.keys)
    markers = tuple(_transposed_marker(marker, semitones) for marker in score.markers)
    return replace(score, notes=notes, keys=keys, markers=markers)


def _transposed_marker(marker: Marker, semitones: int) -> Marker:
    if marker.kind != "chord":
        return marker
    try:
        return replace(marker, text=parse_chord(marker.text).transposed(semitones).symbol)
    except ChordError:
        return marker


def change_tempo(score: Score, factor: float) -> Score:
    """Every tempo times `factor`, kept within 20 to 300 quarters a minute."""
    tempos = tuple(
        replace(tempo, quarters_per_minute=min(FASTEST, max(SLOWEST, tempo.quarters_per_minute * factor)))
        for tempo in score.tempos
    )
    return replace(score, tempos=tempos)


def excerpt(score: Score, first_bar: int, bars: int) -> Score:
    """`bars` bars from bar `first_bar` (counted from 0) as a piece of its own: notes that begin in them, cut at their
    end, under the metre, tempo, key and chord that held there."""
    lines = bar_edges(score)
    start, stop = lines[first_bar], lines[first_bar + bars]
    notes = score.notes[(score.notes[:, ONSET] >= start) & (score.notes[:, ONSET] < stop)].copy()
    notes[:, DURATION] = np.minimum(notes[:, DURATION], stop - notes[:, ONSET])
    notes[:, ONSET] -= start
    events: dict[str, Any] = {
        name: _window(getattr(score, name), start, stop) for name in ("metres", "tempos", "keys", "pedals")
    }
    return regular(replace(score, notes=notes, markers=_window_markers(score.markers, start, stop), **events))


def bar_edges(score: Score) -> list[int]:
    """Onsets [ticks] of every bar, and the line that closes the last."""
    starts, lengths = bar_lines(score.metres, last_event(score))
    return [*starts.tolist(), int(starts[-1] + lengths[-1])]


def _window(events: tuple[Event, ...], start: int, stop: int) -> tuple[Event, ...]:
    """Events between start and stop, led by the one in force at the start (the first of all where none was)."""
    first = max((place for place, event in enumerate(events) if event.onset <= start), default=0)
    moved: list[Any] = [replace(e, onset=max(0, e.onset - start)) for e in events[first:] if e.onset < stop]
    return tuple(moved)


def _window_markers(markers: tuple[Marker, ...], start: int, stop: int) -> tuple[Marker, ...]:
    """Chords as `_window`; sections and articulations inside; repeats go, for half of one says nothing."""
    chords = [marker for marker in markers if marker.kind == "chord" and marker.onset <= start][-1:]
    inside = [m for m in markers if start < m.onset < stop or (m.onset == start and m.kind != "chord")]
    kept = [m for m in inside if m.kind != "repeat"]
    return tuple(replace(m, onset=max(0, m.onset - start)) for m in (*chords, *kept))


def without_bars(score: Score, first_bar: int, bars: int) -> Score:
    """The piece without `bars` bars from bar `first_bar` (counted from 0) on; what came after them follows at once."""
    before = excerpt(score, 0, first_bar)
    lines = bar_edges(score)
    after = excerpt(score, first_bar + bars, len(lines) - 1 - first_bar - bars)
    join = lines[first_bar]
    notes = after.notes.copy()
    notes[:, ONSET] += join

    def joined(name: str) -> Any:
        return getattr(before, name) + tuple(replace(e, onset=e.onset + join) for e in getattr(after, name))

    whole = replace(score, notes=np.concatenate([before.notes, notes]), hands=None, **{
        name: joined(name) for name in ("metres", "tempos", "keys", "pedals", "markers")
    })  # fmt: skip
    return regular(whole)


def count_bars(score: Score) -> int:
    return len(bar_edges(score)) - 1


def louder(score: Score, by: int = A_DYNAMIC) -> Score:
    """Every velocity so much higher, within 1 to 127."""
    notes = score.notes.copy()
    notes[:, VELOCITY] = np.clip(notes[:, VELOCITY] + by, 1, 127)
    return replace(score, notes=notes)


def swung(score: Score) -> Score:
    """Straight eighths and sixteenths on the grid of triplets. Raises InputError where a beat has three parts."""
    if any(metre.is_compound for metre in score.metres):
        metre = score.metres[0]
        raise InputError(f"{metre.numerator}/{metre.denominator} goes in threes already; it cannot be swung")

    def moved(tick: int) -> int:
        quarter, within = divmod(tick, TICKS_PER_QUARTER)
        return quarter * TICKS_PER_QUARTER + _SWUNG.get(within, within)

    notes = score.notes.copy()
    onsets, ends = notes[:, ONSET], notes[:, ONSET] + notes[:, DURATION]
    notes[:, ONSET] = [moved(tick) for tick in onsets.tolist()]
    notes[:, DURATION] = np.maximum([moved(tick) for tick in ends.tolist()] - notes[:, ONSET], 1)
    pedals = tuple(replace(pedal, onset=moved(pedal.onset)) for pedal in score.pedals)
    markers = tuple(replace(marker, onset=moved(marker.onset)) for marker in score.markers)
    return replace(score, notes=notes, pedals=pedals, markers=markers)
