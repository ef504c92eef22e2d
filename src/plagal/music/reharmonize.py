"""Gospel harmony over a plain hymn's chords: devices that put new chords in a span, and colours that extend them.

A device takes one span, the next one and the key, and returns spans that fill the same time, or nothing where it does
not apply. It is kept only where the melody bears it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from plagal.music.chords import QUALITIES, Chord
from plagal.music.leadsheet import LeadSheet, Section, Span
from plagal.music.styles import Style

Part = tuple[int, int, str, int]
"""Beats, root, quality, bass."""


@cache
def family(quality: str) -> str:
    """ "major", "minor", "dominant", "suspended", "diminished", "half" or "augmented"."""
    tones = set(QUALITIES[quality])
    if quality in ("halfdim7",):
        return "half"
    if quality in ("dim", "dim7"):
        return "diminished"
    if quality in ("aug", "maj7#5"):
        return "augmented"
    if 4 not in tones and 3 not in tones:
        return "suspended"
    if 10 in tones and 4 in tones:
        return "dominant"
    return "major" if 4 in tones else "minor"


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
    tensions = set(_TENSIONS[family(chord.quality)])
    tones = set(QUALITIES[chord.quality])
    if family(chord.quality) == "dominant" and tones & {1, 3, 8}:
        tensions -= {2, 9}
    if 9 in tones or 10 in tones:
        tensions.discard(11)
    return frozenset((chord.root + step) % 12 for step in tones | tensions)


def strain(melody: Mapping[int, float], chord: Chord) -> float:
    """Share of the melody's weight (pitch class -> ticks) that the chord cannot bear, 0 to 1."""
    total = sum(melody.values())
    if not total:
        return 0.0
    bearable = _bearable(chord)
    return sum(weight for pitch_class, weight in melody.items() if pitch_class not in bearable) / total


@dataclass
class _Site:
    """A span, the next chord, and the key it stands in."""

    span: Span
    after: Chord | None
    beats: int
    section: Section
    is_last_of_section: bool

    @property
    def degree(self) -> int:
        return (self.span.chord.root - self.section.tonic) % 12


def _keep(site: _Site, beats: int) -> Part:
    chord = site.span.chord
    return (beats, chord.root, chord.quality, chord.bass)


def _part(beats: int, root: int, quality: str, bass: int | None = None) -> Part:
    return (beats, root % 12, quality, (root if bass is None else bass) % 12)


def _is_minor(chord: Chord) -> bool:
    return family(chord.quality) in ("minor", "half")


def two_five(site: _Site) -> list[Part] | None:
    """V -> ii V; a dominant that falls a fifth is shared between its two and itself."""
    chord, after = site.span.chord, site.after
    goes_home = after is not None and (after.root - chord.root) % 12 == 5
    if not goes_home or after is None or site.beats < 2 or _is_minor(chord):
        return None
    first = site.beats // 2
    two = "halfdim7" if _is_minor(after) else "min7"
    return [_part(first, chord.root + 7, two), _part(site.beats - first, chord.root, "dom7")]


def secondary_dominant(site: _Site) -> list[Part] | None:
    """The next chord's own dominant takes the end of this span."""
    after = site.after
    if after is None or site.beats < 2 or after.root == site.span.chord.root or family(after.quality) == "diminished":
        return None
    five = (after.root + 7) % 12
    if five == site.span.chord.root:
        return None
    last = 2 if site.beats >= 4 else 1
    if site.beats >= 4 and not _is_minor(after):
        return [_keep(site, site.beats - 2), _part(1, five + 7, "min7"), _part(1, five, "dom7")]
    return [_keep(site, site.beats - last), _part(last, five, "dom7")]


def seven_three_six(site: _Site) -> list[Part] | None:
    """7-3-6: the half-diminished seventh degree and the third degree's dominant lead to the sixth, or on to two."""
    tonic, after = site.section.tonic, site.after
    if after is None or site.section.minor or site.degree not in (0, 5):
        return None
    step = (after.root - tonic) % 12
    if step == 9 and site.beats >= 3:
        return [_keep(site, site.beats - 2), _part(1, tonic + 11, "halfdim7"), _part(1, tonic + 4, "7b9b13")]
    if step == 2 and site.beats >= 4:
        three_six = [_part(1, tonic + 4, "7b9b13"), _part(1, tonic + 9, "7b9")]
        return [_keep(site, site.beats - 3), _part(1, tonic + 11, "halfdim7"), *three_six]
    return None


def passing_diminished(site: _Site) -> list[Part] | None:
    """A diminished seventh on the semitone between two roots a tone apart, or under the rise from IV to I/5."""
    after = site.after
    if after is None or site.beats < 2 or site.span.chord.bass != site.span.chord.root:
        return None
    rise = (after.bass - site.span.chord.root) % 12
    home_from_four = site.degree == 5 and (after.root - site.section.tonic) % 12 == 0
    if rise == 2 or home_from_four:
        return [_keep(site, site.beats - 1), _part(1, site.span.chord.root + 1, "dim7")]
    if rise == 10 and _is_minor(after):
        return [_keep(site, site.beats - 1), _part(1, site.span.chord.root - 1, "dim7")]
    return None


