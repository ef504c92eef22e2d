"""Chord progressions as musicians write them: symbols, Nashville numbers and roman numerals, bars and repeats.

"Dbmaj9 | Gb13 | Ab13sus Ab7", "C - Am - F - G", "|: C | F :|", "C / / G7", "N.C. | F", "2 5 1" in a key.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from functools import reduce
from itertools import pairwise

from plagal.music.chords import Chord, parse_chord, read_chord
from plagal.music.keys import chord_symbol, key_tonic, parse_key, spell_pitch_class
from plagal.music.score import Key
from plagal.plumbing.errors import ChordError, InputError

Progression = tuple[tuple[Chord, ...], ...]
"""Bars of chords; those of one bar share it equally. A bar without any is N.C. (no chord)."""

MOST_CHORDS_A_BAR = 8
NO_CHORD = re.compile(r"N\.?\s?C\.?", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(?:[,;→>–—]|-+>)\s*|\s+-+\s+|-(?=[A-G])|\s+")
_IN_KEY = re.compile(r"\s+in\s+(?:the\s+key\s+of\s+)?([A-Ga-g][b#♭♯]?[\s-]?(?:m|min|minor|maj|major)?)\s*$")
DEGREE = re.compile(
    r"([b#♭♯]?)([1-7]|VII|VI|IV|V|III|II|I|vii|vi|iv|v|iii|ii|i)(?![0-9A-Za-z](?<![0-9majdinsug]))(\S*)"
)
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii")
_MAJOR_SCALE, _MINOR_SCALE = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_TRIADS = {False: ("", "m", "m", "", "", "m", "dim"), True: ("m", "dim", "", "m", "m", "", "")}
_SEVENTHS = {
    False: ("maj7", "m7", "m7", "maj7", "7", "m7", "m7b5"),
    True: ("m7", "m7b5", "maj7", "m7", "7", "maj7", "7"),
}
"""By minor: quality on each degree of the scale. The fifth degree of a minor ii-V-i is a dominant."""


def read_progression(text: str, key: Key | None = None) -> Progression:
    """Bars are parted by "|"; where there is none, each chord has a bar. "%" repeats the bar before it, "|: :|" what
    stands between them, "/" the chord for another beat. Degrees are read in `key`, or in one that the text names at
    its end. Raises InputError, naming what does not parse and the nearest spelling."""
    if named := _IN_KEY.search(text):
        key, text = parse_key(named[1]), text[: named.start()]
    if not re.search("[A-H]", text.replace("N.C.", "")):
        text = re.sub(r"(?<=[1-7IViv])[-–](?=[b#]?[1-7IViv])", " ", text)
    text = re.sub(r"\([^()]*\)", lambda inside: re.sub(r"[\s,]", "", inside[0]), text)
    barred = "|" in text
    bars: list[tuple[str, ...]] = []
    for part in _unfolded(text):
        symbols = tuple(symbol for symbol in _BETWEEN.split(NO_CHORD.sub("N.C.", part.strip())) if symbol)
        if not symbols:
            raise InputError("a bar between two | holds no chord; write % to repeat the one before")
        if barred and len(symbols) > MOST_CHORDS_A_BAR:
            raise InputError(f"{len(symbols)} chords in one bar; at most {MOST_CHORDS_A_BAR}")
        bars += [symbols] if barred or "/" in symbols else [(symbol,) for symbol in symbols]
    chords = [symbol for bar in bars for symbol in bar if symbol not in ("%", "/", "N.C.")]
    if not chords:
        raise InputError("a progression needs a chord, such as C | Am7 | F | G13")
    if all(DEGREE.fullmatch(symbol) for symbol in chords):
        bars = _from_degrees(bars, key)
    read: list[tuple[Chord, ...]] = []
    for symbols in bars:
        if symbols == ("%",) and not read:
            raise InputError("% repeats the bar before it, and there is none")
        if "N.C." in symbols and len(symbols) > 1:
            raise InputError("N.C. stands for a whole bar; give it one of its own between |")
        read.append(read[-1] if symbols == ("%",) else () if symbols == ("N.C.",) else _bar(symbols))
    return tuple(read)


def approximated(text: str, key: Key | None = None) -> tuple[str, ...]:
    """What in a progression the vocabulary has only nearly: "C9#11 (as C7#11)". Nothing where it does not parse."""
    nearly = []
    for symbol in dict.fromkeys(re.split(r"[\s|,;:>→–—]+", text)):
        with suppress(ChordError):
            chord, exact = read_chord(symbol)
            nearly += [] if exact else [f"{symbol} (as {chord_symbol(chord, key)})"]
    return tuple(nearly)


def _unfolded(text: str) -> list[str]:
    """The bars' texts, repeats written out."""
    pieces = re.split(r"(\|:|:\|:?|\|\||\|\]|\|)", text.strip())
    bars: list[str] = []
    start = 0
    for place, piece in enumerate(pieces):
        if piece in ("|:", ":|", ":|:"):
            bars += bars[start:] if piece[0] == ":" else []
            start = len(bars)
        elif piece not in ("|", "||", "|]"):
            edge = place in (0, len(pieces) - 1) or pieces[place - 1][-1] == ":" or len(pieces[place - 1]) > 1
            following = pieces[place + 1] if place + 1 < len(pieces) else ""
            if piece.strip() or not (edge or following in ("|:", ":|", "||", "|]")):
                bars.append(piece)
    return bars


