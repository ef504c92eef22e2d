"""What the right hand answers where the melody leaves room: runs, arpeggios, octave calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plagal.music.arranger.leadsheet import QUARTER, LeadSheet, Section, Span
from plagal.music.arranger.styles import Style
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.chords import Chord

_BLUES_SCALE = (0, 3, 5, 6, 7, 10)
_FINE_CHANCE = 0.4
"""How often a run goes twice as fast where the section is loud."""
_MIDDLE = 74
"""Runs go up from below here, down from above."""
_MAJOR_PENTATONIC = (0, 2, 4, 7, 9)
_MINOR_PENTATONIC = (0, 3, 5, 7, 10)
LOWEST_FILL, HIGHEST_FILL = 62, 88
WIDEST_FILL = 12
"""Semitones above the melody where an arpeggio turns back."""


@dataclass(frozen=True)
class Gap:
    """Room for a fill: [start, end) in ticks, under it some chords, before it a melody note."""

    start: int
    end: int
    pitch: int
    """Of the melody note that leads into it."""
    spans: Sequence[Span]
    lead: LeadSheet
    section: Section
    rng: random.Random

    def chord_at(self, tick: int) -> Chord:
        return next((span.chord for span in self.spans if tick < span.end), self.spans[-1].chord)

    def slots(self, fine: bool = False) -> list[tuple[int, int]]:
        """Onsets and lengths: thirds of the beat where the feel is swung or compound (sixths if fine), else halves
        (quarters)."""
        step = 12 if self.lead.beat > QUARTER or not self.lead.swing else 8
        step = step // 2 if fine else step
        return [(tick, step) for tick in range(self.start, self.end, step)]


def fill(gap: Gap, style: Style) -> list[MelodyNote]:
    """Notes for the gap, of one of the style's kinds; may be none."""
    if not gap.spans or not style.fills:
        return []
    return _KINDS[gap.rng.choices(list(style.fills), list(style.fills.values()))[0]](gap)


def scale_of(chord: Chord, section: Section) -> frozenset[int]:
    """Pitch classes for a run: the key's pentatonic where the chord agrees with it, else the chord's own tones."""
    shape = _MINOR_PENTATONIC if section.minor else _MAJOR_PENTATONIC
    pentatonic = {(section.tonic + step) % 12 for step in shape}
    clash = {(tone + 1) % 12 for tone in chord.pitch_classes} | {(tone - 1) % 12 for tone in chord.pitch_classes}
    usable = (pentatonic - clash) | chord.pitch_classes
    return frozenset(usable)


def nearest_tone(chord: Chord, pitch: int) -> int:
    """The key of the chord nearest to `pitch`, the lower in a tie."""
    tones = chord.pitch_classes
    near = (key for key in range(pitch - 6, pitch + 7) if key % 12 in tones)
    return min(near, key=lambda key: (abs(key - pitch), key))


def _run(gap: Gap) -> list[MelodyNote]:
    """A run of scale tones, up then down or the other way about."""
    slots = gap.slots(fine=gap.section.level >= 3 and gap.rng.random() < _FINE_CHANCE)
    direction = 1 if gap.pitch < _MIDDLE else -1
    turn = gap.rng.randrange(len(slots) // 2, len(slots) + 1)
    at, notes = gap.pitch, []
    for number, (onset, ticks) in enumerate(slots):
        step = direction if number < turn else -direction
        scale = scale_of(gap.chord_at(onset), gap.section)
        at += step
        while at % 12 not in scale:
            at += step
        if not LOWEST_FILL <= at <= HIGHEST_FILL:
            break
        notes.append((onset, at, ticks))
    return notes


def _arpeggio(gap: Gap) -> list[MelodyNote]:
    """Chord tones upward from the melody, and down again."""
    at, step, notes = gap.pitch, 1, []
    for onset, ticks in gap.slots():
        chord = gap.chord_at(onset)
        at = _next_tone(chord, at + 2 * step, step)
        if at > min(HIGHEST_FILL, gap.pitch + WIDEST_FILL):
            step = -1
            at = _next_tone(chord, at - 3, -1)
        notes.append((onset, at, ticks))
    return notes


def _blue(gap: Gap) -> list[MelodyNote]:
    """A falling line of the blues scale that comes to rest on a chord tone."""
    scale = {(gap.section.tonic + step) % 12 for step in _BLUES_SCALE}
    at, notes = gap.pitch + 4, []
    slots = gap.slots()
    for number, (onset, ticks) in enumerate(slots):
        wanted = gap.chord_at(onset).pitch_classes if number in (0, len(slots) - 1) else scale
        at -= 1
        while at % 12 not in wanted:
            at -= 1
        if at < LOWEST_FILL:
            break
        notes.append((onset, at, ticks))
    return notes


def _answer(gap: Gap) -> list[MelodyNote]:
    """The congregation's answer: the same chord tone struck off and on the beat, then the next one down."""
    beat = gap.lead.beat
    at = _next_tone(gap.chord_at(gap.start), gap.pitch + 3, 1)
    if at > HIGHEST_FILL:
        return []
    off = gap.start + gap.lead.offset(0.5)
    notes = [(gap.start, at, off - gap.start), (off, at, gap.start + beat - off)]
    if gap.end - gap.start >= 2 * beat:
        notes.append((gap.start + beat, _next_tone(gap.chord_at(gap.start + beat), at - 1, -1), beat))
    return notes


def _next_tone(chord: Chord, pitch: int, step: int) -> int:
    """The first key of the chord from `pitch` on, upward or downward."""
    while pitch % 12 not in chord.pitch_classes:
        pitch += step
    return pitch


_KINDS: dict[str, Callable[[Gap], list[MelodyNote]]] = {
    "run": _run,
    "arpeggio": _arpeggio,
    "answer": _answer,
    "blue": _blue,
}
