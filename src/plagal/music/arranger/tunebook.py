"""The book of public-domain gospel hymns and spirituals, and the reader of the plain ABC in which it is written.

The reader knows what the book needs of ABC 2.1: header fields, notes, rests, accidentals, lengths, ties, triplets,
broken rhythm, chord symbols in quotes, bar lines, and `[P:...]` for sections. Repeats are written out. The year of
publication stands in the field `H:`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from plagal.music.chords import Chord, parse_chord
from plagal.music.grid import FASTEST, SLOWEST
from plagal.music.keys import key_tonic, parse_key, signature
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, Key, Metre, Score, Tempo
from plagal.plumbing.errors import AbcError, ChordError

MelodyNote = tuple[int, int, int]
"""Onset [ticks], pitch [MIDI], duration [ticks]."""

_MELODY_VELOCITY = 80
_NATURAL = {"C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "A": 69, "B": 71}

_DENOMINATORS = (1, 2, 4, 8, 16, 32)
_MOST_DIGITS = 4

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | "(?P<chord>[^"]*)"
    | \[P:(?P<part>[^\]]*)\]
    | (?P<triplet>\(3)
    | (?P<accidental>[_^=]*)(?P<letter>[A-Ga-gz])(?P<octave>[,']*)(?P<top>\d*)(?P<slashes>/*)(?P<bottom>\d*)
    | (?P<tie>-)
    | (?P<broken>[<>])
    | (?P<bar>[|\]]+)
    | (?P<slur>[()])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Tune:
    """A melody with its chords. Time begins with the bar that holds the pick-up, so every bar is whole; `notes` and
    `chords` are in ticks from there."""

    name: str
    """File-safe and unique in the book: "amazing_grace"."""
    title: str
    composer: str
    year: int
    metre: Metre
    key: Key
    tempo: float
    """Quarter notes a minute, as usually sung."""
    notes: tuple[MelodyNote, ...]
    chords: tuple[tuple[int, Chord], ...]
    sections: tuple[tuple[int, str], ...]
    """Bar line [ticks], "VERSE" or "CHORUS"."""
    pickup_ticks: int
    """Length of the incomplete first bar, 0 where there is none."""

    @property
    def bars(self) -> int:
        """Whole bars from the one that holds the pick-up to the last."""
        end = max(onset + duration for onset, _, duration in self.notes)
        return -(-end // self.metre.bar_ticks)

    @property
    def tonic(self) -> int:
        """Pitch class of the key's tonic."""
        return key_tonic(self.key)