def _bar(symbols: tuple[str, ...]) -> tuple[Chord, ...]:
    """The chords of one bar. With slashes as beats, "C / / G7" is C for three quarters of it: C C C G7; equal shares
    are written once each."""
    lengths: list[int] = []
    chords: list[Chord] = []
    for symbol in symbols:
        if symbol == "/" and chords:
            lengths[-1] += 1
            continue
        try:
            chords.append(parse_chord(symbol[1:-1] if re.fullmatch(r"\([^()]+\)", symbol) else symbol))
        except ChordError as error:
            raise InputError(str(error)) from None
        lengths.append(1)
    share = reduce(math.gcd, lengths)
    return tuple(chord for chord, length in zip(chords, lengths, strict=True) for _ in range(length // share))


def _from_degrees(bars: list[tuple[str, ...]], key: Key | None) -> list[tuple[str, ...]]:
    """Nashville numbers and roman numerals as symbols of a key. Degrees that go round the circle of fifths (2 5 1,
    7 3 6) are meant with their sevenths, as jazz and gospel players say them; others (1 4 5 1) are triads."""
    if key is None:
        names = " ".join(symbol for bar in bars for symbol in bar)
        raise InputError(f"{names}: numbers and numerals need a key, as in: {names} in Bb")
    written = [match for bar in bars for symbol in bar if (match := DEGREE.fullmatch(symbol))]
    degrees = [_degree(match) for match in written]
    circle = len(degrees) > 2 and all((after - before) % 7 == 3 for before, after in pairwise(degrees))
    romans = [match[2] for match in written if match[2].isalpha()]
    old_style = all(name.isupper() for name in romans) and bool({"II", "III", "VI", "VII"} & set(romans))
    symbols = iter([
        _in_key(match, key, circle, old_style, (before, degree) == (7, 3))
        for match, before, degree in zip(written, [0, *degrees], degrees, strict=False)
    ])  # fmt: skip
    return [tuple(next(symbols) if DEGREE.fullmatch(symbol) else symbol for symbol in bar) for bar in bars]


def _degree(match: re.Match[str]) -> int:
    """1 to 7."""
    return int(match[2]) if match[2].isdigit() else _ROMAN.index(match[2].lower()) + 1


def _note(match: re.Match[str], key: Key) -> str:
    """The name of a degree in a key."""
    scale = _MINOR_SCALE if key.minor and not match[1] else _MAJOR_SCALE
    raised = 1 if match[1] in ("#", "♯") else -1 if match[1] else 0
    return spell_pitch_class((key_tonic(key) + scale[_degree(match) - 1] + raised) % 12, key)


def _in_key(match: re.Match[str], key: Key, circle: bool, old_style: bool, dominant: bool) -> str:
    """The symbol of one degree. `dominant`: the third degree on its way from the seventh to the sixth is the V7 of a
    minor ii-V-i."""
    sign, name, rest = match.groups()
    place, minor = _degree(match) - 1, name.islower()
    triad = "" if sign else _TRIADS[key.minor][place]
    quality, _, bass = rest.partition("/")
    if not quality:
        of_name = triad if name.isdigit() or old_style else "m" if minor else ""
        quality = of_name if not circle else "7" if dominant else _SEVENTHS[key.minor][place]
    elif (minor and not re.match(r"m|dim|°|o|ø|-", quality)) or (
        name.isdigit() and quality in ("7", "9", "11", "13") and triad == "m"
    ):
        quality = f"m{quality}"
    if not bass:
        return _note(match, key) + quality
    below = DEGREE.fullmatch(bass)
    if below is None or below[3]:
        raise InputError(f"{match[0]!r}: write the bass as a degree too, as in 5/7")
    return f"{_note(match, key)}{quality}/{_note(below, key)}"
