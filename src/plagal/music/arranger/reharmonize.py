"""Gospel harmony over a plain hymn's chords: devices that put new chords in a span, and colours that extend them.

Both are kept only where the melody bears them.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache

from plagal.music.arranger.devices import DEVICES, Part, Site, is_minor
from plagal.music.arranger.harmony_grammar import family, weight
from plagal.music.arranger.leadsheet import LeadSheet, Section, Span
from plagal.music.arranger.styles import Style
from plagal.music.chords import QUALITIES, Chord
from plagal.music.keys import key_of

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


class Melody:
    """What sounds of the melody in a stretch of time, found fast."""

    def __init__(self, lead: LeadSheet) -> None:
        self._notes = sorted(lead.melody)
        self._onsets = [note[0] for note in self._notes]
        self._beat = lead.beat

    def weights(self, start: int, end: int) -> dict[int, float]:
        """Pitch class -> ticks sounding in [start, end); notes that pass quickly off the beat weigh a quarter."""
        found: dict[int, float] = {}
        first = max(0, bisect_left(self._onsets, start) - 1)
        for onset, pitch, ticks in self._notes[first : bisect_left(self._onsets, end)]:
            inside = min(end, onset + ticks) - max(start, onset)
            if inside > 0:
                passing = ticks < self._beat and onset % self._beat
                found[pitch % 12] = found.get(pitch % 12, 0.0) + inside * (_PASSING if passing else 1.0)
        return found


def _sites(lead: LeadSheet, spans: Sequence[Span], rng: random.Random) -> list[Site]:
    sites = []
    for number, span in enumerate(spans):
        section = lead.section_at(span.onset)
        after = spans[number + 1].chord if number + 1 < len(spans) else None
        sites.append(Site(span, after, span.ticks // lead.beat, section, rng))
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
    for site in _sites(lead, spans, rng):
        before = done[-1].chord if done else None
        # The last chord stands still.
        free = site.section.sung and site.after is not None
        done.extend(_try_devices(site, before, lead, style, melody, rng) if free else [site.span])
    return done


def _try_devices(
    site: Site, before: Chord | None, lead: LeadSheet, style: Style, melody: Melody, rng: random.Random
) -> list[Span]:
    for name, chance in style.devices.items():
        if rng.random() >= chance:
            continue
        parts = DEVICES[name](site)
        if parts is None:
            continue
        spans = _to_spans(parts, site.span.onset, lead.beat)
        if not all(strain(melody.weights(span.onset, span.end), span.chord) <= style.strain for span in spans):
            continue
        if goes_on(
            before, [*(span.chord for span in spans), *([site.after] if site.after else [])], site.section, style
        ):
            return spans
    return [site.span]


def goes_on(before: Chord | None, chords: Sequence[Chord], section: Section, style: Style) -> bool:
    """Whether the grammar lets each chord follow the one before it."""
    key = key_of(section.tonic, section.minor)
    for chord in chords:
        if before is not None and not weight(chord, before, key, style.name, lifts=True):
            return False
        before = chord
    return True


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


def colour(
    lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random, *, keep: bool = False
) -> list[Span]:
    """Extends each chord by the style's colours, as far as the melody bears them and the grammar lets them stand
    between their neighbours. A held melody note that a colour holds speaks for that colour, since the ear hears it as
    part of the chord. `keep` leaves the chords under the tune as they are."""
    melody = Melody(lead)
    coloured: list[Span] = []
    for number, span in enumerate(spans):
        after = spans[number + 1].chord if number + 1 < len(spans) else None
        section = lead.section_at(span.onset)
        chord = span.chord
        before = coloured[-1].chord if coloured else None
        if (section.sung and not keep) or (not section.sung and chord.quality in ("maj", "min")):
            chord = _coloured(span, before, after, section, melody.weights(span.onset, span.end), style, rng)
        if (
            not (keep and section.sung)
            and coloured
            and coloured[-1].chord.root == chord.root
            and coloured[-1].chord.bass == chord.bass
        ):
            previous = coloured[-1].chord
            same_family = family(previous.quality) == family(chord.quality)
            if same_family and strain(melody.weights(span.onset, span.end), previous) <= style.strain:
                chord = previous
        coloured.append(Span(span.onset, span.end, chord))
    return coloured


_LONG_IN_CHORD, _RUBBING = 0.35, 0.1
"""Share of the chord's time from which on a melody note is held against it, and what is left of a colour with a tone a
semitone under that note: the major seventh under its own root is the rub that every pianist avoids."""

_OVER_BASS = ("maj", "min", "dom7", "min7")
"""Qualities that stay clear over another bass than their root."""


def _coloured(
    span: Span,
    before: Chord | None,
    after: Chord | None,
    section: Section,
    melody: Mapping[int, float],
    style: Style,
    rng: random.Random,
) -> Chord:
    chord = span.chord
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
    if (
        not fitting
        and family(chord.quality) in ("dominant", "major")
        and goes_on(None, [plain, *following], section, style)
    ):
        return plain  # V before IV is not a dominant
    choices = fitting or choices
    if not choices:
        return chord
    return rng.choices([choice for choice, _ in choices], [share for _, share in choices])[0]


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
