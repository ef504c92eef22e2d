"""Training copies of a piece: which keys fit it, voiced anew, played live. Other keys, tempi and excerpts are
`plagal.music.edits`."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from plagal.music.edits import bar_edges
from plagal.music.grid import regular
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    Notes,
    Score,
)

_LIVE_TICKS = (0.4, 0.8, 1.2)
"""How far from the beat a piece is played, as a standard deviation: at 100 quarters a minute a tick is 25 ms."""


def shifts_that_fit(score: Score, most: int) -> range:
    """Semitones up to `most` either way that keep every note on the piano."""
    pitches = score.notes[:, PITCH]
    return range(max(-most, LOWEST_PITCH - int(pitches.min())), min(most, HIGHEST_PITCH - int(pitches.max())) + 1)


def revoice(score: Score, rng: random.Random) -> Score:
    """Inner notes of chords moved by an octave (opened or closed, by phrases of two bars), melody and bass untouched.
    No note moves onto a key that is sounding, so the number of notes stays."""
    notes = score.notes.copy()
    lines = bar_edges(score)
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
    notes[:, ONSET] = np.clip(struck, 0, bar_edges(score)[-1] - 1)  # a late last note begins no bar of its own
    notes[:, DURATION] = np.maximum(1, ends - notes[:, ONSET])
    order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
    return regular(replace(score, notes=notes[order]))
