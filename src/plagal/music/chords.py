"""Chords as symbols: a root, a quality, a bass. No score is heard here (that is `harmony`).

A symbol reads `<root><quality>[/<bass>]`, as in "Dbmaj9", "Gb13", "Ab13sus", "Cmin7/Eb". The first 24 qualities are
those of the fixed vocabulary, in its order; the rest are what gospel adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from plagal.plumbing.errors import ChordError

ROOT_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")

QUALITIES: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "dom7": (0, 4, 7, 10),
    "dim7": (0, 3, 6, 9),
    "halfdim7": (0, 3, 6, 10),
    "maj9": (0, 4, 7, 11, 2),
    "min9": (0, 3, 7, 10, 2),
    "dom9": (0, 4, 7, 10, 2),
    "maj11": (0, 4, 7, 11, 2, 5),
    "min11": (0, 3, 7, 10, 2, 5),
    "dom11": (0, 4, 7, 10, 2, 5),
    "maj13": (0, 4, 7, 11, 2, 9),
    "min13": (0, 3, 7, 10, 2, 9),
    "dom13": (0, 4, 7, 10, 2, 9),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "6": (0, 4, 7, 9),
    "min6": (0, 3, 7, 9),
    "add9": (0, 4, 7, 2),
    "minadd9": (0, 3, 7, 2),
    # What gospel adds to the fixed 24.
    "69": (0, 4, 7, 9, 2),
    "min69": (0, 3, 7, 9, 2),
    "minmaj7": (0, 3, 7, 11),
    "minmaj9": (0, 3, 7, 11, 2),
    "maj7#11": (0, 4, 7, 11, 6),
    "maj7#5": (0, 4, 8, 11),
    "7b9": (0, 4, 7, 10, 1),
    "7#9": (0, 4, 7, 10, 3),
    "7#11": (0, 4, 7, 10, 6),
    "7b13": (0, 4, 7, 10, 8),
    "7b5": (0, 4, 6, 10),
    "7#5": (0, 4, 8, 10),
    "7alt": (0, 4, 10, 1, 3, 8),
    "7b9b13": (0, 4, 7, 10, 1, 8),
    "7#9b13": (0, 4, 7, 10, 3, 8),
    "13b9": (0, 4, 7, 10, 1, 9),
    "13#11": (0, 4, 7, 10, 6, 9),
    "7sus": (0, 5, 7, 10),
    "9sus": (0, 5, 7, 10, 2),
    "13sus": (0, 5, 7, 10, 2, 9),
    "7susb9": (0, 5, 7, 10, 1),
    "5": (0, 7),
}
"""Quality -> pitch classes above the root, in the order in which they are stacked (9 is 2, 11 is 5, 13 is 9)."""

FIXED_QUALITIES = tuple(QUALITIES)[:24]

_ALIASES = {
    "": "maj", "M": "maj", "m": "min", "-": "min", "mi": "min", "°": "dim", "o": "dim", "+": "aug",
    "M7": "maj7", "Δ": "maj7", "Δ7": "maj7", "ma7": "maj7", "m7": "min7", "-7": "min7", "mi7": "min7", "7": "dom7",
    "°7": "dim7", "o7": "dim7", "ø": "halfdim7", "ø7": "halfdim7", "m7b5": "halfdim7", "min7b5": "halfdim7",
    "-7b5": "halfdim7", "M9": "maj9", "ma9": "maj9", "m9": "min9", "-9": "min9", "9": "dom9", "M11": "maj11",
    "m11": "min11", "-11": "min11", "11": "dom11", "M13": "maj13", "m13": "min13", "-13": "min13", "13": "dom13",
    "sus": "sus4", "2": "sus2", "4": "sus4", "maj6": "6", "M6": "6", "m6": "min6", "-6": "min6", "add2": "add9",
    "madd9": "minadd9", "6/9": "69", "m6/9": "min69", "min6/9": "min69", "m69": "min69", "mM7": "minmaj7",
    "m(maj7)": "minmaj7", "mmaj7": "minmaj7", "minM7": "minmaj7", "mmaj9": "minmaj9", "M7#11": "maj7#11",
    "maj9#11": "maj7#11", "lyd": "maj7#11", "maj7+": "maj7#5", "augmaj7": "maj7#5", "9b9": "7b9", "7(b9)": "7b9",
    "7(#9)": "7#9", "9#11": "7#11", "7(#11)": "7#11", "7b6": "7b13", "7+": "7#5", "aug7": "7#5", "+7": "7#5",
    "9#5": "7#5", "alt": "7alt", "7b9#5": "7b9b13", "7#9#5": "7#9b13", "13(b9)": "13b9", "13(#11)": "13#11",
    "7sus4": "7sus", "9sus4": "9sus", "11sus": "9sus", "13sus4": "13sus", "7sus4b9": "7susb9", "no3": "5",
}  # fmt: skip

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, slots=True)
class Chord:
    """`root` and `bass` are pitch classes 0-11; `bass` equals `root` where no slash is written."""

    root: int
    quality: str
    bass: int

    @property
    def pitch_classes(self) -> frozenset[int]:
        """Those of root and quality, and the bass."""
        return frozenset((self.root + step) % 12 for step in QUALITIES[self.quality]) | {self.bass}

    @property
    def symbol(self) -> str:
        """As `parse_chord` reads it: "Dbmaj9", "Cmin7/Eb"."""
        slash = "" if self.bass == self.root else f"/{ROOT_NAMES[self.bass]}"
        return f"{ROOT_NAMES[self.root]}{self.quality}{slash}"

    def transposed(self, semitones: int) -> Chord:
        return Chord((self.root + semitones) % 12, self.quality, (self.bass + semitones) % 12)


def parse_pitch_class(text: str) -> tuple[int, str]:
    """The pitch class that a text begins with ("Db7" -> 1) and the rest of it ("7"). Raises ChordError."""
    if not text or text[0] not in _LETTERS:
        raise ChordError(f"{text!r} does not begin with a note name A-G")
    pitch_class, rest = _LETTERS[text[0]], text[1:]
    while rest and rest[0] in "b#♭♯":
        pitch_class += 1 if rest[0] in "#♯" else -1
        rest = rest[1:]
    return pitch_class % 12, rest


def parse_chord(symbol: str) -> Chord:
    """A chord from its symbol, in the vocabulary's spelling or a usual one ("Db13", "F#m7b5", "C6/9", "Ab7sus4/Db").
    Raises ChordError, naming the symbol."""
    try:
        root, rest = parse_pitch_class(symbol.strip())
        quality, bass = rest, root
        if "/" in rest and rest not in _ALIASES and rest not in QUALITIES:
            quality, _, bass_name = rest.rpartition("/")
            bass, left = parse_pitch_class(bass_name)
            if left:
                raise ChordError("text after the bass")
        quality = quality if quality in QUALITIES else _ALIASES[quality]
    except (ChordError, KeyError):
        raise ChordError(f"chord {symbol!r} is not known: write it as in Dbmaj9 or F#m7b5/A") from None
    return Chord(root, quality, bass)
