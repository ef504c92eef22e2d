"""Chord progressions as people write them: "Dbmaj9 | Gb13 | Ab13sus Ab7"."""

from __future__ import annotations

import re

from plagal.music.chords import Chord, parse_chord
from plagal.plumbing.errors import ChordError, InputError

Progression = tuple[tuple[Chord, ...], ...]
"""Bars of chords; those of one bar share it equally."""

MOST_CHORDS_A_BAR = 8
_BETWEEN = re.compile(r"(?:\s*[,;→–—]\s*|\s+-+>?\s+|\s+)")


def read_progression(text: str) -> Progression:
    """Bars are parted by "|"; where there is none, each chord has a bar. "%" repeats the bar before it. Raises
    InputError, naming the chord that does not parse."""
    bars: list[tuple[Chord, ...]] = []
    parts = [part.strip() for part in text.strip().strip("|:").split("|")]
    for part in parts:
        symbols = [symbol for symbol in _BETWEEN.split(part) if symbol]
        if symbols == ["%"] and bars:
            bars.append(bars[-1])
            continue
        if not symbols:
            raise InputError("a bar between two | holds no chord; write % to repeat the one before")
        if len(symbols) > MOST_CHORDS_A_BAR and len(parts) > 1:
            raise InputError(f"{len(symbols)} chords in one bar; at most {MOST_CHORDS_A_BAR}")
        bars.append(tuple(_chord(symbol) for symbol in symbols))
    return tuple((chord,) for chord in bars[0]) if len(parts) == 1 else tuple(bars)


def _chord(symbol: str) -> Chord:
    try:
        return parse_chord(symbol)
    except ChordError as error:
        raise InputError(str(error)) from None


def written(symbol: str) -> str:
    """As people write it: "Bbdom7/F" -> "Bb7/F", "Cmaj" -> "C", "Amin9" -> "Am9"."""
    symbol = re.sub(r"^([A-G]b?)maj(?=/|$)", r"\1", symbol)
    return re.sub(r"^([A-G]b?)min", r"\1m", re.sub(r"^([A-G]b?)dom", r"\1", symbol))
