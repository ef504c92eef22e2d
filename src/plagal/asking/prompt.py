"""Controls read from a plain prompt: "slow worship ballad in Db" -> worship, Db major, 66 quarters a minute.

What the prompt doesn't say stays None: the model or the caller chooses. Reading never fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plagal.music.chords import Chord, parse_chord
from plagal.music.keys import fifths_of, key_at
from plagal.music.score import Key
from plagal.plumbing.errors import ChordError


@dataclass(frozen=True, slots=True)
class Controls:
    """What a prompt asks for. `tempo` in quarters a minute, `metre` as (numerator, denominator)."""

    style: str | None = None
    key: Key | None = None
    tempo: float | None = None
    metre: tuple[int, int] | None = None
    bars: int | None = None
    chords: tuple[Chord, ...] = ()
    mood: str | None = None


STYLE_WORDS = (
    ("gospel_jazz", r"gospel[\s-]+jazz|jazz(?:y)?[\s-]+gospel"),
    ("contemporary_gospel", r"contemporary(?:[\s-]+gospel)?|modern[\s-]+gospel|urban[\s-]+gospel"),
    ("traditional_gospel", r"trad(?:itional)?(?:[\s-]+gospel)?|old[\s-]+school[\s-]+gospel|gospel[\s-]+hymn"),
    ("hymnal", r"hymnals?|hymns?|four[\s-]+part"),
    ("worship", r"worship|praise[\s-]+ballad|devotional"),
    ("neo_soul", r"neo[\s-]*soul|r\s*&\s*b|rnb"),
    ("chorale", r"chorales?|bach"),
    ("ragtime", r"rag(?:time)?"),
    ("gospel", r"gospel|spirituals?|church|shout|praise"),
    ("jazz", r"jazz(?:y)?|swing|bebop"),
    ("blues", r"blues(?:y)?"),
    ("classical", r"classical"),
    ("folk", r"folk|fiddle|reel|jig|hornpipe"),
)
"""(canonical name, pattern); the first that matches wins."""

_TEMPO_WORDS = (
    (48.0, r"very slow(?:ly)?|largo|grave|as slow as"),
    (168.0, r"very fast|presto|double[\s-]*time"),
    (66.0, r"slow(?:ly)?|adagio|ballad|lento|gentle|gently|meditative|prayerful"),
    (84.0, r"andante|walking[\s-]+pace|relaxed|laid[\s-]*back"),
    (96.0, r"medium|mid[\s-]*tempo|moderate(?:ly)?|moderato"),
    (126.0, r"up[\s-]*tempo|upbeat|lively|allegro|energetic|driving"),
    (152.0, r"fast|quick(?:ly)?|vivace|shout"),
)
_MOOD_WORDS = (
    "peaceful", "tender", "reverent", "joyful", "bright", "celebratory", "mournful", "solemn", "yearning", "urgent",
    "intense", "driving", "happy", "sad", "hopeful", "dark", "gentle", "triumphant", "meditative",
)  # fmt: skip
_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "sixteen": 16, "twenty-four": 24, "thirty-two": 32,
}  # fmt: skip
_NUMBER = r"(\d{1,3}|" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + ")"
_METRE_WORDS = (
    ((3, 4), r"waltz|three[\s-]+four"),
    ((12, 8), r"twelve[\s-]+eight|slow shuffle"),
    ((6, 8), r"six[\s-]+eight"),
    ((2, 2), r"cut[\s-]+time"),
    ((4, 4), r"common[\s-]+time|four[\s-]+four"),
)
_SLOWEST, _FASTEST = 20.0, 300.0
_MOST_BARS = 512

_TONIC = r"([A-Ga-g])(?:\s*([b#♭♯])(?![a-z])|[\s-]+(flat|sharp)\b)?"
_MODE = r"[\s-]*(major|minor|maj\b|min\b|m\b)"
_KEY_WITH_MODE = re.compile(rf"(?<![A-Za-z]){_TONIC}{_MODE}", re.IGNORECASE)
_KEY_AFTER_IN = re.compile(rf"\b(?:in|key(?:\s+of)?:?)\s+(?:the\s+key\s+of\s+)?{_TONIC}(?![A-Za-z#♯♭/0-9])")
_CHORDS_AFTER = re.compile(
    r"\b(?:chords?|over|progression|changes|with)\b[:\s]*(?:the\s+)?(?:chords?\b|changes\b|progression\b)?[:\s]*"
)
_BETWEEN_CHORDS = re.compile(r"[\s,|>–—→-]*")
_CHORD_TEXT = re.compile(r"[A-G][^\s,|–—→>]*")


def parse_prompt(text: str) -> Controls:
    """The controls that a prompt names. Never raises."""
    chords, plain = _chords(text)
    return Controls(
        style=_style(plain),
        key=_key(plain),
        tempo=_tempo(plain),
        metre=_metre(plain),
        bars=_bars(plain),
        chords=chords,
        mood=_mood(plain),
    )


def _chords(text: str) -> tuple[tuple[Chord, ...], str]:
    """Two chords or more after a word such as "over" or "chords", and the text without them."""
    for start in _CHORDS_AFTER.finditer(text):
        found, position = _chord_run(text, start.end())
        if len(found) >= 2 or (found and "chord" in start.group()):
            return tuple(found), text[: start.start()] + " " + text[position:]
    return (), text


def _chord_run(text: str, position: int) -> tuple[list[Chord], int]:
    found: list[Chord] = []
    while match := _CHORD_TEXT.match(text, position):
        symbol = match.group().rstrip(".;:?!)")
        chord = _chord(symbol) or _first_of_hyphens(symbol)
        if chord is None:
            break
        parsed, length = chord
        found.append(parsed)
        position += length
        gap = _BETWEEN_CHORDS.match(text, position)
        position = gap.end() if gap else position
    return found, position


def _chord(symbol: str) -> tuple[Chord, int] | None:
    try:
        return parse_chord(symbol), len(symbol)
    except ChordError:
        return None


def _first_of_hyphens(symbol: str) -> tuple[Chord, int] | None:
    """ "C-Am-F" without spaces: its first chord."""
    return _chord(symbol.split("-")[0])


def _style(text: str) -> str | None:
    lowered = text.lower()
    return next((name for name, pattern in STYLE_WORDS if re.search(rf"\b(?:{pattern})\b", lowered)), None)


def _key(text: str) -> Key | None:
    for moded in _KEY_WITH_MODE.finditer(text):
        letter, sign, word, mode = moded.groups()
        if mode == "m" and letter.islower():
            continue
        if letter == "a" and not sign and not word:
            continue  # "a minor key" is an article
        return _key_of(letter, sign, word, mode.lower() in ("minor", "min", "m"))
    match = _KEY_AFTER_IN.search(text)
    if match and (match[1].isupper() or match[2] or match[3]):
        return _key_of(match[1], match[2], match[3], minor=False)
    return None


def _key_of(letter: str, sign: str | None, word: str | None, minor: bool) -> Key:
    accidental = {"flat": "b", "sharp": "#"}.get((word or "").lower(), sign or "")
    return key_at(fifths_of(letter.upper() + accidental), minor)


def _tempo(text: str) -> float | None:
    lowered = text.lower()
    numbered = (
        re.search(r"(?<!\d)(\d{2,3}(?:\.\d+)?)\s*(?:bpm|beats?\s+(?:per|a)\s+minute|quarters?\s+a\s+minute)", lowered)
        or re.search(r"(?:tempo|bpm|♩|quarter)\s*(?:of|is|=|:|at)?\s*(\d{2,3}(?:\.\d+)?)(?!\d)", lowered)
        or re.search(r"\bat\s+(\d{2,3}(?:\.\d+)?)\b(?!\s*/)", lowered)
    )
    if numbered:
        return min(_FASTEST, max(_SLOWEST, float(numbered[1])))
    for tempo, pattern in _TEMPO_WORDS:
        if re.search(rf"\b(?:{pattern})\b", lowered):
            return tempo
    return None


def _metre(text: str) -> tuple[int, int] | None:
    for match in re.finditer(r"(?<![\w/])(\d{1,2})/(\d{1,2})(?![\d/])", text):
        numerator, denominator = int(match[1]), int(match[2])
        if denominator in (1, 2, 4, 8, 16, 32) and 0 < numerator <= 12 * denominator // 4:
            return numerator, denominator
    lowered = text.lower()
    return next((metre for metre, pattern in _METRE_WORDS if re.search(rf"\b(?:{pattern})\b", lowered)), None)


def _bars(text: str) -> int | None:
    match = re.search(rf"\b{_NUMBER}[\s-]*(?:bars?|measures?)\b", text.lower())
    if not match:
        return None
    count = _NUMBERS.get(match[1]) or int(match[1])
    return min(count, _MOST_BARS) or None


def _mood(text: str) -> str | None:
    lowered = text.lower()
    return next((mood for mood in _MOOD_WORDS if re.search(rf"\b{mood}\b", lowered)), None)
