"""Names on the page: which of C#, Db and B## a pitch is, note by note; chord symbols, and their Nashville numbers.

Each note is judged by what sounds around it, as in Meredith's PS13 (2006): every pitch class near by, as often as it
is struck, speaks for the name that the chromatic scale on it as a tonic has (flat second, minor and major third, sharp
fourth, minor sixth and seventh). The key that stands has a say, and so has the way on: what goes up a semitone is
raised, what goes down one is lowered.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.chords import KINDS, QUALITIES, Chord, Degree, chord_of_kind, parse_chord
from plagal.music.keys import chord_symbol, fifths_of, key_then, key_tonic, spell_pitch_class
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
    chosen = _by_chords(score, keys, chosen)
    # Octaves of one moment have one name, the nearer to the key: no A natural stands under a B double flat.
    struck: dict[tuple[int, int], list[int]] = {}
    for row, (onset, pitch) in enumerate(score.notes[:, [ONSET, PITCH]].tolist()):
        struck.setdefault((onset, pitch % 12), []).append(row)
    for rows in struck.values():
        nearest = min((chosen[row] for row in rows), key=lambda name: abs(name - keys[rows[0]].fifths - 2))
        for row in rows:
            chosen[row] = nearest
    return chosen


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


_BASES = ("major", "minor", "dominant", "major-seventh", "minor-seventh", "major-sixth", "minor-sixth", "major-minor",
          "suspended-fourth", "dominant-ninth", "dominant-13th", "augmented-seventh", "diminished")  # fmt: skip
_ADDED = {1: (9, -1), 2: (9, 0), 3: (9, 1), 4: (3, 0), 5: (11, 0), 6: (11, 1), 8: (13, -1), 9: (13, 0), 10: (7, 0),
          11: (7, 1)}  # fmt: skip
"""Semitones above the root -> the degree that adds them; an added seventh is minor by itself."""
_PLAIN = {3: 3, 4: 3, 7: 5, 10: 7, 11: 7}
"""Semitones -> the degree that takes them away."""
_NUMBERS = ("1", "♭2", "2", "♭3", "3", "4", "♯4", "5", "♭6", "6", "♭7", "7")

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
"""A chord's 7 beside a degree's 4 would be read as 47."""


@lru_cache(maxsize=64)
def kind_of(quality: str) -> tuple[str, tuple[Degree, ...]]:
    """MusicXML's kind for a quality, with the degrees that make it exact."""
    plain = next((kind for kind, name in KINDS.items() if name == quality and kind.islower()), None)  # no "French"
    if plain is not None:
        return plain, ()
    wanted = set(QUALITIES[quality])
    best: tuple[str, tuple[Degree, ...]] | None = None
    for kind in _BASES:
        has = set(QUALITIES[KINDS[kind]])
        if any(step not in _PLAIN for step in has - wanted) or any(step not in _ADDED for step in wanted - has):
            continue
        degrees: list[Degree] = [("subtract", _PLAIN[step], 0) for step in sorted(has - wanted)]
        degrees += [("add", *_ADDED[step]) for step in sorted(wanted - has)]
        if best is None or len(degrees) < len(best[1]):
            chord = chord_of_kind(0, kind, "", degrees, None, Counter())
            if chord is not None and chord.quality == quality:
                best = kind, tuple(degrees)
    return best or ("other", ())


def printed(chord: Chord, key: Key | None) -> tuple[str, str, str]:
    """Root, what stands after it, and bass (empty where it is the root) as a chart prints them."""
    symbol, _, bass = chord_symbol(chord, key).partition("/")
    root = spell_pitch_class(chord.root, key)
    return root, _signs(symbol.removeprefix(root)), bass


def nashville(chord: Chord, key: Key) -> str:
    """The Nashville number: degrees of the key's major scale (of the relative major in minor), "-" for minor."""
    tonic = (key_tonic(key) + (3 if key.minor else 0)) % 12
    root = _NUMBERS[(chord.root - tonic) % 12]
    text = printed(chord, key)[1]
    text = re.sub(r"^m(?!aj)", "-", text).translate(_SUPERSCRIPT)
    bass = "" if chord.bass == chord.root else f"/{_NUMBERS[(chord.bass - tonic) % 12]}"
    return f"{root}{text}{bass}"


def _signs(text: str) -> str:
    """Flats and sharps as signs: "7b9" -> "7♭9"."""
    return (
        re.sub(r"#(?=\d)", "♯", re.sub(r"b(?=\d)", "♭", text))
        .replace("mmaj", "m(maj")
        .replace("(maj7", "(maj7)")
        .replace("(maj9", "(maj9)")
    )
