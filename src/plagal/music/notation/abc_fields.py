"""Header and inline fields of ABC: key, metre, unit, tempo, the order of parts, what a voice's properties transpose."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from plagal.music.notation.bars import section_named
from plagal.plumbing.errors import AbcError

_FIFTHS = {"C": 0, "D": 2, "E": 4, "F": -1, "G": 1, "A": 3, "B": 5}
_SHARP_ORDER = "FCGDAEB"
_MODES = {"maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1}
"""Mode -> fifths that its signature has beyond the major one's."""
_MINOR_MODES = ("m", "min", "aeo", "dor", "phr", "loc")


@dataclass(slots=True)
class KeyField:
    """What a K: field sets; None where it leaves things as they are."""

    fifths: int | None = None
    minor: bool = False
    accidentals: dict[str, int] = field(default_factory=dict)
    """Letter -> semitones, signature and explicit accidentals together."""


def read_metre(text: str) -> tuple[int, int] | None:
    """An M: field: (0, 0) for "none", None for what is not a metre. Raises AbcError for numbers that no music needs."""
    sums = re.match(r"\(?\s*(\d+(?:\s*\+\s*\d+)*)\s*\)?\s*/\s*(\d+)", text)
    if text.lower() in ("", "none"):
        return (0, 0)
    if text.startswith("C"):
        return (2, 2) if text.startswith("C|") else (4, 4)
    if re.search(r"\d{3}", text):
        raise AbcError(f"M:{text[:24]!r} is too large a number")
    if sums is None:
        return None
    metre = (sum(int(number) for number in sums[1].split("+")), int(sums[2]))
    return metre if metre[0] and metre[1] in (1, 2, 4, 8, 16, 32, 64) else None


def read_unit(text: str) -> Fraction | None:
    """An L: field in quarters."""
    match = re.match(r"(\d{1,4})\s*/\s*(\d{1,4})", text) or re.match(r"(1)()", text)
    if match is None or not int(match[1]) or match[2] == "0":
        return None
    return Fraction(4 * int(match[1]), int(match[2] or 1))


def read_tempo(text: str, unit: Fraction) -> float | None:
    """A Q: field in quarters a minute; None where it holds words alone. "120" counts quarters, as abc2midi takes it;
    "C=100" of old files counts units."""
    plain = re.sub(r'"[^"]*"', " ", text).strip()
    beats = [Fraction(4 * int(a), int(b) or 1) for a, b in re.findall(r"(\d{1,3})/(\d{1,3})", plain)]
    speed = re.search(r"(?:=\s*|^)(\d{1,4}(?:\.\d+)?)\s*$", plain)
    if speed is None:
        return None
    beat = unit if plain.upper().startswith("C") else sum(beats) if beats else Fraction(1)
    return float(beat * Fraction(speed[1])) or None


def read_key(text: str) -> tuple[KeyField, int]:
    """A K: field: tonic, mode, explicit accidentals, clef. "none" and nothing are C with no accidentals."""
    shift = shift_of(text)
    text = re.sub(
        r"\b(?:clef|middle|stafflines|staffscale|transpose|octave|score|sound|style|m|t)\s*=\s*\S+", " ", text
    )
    match = re.match(r"\s*([A-G])([#b♯♭]?)\s*([A-Za-z]*)", text)
    if re.match(r"\s*H[Pp]\b", text):  # the pipes: F and C sharp, whatever is printed
        return _key_field(2, False), shift
    if match is None:
        bare = text.strip().lower()
        if bare and not bare.startswith(("none", "exp", "^", "_", "=")):
            return KeyField(), shift  # a clef alone changes no key
        key, rest = _key_field(0, False), text
    else:
        mode = match[3].lower()
        name = mode if mode in _MODES else mode[:3]
        rest = text[match.end() :]
        if name not in _MODES:
            name, rest = "maj", text[match.end(2) :]
        if not mode and (words := re.match(r"\s+([A-Za-z]{3})", rest)) and words[1].lower() in _MODES:
            name = words[1].lower()
        fifths = _FIFTHS[match[1]] + 7 * {"#": 1, "♯": 1, "b": -1, "♭": -1, "": 0}[match[2]]
        key = _key_field(fifths + _MODES[name], name in _MINOR_MODES)
        # The tonic is what is told: E dorian as E minor, A mixolydian as A major, whatever the signature.
        key.fifths = fifths - 3 if key.minor else fifths
    if re.search(r"\bexp\b", rest):
        key.accidentals = {}
    for sign, letter in re.findall(r"(\^\^?|__?|=)([A-Ga-g])(?![a-z])", rest):
        key.accidentals[letter.upper()] = sign.count("^") - sign.count("_")
    if key.fifths is not None and abs(key.fifths) > 7:
        key.fifths -= 12 if key.fifths > 0 else -12
    return key, shift


def _key_field(signature: int, minor: bool) -> KeyField:
    letters = _SHARP_ORDER if signature > 0 else _SHARP_ORDER[::-1]
    accidentals: dict[str, int] = {}
    for number in range(abs(signature)):
        accidentals[letters[number % 7]] = accidentals.get(letters[number % 7], 0) + (1 if signature > 0 else -1)
    return KeyField(signature, minor, accidentals)


def transposed(fifths: int, semitones: int) -> int:
    return fifths if semitones % 12 == 0 else (fifths + 7 * semitones + 5) % 12 - 5


def parts_in_order(order: str) -> str:
    """The parts that a header's P: names: "A(BC)2A3" -> "ABCBCAAA", at most 200 of them."""
    text = re.sub(r"[^A-Za-z0-9()]", "", order)[:200]
    if len(text) > 1 and section_named(order):
        return ""
    inner = re.compile(r"\(([A-Za-z0-9]*)\)(\d?)|([A-Za-z])(\d)")
    for _ in range(20):
        text, changed = inner.subn(lambda m: (m[1] or "") * int(m[2] or 1) if m[3] is None else m[3] * int(m[4]), text)
        if not changed or len(text) > 200:
            break
    return re.sub(r"[^A-Za-z]", "", text)[:200]


def shift_of(properties: str) -> int:
    """Semitones of transpose=, octave= and a clef such as treble-8."""
    shift = 0
    for name, value in re.findall(r"(transpose|octave|t)\s*=\s*([+-]?\d{1,2})\b", properties):
        shift += int(value) * (12 if name == "octave" else 1)
    if match := re.search(r"(?:treble|bass|alto|tenor|none|\bG\d?|\bF\d?|\bC\d?)([+-])(8|15)", properties):
        shift += {"+8": 12, "-8": -12, "+15": 24, "-15": -24}[match[1] + match[2]]
    return shift


def whole_number(text: str) -> int:
    return int(text) if re.fullmatch(r"[+-]?\d{1,2}", text) else 0
