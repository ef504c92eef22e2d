"""What an arrangement is made from: one melody line, its chords, and the sections, on the output's own bars.

A tune is laid out here for a feel: straight, swung, or compound (12/8). Everything later works in the ticks of the
arrangement, where `beat` is 24 ticks (a quarter) or 36 (a dotted quarter).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from plagal.music.arranger.tunebook import MelodyNote, Tune
from plagal.music.chords import Chord
from plagal.music.score import Metre
from plagal.plumbing.errors import InputError

QUARTER, DOTTED_QUARTER = 24, 36

FEELS = {
    "straight": "straight", "swing": "swing", "shuffle": "swing", "compound": "compound", "12/8": "compound",
    "half-time": "half-time",
}  # fmt: skip
"""What a feel may be called, and what it is here."""

SWINGS = (12, 15, 16, 18)
"""Ticks of a swung beat's first half: straight, light, triplet (the usual one), hard. Nothing between: these lie on the
grid of 32nds and triplets that the words are written on."""


@dataclass(frozen=True, slots=True)
class Span:
    """One chord from `onset` to `end` [ticks]."""

    onset: int
    end: int
    chord: Chord

    @property
    def ticks(self) -> int:
        return self.end - self.onset

    def moved(self, ticks: int) -> Span:
        return Span(self.onset + ticks, self.end + ticks, self.chord)


@dataclass(frozen=True, slots=True)
class Section:
    """Bars `first` up to `end` (not included), in one key, at one intensity."""

    name: str
    """INTRO, VERSE, CHORUS, BRIDGE or OUTRO."""
    first: int
    end: int
    tonic: int
    minor: bool
    level: int
    """1 (soft, sparse) to 4 (shout)."""
    sung: bool = True
    """Whether the tune's melody sounds here. Where not, the chords stand as written."""
    riff: bool = False
    """Whether the right hand plays riffs here: the shout vamp."""

    def until(self, bar: int) -> Section:
        return replace(self, end=min(self.end, bar))


@dataclass
class LeadSheet:
    metre: Metre
    beat: int
    """Ticks: 24, or 36 in compound metres."""
    swing: int
    """Ticks of a swung beat's first half; 0 where nothing swings."""
    stretch: int = 1
    """Beats of the metre to one of the groove: 2 in half-time."""
    melody: list[MelodyNote] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    @property
    def bar(self) -> int:
        return self.metre.bar_ticks

    @property
    def beats_per_bar(self) -> int:
        return self.bar // self.beat

    @property
    def end(self) -> int:
        return self.sections[-1].end * self.bar

    def section_at(self, tick: int) -> Section:
        number = tick // self.bar
        for section in self.sections:
            if number < section.end:
                return section
        return self.sections[-1]

    def offset(self, part: float) -> int:
        """Ticks after the beat of a part of it (0, 0.25, 0.5, 0.75, or thirds), as the feel plays it."""
        if part in (0.25, 0.5, 0.75):
            if self.beat == DOTTED_QUARTER:
                return {0.25: 12, 0.5: 24, 0.75: 30}[part]
            if self.swing:
                return {0.25: (self.swing + 1) // 2, 0.5: self.swing, 0.75: (self.swing + QUARTER) // 2}[part]
        return round(part * self.beat)


@dataclass(frozen=True)
class Layout:
    """How a tune's own ticks become the arrangement's."""

    metre: Metre
    beat: int
    swing: int
    place: Callable[[int], int]
    stretch: int = 1


def _swung(tick: int, first: int) -> int:
    beat, inside = divmod(tick, QUARTER)
    if inside % 3:
        return tick  # A triplet is a triplet.
    half = QUARTER // 2
    return beat * QUARTER + (
        inside * first // half if inside < half else first + (inside - half) * (QUARTER - first) // half
    )


def _compounded(tick: int) -> int:
    beat, inside = divmod(tick, QUARTER)
    if inside % 3:
        return beat * DOTTED_QUARTER + inside * 3 // 2
    return beat * DOTTED_QUARTER + (inside * 2 if inside < 12 else 24 + (inside - 12))


def is_compound(metre: Metre) -> bool:
    return metre.denominator >= 8 and metre.numerator % 3 == 0 and metre.numerator > 3


def swing_ticks(amount: float | None) -> int:
    """Ticks of the first half for an amount: its share of the beat, .5 (straight) to .75 (hard), the nearest that there
    is; the triplet's two thirds where none is given. Raises InputError."""
    if amount is None:
        return 16
    if not 0.5 <= amount <= 0.75:
        raise InputError(f"swing {amount:g}: give the share of the first eighth, from 0.5 (straight) to 0.75 (hard)")
    return min(SWINGS, key=lambda ticks: abs(ticks - amount * QUARTER))


def layout(metre: Metre, feel: str, swing: float | None = None) -> Layout:
    """How to lay out a tune of that metre in a feel of `FEELS`. Raises InputError for an unknown one."""
    if feel not in FEELS:
        raise InputError(f"feel {feel!r} is not known; choose one of {', '.join(FEELS)}")
    feel, first = FEELS[feel], swing_ticks(swing)
    if is_compound(metre):
        if feel == "swing":
            even = Layout(Metre(0, metre.numerator // 3, 4), QUARTER, first, lambda tick: tick * 2 // 3)
            return even if first == 16 else replace(even, place=lambda tick: _swung(_evened(tick), first))
        return Layout(metre, DOTTED_QUARTER, 0, lambda tick: tick)
    quarters = metre.numerator * 4 // metre.denominator
    if quarters == 6:
        quarters = 3
    if feel == "compound":
        return Layout(Metre(0, quarters * 3, 8), DOTTED_QUARTER, 0, _compounded)
    if feel == "swing":
        return Layout(Metre(0, quarters, 4), QUARTER, first, lambda tick: _swung(tick, first))
    return Layout(Metre(0, quarters, 4), QUARTER, 0, lambda tick: tick, 2 if feel == "half-time" else 1)


def _evened(tick: int) -> int:
    """A compound beat's second half, two thirds on, as a straight one."""
    beat, inside = divmod(tick, DOTTED_QUARTER)
    return beat * QUARTER + (inside // 2 if inside <= 24 else 12 + (inside - 24))


@dataclass(frozen=True)
class Chorus:
    """Once through a tune, laid out: melody and spans from bar 0, transposed."""

    bars: int
    melody: tuple[MelodyNote, ...]
    spans: tuple[Span, ...]
    sections: tuple[tuple[int, str], ...]
    """First bar, name."""


def lay_out(tune: Tune, plan: Layout, semitones: int) -> Chorus:
    """The tune in the arrangement's ticks, moved by `semitones`."""
    bar = plan.metre.bar_ticks
    melody = []
    for onset, pitch, ticks in tune.notes:
        start, end = plan.place(onset), plan.place(onset + ticks)
        melody.append((start, pitch + semitones, end - start))
    bars = -(-max(onset + ticks for onset, _, ticks in melody) // bar)
    starts = [plan.place(onset) // plan.beat * plan.beat for onset, _ in tune.chords]
    chords = [chord.transposed(semitones) for _, chord in tune.chords]
    if starts[0] < bar and not tune.pickup_ticks:
        starts[0] = 0
    ends = [*starts[1:], bars * bar]
    spans = [Span(start, end, chord) for start, end, chord in zip(starts, ends, chords, strict=True) if end > start]
    sections = tuple((plan.place(onset) // bar, name) for onset, name in tune.sections)
    return Chorus(bars, tuple(melody), tuple(spans), sections)