def tritone_substitution(site: _Site) -> list[Part] | None:
    """A dominant that falls a fifth lets the dominant a tritone away slide down a semitone in its place."""
    chord, after = site.span.chord, site.after
    if after is None or (after.root - chord.root) % 12 != 5 or family(chord.quality) not in ("dominant", "major"):
        return None
    if site.beats == 1:
        return [_part(1, chord.root + 6, "dom9")] if family(chord.quality) == "dominant" else None
    last = max(1, site.beats // 2)
    return [_part(site.beats - last, chord.root, "dom7"), _part(last, chord.root + 6, "dom9")]


def walk_up(site: _Site) -> list[Part] | None:
    """The bass climbs 1-2-3 to a chord a fourth above, each step with its own chord."""
    chord, after = site.span.chord, site.after
    if after is None or (after.root - chord.root) % 12 != 5 or site.beats < 3 or _is_minor(chord):
        return None
    if chord.bass != chord.root:
        return None
    return [_keep(site, site.beats - 2), _part(1, chord.root + 2, "min7"), _part(1, chord.root, "maj", chord.root + 4)]


def walk_down(site: _Site) -> list[Part] | None:
    """The bass falls 1-7-6: a dominant over its third between two chords a third apart."""
    chord, after = site.span.chord, site.after
    if after is None or (chord.root - after.root) % 12 != 3 or site.beats < 2 or family(chord.quality) != "major":
        return None
    return [_keep(site, site.beats - 1), _part(1, chord.root + 7, "maj", chord.root + 11)]


def suspension(site: _Site) -> list[Part] | None:
    """A dominant is held back by its suspended form."""
    chord = site.span.chord
    if family(chord.quality) != "dominant" or site.beats < 2:
        return None
    first = site.beats // 2
    return [_part(first, chord.root, "9sus"), _part(site.beats - first, chord.root, "dom7")]


def _four_to_one(site: _Site) -> bool:
    goes_home = site.after is not None and site.after.root == site.section.tonic
    return goes_home and site.degree == 5 and not site.section.minor and site.beats >= 2


def minor_plagal(site: _Site) -> list[Part] | None:
    """IV turns minor before I."""
    if not _four_to_one(site):
        return None
    last = max(1, site.beats // 2)
    return [_keep(site, site.beats - last), _part(last, site.span.chord.root, "min6")]


def backdoor(site: _Site) -> list[Part] | None:
    """IV-I by way of bVII9."""
    if not _four_to_one(site):
        return None
    last = max(1, site.beats // 2)
    return [_keep(site, site.beats - last), _part(last, site.section.tonic + 10, "dom9")]


_TURNAROUNDS: tuple[tuple[tuple[int, str], ...], ...] = (
    ((0, "maj"), (9, "7b9"), (2, "min7"), (7, "dom7")),
    ((0, "maj"), (9, "min7"), (2, "min7"), (7, "9sus")),
    ((0, "maj"), (3, "dim7"), (2, "min7"), (7, "dom7")),
    ((4, "7#9b13"), (9, "7b9"), (2, "min7"), (7, "dom7")),
)


def turnaround(site: _Site) -> list[Part] | None:
    """A tonic with nothing else to do before the next phrase goes round by 6-2-5."""
    after, tonic = site.after, site.section.tonic
    if site.degree != 0 or site.section.minor or after is None or site.beats < 4 or site.beats % 4:
        return None
    if (after.root - tonic) % 12 not in (0, 5):
        return None
    each = site.beats // 4
    kind = _TURNAROUNDS[(site.span.onset // 24 + tonic) % len(_TURNAROUNDS)]
    return [_part(each, tonic + step, quality) for step, quality in kind]


def plagal_rock(site: _Site) -> list[Part] | None:
    """I-IV-I: the tonic rocks to four and back by a slash chord."""
    if site.degree != 0 or site.beats < 4 or site.section.minor:
        return None
    tonic = site.section.tonic
    return [_keep(site, site.beats - 2), _part(1, tonic + 5, "maj", tonic), _part(1, tonic, "maj")]


Device = Callable[[_Site], "list[Part] | None"]

DEVICES: dict[str, Device] = {
    "two_five": two_five,
    "secondary_dominant": secondary_dominant,
    "seven_three_six": seven_three_six,
    "passing_diminished": passing_diminished,
    "tritone_substitution": tritone_substitution,
    "walk_up": walk_up,
    "walk_down": walk_down,
    "suspension": suspension,
    "minor_plagal": minor_plagal,
    "backdoor": backdoor,
    "turnaround": turnaround,
    "plagal_rock": plagal_rock,
}


class Melody:
    """What sounds of the melody in a stretch of time, found fast."""

    def __init__(self, lead: LeadSheet) -> None:
        self._notes = sorted(lead.melody)
        self._beat = lead.beat

    def weights(self, start: int, end: int) -> dict[int, float]:
        """Pitch class -> ticks sounding in [start, end); notes that pass quickly off the beat weigh a quarter."""
        found: dict[int, float] = {}
        for onset, pitch, ticks in self._notes:
            if onset >= end:
                break
            inside = min(end, onset + ticks) - max(start, onset)
            if inside > 0:
                passing = ticks < self._beat and onset % self._beat
                found[pitch % 12] = found.get(pitch % 12, 0.0) + inside * (0.25 if passing else 1.0)
        return found


def _sites(lead: LeadSheet, spans: Sequence[Span]) -> list[_Site]:
    sites = []
    for number, span in enumerate(spans):
        section = lead.section_at(span.onset)
        after = spans[number + 1].chord if number + 1 < len(spans) else None
        last = span.end >= section.end * lead.bar
        sites.append(_Site(span, after, span.ticks // lead.beat, section, last))
    return sites


def _to_spans(parts: Sequence[Part], onset: int, beat: int) -> list[Span]:
    spans = []
    for beats, root, quality, bass in parts:
        if beats:
            spans.append(Span(onset, onset + beats * beat, Chord(root, quality, bass)))
            onset += beats * beat
    return spans


def apply_devices(lead: LeadSheet, style: Style, rng: random.Random) -> list[Span]:
    """Spans of the lead sheet with the style's devices worked in, triads still."""
    melody = Melody(lead)
    spans = _split_at_bars(lead)
    done: list[Span] = []
    for site in _sites(lead, spans):
        done.extend(_try_devices(site, lead, style, melody, rng) if site.section.sung else [site.span])
    return done


def _try_devices(site: _Site, lead: LeadSheet, style: Style, melody: Melody, rng: random.Random) -> list[Span]:
    for name, chance in style.devices.items():
        if rng.random() >= chance:
            continue
        parts = DEVICES[name](site)
        if parts is None:
            continue
        spans = _to_spans(parts, site.span.onset, lead.beat)
        if all(strain(melody.weights(span.onset, span.end), span.chord) <= style.strain for span in spans):
            return spans
    return [site.span]


def _split_at_bars(lead: LeadSheet) -> list[Span]:
    """Long spans in pieces of at most one bar, so that devices find room in every phrase."""
    pieces = []
    for span in lead.spans:
        start = span.onset
        while start < span.end:
            end = min(span.end, (start // lead.bar + 1) * lead.bar)
            pieces.append(Span(start, end, span.chord))
            start = end
    return pieces


def colour(lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random) -> list[Span]:
    """Extends each chord by the style's colours, as far as the melody bears them. A held melody note that a colour
    holds speaks for that colour, since the ear hears it as part of the chord."""
    melody = Melody(lead)
    coloured: list[Span] = []
    for number, span in enumerate(spans):
        after = spans[number + 1].chord if number + 1 < len(spans) else None
        section = lead.section_at(span.onset)
        chord = span.chord
        if section.sung or chord.quality in ("maj", "min"):
            chord = _coloured(span, after, section, melody.weights(span.onset, span.end), style, rng)
        if coloured and coloured[-1].chord.root == chord.root and coloured[-1].chord.bass == chord.bass:
            previous = coloured[-1].chord
            same_family = family(previous.quality) == family(chord.quality)
            if same_family and strain(melody.weights(span.onset, span.end), previous) <= style.strain:
                chord = previous
        coloured.append(Span(span.onset, span.end, chord))
    return coloured


_OVER_BASS = ("maj", "min", "dom7", "min7")
"""Qualities that stay clear over another bass than their root."""


def _coloured(
    span: Span, after: Chord | None, section: Section, melody: Mapping[int, float], style: Style, rng: random.Random
) -> Chord:
    chord = span.chord
    options = style.colours.get(_function(chord, after, section), {})
    if chord.bass != chord.root:
        options = {quality: weight for quality, weight in options.items() if quality in _OVER_BASS}
    total = sum(melody.values()) or 1.0
    choices: list[tuple[Chord, float]] = []
    for quality, weight in options.items():
        candidate = Chord(chord.root, quality, chord.bass)
        if strain(melody, candidate) > style.strain:
            continue
        held = sum(ticks for pc, ticks in melody.items() if pc in candidate.pitch_classes) / total
        choices.append((candidate, weight * (0.15 + held) ** 3))
    if not choices:
        return chord
    return rng.choices([choice for choice, _ in choices], [weight for _, weight in choices])[0]


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
    if kind == "dominant" and after is not None and (after.root - chord.root) % 12 == 5 and _is_minor(after):
        return "dominant_to_minor"
    if chord.quality in ("7b9b13", "7#9b13", "7b9"):
        return "dominant_to_minor"
    return kind
