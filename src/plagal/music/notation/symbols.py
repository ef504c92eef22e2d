"""Chord symbols of notations as chords that the words have: quoted text in ABC, kind and degrees in MusicXML."""

from __future__ import annotations

import re
from collections import Counter

from plagal.music.chords import QUALITIES, Chord, parse_chord, parse_pitch_class, read_chord
from plagal.plumbing.errors import ChordError

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
    try:
        chord, exact = read_chord(plain)
        losses["chord_symbols_simplified"] += not exact
        return chord
    except ChordError:
        pass
    try:
        root, rest = parse_pitch_class(plain)
    except ChordError:
        losses["chord_symbols"] += 1
        return None
    rest, _, slash = rest.partition("/")
    try:
        bass = parse_pitch_class(slash)[0] if slash else root
    except ChordError:
        bass = root
    bare = re.sub(r"[(),\s]", "", rest)
    for end in range(len(bare), -1, -1):
        try:
            chord = parse_chord(f"C{bare[:end]}")
        except ChordError:
            continue
        # "D.C." and "Coda" begin like chords: after the root must come what a quality begins with.
        if end == 0 and not re.match(r"(add|omit|no|b|#|\d)", bare):
            break
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
    tones = list(QUALITIES[quality])
    for how, value, alter in degrees:
        # An added seventh is minor by itself; MuseScore says so again, with an alteration of -1.
        step = (_DEGREES.get(value, 0) + (0 if (how, value, alter) == ("add", 7, -1) else alter)) % 12
        plain = {tone for tone in tones if tone in (_DEGREES.get(value, 0), _DEGREES.get(value, 0) + (value == 7))}
        if how == "add":
            tones.append(step)
        elif how == "alter":
            # "7b9" of Finale and Sibelius alters a ninth that the kind has not.
            tones = [tone for tone in tones if tone not in plain or tone == 0] + [step]
        else:
            tones = [tone for tone in tones if tone not in plain]
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
