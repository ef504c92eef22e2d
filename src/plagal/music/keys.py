"""Keys: tonic, signature, names, and how a pitch class or a chord is spelled in one.

Everything goes by the line of fifths ... Bb F C G D A E B F# ...: C is 0, each step to the right a fifth higher, so
that F# (6) and Gb (-6) are different names of one sound. (Temperley 2001, "The Cognition of Basic Musical
Structures", chapter 5, spells tonal music that way.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from plagal.music.chords import Chord, parse_pitch_class
from plagal.music.score import Key
from plagal.plumbing.errors import ChordError

MAJOR_KEYS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
MINOR_KEYS = ("Abm", "Ebm", "Bbm", "Fm", "Cm", "Gm", "Dm", "Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m")
"""By fifths, from seven flats to seven sharps."""

_LINE = "FCGDAEB"
"""Letters by fifths: sharps come in this order, flats in the opposite one. F is -1 on the line of fifths."""
_LETTERS = "CDEFGAB"
_LETTER_STEPS = {3: 2, 4: 2, 7: 4, 10: 6, 11: 6}
"""Semitones from a chord's root to its bass -> letters between them, for thirds, fifths and sevenths: the bass of E/G#
is a third, never Ab."""
_MODES = {"": False, "maj": False, "major": False, "m": True, "-": True, "min": True, "minor": True}


def key_tonic(key: Key) -> int:
    """Pitch class of a key's tonic: 0 for C major, 9 for A minor."""
    return (key.fifths * 7 + (9 if key.minor else 0)) % 12


def natural_scale(tonic: int, minor: bool) -> frozenset[int]:
    """Pitch classes of a major key or of a natural minor one."""
    return frozenset((tonic + step) % 12 for step in ((0, 2, 3, 5, 7, 8, 10) if minor else (0, 2, 4, 5, 7, 9, 11)))


def key_of(tonic: int, minor: bool, onset: int = 0) -> Key:
    """The key of a tonic [pitch class] with the fewest accidentals, flats at the tritone (Gb major, Eb minor)."""
    major = tonic + (3 if minor else 0)
    return Key(onset, (major * 7 + 6) % 12 - 6, minor)


def key_at(fifths: int, minor: bool, onset: int = 0) -> Key:
    """The key whose tonic lies at `fifths` on the line of fifths (Db is -5), under its enharmonic name where its own
    would need more than seven accidentals: Fb major is E major, Db minor is C# minor."""
    signature = fifths - (3 if minor else 0)
    if not -7 <= signature <= 7:
        signature += -12 if signature > 0 else 12
    return Key(onset, signature, minor)


def fifths_of(name: str) -> int:
    """Place of a note's name on the line of fifths: "F#" is 6, "Gb" is -6. Raises ChordError."""
    parse_pitch_class(name)
    return _LINE.index(name[0]) - 1 + 7 * sum(1 if sign in "#♯" else -1 for sign in name[1:] if sign in "#♯b♭")


def parse_key(name: str) -> Key:
    """A key from its English name: "Db", "F# minor", "Bbm", "C major", "f#". Prompts in five languages are read by
    `plagal.asking.prompt`. Raises ChordError, naming it."""
    match = re.fullmatch(r"([A-Ga-g])([b#♭♯]?)(?:\s+|-(?=\w))?(\w*|-)", name.strip())
    mode = match and _MODES.get(match[3].lower())
    if match is None or mode is None:
        raise ChordError(f"key {name!r} is not known: write a tonic and a mode, such as Db or F# minor")
    return key_at(fifths_of(match[1].upper() + match[2]), mode)


def key_symbol(key: Key) -> str:
    """ "Db", "F#m"."""
    return (MINOR_KEYS if key.minor else MAJOR_KEYS)[key.fifths + 7]


def key_name(key: Key) -> str:
    """ "Db major", "F# minor"."""
    return f"{key_symbol(key).removesuffix('m')} {'minor' if key.minor else 'major'}"


def same_key(left: Key, right: Key) -> bool:
    """Whether two keys sound alike: enharmonic ones (12 fifths apart) do."""
    return left.minor == right.minor and (left.fifths - right.fifths) % 12 == 0


def key_then(keys: Sequence[Key], onset: int) -> Key | None:
    """The key that holds at an onset [ticks], of keys in their order; None before the first."""
    return next((key for key in reversed(keys) if key.onset <= onset), None)


def signature(key: Key) -> dict[str, int]:
    """Letters that the key signature alters, and by how many semitones: {"F": 1, "C": 1} for D major."""
    letters = _LINE[: key.fifths] if key.fifths > 0 else _LINE[7 + key.fifths :]
    return dict.fromkeys(letters, 1 if key.fifths > 0 else -1) if key.fifths else {}


def spell_pitch_class(pitch_class: int, key: Key | None = None) -> str:
    """Its name in a key (none: C major). Diatonic notes as the signature has them; the others from the flat second to
    the sharp fourth, which is how blues notes (Eb, Bb in C) and leading tones (G# in A minor) are written. Nobody reads
    Bbb or a borrowed Fb for pleasure: names of that kind give way to the plain enharmonic."""
    key = key or Key(0, 0)
    tonic = key.fifths + (3 if key.minor else 0)
    fifths = (pitch_class * 7 - tonic + 5) % 12 + tonic - 5
    in_scale = key.fifths - 1 <= fifths <= key.fifths + 5 or (key.minor and fifths == tonic + 5 <= 12)  # V7's third
    if not (in_scale or -6 <= fifths <= 10):  # beyond Gb and A# lie Cb, Fb, E#, B# and double accidentals
        fifths += 12 if fifths < 0 else -12
    octave, letter = divmod(fifths + 1, 7)
    return _LINE[letter] + ("#" * octave if octave > 0 else "b" * -octave)


def chord_symbol(chord: Chord, key: Key | None = None) -> str:
    """A chord as people write it, spelled by its key: "Bb7/F", "C", "F#m9", "Bm7b5"."""
    root = spell_pitch_class(chord.root, key)
    quality = {"maj": "", "halfdim7": "m7b5", "min": "m", "minadd9": "madd9"}.get(chord.quality, chord.quality)
    quality = re.sub(r"^min", "m", quality.removeprefix("dom"))
    if chord.bass == chord.root:
        return root + quality
    return f"{root}{quality}/{_bass_name(chord, root, key)}"


def _bass_name(chord: Chord, root: str, key: Key | None) -> str:
    """The bass by its letter where it is a third, fifth or seventh and its name a plain one; else as the key has it."""
    semitones = (chord.bass - chord.root) % 12
    steps = _LETTER_STEPS.get(semitones)
    if semitones == 6 and "dim" in chord.quality:
        steps = 4
    if steps is not None:
        letter = _LETTERS[(_LETTERS.index(root[0]) + steps) % 7]
        names = [letter + sign for sign in ("", "b", "#") if parse_pitch_class(letter + sign)[0] == chord.bass]
        if names and names[0] not in ("Cb", "Fb", "E#", "B#"):
            return names[0]
    return spell_pitch_class(chord.bass, key)
