"""How loud and how long it rings: velocities by section and voice, the pedal, the slowing at the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from plagal.music.arranger.leadsheet import LeadSheet, Span
from plagal.music.hands import ROLL_TICKS
from plagal.music.score import Notes, Pedal, Tempo

VELOCITIES = (20, 35, 50, 65, 80, 95, 110, 125)
"""Those that the words can tell apart."""

BASS, MELODY, INNER = 0, 1, -1

_SLOWER_IN_OUTRO, _SLOWEST = 0.93, 0.82
"""Tempo of the ending's first bar and of its last, as a share of the piece's."""

_LONG_ENOUGH_TO_SLOW = 4
"""Bars: a shorter piece is an example, not a performance."""


def velocity(lead: LeadSheet, tick: int, voice: int) -> int:
    """By the section's level; every third bar of four swells."""
    section = lead.section_at(tick)
    bar_in_phrase = (tick // lead.bar - section.first) % 4
    swell = 1 if bar_in_phrase == 2 and section.level < 4 else 0
    return VELOCITIES[min(7, max(0, section.level + 1 + voice + swell))]


def pedals(notes: Notes, lead: LeadSheet, spans: Sequence[Span], how: str) -> tuple[Pedal, ...]:
    """Down with each chord ("chord") or bar ("bar") of two beats or more, up at the last note struck before the next
    or, where the chord is rolled, with the next itself; so a pedal never needs a moment that no note has. The last
    chord stands under one pedal to the end of its last half beat, in every style but the hymnal's ("none")."""
    if how == "none":
        return ()
    starts = sorted({span.onset for span in spans if how == "chord" or (how == "bar" and span.onset % lead.bar == 0)})
    onsets = np.unique(notes[:, 0])
    found = []
    last = _last_chord(spans)
    starts = [start for start in starts if start < last]
    for start, end in pairwise([*starts, last]):
        inside = onsets[(onsets > start + (end - start) // 2) & (onsets < end)]
        if start + ROLL_TICKS in onsets and start in onsets and end in onsets:
            found += [Pedal(start, "on"), Pedal(end, "off")]
        elif end - start >= lead.beat * 2 and len(inside) and start in onsets:
            found += [Pedal(start, "on"), Pedal(int(inside[-1]), "off")]
    if lead.end - last >= lead.beat and last in onsets:
        found += [Pedal(last, "on"), Pedal(lead.end - lead.beat // 2, "off")]
    return tuple(found)


def _last_chord(spans: Sequence[Span]) -> int:
    """Where the chord that ends the piece begins, whatever its colours."""
    last = spans[-1]
    for span in reversed(spans):
        if (span.chord.root, span.chord.bass) != (last.chord.root, last.chord.bass):
            break
        last = span
    return last.onset


def tempos(lead: LeadSheet, quarters_per_minute: float, slows: bool) -> tuple[Tempo, ...]:
    """Steady, but for an ending that slows down, where the style's does."""
    found = [Tempo(0, quarters_per_minute)]
    last = lead.sections[-1]
    if slows and last.name == "OUTRO":
        found.append(Tempo(last.first * lead.bar, round(quarters_per_minute * _SLOWER_IN_OUTRO, 1)))
        if last.end - last.first > 1:
            found.append(Tempo((last.end - 1) * lead.bar, round(quarters_per_minute * _SLOWEST, 1)))
    elif slows and last.end > _LONG_ENOUGH_TO_SLOW:
        found.append(Tempo((last.end - 1) * lead.bar, round(quarters_per_minute * _SLOWER_IN_OUTRO, 1)))
    return tuple(found)
