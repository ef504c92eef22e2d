"""Gospel harmony over a plain hymn's chords: devices that put new chords in a span, and colours that extend them.

A device takes one span, the chord after it and the key, and returns parts that fill the same beats, or None where it
does not apply. Devices and colours are kept only where the melody bears them.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise, zip_longest
from typing import NamedTuple

from plagal.music.arranger.form import LeadSheet, Section, Span
from plagal.music.arranger.harmony_grammar import family, weight
from plagal.music.arranger.styles import Style
from plagal.music.chords import QUALITIES, Chord
from plagal.music.keys import key_of

Part = tuple[int, int, str, int]
"""Beats, root, quality, bass."""


class Site(NamedTuple):
    """A chord for so many beats, the next one, the section they stand in, and what draws between equals."""

    chord: Chord
    after: Chord
    beats: int
    section: Section
    rng: random.Random

    @property
    def degree(self) -> int:
        return (self.chord.root - self.section.tonic) % 12

    @property
    def rise(self) -> int:
        """Semitones from this root up to the next."""
        return (self.after.root - self.chord.root) % 12

    def but(self, *parts: Part) -> list[Part]:
        """The chord, and at its end these parts."""
        left = self.beats - sum(part[0] for part in parts)
        return [(left, self.chord.root, self.chord.quality, self.chord.bass), *parts]


Device = Callable[[Site], "list[Part] | None"]
DEVICES: dict[str, Device] = {}


def _device(device: Device) -> Device:
    DEVICES[device.__name__] = device
    return device


def _part(beats: int, root: int, quality: str, bass: int | None = None) -> Part:
    return (beats, root % 12, quality, (root if bass is None else bass) % 12)


def is_minor(chord: Chord) -> bool:
    """Whether a chord's family is minor or half-diminished."""
    return family(chord.quality) in ("minor", "half")


@_device
def two_five(site: Site) -> list[Part] | None:
    """V -> ii V; a dominant that falls a fifth is shared between its two and itself."""
    root, first = site.chord.root, site.beats // 2
    if site.rise != 5 or site.beats < 2 or is_minor(site.chord):
        return None
    two = "halfdim7" if is_minor(site.after) else "min7"
    return [_part(first, root + 7, two), _part(site.beats - first, root, "dom7")]


@_device
def secondary_dominant(site: Site) -> list[Part] | None:
    """The next chord's own dominant takes the end of this span."""
    five = (site.after.root + 7) % 12
    same = site.chord.root in (five, site.after.root)
    if site.beats < 2 or same or family(site.after.quality) == "diminished":
        return None
    if site.beats >= 4 and not is_minor(site.after):
        return site.but(_part(1, five + 7, "min7"), _part(1, five, "dom7"))
    return site.but(_part(2 if site.beats >= 4 else 1, five, "dom7"))


@_device
def seven_three_six(site: Site) -> list[Part] | None:
    """7-3-6: the half-diminished seventh degree and the third degree's dominant lead to the sixth, and where the tune
    goes to two or four, by the sixth on to there."""
    tonic = site.section.tonic
    if site.section.minor or site.degree not in (0, 5):
        return None
    seven_three = [_part(1, tonic + 11, "halfdim7"), _part(1, tonic + 4, "7b9b13")]
    step = (site.after.root - tonic) % 12
    if step == 9 and site.beats >= 3:
        return site.but(*seven_three)
    if step in (2, 5) and site.degree == 0 and site.beats >= 4:
        return site.but(*seven_three, _part(1, tonic + 9, "7b9" if step == 2 else "min7"))
    return None


@_device
def passing_diminished(site: Site) -> list[Part] | None:
    """A diminished seventh on the semitone between two roots a tone apart, or under the rise from IV to I/5."""
    root, rise = site.chord.root, (site.after.bass - site.chord.root) % 12
    if site.beats < 2 or site.chord.bass != root:
        return None
    home_from_four = site.degree == 5 and site.after.root == site.section.tonic
    if rise == 2 or home_from_four:
        return site.but(_part(1, root + 1, "dim7"))
    return site.but(_part(1, root - 1, "dim7")) if rise == 10 and is_minor(site.after) else None


