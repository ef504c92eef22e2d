"""Chords as symbols: a root, a quality, a bass. No score is heard here (that is `harmony`).

A symbol reads `<root><quality>[/<bass>]`, as in "Dbmaj9", "Gb13", "Ab13sus", "Cmin7/Eb". The first 24 qualities are
those of the fixed vocabulary, in its order; the rest are what gospel adds.

Notations say chords in their own ways: quoted text in ABC, kind and degrees in MusicXML (`chord_of_text`,
`chord_of_kind`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache

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

_ALIASES = {"no3": "5", "alt": "7alt", "lyd": "maj7#11", "augmaj7": "maj7#5", "7b9#5": "7b9b13", "7#9#5": "7#9b13",
            "7b6": "7b13", "4": "sus4"}  # fmt: skip
"""Names that do not follow from the grammar below."""

_WRITTEN_OTHERWISE = (
    (r"[\u25b3\u0394\u2206^](?=7|9|11|13)", "maj"), (r"[\u25b3\u0394\u2206^]", "maj7"), (r"[\u2212\u2013]", "-"),
    (r"[\u266d]", "b"), (r"[\u266f]", "#"), (r"[\u00b0\u00ba]|^o(?=7|$)", "dim"), (r"\u00f87?|^halfdim$", "halfdim7"),
    (r"(?i)maj(?:or)?", "maj"), (r"(?i)^min(?:or)?(?=\W|[0-9a-z]|$)", "min"), (r"(?i)dim", "dim"), (r"(?i)aug", "aug"),
    (r"(?i)sus", "sus"), (r"(?i)add", "add"), (r"(?i)alt", "alt"), (r"^mi(?=\d|$|maj)", "min"),
    (r"^(?:M[Aa]?|ma)(?=\d|$)", "maj"),
    (r"^m(?=\W|\d|M|maj|add|$)|^-(?=\D|\d|$)", "min"), (r"(?<=min)M(?=7|9)", "maj"), (r"[(),\s]", ""),
    (r"(?<=[0-9])\+(?=\d)", "#"), (r"(?<=[0-9])-(?=\d)", "b"), (r"^\+", "aug"), (r"(?<=[79])\+$", "#5"), (r"6/9", "69"),
)  # fmt: skip
"""What charts write, and what the grammar calls it, in this order: C\u25b37, C^7, CMaj7, C-7, C7(b9), C7+5, C+7."""
_QUALITY = re.compile(
    r"(?P<triad>maj|min|dim|aug|halfdim7)?(?P<major7>maj(?=7|9))?(?P<number>13|11|9|69|7|6|5|2)?"
    r"(?P<sus>sus(?:24|[24])?)?(?P<rest>(?:[b#](?:5|6|9|11|13)|add(?:2|4|9|11|13)|no[35]|omit[35]|sus[24]?)*)"
)
_EXTENSIONS = {"9": (2,), "11": (2, 5), "13": (2, 9), "69": (9, 2), "6": (9,), "2": (2,)}
_ADDED = {"add2": 2, "add9": 2, "add4": 5, "add11": 5, "add13": 9, "b9": 1, "#9": 3, "#11": 6, "b13": 8, "b6": 8}

LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, slots=True)
class Chord:
    """`root` and `bass` are pitch classes 0-11; `bass` equals `root` where no slash is written."""

    root: int
    quality: str
    bass: int

    @property
    def pitch_classes(self) -> frozenset[int]:
        """Those of root and quality, and the bass."""
        return _pitch_classes(self.root, self.quality, self.bass)

    @property
    def symbol(self) -> str:
        """As `parse_chord` reads it: "Dbmaj9", "Cmin7/Eb"."""
        slash = "" if self.bass == self.root else f"/{ROOT_NAMES[self.bass]}"
        return f"{ROOT_NAMES[self.root]}{self.quality}{slash}"

    def transposed(self, semitones: int) -> Chord:
        return Chord((self.root + semitones) % 12, self.quality, (self.bass + semitones) % 12)


@cache
def _pitch_classes(root: int, quality: str, bass: int) -> frozenset[int]:
    return frozenset((root + step) % 12 for step in QUALITIES[quality]) | {bass}


def parse_pitch_class(text: str) -> tuple[int, str]:
    """The pitch class that a text begins with ("Db7" -> 1) and the rest of it ("7"). Raises ChordError."""
    if not text or text[0] not in LETTERS:
        raise ChordError(f"{text!r} does not begin with a note name A-G")
    pitch_class, rest = LETTERS[text[0]], text[1:]
    while rest and rest[0] in "b#♭♯":
        pitch_class += 1 if rest[0] in "#♯" else -1
        rest = rest[1:]
    return pitch_class % 12, rest


def parse_chord(symbol: str) -> Chord:
    """A chord from its symbol, in the vocabulary's spelling or one of charts: "Db13", "F#m7(b5)", "C6/9", "A:min7",
    "Ab7sus4/Db". Raises ChordError, naming the symbol and the nearest spelling."""
    return read_chord(symbol)[0]


@lru_cache(maxsize=4096)  # a piece says the same few chords over and over
def read_chord(symbol: str) -> tuple[Chord, bool]:
    """The chord, and whether the vocabulary has it exactly: "C9#11" becomes C7#11, which keeps root, third and seventh.
    Raises ChordError as `parse_chord` does."""
    text = symbol.strip()
    try:
        root, rest = parse_pitch_class(text)
        rest = rest.removeprefix(":")
        quality, bass = rest, root
        if "/" in rest and not re.fullmatch(r"m?(?:in)?6/9|-6/9", rest):
            quality, _, bass_name = rest.rpartition("/")
            bass, left = parse_pitch_class(bass_name)
            if left:
                raise ChordError("text after the bass")
        name, exact = _quality(quality)
    except ChordError:
        raise ChordError(f"chord {symbol!r} is not known{_nearest(text)}") from None
    return Chord(root, name, bass), exact


def _quality(text: str) -> tuple[str, bool]:
    """The vocabulary's name of a quality, and whether it has just those tones."""
    for pattern, name in _WRITTEN_OTHERWISE:
        if text in QUALITIES:
            return text, True
        text = re.sub(pattern, name, text)
    text = _ALIASES.get(text, text)
    if text in QUALITIES:
        return text, True
    match = _QUALITY.fullmatch(text)
    if match is None:
        raise ChordError("no quality")
    tones = _tones(match)
    alike = [name for name, steps in QUALITIES.items()
             if _third(steps) == _third(tones) and {*steps} & {10, 11} == tones & {10, 11}]  # fmt: skip

    def unlike(name: str) -> int:  # an altered tone is what one hears: 9#11 is nearer to 7#11 than to 9
        return sum(2 if tone in (1, 3, 6, 8) else 1 for tone in tones ^ set(QUALITIES[name]))

    nearest = min(alike, key=unlike, default=None)
    if nearest is None:
        raise ChordError("no chord that Plagal knows is near it")
    return nearest, tones == set(QUALITIES[nearest])


