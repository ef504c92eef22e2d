"""Pieces made worse on purpose: what a measure of coherence must rank below the real thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from plagal.evaluation.bars import bars_of, cut
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Notes, Score

Rng = np.random.Generator
Damage = Callable[[Score, Rng], Score]


def _sorted(notes: Notes) -> Notes:
    """In order, and one of a pitch at a time."""
    notes = notes[np.lexsort((notes[:, PITCH], notes[:, ONSET]))]
    _, first = np.unique(notes[:, ONSET].astype(np.int64) * 128 + notes[:, PITCH], return_index=True)
    return notes[first].astype(np.int32)


def bars_shuffled(score: Score, rng: Rng) -> Score:
    """The same bars in another order; bars of one length change places among themselves."""
    bars = bars_of(score)
    source = np.arange(len(bars))
    lengths = np.array([bar.end - bar.begin for bar in bars])
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        source[places] = _moved(places, rng)
    pieces = []
    for bar, other in zip(bars, source, strict=True):
        some = cut(score.notes, bars[other].begin, bars[other].end)
        some[:, ONSET] += bar.begin
        pieces.append(some)
    return replace(score, notes=_sorted(np.concatenate(pieces)), markers=(), pedals=())


def _moved(places: np.ndarray, rng: Rng) -> np.ndarray:
    """A permutation that keeps no neighbours together, as far as ten tries find one."""
    best, fewest = places, len(places) + 1
    for _ in range(10):
        drawn = rng.permutation(places)
        together = int((np.diff(drawn) == 1).sum())
        if together < fewest:
            best, fewest = drawn, together
    return best


def notes_shuffled(score: Score, rng: Rng) -> Score:
    """The same rhythm with the pitches dealt anew."""
    notes = score.notes.copy()
    notes[:, PITCH] = rng.permutation(notes[:, PITCH])
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def random_notes(score: Score, rng: Rng) -> Score:
    """As many notes over the same time and keys, anywhere."""
    notes = score.notes.copy()
    end = bars_of(score)[-1].end
    low, high = notes[:, PITCH].min(), notes[:, PITCH].max()
    notes[:, ONSET] = rng.integers(0, max(end // 3, 1), len(notes)) * 3
    notes[:, PITCH] = rng.integers(low, high + 1, len(notes))
    notes[:, DURATION] = np.minimum(rng.integers(1, 17, len(notes)) * 3, end - notes[:, ONSET])
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def wrong_notes(score: Score, rng: Rng) -> Score:
    """A fifth of the notes a half or whole step off."""
    notes = score.notes.copy()
    off = rng.random(len(notes)) < 0.2
    notes[off, PITCH] = np.clip(notes[off, PITCH] + rng.choice([-2, -1, 1, 2], off.sum()), 21, 108)
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def off_beat(score: Score, rng: Rng) -> Score:
    """A third of the notes a sixteenth or an eighth early or late."""
    notes = score.notes.copy()
    off = rng.random(len(notes)) < 0.33
    shift = rng.choice([-2, -1, 1, 2], off.sum()) * TICKS_PER_QUARTER // 4
    last = bars_of(score)[-1].end - notes[off, DURATION]
    notes[off, ONSET] = np.clip(notes[off, ONSET] + shift, 0, np.maximum(last, 0))
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def hands_apart(score: Score, rng: Rng) -> Score:
    """What lies below middle C comes some bars late, the last bars first: each hand plays on, but not together."""
    bars = bars_of(score)
    end = bars[-1].end
    notes = score.notes.copy()
    low = notes[:, PITCH] < 60
    shift = bars[int(rng.integers(1, max(len(bars), 2))) % len(bars)].begin
    notes[low, ONSET] = (notes[low, ONSET] + shift) % end
    notes[low, DURATION] = np.minimum(notes[low, DURATION], end - notes[low, ONSET])
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def one_bar_repeated(score: Score, rng: Rng) -> Score:
    """One bar over and over."""
    bars = bars_of(score)
    counts = np.bincount(
        np.searchsorted([bar.begin for bar in bars], score.notes[:, ONSET], side="right") - 1, minlength=len(bars)
    )
    chosen = bars[int(rng.choice(np.flatnonzero(counts > 0)))]
    content = cut(score.notes, chosen.begin, chosen.end)
    pieces = []
    for bar in bars:
        some = content[content[:, ONSET] < bar.end - bar.begin].copy()
        some[:, DURATION] = np.minimum(some[:, DURATION], bar.end - bar.begin - some[:, ONSET])
        some[:, ONSET] += bar.begin
        pieces.append(some)
    return replace(score, notes=_sorted(np.concatenate(pieces)), markers=(), pedals=())


DAMAGES: dict[str, Damage] = {
    "bars_shuffled": bars_shuffled,
    "wrong_notes": wrong_notes,
    "off_beat": off_beat,
    "hands_apart": hands_apart,
    "one_bar_repeated": one_bar_repeated,
    "notes_shuffled": notes_shuffled,
    "random": random_notes,
}
