"""A score in another key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plagal.music.chords import parse_chord
from plagal.music.grid import regular
from plagal.music.keys import key_tonic, parse_key
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, PITCH, Score


def transposed(score: Score, key: str) -> Score:
    """The score in a key, by the shorter way, or the other where the piano ends; modes stay as they are, whatever the
    key's name says. The score must have a key. Raises ChordError for an unknown key."""
    first = score.keys[0]
    wanted = parse_key(key)
    if wanted.minor != first.minor:
        wanted = parse_key(key.rstrip("m ") + ("m" if first.minor else ""))
    by = (key_tonic(wanted) - key_tonic(first) + 6) % 12 - 6
    pitches = score.notes[:, PITCH] + by
    if (pitches.min() < LOWEST_PITCH or pitches.max() > HIGHEST_PITCH) and by:
        other = by - 12 if by > 0 else by + 12
        moved = score.notes[:, PITCH] + other
        by, pitches = (other, moved) if moved.min() >= LOWEST_PITCH and moved.max() <= HIGHEST_PITCH else (by, pitches)
    pitches = np.where(pitches < LOWEST_PITCH, pitches + 12, np.where(pitches > HIGHEST_PITCH, pitches - 12, pitches))
    notes = score.notes.copy()
    notes[:, PITCH] = pitches
    turn = wanted.fifths - first.fifths
    keys = tuple(replace(old, fifths=_within(old.fifths + turn)) for old in score.keys)
    markers = tuple(
        replace(marker, text=parse_chord(marker.text).transposed(by).symbol) if marker.kind == "chord" else marker
        for marker in score.markers
    )
    return regular(replace(score, notes=notes, keys=keys, markers=markers, hands=score.hands))


def _within(fifths: int) -> int:
    return fifths if -7 <= fifths <= 7 else fifths - 12 if fifths > 0 else fifths + 12
