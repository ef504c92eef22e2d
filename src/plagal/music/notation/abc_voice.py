"""One voice of an ABC tune: notes, rests, ties, tuplets, broken rhythm and bar lines, in exact quarters."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from plagal.music.chords import LETTERS
from plagal.music.notation.bars import MOST_NOTES, MOST_PLAYED, MOST_TIMES, USUAL_VELOCITY, Bar, NoteHead
from plagal.plumbing.errors import AbcError

MOST_DIGITS = 4
"""Of any number in the music: no note lasts ten thousand units."""
MOST_BARS_OF_REST = 400


@dataclass(slots=True)
class Shared:
    """What all voices of a tune count and obey."""

    losses: Counter[str] = field(default_factory=Counter)
    heads: int = 0
    """Note heads met in the text, whatever became of them."""
    octaves_apart: bool = False
    """%%propagate-accidentals octave; else an accidental holds for its letter in all octaves (ABC 2.1, 11.3)."""
    notes_apart: bool = False
    """%%MIDI nobarlines: an accidental holds for its note alone."""


@dataclass(slots=True)
class Voice:
    """Where one voice is in its music."""

    name: str
    shared: Shared
    unit: Fraction = Fraction(1, 2)
    """[quarters]"""
    metre: tuple[int, int] = (4, 4)
    signature: dict[str, int] = field(default_factory=dict)
    base: int = 0
    own: int = 0
    """Semitones by which all of the tune and this voice sound higher than written."""
    drums: bool = False
    bars: list[Bar] = field(default_factory=list)
    bar: Bar = field(default_factory=Bar)
    now: Fraction = Fraction(0)
    longest: Fraction = Fraction(0)
    """Of the overlays of this bar that are behind us."""
    layer: int = 0
    altered: dict[str, int] = field(default_factory=dict)
    tied: dict[tuple[str, str], int] = field(default_factory=dict)
    """Letter and octave of a note that is tied on -> its accidental, which holds over the bar line."""
    last: list[tuple[int, re.Match[str]]] = field(default_factory=list)
    """What sounded last, for ties and broken rhythm: its places in `bar.notes`, and how it is written."""
    last_length: Fraction = Fraction(0)
    broken: tuple[Fraction, Fraction] | None = None
    """Between the note before and the next: what lengthens or shortens the two."""
    tuplet: Fraction = Fraction(1)
    tuplet_left: int = 0
    velocity: int = USUAL_VELOCITY

    @property
    def shift(self) -> int:
        return self.base + self.own

    def length_of(self, text: str) -> Fraction:
        top, slashes, bottom = re.fullmatch(r"(\d*)(/*)(\d*)", text).groups()  # type: ignore[union-attr]
        if max(len(top), len(bottom), len(slashes)) > MOST_DIGITS:
            raise AbcError(f"{text[:12]!r} is too large a number")
        below = int(bottom) if bottom and slashes else 2 ** len(slashes)
        return Fraction(int(top or 1), below or 1)

    def _factor(self, length: Fraction) -> Fraction:
        """By how much the tuplet and the broken rhythm stretch a note of this length. Broken rhythm stands between
        notes of one length; between others it means nothing (ABC 2.1, 4.4; abc2midi too) and is counted."""
        factor = Fraction(1)
        if self.tuplet_left:
            self.tuplet_left -= 1
            factor = self.tuplet
        if self.broken is not None:
            (mine, other), self.broken = self.broken, None
            if length * factor != self.last_length:
                self.shared.losses["broken_rhythms_unlike"] += 1
                return factor
            for place, _ in self.last:
                note = self.bar.notes[place]
                self.bar.notes[place] = note._replace(duration=note.duration * mine)
            self.now += self.last_length * (mine - 1)
            factor *= other
        return factor

    def sound(self, heads: list[tuple[re.Match[str], bool]], times: str) -> None:
        """A note or a chord; a chord lasts as long as its first note."""
        unit = self.unit * (self.length_of(times) if times else 1)
        factor = unit * self._factor(unit * self.length_of(heads[0][0]["length"]))
        pitches = self.tied
        self.tied, self.last = {}, []
        step = Fraction(0)
        for number, (match, ties) in enumerate(heads):
            length = factor * self.length_of(match["length"])
            if number == 0:
                step = length
            self.shared.heads += 1
            if self.shared.heads > MOST_NOTES:
                raise AbcError(f"more than {MOST_NOTES} notes: cut it into shorter pieces")
            pitch = self._pitch(match, pitches) + self.shift
            if self.drums:
                self.shared.losses["percussion"] += 1
                continue
            if length <= 0:
                self.shared.losses["notes_without_length"] += 1
                continue
            self.last.append((len(self.bar.notes), match))
            layer = f"{self.name}&{self.layer}" if self.layer else self.name
            self.bar.notes.append(NoteHead(self.now, min(max(pitch, 0), 127), length, self.velocity, ties, layer))
            if ties:
                self.tied[match["letter"], match["octave"]] = pitch - self.shift
        self.last_length = step
        self.now += step

    def _pitch(self, match: re.Match[str], tied: dict[tuple[str, str], int]) -> int:
        letter, octave, accidental = match["letter"], match["octave"], match["accidental"]
        if len(octave) > MOST_DIGITS:
            raise AbcError(f"{match[0][:12]!r} is beyond every instrument")
        above = octave.count("'") - octave.count(",") + letter.islower()
        natural = 60 + LETTERS[letter.upper()] + 12 * above
        place = f"{letter.upper()}{above}" if self.shared.octaves_apart else letter.upper()
        if accidental:
            if accidental.endswith("/"):
                self.shared.losses["quarter_tones"] += 1
            change = accidental.count("^") - accidental.count("_")
            if self.shared.notes_apart:
                return natural + change
            self.altered[place] = change
        elif (letter, octave) in tied and place not in self.altered:
            return tied[letter, octave]
        return natural + self.altered.get(place, self.signature.get(letter.upper(), 0))

    def tie(self) -> None:
        """What sounded last goes on."""
        for place, match in self.last:
            note = self.bar.notes[place] = self.bar.notes[place]._replace(ties=True)
            self.tied[match["letter"], match["octave"]] = note.pitch - self.shift

    def rest(self, kind: str, wait: str) -> None:
        """z and x rest for a length, Z and X for bars, y is a space in print."""
        if kind == "y":
            return
        if kind in "ZX":
            count = self.length_of(wait)
            if count.denominator != 1 or not 1 <= count <= MOST_BARS_OF_REST:
                raise AbcError(f"{kind}{wait[:12]}: rests last 1 to {MOST_BARS_OF_REST} bars")
            full = Fraction(4 * self.metre[0], self.metre[1]) if self.metre[0] else Fraction(4)
            for _ in range(int(count) - 1):
                self.now += full
                self.close()
            self.now += full
            return
        length = self.unit * self.length_of(wait)
        length *= self._factor(length)
        self.last, self.last_length, self.tied = [], length, {}
        self.now += length

    def break_rhythm(self, signs: str) -> None:
        """`a>b`: a half longer, b half as long; each further sign halves again."""
        short = Fraction(1, 2 ** min(len(signs), 3))
        if self.last_length:
            self.broken = (2 - short, short) if signs[0] == ">" else (short, 2 - short)
        else:
            self.shared.losses["characters_unread"] += 1

    def begin_tuplet(self, text: str) -> None:
        """(p:q:r: the next r notes, p in the time of q (ABC 2.1, 4.13)."""
        numbers = [int(number) if number and len(number) <= 2 else 0 for number in text.split(":")]
        p, q, r = (*numbers, 0, 0)[:3]
        compound = self.metre[0] in (6, 9, 12) and self.metre[1] >= 8
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, 3 if compound else 2)
        if not 1 <= p <= 64:
            self.shared.losses["characters_unread"] += 1
            return
        self.tuplet, self.tuplet_left = Fraction(q or usual, p), r or p

    def bar_line(self, sign: str, number: str | None) -> None:
        """`sign` with its colons and brackets, `number` of the ending that begins with it."""
        ends, begins = _colons(sign)
        self.close()
        before = self.bars[-1].marks if self.bars else None
        if ends and before:
            before.times = max(before.times, min(ends + 1, MOST_TIMES))
        if before and (ends or "||" in sign or "]" in sign or "[|" in sign):
            before.ending_stops = before.strain_stops = True
        if begins:
            self.bar.marks.start = True
        if number:
            self.bar.marks.ending = passes_of(number)

    def begin_ending(self, number: str) -> None:
        """An ending, here or in mid-bar: what stands before it in its bar is played before each of the endings."""
        if self.now:
            altered = self.altered
            self.close()
            self.bars[-1].runs_on = True
            self.altered = altered
        self.bar.marks.ending = passes_of(number)

    def close(self, final: bool = False) -> None:
        """End a bar, where one has begun. Of an empty one the signs wait for the next."""
        self.now = max(self.now, self.longest)
        self.altered, self.layer, self.longest = {}, 0, Fraction(0)
        if self.now == 0 and not self.bar.notes:
            if final and self.bars and self.bar.marks.jump:
                self.bars[-1].marks.jump = self.bar.marks.jump
            return
        if len(self.bars) >= MOST_PLAYED:
            raise AbcError(f"more than {MOST_PLAYED} bars: cut it into shorter pieces")
        self.bar.length = self.now
        self.bars.append(self.bar)
        self.bar, self.now, self.last, self.last_length = Bar(), Fraction(0), [], Fraction(0)
        if self.broken is not None:
            self.shared.losses["broken_rhythms_unlike"] += 1
            self.broken = None


def _colons(sign: str) -> tuple[int, int]:
    """How many colons stand before and after the bar: "::" is one of each."""
    bare = sign.replace("[", "").replace("]", "").replace(".", "")
    if "|" not in bare:
        return len(bare) // 2, len(bare) // 2
    begins = len(bare) - len(bare.rstrip(":"))
    return bare.count(":") - begins, begins  # "[|]:|": an invisible bar line may stand before those that end


def passes_of(text: str) -> frozenset[int]:
    """Passes of an ending: "1,3", "1-3", "2"."""
    passes: set[int] = set()
    for piece in re.split(r"[,.]", text.strip("[")):
        numbers = [min(int(number[:3]), MOST_TIMES) for number in re.findall(r"\d+", piece)]
        if numbers:
            passes.update(range(numbers[0], numbers[-1] + 1))
    return frozenset(passes or {1})
