"""Training copies of a piece in other keys, at other speeds, voiced anew, or cut to a few bars."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from plagal.music.chords import parse_chord
from plagal.music.grid import bar_lines, last_event, regular
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    Key,
    Marker,
    Metre,
    Notes,
    Pedal,
    Score,
    Tempo,
)
from plagal.plumbing.errors import ChordError

_SLOWEST, _FASTEST = 20.0, 300.0
_LIVE_TICKS = (0.4, 0.8, 1.2)
"""How far from the beat a piece is played, as a standard deviation: at 100 quarters a minute a tick is 25 ms."""
Event = TypeVar("Event", Metre, Tempo, Key, Pedal)


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


def shifts_that_fit(score: Score, most: int) -> range:
    """Semitones up to `most` either way that keep every note on the piano."""
    pitches = score.notes[:, PITCH]
    return range(max(-most, LOWEST_PITCH - int(pitches.min())), min(most, HIGHEST_PITCH - int(pitches.max())) + 1)


def change_tempo(score: Score, factor: float) -> Score:
    """Every tempo times `factor`, kept within 20 to 300 quarters a minute."""
    tempos = tuple(
        replace(tempo, quarters_per_minute=min(_FASTEST, max(_SLOWEST, tempo.quarters_per_minute * factor)))
        for tempo in score.tempos
    )
    return replace(score, tempos=tempos)


def revoice(score: Score, rng: random.Random) -> Score:
    """Inner notes of chords moved by an octave (opened or closed, by phrases of two bars), melody and bass untouched.
    No note moves onto a key that is sounding, so the number of notes stays."""
    notes = score.notes.copy()
    lines = _bar_lines(score)
    starts = np.searchsorted(notes[:, ONSET], lines)
    for first in range(0, len(lines) - 1, 2):
        last = min(first + 2, len(lines) - 1)
        step = rng.choice((-12, 0, 12))
        if step:
            _move_inner(notes, int(starts[first]), int(starts[last]), step)
    order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
    return replace(score, notes=notes[order])


def _move_inner(notes: Notes, start: int, stop: int, step: int) -> None:
    """Move one inner note of each chord in rows [start, stop): the highest down or the lowest up, where it fits."""
    position = start
    while position < stop:
        end = position
        while end < stop and notes[end, ONSET] == notes[position, ONSET]:
            end += 1
        if end - position >= 4:
            row = end - 2 if step < 0 else position + 1
            pitch = int(notes[row, PITCH]) + step
            if notes[position, PITCH] < pitch < _lowest_top(notes, row) and _is_free(notes, row, pitch):
                notes[row, PITCH] = pitch
        position = end


def _lowest_top(notes: Notes, row: int) -> int:
    """The lowest of the tops of all chords struck while this note sounds: above it, it would be heard as the melody."""
    onset, end = notes[row, ONSET], notes[row, ONSET] + notes[row, DURATION]
    struck = notes[(notes[:, ONSET] >= onset) & (notes[:, ONSET] < end)]
    # Sorted by onset, then pitch: the last row of each onset is its top.
    tops = np.append(np.flatnonzero(np.diff(struck[:, ONSET])), len(struck) - 1)
    return int(struck[tops, PITCH].min())


def _is_free(notes: Notes, row: int, pitch: int) -> bool:
    onset, end = notes[row, ONSET], notes[row, ONSET] + notes[row, DURATION]
    same = notes[notes[:, PITCH] == pitch]
    return not bool(((same[:, ONSET] < end) & (same[:, ONSET] + same[:, DURATION] > onset)).any())


def play_live(score: Score, rng: random.Random) -> Score:
    """As hands play it: struck up to a tick or two before or after the beat, chords not quite together. Real files are
    often played in and not written; a model that knows only the grid finds each of their notes impossible."""
    notes = score.notes.copy()
    draw = np.random.default_rng(rng.getrandbits(64))
    spread = rng.choice(_LIVE_TICKS)
    _, groups = np.unique(notes[:, ONSET], return_inverse=True)
    together = draw.normal(0.0, spread, int(groups.max()) + 1)[groups]
    ends = notes[:, ONSET] + notes[:, DURATION] + np.rint(draw.normal(-spread, 2 * spread, len(notes))).astype(np.int32)
    struck = notes[:, ONSET] + np.rint(together + draw.normal(0.0, spread / 2, len(notes))).astype(np.int32)
    notes[:, ONSET] = np.clip(struck, 0, _bar_lines(score)[-1] - 1)  # a late last note begins no bar of its own
    notes[:, DURATION] = np.maximum(1, ends - notes[:, ONSET])
    order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
    return regular(replace(score, notes=notes[order]))


def excerpt(score: Score, first_bar: int, bars: int) -> Score:
    """`bars` bars from bar `first_bar` (counted from 0) as a piece of its own: notes that begin in them, cut at their
    end, under the metre, tempo, key and chord that held there."""
    lines = _bar_lines(score)
    start, stop = lines[first_bar], lines[first_bar + bars]
    notes = score.notes[(score.notes[:, ONSET] >= start) & (score.notes[:, ONSET] < stop)].copy()
    notes[:, DURATION] = np.minimum(notes[:, DURATION], stop - notes[:, ONSET])
    notes[:, ONSET] -= start
    cut = replace(
        score,
        notes=notes,
        metres=_window(score.metres, start, stop),
        tempos=_window(score.tempos, start, stop),
        keys=_window(score.keys, start, stop),
        pedals=_window(score.pedals, start, stop),
        markers=_window_markers(score.markers, start, stop),
    )
    return regular(cut)


def _bar_lines(score: Score) -> list[int]:
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