def _third(tones: Iterable[int]) -> int | None:
    """4 or 3; a chord that holds both has a major third and a sharp ninth."""
    return next((third for third in (4, 3) if third in tones), None)


def _tones(match: re.Match[str]) -> set[int]:
    """Semitones above the root of a quality that the grammar has read."""
    triad, number = match["triad"] or "", match["number"] or ""
    rest = re.findall(r"[b#]\d+|add\d+|no\d|omit\d|sus\d?", match["rest"])
    suspended = [match["sus"]] if match["sus"] else []
    suspended += [word for word in rest if word.startswith("sus")]
    third = 3 if triad in ("min", "dim", "halfdim7") else 4
    fifth = {"dim": 6, "halfdim7": 6, "aug": 8}.get(triad, 7)
    fifth = 6 if "b5" in rest else 8 if "#5" in rest else fifth
    tones = {0, third, fifth} | set(_EXTENSIONS.get(number, ()))
    if number in ("7", "9", "11", "13") or triad == "halfdim7":
        tones.add(11 if triad == "maj" or match["major7"] else 9 if triad == "dim" else 10)
    elif rest and not number and set(rest) & {"b9", "#9"}:
        tones.add(10)  # "Csusb9", "Cb9": nobody means them without the seventh
    if suspended or number == "5" or set(rest) & {"no3", "omit3"}:
        tones.discard(third)
    tones |= {2 if word == "sus2" else 5 for word in suspended} | ({2} if "sus24" in suspended else set())
    if set(rest) & {"b9", "#9"}:
        tones.discard(2)
    return tones | {_ADDED[word] for word in rest if word in _ADDED}


def _nearest(symbol: str) -> str:
    """ "; did you mean Cmaj7?", or how a chord is written."""
    import difflib

    root = re.match(r"[A-Ga-g][b#\u266d\u266f]*", symbol)
    if symbol.startswith("H"):
        with suppress(ChordError):
            parse_chord(german := f"B{symbol[1:]}")
            return f"; H is German for B: write {german}"
    if root is None:
        return "; a chord begins with a note A to G, as in Dbmaj9 or F#m7b5/A"
    written = ["m", "m7", "7", "9", "13", "m9", "m7b5", "7sus4", "6/9", *QUALITIES]
    near = difflib.get_close_matches(symbol[root.end() :], written, n=1, cutoff=0.4)
    name = root[0][0].upper() + root[0][1:]
    return f"; did you mean {name}{near[0]}?" if near else "; write it as in Dbmaj9 or F#m7b5/A"