class _Body:
    """What the reader knows while it walks through the music of one tune."""

    def __init__(self, source: str, metre: Metre, unit: int, key: Key) -> None:
        self.source, self.metre, self.unit = source, metre, unit
        self.signature = signature(key)
        self.in_bar: dict[str, int] = {}
        self.now = self.bar_start = 0
        self.bar_lengths: list[int] = []
        self.notes: list[MelodyNote] = []
        self.chords: list[tuple[int, Chord]] = []
        self.parts: list[tuple[int, str]] = []
        self.tied = False
        self.triplet_left = 0
        self.broken = ""

    def note(self, match: re.Match[str]) -> None:
        ticks = self._ticks(match)
        letter = match["letter"]
        if letter == "z":
            self.now += ticks
            return
        pitch = self._pitch(match)
        if self.tied and self.notes and self.notes[-1][1] == pitch:
            onset, _, before = self.notes[-1]
            self.notes[-1] = (onset, pitch, before + ticks)
        else:
            self.notes.append((self.now, pitch, ticks))
        self.tied = False
        self.now += ticks

    def _ticks(self, match: re.Match[str]) -> int:
        if max(len(match["top"]), len(match["bottom"]), len(match["slashes"])) > _MOST_DIGITS:
            raise AbcError(f"{self._here()}: {match[0]!r} is not a length of a note")
        bottom = int(match["bottom"]) if match["bottom"] else 2 ** len(match["slashes"])
        ticks = self.unit * int(match["top"] or 1) / bottom if bottom else 0
        if self.triplet_left:
            self.triplet_left -= 1
            ticks = ticks * 2 / 3
        if self.broken:
            ticks *= 0.5 if self.broken == ">" else 1.5
            self.broken = ""
        if ticks != int(ticks) or ticks < 1:
            raise AbcError(f"{self._here()}: {match[0]!r} is not a whole number of ticks")
        return int(ticks)

    def _here(self) -> str:
        return f"{self.source}: bar {len(self.bar_lengths) + 1}"

    def _pitch(self, match: re.Match[str]) -> int:
        letter, octave = match["letter"], match["octave"]
        name = letter.upper() + octave + ("'" if letter.islower() else "")
        if match["accidental"]:
            self.in_bar[name] = match["accidental"].count("^") - match["accidental"].count("_")
        shift = self.in_bar.get(name, self.signature.get(letter.upper(), 0))
        rise = octave.count("'") - octave.count(",") + int(letter.islower())
        pitch = _NATURAL[letter.upper()] + 12 * rise + shift
        if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
            raise AbcError(f"{self._here()}: {match[0]!r} is not on a piano")
        return pitch

    def lengthen(self, sign: str) -> None:
        """`a>b` makes a half longer and b half as long, `a<b` the other way about."""
        if not self.notes or self.broken:
            raise AbcError(f"{self._here()}: {sign!r} follows no note")
        onset, pitch, ticks = self.notes[-1]
        if ticks % 2:
            raise AbcError(f"{self._here()}: {sign!r} leaves no whole number of ticks")
        changed = ticks * 3 // 2 if sign == ">" else ticks // 2
        self.notes[-1] = (onset, pitch, changed)
        self.now += changed - ticks
        self.broken = sign

    def bar(self) -> None:
        if self.now > self.bar_start:
            self.bar_lengths.append(self.now - self.bar_start)
        self.bar_start = self.now
        self.in_bar.clear()

    def pickup(self) -> int:
        """Length of the incomplete first bar, which the last one makes whole. Raises AbcError where another bar is not
        full."""
        full = self.metre.bar_ticks
        lengths = self.bar_lengths
        if not self.notes:
            raise AbcError(f"{self.source}: holds no notes")
        first = lengths[0] if lengths[0] < full else 0
        rest = lengths[1:] if first else lengths
        for number, length in enumerate(rest, 1):
            if length != full and not (number == len(rest) and length == full - first):
                raise AbcError(
                    f"{self.source}: bar {number} lasts {length / TICKS_PER_QUARTER:g} quarters, not {full / 24:g}"
                )
        return first


def _read_body(body: _Body, text: str) -> None:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            shown, bar = text[position : position + 12], len(body.bar_lengths) + 1
            raise AbcError(f"{body.source}: {shown!r} in bar {bar} is not understood")
        position = match.end()
        if match["letter"]:
            body.note(match)
        elif match["bar"]:
            body.bar()
        elif match["chord"] is not None:
            body.chords.append((body.now, parse_chord(match["chord"])))
        elif match["part"] is not None:
            body.parts.append((body.now, match["part"].strip().upper()))
        elif match["tie"]:
            body.tied = True
        elif match["broken"]:
            body.lengthen(match["broken"])
        elif match["triplet"]:
            body.triplet_left = 3
    body.bar()


def _headers(text: str, source: str) -> tuple[dict[str, str], str]:
    fields: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Z]:", line):
            fields.setdefault(line[0], line[2:].strip())
        if line.startswith("K:"):
            return fields, "\n".join(lines[number + 1 :])
    raise AbcError(f"{source}: the field K: (key) is missing")


