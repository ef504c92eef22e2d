"""Names for keys: which of C#, Db and B## a pitch is, note by note.

Each note is judged by what sounds around it, as in Meredith's PS13 (2006): every pitch class near by, as often as it
is struck, speaks for the name that the chromatic scale on it as a tonic has (flat second, minor and major third, sharp
fourth, minor sixth and seventh). The key that stands has a say, and so has the way on: what goes up a semitone is
raised, what goes down one is lowered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.chords import Chord, parse_chord
from plagal.music.keys import fifths_of, key_then, spell_pitch_class
from plagal.music.score import ONSET, PITCH, Key, Score

LETTERS = "FCGDAEB"
"""By fifths; F is -1 on the line of fifths."""

_BEFORE, _AFTER = 10, 42
"""Notes around that are counted, PS13's own numbers."""
_KEY = 0.35
_LEADS = 0.25
_PUSH = 3
"""Ticks before a chord symbol from which on a note belongs to it."""
_OF_ROOT = (0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5)
"""Semitones above a chord's root -> fifths: root, flat ninth, ninth, minor and major third, fourth, sharp fourth ..."""
_OF_CHORD = {(6, "dim"): -6, (6, "dim7"): -6, (6, "halfdim7"): -6, (6, "7b5"): -6, (9, "dim7"): -9, (3, "7#9"): 9,
             (3, "7alt"): 9, (3, "7#9b13"): 9, (8, "aug"): 8, (8, "7#5"): 8, (8, "maj7#5"): 8}  # fmt: skip
"""Where a quality says otherwise: the flat fifth of a diminished chord, the sharp ninth of a 7#9."""
_FLATTEST, _SHARPEST = -8, 12
"""Fb and E#."""
_FARTHEST = 9
"""Fifths from the middle of the key: beyond lie names that nobody reads for pleasure."""
_WITHIN = 5
"""Notes on in which a semitone step is looked for."""


def spelled(score: Score) -> list[int]:
    """For each note its place on the line of fifths: F# is 6, Gb is -6."""
    keys = [key_then(score.keys, int(onset)) or Key(0, 0) for onset in score.notes[:, ONSET]]
    chosen = names(score.notes[:, PITCH], score.notes[:, ONSET], [key.fifths for key in keys])
    return _by_chords(score, keys, chosen)


def _by_chords(score: Score, keys: list[Key], chosen: list[int]) -> list[int]:
    """The names where a chord that stands over the notes says another: thirds are thirds of its root as it is printed,
    so that no G# stands under an Ab9. Not where that would take a double accidental."""
    symbols = [(marker.onset, parse_chord(marker.text)) for marker in score.markers if marker.kind == "chord"]
    place = -1
    for row, (onset, pitch) in enumerate(score.notes[:, [ONSET, PITCH]].tolist()):
        while place + 1 < len(symbols) and symbols[place + 1][0] <= onset + _PUSH:
            place += 1
        if place < 0:
            continue
        chord = symbols[place][1]
        step = (pitch - chord.root) % 12
        if pitch % 12 not in chord.pitch_classes:
            continue
        root = _root(chord, keys[row])
        named = root + _OF_CHORD.get((step, chord.quality), _OF_ROOT[step])
        on = _way_on(row, score.notes[:, PITCH], score.notes[:, ONSET])
        passes = on * (chosen[row] - named) > 0  # a line that climbs is raised, whatever chord it passes
        if not passes and _FLATTEST <= named <= _SHARPEST and abs(named - keys[row].fifths - 2) <= _FARTHEST:
            chosen[row] = named
    return chosen


def _root(chord: Chord, key: Key) -> int:
    """The root as it is printed or, where that would take the key's own notes out of it, the other way: under B in
    D flat major stand C flat, E flat and G flat."""
    printed = fifths_of(spell_pitch_class(chord.root, key))
    own = range(key.fifths - 1, key.fifths + 6)

    def foreign(root: int) -> int:
        steps = [(pc - chord.root) % 12 for pc in chord.pitch_classes]
        named = [root + _OF_CHORD.get((step, chord.quality), _OF_ROOT[step]) for step in steps]
        return sum(any((name - fifths) % 12 == 0 for fifths in own) and name not in own for name in named)

    others = [root for root in (printed - 12, printed + 12) if _FLATTEST <= root <= _SHARPEST]
    return min([printed, *others], key=foreign)


def names(pitches: npt.NDArray[Any], onsets: npt.NDArray[Any], fifths: list[int]) -> list[int]:
    """As `spelled`, from the notes in their order and the key signature at each."""
    classes = pitches % 12
    onehot = np.zeros((len(classes) + 1, 12), dtype=np.int64)
    onehot[1:] = np.cumsum(np.eye(12, dtype=np.int64)[classes], axis=0)
    chosen = []
    for place, pitch in enumerate(pitches.tolist()):
        low, high = max(0, place - _BEFORE), min(len(classes), place + _AFTER)
        counts = (onehot[high] - onehot[low]) / (high - low)
        below = (pitch * 7 - (fifths[place] - 3)) % 12 + fifths[place] - 3  # the twelve from the key's flat seventh on
        options = [below - 12, below, below + 12]
        leads = _way_on(place, pitches, onsets)
        chosen.append(max(options, key=lambda option: _worth(option, counts, fifths[place], leads)))
    return chosen


def _worth(option: int, counts: npt.NDArray[Any], fifths: int, leads: int) -> float:
    """How much speaks for a name."""
    worth = 0.0
    for tonic in range(fifths - 5, fifths + 9):  # tonics that the key signature is near to
        weight = counts[tonic * 7 % 12]
        if -5 <= option - tonic <= 6:
            worth += float(weight) * (1.0 if -3 <= tonic - fifths <= 7 else 0.3)
    if fifths - 1 <= option <= fifths + 5:
        worth += _KEY
    worth -= 0.02 * abs(option - fifths - 2)
    if leads:
        worth += _LEADS * (leads > 0) * (option > fifths + 5) + _LEADS * (leads < 0) * (option < fifths - 1)
    return worth


def _way_on(place: int, pitches: npt.NDArray[Any], onsets: npt.NDArray[Any]) -> int:
    """1 where the next step from here is a semitone up, -1 down, 0 where neither or both."""
    after = pitches[place + 1 : place + 1 + 2 * _WITHIN][onsets[place + 1 : place + 1 + 2 * _WITHIN] > onsets[place]]
    after = after[:_WITHIN]
    up, down = bool((after == pitches[place] + 1).any()), bool((after == pitches[place] - 1).any())
    return int(up) - int(down)