@_device
def tritone_substitution(site: Site) -> list[Part] | None:
    """A dominant that falls a fifth lets the dominant a tritone away slide down a semitone in its place."""
    root, kind = site.chord.root, family(site.chord.quality)
    if site.rise != 5 or kind not in ("dominant", "major"):
        return None
    if site.beats == 1:
        return [_part(1, root + 6, "dom9")] if kind == "dominant" else None
    last = max(1, site.beats // 2)
    return [_part(site.beats - last, root, "dom7"), _part(last, root + 6, "dom9")]


@_device
def walk_up(site: Site) -> list[Part] | None:
    """The bass climbs 1-2-3 to a chord a fourth above, each step with its own chord."""
    root = site.chord.root
    if site.rise != 5 or site.beats < 3 or is_minor(site.chord) or site.chord.bass != root:
        return None
    return site.but(_part(1, root + 2, "min7"), _part(1, root, "maj", root + 4))


@_device
def walk_down(site: Site) -> list[Part] | None:
    """The bass falls 1-7-6: a dominant over its third between two chords a third apart."""
    root = site.chord.root
    if site.rise != 9 or site.beats < 2 or family(site.chord.quality) != "major":
        return None
    return site.but(_part(1, root + 7, "maj", root + 11))


@_device
def suspension(site: Site) -> list[Part] | None:
    """A dominant is held back by its suspended form."""
    root, first = site.chord.root, site.beats // 2
    if family(site.chord.quality) != "dominant" or site.beats < 2:
        return None
    return [_part(first, root, "9sus"), _part(site.beats - first, root, "dom7")]


def _four_to_one(site: Site, root: int, quality: str) -> list[Part] | None:
    leads = site.after.root == site.section.tonic and site.degree == 5 and not site.section.minor and site.beats >= 2
    return site.but(_part(site.beats // 2, root, quality)) if leads else None


@_device
def minor_plagal(site: Site) -> list[Part] | None:
    """IV turns minor before I."""
    return _four_to_one(site, site.chord.root, "min6")


@_device
def backdoor(site: Site) -> list[Part] | None:
    """IV-I by way of bVII9."""
    return _four_to_one(site, site.section.tonic + 10, "dom9")


_TURNAROUNDS: tuple[tuple[tuple[int, str], ...], ...] = (
    ((0, "maj"), (9, "7b9"), (2, "min7"), (7, "dom7")),
    ((0, "maj"), (9, "min7"), (2, "min7"), (7, "9sus")),
    ((0, "maj"), (3, "dim7"), (2, "min7"), (7, "dom7")),
    ((4, "7#9b13"), (9, "7b9"), (2, "min7"), (7, "dom7")),
)


@_device
def turnaround(site: Site) -> list[Part] | None:
    """A tonic with nothing else to do before the next phrase goes round by 6-2-5."""
    tonic = site.section.tonic
    if site.degree != 0 or site.section.minor or site.beats < 4 or site.beats % 4 or site.after.root != tonic:
        return None
    kind = _TURNAROUNDS[site.rng.randrange(len(_TURNAROUNDS))]
    return [_part(site.beats // 4, tonic + step, quality) for step, quality in kind]


@_device
def five_one_four(site: Site) -> list[Part] | None:
    """vm9 - I13 - IV: the tonic turns into the dominant of four, by that dominant's own two."""
    tonic, part = site.section.tonic, 2 if site.beats >= 6 else 1
    to_four = (site.after.root - tonic) % 12 == 5 and not is_minor(site.after)
    if not to_four or site.degree != 0 or site.section.minor or site.beats < 3:
        return None
    return site.but(_part(part, tonic + 7, "min7"), _part(part, tonic, "dom7"))


@_device
def plagal_rock(site: Site) -> list[Part] | None:
    """I-IV-I: the tonic rocks to four and back by a slash chord."""
    tonic = site.section.tonic
    if site.degree != 0 or site.beats < 4 or site.section.minor:
        return None
    return site.but(_part(1, tonic + 5, "maj", tonic), _part(1, tonic, "maj"))


_PASSING = 0.25
"""What a note that passes quickly off the beat weighs."""

_TENSIONS = {
    "major": {2, 7, 9, 11},
    "minor": {2, 5, 7, 10},
    "dominant": {2, 7, 9},
    "suspended": {2, 7, 9},
    "diminished": {2, 5, 8, 11},
    "half": {2, 5, 8},
    "augmented": {2},
}
"""Steps that a chord of the family bears in the melody without naming them."""


@cache
def _bearable(chord: Chord) -> frozenset[int]:
    kind, tones = family(chord.quality), set(QUALITIES[chord.quality])
    none = {2, 9} if kind == "dominant" and tones & {1, 3, 8} else set()
    none |= {11} if tones & {9, 10} else set()
    return frozenset((chord.root + step) % 12 for step in tones | (_TENSIONS[kind] - none))


def strain(melody: Mapping[int, float], chord: Chord) -> float:
    """Share of the melody's weight (pitch class -> ticks) that the chord cannot bear, 0 to 1."""
    strange = sum(ticks for pitch_class, ticks in melody.items() if pitch_class not in _bearable(chord))
    return strange / (sum(melody.values()) or 1)


class Melody:
    """What sounds of the melody in a stretch of time, found fast."""

    def __init__(self, lead: LeadSheet) -> None:
        self._notes = sorted(lead.melody)
        self._onsets = [note[0] for note in self._notes]
        self._beat = lead.beat

    def weights(self, start: int, end: int) -> dict[int, float]:
        """Pitch class -> ticks sounding in [start, end); notes that pass quickly off the beat weigh a quarter."""
        found: defaultdict[int, float] = defaultdict(float)
        first = max(0, bisect_left(self._onsets, start) - 1)
        for onset, pitch, ticks in self._notes[first : bisect_left(self._onsets, end)]:
            inside = min(end, onset + ticks) - max(start, onset)
            if inside > 0:
                passing = ticks < self._beat and onset % self._beat
                found[pitch % 12] += inside * (_PASSING if passing else 1.0)
        return found


def apply_devices(lead: LeadSheet, style: Style, rng: random.Random) -> list[Span]:
    """Spans of the lead sheet with the style's devices worked in, triads still. Long spans are cut into pieces of at
    most one bar first, so that devices find room in every phrase; the last chord stands still."""
    melody, pieces = Melody(lead), list[Span]()
    for span in lead.spans:
        lines = range((span.onset // lead.bar + 1) * lead.bar, span.end, lead.bar)
        pieces += [Span(start, end, span.chord) for start, end in pairwise([span.onset, *lines, span.end])]
    done: list[Span] = []
    for span, after in pairwise(pieces):
        section = lead.section_at(span.onset)
        site = Site(span.chord, after.chord, span.ticks // lead.beat, section, rng)
        before = done[-1].chord if done else None
        done += _with_device(span, site, before, lead, style, melody) if section.sung else [span]
    return [*done, pieces[-1]]


def _with_device(
    span: Span, site: Site, before: Chord | None, lead: LeadSheet, style: Style, melody: Melody
) -> list[Span]:
    for name, chance in style.devices.items():
        parts = DEVICES[name](site) if site.rng.random() < chance else None
        if parts is None:
            continue
        spans, onset = [], span.onset
        for beats, root, quality, bass in parts:
            if beats:
                spans.append(Span(onset, onset + beats * lead.beat, Chord(root, quality, bass)))
                onset += beats * lead.beat
        bears = all(strain(melody.weights(part.onset, part.end), part.chord) <= style.strain for part in spans)
        if bears and goes_on(before, [*(part.chord for part in spans), site.after], site.section, style):
            return spans
    return [span]


def goes_on(before: Chord | None, chords: Sequence[Chord], section: Section, style: Style) -> bool:
    """Whether the grammar lets each chord follow the one before it."""
    key = key_of(section.tonic, section.minor)
    row = chords if before is None else [before, *chords]
    return all(weight(chord, last, key, style.name, lifts=True) for last, chord in pairwise(row))


def colour(
    lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random, *, keep: bool = False
) -> list[Span]:
    """Extends each chord by the style's colours, as far as the melody bears them and the grammar lets them stand
    between their neighbours. A held melody note that a colour holds speaks for that colour, since the ear hears it as
    part of the chord. `keep` leaves the chords under the tune as they are."""
    melody = Melody(lead)
    coloured: list[Span] = []
    before: Chord | None = None
    for span, after in zip_longest(spans, spans[1:]):
        section, chord, sounds = lead.section_at(span.onset), span.chord, melody.weights(span.onset, span.end)
        if (section.sung and not keep) or (not section.sung and chord.quality in ("maj", "min")):
            chord = _coloured(chord, before, after.chord if after else None, section, sounds, style, rng)
        if before is not None and not (keep and section.sung):
            alike = (before.root, before.bass) == (chord.root, chord.bass)
            same_family = alike and family(before.quality) == family(chord.quality)
            if same_family and strain(sounds, before) <= style.strain:
                chord = before
        coloured.append(replace(span, chord=chord))
        before = chord
    return coloured


_LONG_IN_CHORD, _RUBBING = 0.35, 0.1
"""Share of the chord's time from which on a melody note is held against it, and what is left of a colour with a tone a
semitone under that note: the major seventh under its own root is the rub that every pianist avoids."""

_OVER_BASS = ("maj", "min", "dom7", "min7")
"""Qualities that stay clear over another bass than their root."""


def _coloured(
    chord: Chord, before: Chord | None, after: Chord | None, section: Section, melody: Mapping[int, float],
    style: Style, rng: random.Random,
) -> Chord:  # fmt: skip
    options = style.colours.get(_function(chord, after, section), {})
    if chord.bass != chord.root:
        options = {quality: share for quality, share in options.items() if quality in _OVER_BASS}
    following = [after] if after is not None else []
    total = sum(melody.values()) or 1.0
    choices: list[tuple[Chord, float]] = []
    for quality, share in options.items():
        candidate = Chord(chord.root, quality, chord.bass)
        if strain(melody, candidate) > style.strain:
            continue
        tones = candidate.pitch_classes
        held = sum(ticks for pc, ticks in melody.items() if pc in tones) / total
        rubs = any((pc - 1) % 12 in tones and ticks > _LONG_IN_CHORD * total for pc, ticks in melody.items())
        choices.append((candidate, share * (0.15 + held) ** 3 * (_RUBBING if rubs else 1.0)))
    fitting = [row for row in choices if goes_on(before, [row[0], *following], section, style)]
    plain = Chord(chord.root, "maj", chord.bass)
    major = family(chord.quality) in ("dominant", "major")
    if not fitting and major and goes_on(None, [plain, *following], section, style):
        return plain  # V before IV is not a dominant
    choices = fitting or choices
    return rng.choices(choices, [share for _, share in choices])[0][0] if choices else chord


def _function(chord: Chord, after: Chord | None, section: Section) -> str:
    kind = family(chord.quality)
    if kind == "major":
        degree = (chord.root - section.tonic) % 12
        if degree == 7 and chord.bass == chord.root and not (chord.quality == "maj" and after is None):
            return "dominant"
        return {0: "tonic", 5: "subdominant"}.get(degree, "major")
    if kind == "minor":
        if chord.quality == "min6":
            return "minor_six"
        return "minor_tonic" if section.minor and chord.root == section.tonic else "minor"
    if kind == "dominant" and after is not None and (after.root - chord.root) % 12 == 5 and is_minor(after):
        return "dominant_to_minor"
    if chord.quality in ("7b9b13", "7#9b13", "7b9"):
        return "dominant_to_minor"
    return kind