def parse_tune(text: str, name: str = "tune") -> Tune:
    """A tune from ABC as described above. Raises AbcError that names the tune, the bar and the fault."""
    fields, music = _headers(text, name)
    try:
        numerator, denominator = (int(part) for part in fields["M"].split("/"))
        unit_top, unit_bottom = (int(part) for part in fields["L"].split("/"))
        year = re.search(r"\d{4}", fields["H"])
        tempo = float(fields["Q"].rpartition("=")[2])
        key = parse_key(fields["K"])
        if year is None:
            raise ValueError("H: holds no year")
        if not (0 < numerator <= 64 and denominator in _DENOMINATORS and 0 < unit_top <= unit_bottom in _DENOMINATORS):
            raise ValueError("M: or L: is not a metre or length that music has")
        if not SLOWEST <= tempo <= FASTEST:
            raise ValueError(f"Q: {tempo} is not a tempo from {SLOWEST:g} to {FASTEST:g}")
    except (KeyError, ValueError, ChordError) as error:
        raise AbcError(f"{name}: a header field among M L H Q K is missing or wrong: {error}") from None
    metre = Metre(0, numerator, denominator)
    body = _Body(name, metre, 4 * TICKS_PER_QUARTER * unit_top // unit_bottom, key)
    _read_body(body, music)
    pickup = body.pickup()
    shift = metre.bar_ticks - pickup if pickup else 0
    return Tune(
        name=name,
        title=fields.get("T", name),
        composer=fields.get("C", "traditional"),
        year=int(year[0]),
        metre=metre,
        key=key,
        tempo=tempo,
        notes=tuple((onset + shift, pitch, ticks) for onset, pitch, ticks in body.notes),
        chords=tuple((onset + shift, chord) for onset, chord in body.chords),
        sections=_sections(body, shift),
        pickup_ticks=pickup,
    )


def _sections(body: _Body, shift: int) -> tuple[tuple[int, str], ...]:
    """A part that begins with a pick-up belongs to the bar line after it."""
    bar_ticks = body.metre.bar_ticks
    parts = [(-(-(onset + shift) // bar_ticks) * bar_ticks, part) for onset, part in body.parts]
    if not parts or min(onset for onset, _ in parts) > (bar_ticks if shift else 0):
        parts.insert(0, (0, "VERSE"))
    return tuple((0 if number == 0 else onset, part) for number, (onset, part) in enumerate(parts))


@lru_cache(maxsize=1)
def tune_book() -> tuple[Tune, ...]:
    """Every tune of the book, by name."""
    folder = resources.files("plagal.music.arranger") / "tunes"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".abc")), key=lambda file: file.name)
    return tuple(parse_tune(file.read_text(encoding="utf-8"), file.name.removesuffix(".abc")) for file in files)


@lru_cache(maxsize=1)
def tune_titles() -> dict[str, str]:
    """Title by name of every tune of the book: its T: fields alone are read, which takes a hundredth of the time."""
    folder = resources.files("plagal.music.arranger") / "tunes"
    texts = {file.name.removesuffix(".abc"): file.read_text(encoding="utf-8") for file in folder.iterdir()
             if file.name.endswith(".abc")}  # fmt: skip
    return {name: (re.search(r"^T:(.*)", text, re.MULTILINE) or [name, name])[1].strip()
            for name, text in sorted(texts.items())}  # fmt: skip


def find_tune(name: str) -> Tune:
    """The tune of that name or title, whatever its case and punctuation. Raises AbcError that names the nearest."""
    wanted = _plain(name)
    book = tune_book()
    for tune in book:
        if wanted in (_plain(tune.name), _plain(tune.title)):
            return tune
    import difflib

    near = difflib.get_close_matches(wanted, [_plain(tune.name) for tune in book], n=3, cutoff=0.3)
    hint = ", ".join(tune.name for tune in book if _plain(tune.name) in near)
    raise AbcError(f"no tune {name!r} in the book; near it: {hint or book[0].name}")


def melody_of(tune: Tune) -> Score:
    """A tune's melody alone, in its key, metre and tempo."""
    notes = np.array([(onset, pitch, ticks, _MELODY_VELOCITY) for onset, pitch, ticks in tune.notes], dtype=np.int32)
    return Score(notes, (tune.metre,), (Tempo(0, tune.tempo),), (tune.key,), title=tune.title)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower().replace("&", "and"))
