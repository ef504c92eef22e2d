"""What the right hand answers where the melody leaves room: runs, arpeggios, octave calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from plagal.music.chords import Chord
from plagal.music.leadsheet import LeadSheet, Section, Span
from plagal.music.styles import Style
from plagal.music.tunebook import MelodyNote

_MAJOR_PENTATONIC = (0, 2, 4, 7, 9)
_MINOR_PENTATONIC = (0, 3, 5, 7, 10)
LOWEST_FILL, HIGHEST_FILL = 62, 88
WIDEST_FILL = 12
"""Semitones above the melody where an arpeggio turns back."""


def fill(
    spans: Sequence[Span], start: int, end: int, pitch: int, lead: LeadSheet, section: Section, style: Style, rng: random.Random
) -> list[MelodyNote]:
    """Notes for [start, end) of one of the style's kinds, beginning near `pitch`; may be none."""
    if not spans or not style.fills:
        return []
    kind = rng.choices(list(style.fills), list(style.fills.values()))[0]
    return _KINDS[kind](spans, start, end, pitch, lead, section, rng)


def _chord_at(spans: Sequence[Span], tick: int) -> Chord:
    for span in spans:
        if tick < span.end:
            return span.chord
    return spans[-1].chord


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
    return min((key for key in range(pitch - 6, pitch + 7) if key % 12 in tones), key=lambda key: (abs(key - pitch), key))


def _grid(start: int, end: int, lead: LeadSheet, fine: bool) -> list[tuple[int, int]]:
    """Onsets and lengths: thirds of the beat where the feel is swung or compound, halves or quarters where straight."""
    if lead.beat == 36:
        step = 6 if fine else 12
    elif lead.swing:
        step = 4 if fine else 8
    else:
        step = 6 if fine else 12
    return [(tick, step) for tick in range(start, end, step)]


def _run(
    spans: Sequence[Span], start: int, end: int, pitch: int, lead: LeadSheet, section: Section, rng: random.Random
) -> list[MelodyNote]:
    """A run of scale tones, up then down or the other way about."""
    slots = _grid(start, end, lead, fine=section.level >= 3 and rng.random() < 0.4)
    direction = 1 if pitch < 74 else -1
    turn = rng.randrange(len(slots) // 2, len(slots) + 1)
    at, notes = pitch, []
    for number, (onset, ticks) in enumerate(slots):
        step = direction if number < turn else -direction
        scale = scale_of(_chord_at(spans, onset), section)
        at += step
        while at % 12 not in scale:
            at += step
        if not LOWEST_FILL <= at <= HIGHEST_FILL:
            break
        notes.append((onset, at, ticks))
    return notes


def _arpeggio(
    spans: Sequence[Span], start: int, end: int, pitch: int, lead: LeadSheet, section: Section, rng: random.Random
) -> list[MelodyNote]:
    """Chord tones upward from the melody, and down again."""
    at, step, notes = pitch, 1, []
    for onset, ticks in _grid(start, end, lead, fine=False):
        tones = _chord_at(spans, onset).pitch_classes
        at += 2 * step
        while at % 12 not in tones:
            at += step
        if at > min(HIGHEST_FILL, pitch + WIDEST_FILL):
            step = -1
            at -= 3
            while at % 12 not in tones:
                at -= 1
        notes.append((onset, at, ticks))
    return notes


def _blue(
    spans: Sequence[Span], start: int, end: int, pitch: int, lead: LeadSheet, section: Section, rng: random.Random
) -> list[MelodyNote]:
    """A falling line of the blues scale that comes to rest on a chord tone."""
    scale = {(section.tonic + step) % 12 for step in (0, 3, 5, 6, 7, 10)}
    at, notes = pitch + 4, []
    slots = _grid(start, end, lead, fine=False)
    for number, (onset, ticks) in enumerate(slots):
        wanted = _chord_at(spans, onset).pitch_classes if number in (0, len(slots) - 1) else scale
        at -= 1
        while at % 12 not in wanted:
            at -= 1
        if at < LOWEST_FILL:
            break
        notes.append((onset, at, ticks))
    return notes


def _answer(
    spans: Sequence[Span], start: int, end: int, pitch: int, lead: LeadSheet, section: Section, rng: random.Random
) -> list[MelodyNote]:
    """The congregation's answer: the same chord tone struck off and on the beat, then the next one down."""
    tones = _chord_at(spans, start).pitch_classes
    at = pitch + 3
    while at % 12 not in tones:
        at += 1
    if at > HIGHEST_FILL:
        return []
    off = start + lead.offset(0.5)
    notes = [(start, at, off - start), (off, at, start + lead.beat - off)]
    if end - start >= 2 * lead.beat:
        lower = at - 1
        tones = _chord_at(spans, start + lead.beat).pitch_classes
        while lower % 12 not in tones:
            lower -= 1
        notes.append((start + lead.beat, lower, lead.beat))
    return notes


_Kind = Callable[[Sequence[Span], int, int, int, LeadSheet, Section, random.Random], list[MelodyNote]]
_KINDS: dict[str, _Kind] = {"run": _run, "arpeggio": _arpeggio, "answer": _answer, "blue": _blue}