KINDS = {
    "major": "maj", "minor": "min", "augmented": "aug", "diminished": "dim", "dominant": "dom7",
    "major-seventh": "maj7", "minor-seventh": "min7", "diminished-seventh": "dim7", "augmented-seventh": "7#5",
    "half-diminished": "halfdim7", "major-minor": "minmaj7", "major-sixth": "6", "minor-sixth": "min6",
    "dominant-ninth": "dom9", "major-ninth": "maj9", "minor-ninth": "min9", "dominant-11th": "dom11",
    "major-11th": "maj11", "minor-11th": "min11", "dominant-13th": "dom13", "major-13th": "maj13",
    "minor-13th": "min13", "suspended-second": "sus2", "suspended-fourth": "sus4", "power": "5",
    "Neapolitan": "maj", "Italian": "dom7", "French": "7b5", "German": "dom7", "Tristan": "halfdim7",
}  # fmt: skip
"""Kinds of MusicXML 4.0 -> our qualities; the augmented sixths as what they sound like."""

_NO_CHORD = re.compile(r"\W*(n\.?\s*c\.?|no chord|tacet)\W*", re.IGNORECASE)
_DEGREES = {1: 0, 2: 2, 3: 4, 4: 5, 5: 7, 6: 9, 7: 10, 8: 0, 9: 2, 10: 4, 11: 5, 12: 7, 13: 9}
"""Degree -> semitones above the root; the seventh of MusicXML's degrees is the minor one."""

Degree = tuple[str, int, int]
"""Type ("add", "alter", "subtract"), value, alter."""


def chord_of_text(text: str, losses: Counter[str]) -> Chord | None:
    """A chord from its symbol. What the words don't have becomes the nearest quality that they have
    [chord_symbols_simplified]; None for "N.C." and for what is not a chord at all [chord_symbols]."""
    plain = text.strip().replace("♭", "b").replace("♯", "#").replace("\\", "").replace("maj7th", "maj7")
    plain = plain[1:-1] if plain[:1] == "(" and plain[-1:] == ")" else plain
    if _NO_CHORD.fullmatch(plain):
        return None
    with suppress(ChordError):
        chord, exact = read_chord(plain)
        losses["chord_symbols_simplified"] += not exact
        return chord
    if plain[:1] not in {*LETTERS}:
        losses["chord_symbols"] += 1
        return None
    root, rest = parse_pitch_class(plain)
    rest, _, slash = rest.partition("/")
    bass = parse_pitch_class(slash)[0] if slash[:1] in {*LETTERS} else root
    bare = re.sub(r"[(),\s]", "", rest)
    # "D.C." and "Coda" begin like chords: after the root must come what a quality begins with.
    shortest = 0 if re.match(r"(add|omit|no|b|#|\d)", bare) else 1
    for end in range(len(bare), shortest - 1, -1):
        with suppress(ChordError):
            chord = parse_chord(f"C{bare[:end]}")
            losses["chord_symbols_simplified"] += end < len(bare)
            return Chord(root, chord.quality, bass)
    losses["chord_symbols"] += 1
    return None


def chord_of_kind(
    root: int, kind: str, text: str, degrees: list[Degree], bass: int | None, losses: Counter[str]
) -> Chord | None:
    """A chord of MusicXML from its kind with its degrees or, where its kind is "other", from its text."""
    if kind in ("none", ""):
        return None
    quality = KINDS.get(kind)
    if quality is None:
        chord = chord_of_text(f"C{text}", losses)
        return Chord((root + chord.root) % 12, chord.quality, root if bass is None else bass) if chord else None
    tones = set(QUALITIES[quality])
    for how, value, alter in degrees:
        # An added seventh is minor by itself; MuseScore says so again, with an alteration of -1.
        step = _DEGREES.get(value, 0)
        if how != "add":  # "7b9" of Finale and Sibelius alters a ninth that the kind has not
            tones -= {step, step + (value == 7)} - ({0} if how == "alter" else set())
        if how in ("add", "alter"):
            tones.add((step + (0 if (how, value, alter) == ("add", 7, -1) else alter)) % 12)
    wanted = frozenset(tones)
    exact = [name for name, steps in QUALITIES.items() if frozenset(steps) == wanted]
    if not exact:
        losses["chord_symbols_simplified"] += 1
        exact = [max(QUALITIES, key=lambda name: _likeness(frozenset(QUALITIES[name]), wanted))]
    return Chord(root, exact[0], root if bass is None else bass)


def _likeness(steps: frozenset[int], wanted: frozenset[int]) -> float:
    """Shared tones over all, where third and seventh count twice: they say what a chord does."""
    heavy = frozenset((3, 4, 10, 11))
    shared, both = steps & wanted, steps | wanted
    return (len(shared) + len(shared & heavy)) / (len(both) + len(both & heavy))
