"""The form of an arrangement: introduction, verses, modulation, vamp and ending, laid out as one lead sheet.

A tune is laid out for a feel: straight, swung, or compound (12/8). Everything later works in the ticks of the
arrangement, where `beat` is 24 ticks (a quarter) or 36 (a dotted quarter).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest

from plagal.music.arranger.harmony_grammar import DEGREES, weight
from plagal.music.arranger.styles import Style
from plagal.music.arranger.tunebook import MelodyNote, Tune, is_compound
from plagal.music.chords import Chord
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import Key, Metre
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
        return next((part for part in self.sections if tick // self.bar < part.end), self.sections[-1])

    def offset(self, part: float) -> int:
        """Ticks after the beat of a part of it (0, 0.25, 0.5, 0.75, or thirds), as the feel plays it."""
        bent = {}
        if self.beat == DOTTED_QUARTER:
            bent = {0.25: 12, 0.5: 24, 0.75: 30}
        elif self.swing:
            bent = {0.25: (self.swing + 1) // 2, 0.5: self.swing, 0.75: (self.swing + QUARTER) // 2}
        return bent.get(part, round(part * self.beat))


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
    if inside < 12:
        return beat * QUARTER + inside * first // 12
    return beat * QUARTER + first + (inside - 12) * (QUARTER - first) // 12


def _compounded(tick: int) -> int:
    beat, inside = divmod(tick, QUARTER)
    return beat * DOTTED_QUARTER + (inside * 3 // 2 if inside % 3 else inside + min(inside, 12))


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
    quarters = 3 if quarters == 6 else quarters
    if feel == "compound":
        return Layout(Metre(0, quarters * 3, 8), DOTTED_QUARTER, 0, _compounded)
    if feel == "swing":
        return Layout(Metre(0, quarters, 4), QUARTER, first, lambda tick: _swung(tick, first))
    return Layout(Metre(0, quarters, 4), QUARTER, 0, lambda tick: tick, 2 if feel == "half-time" else 1)


def _evened(tick: int) -> int:
    """A compound beat's second half, two thirds on, as a straight one."""
    beat, inside = divmod(tick, DOTTED_QUARTER)
    return beat * QUARTER + (inside // 2 if inside <= 24 else inside - 12)


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
    bar, place = plan.metre.bar_ticks, plan.place
    melody = [
        (place(onset), pitch + semitones, place(onset + ticks) - place(onset)) for onset, pitch, ticks in tune.notes
    ]
    bars = -(-max(onset + ticks for onset, _, ticks in melody) // bar)
    starts = [place(onset) // plan.beat * plan.beat for onset, _ in tune.chords]
    if starts[0] < bar and not tune.pickup_ticks:
        starts[0] = 0
    edges = pairwise([*starts, bars * bar])
    spans = [Span(start, end, chord.transposed(semitones))
             for (start, end), (_, chord) in zip(edges, tune.chords, strict=True) if end > start]  # fmt: skip
    sections = tuple((place(onset) // bar, name) for onset, name in tune.sections)
    return Chorus(bars, tuple(melody), tuple(spans), sections)


MOST_SECTIONS = 24

MELODY_CENTRE = 70
"""Where the middle of a tune should lie [MIDI]."""

LOWEST_MELODY, HIGHEST_MELODY = 60, 81
"""Under middle C a tune lies among its own chords."""

_MINOR_INTRO = ("1:min", "4:min7", "2:halfdim7", "5:7b9")
_MINOR_ENDING = ("4:min7", "5:7b9", "1:min")
_MINOR_VAMP = ("1:min7", "4:dom7")
_LAST_LINE_BARS = 4
_LONGEST_INTRO, _LONGEST_LEVEL = 4, 4

INTROS = {
    "turnaround": "1-6-2-5", "1-6-2-5": "1-6-2-5", "3-6-2-5": "3-6-2-5", "walk-up": "1-1/3-4-#4-1/5-6-2-5",
    "plagal": "4-1-4-1", "4-5": "4-5-4-5", "pedal": "1-4/1-5/1-1",
}  # fmt: skip
"""Introductions by name, as degrees; "none", "last-line" (the tune's last four bars) and any row of degrees besides."""
ENDINGS = {
    "amen": "4-1", "plagal": "4-1", "minor-plagal": "4-4m-1", "perfect": "2-5-1", "backdoor": "4-b7-1",
    "deceptive": "5-6-2-5-1", "walk-up": "1/3-4-#4-1/5-6-2-5-1", "tag": "1/3-4-#4-1/5-6-2-5-1",
    "mario": "b6-b7-1", "tritone": "2-b2-1",
}  # fmt: skip
"""Endings by name, as degrees; "none" and any row of degrees besides, such as 7-3-6-2-5-1."""
_QUALITY_OF = {
    False: {"1": "maj", "b2": "dom9", "2": "min7", "b3": "maj", "3": "min7", "4": "maj", "#4": "dim7", "5": "dom7",
            "b6": "maj", "6": "min7", "b7": "maj", "7": "halfdim7"},
    True: {"1": "min", "b2": "dom9", "2": "halfdim7", "b3": "maj", "3": "maj", "4": "min7", "#4": "dim7", "5": "7b9",
           "b6": "maj7", "6": "halfdim7", "b7": "dom7", "7": "dim7"},
}  # fmt: skip
"""The plain quality of each degree, by mode; the style's colours go over it."""
_LEADING = {("3", "6"): "7#9b13", ("6", "2"): "7b9", ("2", "5"): "min7", ("1", "4"): "dom7", ("b7", "1"): "dom9"}
"""In major, where a degree leads on by its dominant."""


def numerals_of(text: str, minor: bool = False) -> tuple[str, ...]:
    """Degrees joined by hyphens, as musicians say them ("7-3-6-2-5-1", "4-4m-1", "1/3-4"), as "degree:quality/bass".
    Raises InputError that names the degree."""
    parts = [part.strip().partition("/") for part in text.split("-")]
    following = [head.removesuffix("m") for head, _, _ in parts[1:]]
    found = []
    for (head, slash, bass), after in zip_longest(parts, following):
        degree = head.removesuffix("m")
        if degree not in DEGREES or (bass and bass not in DEGREES):
            wrong = f"{text!r}: {head + slash + bass!r} is not a degree"
            raise InputError(f"{wrong}; write 1 b2 2 b3 3 4 #4 5 b6 6 b7 7, as in 7-3-6-2-5-1")
        quality = _QUALITY_OF[minor][degree] if minor else _LEADING.get((degree, after), _QUALITY_OF[minor][degree])
        if head.endswith("m"):
            quality = "min6" if degree == "4" else "min7"
        found.append(f"{degree}:{quality}/{bass}" if bass else f"{degree}:{quality}")
    return tuple(found)


def chord_of(numeral: str, tonic: int) -> Chord:
    """ "1:dom7/3" over a tonic: degree, quality, degree in the bass."""
    degree, _, rest = numeral.partition(":")
    quality, _, bass = rest.partition("/")
    root = (tonic + DEGREES[degree]) % 12
    return Chord(root, quality, (tonic + DEGREES[bass]) % 12 if bass else root)


@dataclass(frozen=True)
class FormWishes:
    """What is asked of the form; None leaves it to the style."""

    bars: int | None = None
    sections: tuple[str, ...] | None = None
    """As in a style's forms: "intro", "last_line", "verse", "chorus", "bridge", "vamp:8", "modulate", "outro"."""
    intro: str | None = None
    ending: str | None = None
    modulate: int = 0
    """Semitones up before the last verse."""
    intensity: int | None = None
    """1 (soft, sparse) to 4 (shout)."""


_NO_WISHES = FormWishes()


def transposition(tune: Tune, tonic: int) -> int:
    """Semitones that bring the tune to the key and its middle near the right hand's."""
    pitches = [pitch for _, pitch, _ in tune.notes]
    centre = sum(pitch * ticks for _, pitch, ticks in tune.notes) / sum(ticks for _, _, ticks in tune.notes)

    def cost(by: int) -> float:
        outside = max(0, max(pitches) + by - HIGHEST_MELODY) + max(0, LOWEST_MELODY - min(pitches) - by)
        return abs(centre + by - MELODY_CENTRE) + outside

    return min(((tonic - tune.tonic) % 12 + 12 * octave for octave in (-2, -1, 0, 1)), key=cost)


def _melody_until(melody: Sequence[MelodyNote], end: int) -> list[MelodyNote]:
    return [(onset, pitch, min(ticks, end - onset)) for onset, pitch, ticks in melody if onset < end]


def _spans_until(spans: Sequence[Span], end: int) -> list[Span]:
    return [replace(span, end=min(span.end, end)) for span in spans if span.onset < end]


def _checked(sections: tuple[str, ...]) -> tuple[str, ...]:
    """The sections that somebody asks for, few and short enough to be laid. Raises InputError."""
    if not 0 < len(sections) <= MOST_SECTIONS:
        raise InputError(f"{len(sections)} sections: give 1 to {MOST_SECTIONS}")
    for section in sections:
        if not re.fullmatch(r"[^:]*(?::\d{1,2})?", section):
            raise InputError(f"section {section!r}: after the colon stands a number under 100, as in vamp:8")
    return sections


class Form:
    """Lays sections one after another; `lead` and `keys` hold what has been laid."""

    def __init__(
        self, tune: Tune, style: Style, plan: Layout, home: Key, rng: random.Random, wishes: FormWishes = _NO_WISHES
    ) -> None:
        self._tune, self._style, self._plan, self._rng, self._wishes = tune, style, plan, rng, wishes
        self._tonic, self._minor = key_tonic(home), home.minor
        self._semitones = transposition(tune, self._tonic)
        self._bar = 0
        self.lead = LeadSheet(plan.metre, plan.beat, plan.swing, plan.stretch)
        self.keys = [home]

    def lay(self) -> None:
        """All sections: those asked for, or one of the style's forms; with `bars`, exactly so many bars of the tune."""
        wishes = self._wishes
        if wishes.bars is not None and wishes.sections is None:
            self.exactly(wishes.bars)
            return
        drawn = self._rng.choices(self._style.forms, [weight for weight, _ in self._style.forms])[0][1]
        parts = list(drawn if wishes.sections is None else _checked(wishes.sections))
        if wishes.intro is not None:
            parts = [part for part in parts if part not in ("intro", "last_line")]
            parts[:0] = {"none": [], "last-line": ["last_line"]}.get(wishes.intro, ["intro"])
        if wishes.ending is not None:
            parts = [part for part in parts if part != "outro"]
            parts += [] if wishes.ending == "none" else ["outro"]
        if wishes.modulate and not any(part.startswith("modulate") for part in parts):
            sung = [place for place, part in enumerate(parts) if part.partition(":")[0] in ("verse", "chorus")]
            if not sung:
                raise InputError(f"modulate goes before the last verse: sections {', '.join(parts)} have none")
            last = parts[sung[-1]]
            parts[sung[-1] : sung[-1] + 1] = ["modulate", last] if len(sung) > 1 else [last, "modulate", last]
        for part in parts:
            name, _, number = part.partition(":")
            self._add(name, number)
        if wishes.bars is not None:
            self._cut(wishes.bars)

    def exactly(self, bars: int) -> None:
        """So many bars: the tune as often as it fits, an introduction and an ending in what is left; where not even the
        tune fits, its beginning, brought to a close."""
        wishes, once = self._wishes, self._chorus().bars
        level = wishes.intensity or 2
        over = bars % once if bars >= once else 0
        ending = self._ending(self._ending_numerals()) if wishes.ending not in (None, "none") or over > 4 else []
        tail = sum(beats for beats, _ in ending) // self.lead.beats_per_bar
        tail = tail if tail <= (over if over else bars - 2) else 0
        before = 0 if wishes.intro == "none" else max(0, over - tail)
        if 0 < before <= _LONGEST_INTRO and wishes.intro != "last-line":
            self._chords("INTRO", self._spread(self._intro_numerals(), before, most=before), 2)
        elif before:
            self._last_line(before)
        while self._bar < bars - tail:
            self._verse(level)
        if self._bar > bars - tail:
            self._cut(bars - tail)
        if tail:
            self._chords("OUTRO", ending, 1)

    def _cut(self, bars: int) -> None:
        """What lies after `bars` goes, and what is left closes on the tonic."""
        while self._bar < bars:
            self._verse(self._wishes.intensity or 2)
        lead, end, first_chord = self.lead, bars * self.lead.bar, self.lead.spans[0].chord
        closes = self._bar == bars
        lead.melody = _melody_until(lead.melody, end)
        # Where all that fits is the pick-up: what it leads to.
        lead.spans = _spans_until(lead.spans, end) or [Span(0, end, first_chord)]
        lead.sections = [part.until(bars) for part in lead.sections if part.first < bars]
        self._bar = bars
        if not closes and bars > 2:
            self._close()

    def _close(self) -> None:
        """The last bar holds the tonic, the half bar before it the dominant; the tune comes to rest."""
        lead = self.lead
        section = lead.sections[-1]
        last = lead.end - lead.bar
        half = lead.beats_per_bar // 2 * lead.beat or lead.beat
        home = Chord(section.tonic, "min" if section.minor else "maj", section.tonic)
        five = Chord((section.tonic + 7) % 12, "dom7", (section.tonic + 7) % 12)
        spans = _spans_until(lead.spans, last - half)
        lead.spans = [*spans, Span(last - half, last, five), Span(last, lead.end, home)]
        before = [note for note in lead.melody if note[0] < last]
        at = before[-1][1] if before else MELODY_CENTRE
        rest = min((key for key in range(at - 6, at + 7) if key % 12 == section.tonic), key=lambda key: abs(key - at))
        kept = [note for note in before if note[0] < last - half or (note[1] - five.root) % 12 in (0, 2, 4, 7, 9, 10)]
        lead.melody = [*_melody_until(kept, last), (last, rest, lead.bar)]

    def _add(self, name: str, number: str) -> None:
        vamp_bars = int(number) if number and name in ("vamp", "bridge") else 4
        level = self._wishes.intensity or (int(number) if number else 2)
        if name == "intro":
            self._chords("INTRO", self._spread(self._intro_numerals(), 2), 2)
        elif name == "last_line":
            self._last_line(_LAST_LINE_BARS)
        elif name == "verse":
            self._verse(level)
        elif name == "chorus":
            self._verse(min(_LONGEST_LEVEL, level + 1), "CHORUS")
        elif name == "modulate":
            semitones = int(number) if number else self._wishes.modulate or 1
            self._tonic = (self._tonic + semitones) % 12
            self._semitones += semitones
            self._chords("BRIDGE", self._spread(("5:9sus", "5:dom7"), 1), 3)  # the new key's dominant, and up
            self.keys.append(key_of(self._tonic, self._minor, (self._bar - 1) * self.lead.bar))
        elif name in ("vamp", "bridge"):
            once = self._spread(self._pick(self._style.vamps, _MINOR_VAMP), 2)
            self._chords("BRIDGE", once * max(1, vamp_bars // 2), 4, riff=True)
        elif name == "outro":
            numerals = self._ending_numerals()
            key, first = key_of(self._tonic, self._minor), chord_of(numerals[0], self._tonic)
            # A vamp that ends on V before an ending that begins on IV ends on I7 instead: V7 does not fall to IV.
            if (
                self.lead.sections
                and self.lead.sections[-1].riff
                and not weight(first, self.lead.spans[-1].chord, key, self._style.name)
            ):
                home = Chord(self._tonic, "min7" if self._minor else "dom7", self._tonic)
                self.lead.spans[-1] = replace(self.lead.spans[-1], chord=home)
            self._chords("OUTRO", self._ending(numerals), 1)
        else:
            choose = "choose intro, last_line, verse, chorus, bridge, vamp:BARS, modulate or outro"
            raise InputError(f"section {name!r} is not known; {choose}")

    def _intro_numerals(self) -> tuple[str, ...]:
        asked = self._wishes.intro
        if asked is None or asked in ("none", "last-line"):
            return self._pick(self._style.intros, _MINOR_INTRO)
        return numerals_of(INTROS.get(asked, asked), self._minor)

    def _ending_numerals(self) -> tuple[str, ...]:
        asked = self._wishes.ending
        if asked is None or asked == "none":
            return self._pick(self._style.endings, _MINOR_ENDING)
        return numerals_of(ENDINGS.get(asked, asked), self._minor)

    def _pick(self, choices: tuple[tuple[str, ...], ...], in_minor: tuple[str, ...]) -> tuple[str, ...]:
        return in_minor if self._minor else choices[self._rng.randrange(len(choices))]

    def _chorus(self) -> Chorus:
        return lay_out(self._tune, self._plan, self._semitones)

    def _verse(self, level: int, called: str = "") -> None:
        """The tune once, its sections under one name where one is given; its pick-up falls into the last bar of what
        came before."""
        once, lead = self._chorus(), self.lead
        start = self._bar - bool(self._tune.pickup_ticks and self._bar)
        offset, fresh = start * lead.bar, self._bar * lead.bar
        lead.melody = _melody_until(lead.melody, once.melody[0][0] + offset)
        lead.melody += [(onset + offset, pitch, ticks) for onset, pitch, ticks in once.melody]
        lead.spans += [span.moved(offset) for span in once.spans if span.onset + offset >= fresh]
        for (bar, name), (end, _) in pairwise([*once.sections, (once.bars, "")]):
            higher = min(4, level + (name == "CHORUS" and not called))
            begin = max(self._bar, start + bar)
            lead.sections.append(Section(called or name, begin, start + end, self._tonic, self._minor, higher))
        self._bar = start + once.bars

    def _last_line(self, bars: int) -> None:
        """The tune's last bars bring it in."""
        once = self._chorus()
        first = max(0, once.bars - bars) * self.lead.bar
        self.lead.melody += [(onset - first, pitch, ticks) for onset, pitch, ticks in once.melody if onset >= first]
        self.lead.spans += [Span(max(0, span.onset - first), span.end - first, span.chord)
                            for span in once.spans if span.end > first]  # fmt: skip
        self._bar = once.bars - first // self.lead.bar
        self.lead.sections.append(Section("INTRO", 0, self._bar, self._tonic, self._minor, 1))

    def _chords(self, name: str, symbols: list[tuple[int, str]], level: int, riff: bool = False) -> None:
        """A section without the tune, from (beats, numeral) pairs."""
        lead, start = self.lead, self._bar
        onset = start * lead.bar
        for beats, numeral in symbols:
            end = onset + beats * lead.beat
            lead.spans += [Span(onset, end, chord_of(numeral, self._tonic))] if beats else []
            onset = end
        self._bar = -(-onset // lead.bar)
        lead.sections.append(Section(name, start, self._bar, self._tonic, self._minor, level, sung=False, riff=riff))

    def _spread(self, numerals: tuple[str, ...], bars: int, most: int | None = None) -> list[tuple[int, str]]:
        """Numerals shared evenly over bars: over more where each would get less than a beat, but over `most` at most,
        where the first ones go."""
        bars = max(bars, -(-len(numerals) // self.lead.beats_per_bar))
        if most is not None and bars > most:
            bars, numerals = most, numerals[-most * self.lead.beats_per_bar :]
        each, more = divmod(bars * self.lead.beats_per_bar, len(numerals))
        return [(each + (number < more), numeral) for number, numeral in enumerate(numerals)]

    def _ending(self, numerals: tuple[str, ...]) -> list[tuple[int, str]]:
        """The last chord takes the last bar, the others share the bars before it."""
        bars = max(1, -(-(len(numerals) - 1) // self.lead.beats_per_bar))
        return [*self._spread(numerals[:-1], bars), (self.lead.beats_per_bar, numerals[-1])]
