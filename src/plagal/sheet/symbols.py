"""Chord symbols on the page: what they are in MusicXML, how they are printed, and their Nashville numbers."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from plagal.music.chords import QUALITIES, Chord
from plagal.music.keys import chord_symbol, key_tonic, spell_pitch_class
from plagal.music.notation.symbols import KINDS, Degree, chord_of_kind
from plagal.music.score import Key

_BASES = ("major", "minor", "dominant", "major-seventh", "minor-seventh", "major-sixth", "minor-sixth", "major-minor",
          "suspended-fourth", "dominant-ninth", "dominant-13th", "augmented-seventh", "diminished")  # fmt: skip
_ADDED = {
    1: (9, -1),
    2: (9, 0),
    3: (9, 1),
    4: (3, 0),
    5: (11, 0),
    6: (11, 1),
    8: (13, -1),
    9: (13, 0),
    10: (7, 0),
    11: (7, 1),
}
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
