"""The right hand's top line where the tune is silent, and what it adds to the tune: ornaments, riffs, and its answers
where the melody leaves room: runs, arpeggios, octave calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from plagal.music.arranger.form import QUARTER, LeadSheet, Section, Span
from plagal.music.arranger.styles import Style
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.arranger.voicing import chord_tone_near
from plagal.music.chords import QUALITIES, Chord

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
        if self.lead.swing and self.lead.swing != 16 and not fine:  # a swing of its own: its two halves
            first, beat = self.lead.swing, QUARTER
            return [
                (tick + place, ticks)
                for tick in range(self.start, self.end, beat)
                for place, ticks in ((0, first), (first, beat - first))
            ]
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
    clash = {(tone + step) % 12 for tone in chord.pitch_classes for step in (1, -1)}
    return chord.pitch_classes | ({(section.tonic + step) % 12 for step in shape} - clash)


def _run(gap: Gap) -> list[MelodyNote]:
    """A run of scale tones, up then down or the other way about."""
    slots = gap.slots(fine=gap.section.level >= 3 and gap.rng.random() < _FINE_CHANCE)
    direction = 1 if gap.pitch < _MIDDLE else -1
    turn = gap.rng.randrange(len(slots) // 2, len(slots) + 1)
    at, notes = gap.pitch, []
    for number, (onset, ticks) in enumerate(slots):
        step = direction if number < turn else -direction
        at = _next_of(scale_of(gap.chord_at(onset), gap.section), at + step, step)
        if not LOWEST_FILL <= at <= HIGHEST_FILL:
            break
        notes.append((onset, at, ticks))
    return notes


def _arpeggio(gap: Gap) -> list[MelodyNote]:
    """Chord tones upward from the melody, and down again."""
    at, step, notes = gap.pitch, 1, []
    for onset, ticks in gap.slots():
        chord = gap.chord_at(onset)
        at = _next_of(chord.pitch_classes, at + 2 * step, step)
        if at > min(HIGHEST_FILL, gap.pitch + WIDEST_FILL):
            step = -1
            at = _next_of(chord.pitch_classes, at - 3, -1)
        notes.append((onset, at, ticks))
    return notes


def _blue(gap: Gap) -> list[MelodyNote]:
    """A falling line of the blues scale that comes to rest on a chord tone."""
    scale = {(gap.section.tonic + step) % 12 for step in _BLUES_SCALE}
    at, notes = gap.pitch + 4, []
    slots = gap.slots()
    for number, (onset, ticks) in enumerate(slots):
        wanted = gap.chord_at(onset).pitch_classes if number in (0, len(slots) - 1) else scale
        at = _next_of(wanted, at - 1, -1)
        if at < LOWEST_FILL:
            break
        notes.append((onset, at, ticks))
    return notes


def _answer(gap: Gap) -> list[MelodyNote]:
    """The congregation's answer: the same chord tone struck off and on the beat, then the next one down."""
    beat = gap.lead.beat
    at = _next_of(gap.chord_at(gap.start).pitch_classes, gap.pitch + 3, 1)
    if at > HIGHEST_FILL:
        return []
    off = gap.start + gap.lead.offset(0.5)
    notes = [(gap.start, at, off - gap.start), (off, at, gap.start + beat - off)]
    if gap.end - gap.start >= 2 * beat:
        notes.append((gap.start + beat, _next_of(gap.chord_at(gap.start + beat).pitch_classes, at - 1, -1), beat))
    return notes


_LICKS: tuple[tuple[int, ...], ...] = (
    (3, 4, 7, 9, 7, 4, 3, 0),
    (7, 6, 5, 3, 4, 0),
    (0, 3, 4, 7, 10, 9, 7, 4),
    (9, 7, 6, 5, 3, 0),
    (12, 10, 9, 7, 6, 5, 4, 0),
)
"""Blues licks in semitones above the root of a major or dominant chord: the blue third slides into the third, the sharp
four falls through the fourth. What every gospel pianist has under the fingers."""
_MINOR_LICKS = ((0, 3, 5, 6, 7, 10, 7, 5), (10, 7, 6, 5, 3, 0), (7, 10, 12, 10, 7, 5, 3, 0))


def _lick(gap: Gap) -> list[MelodyNote]:
    """A blues lick on the chord, near the melody, that ends where the gap does or before."""
    chord = gap.chord_at(gap.start)
    family = _MINOR_LICKS if chord.quality.startswith("min") else _LICKS
    if not {0, 7} <= set(QUALITIES[chord.quality]) or chord.bass not in chord.pitch_classes:
        return _run(gap)  # no lick lies on a diminished chord
    lick = family[gap.rng.randrange(len(family))]
    slots = gap.slots(fine=gap.lead.beat == QUARTER and gap.end - gap.start < 2 * gap.lead.beat)[: len(lick)]
    root = min((key for key in range(60, 82) if key % 12 == chord.root), key=lambda key: abs(key + lick[0] - gap.pitch))
    last = gap.chord_at(slots[-1][0])
    notes = []
    for number, ((onset, ticks), step) in enumerate(zip(slots, lick, strict=False)):
        pitch = root + step
        if number + 1 == len(slots):
            pitch = chord_tone_near(last, pitch)
        if not LOWEST_FILL <= pitch <= HIGHEST_FILL:
            return []
        notes.append((onset, pitch, ticks))
    return notes


def _turn(gap: Gap) -> list[MelodyNote]:
    """A turn round the melody's chord tone: above, on it, below, on it, and held."""
    chord = gap.chord_at(gap.start)
    at = chord_tone_near(chord, gap.pitch)
    scale = scale_of(chord, gap.section)
    above = next(key for key in range(at + 1, at + 5) if key % 12 in scale or key == at + 4)
    step, rest = gap.lead.beat // 6, gap.start + gap.lead.beat
    quick = [(gap.start + number * step, pitch, step) for number, pitch in enumerate((above, at, at - 1))]
    quick.append((gap.start + 3 * step, at, rest - gap.start - 3 * step))
    return quick if gap.end <= rest else [*quick, (rest, chord_tone_near(gap.chord_at(rest), at), gap.end - rest)]


def _shake(gap: Gap) -> list[MelodyNote]:
    """A tremolo on the melody's chord tone."""
    pitch = chord_tone_near(gap.chord_at(gap.start), gap.pitch)
    return tremolo(gap.start, pitch, gap.end - gap.start, gap.spans, gap.lead)


def tremolo(onset: int, pitch: int, ticks: int, spans: Sequence[Span], lead: LeadSheet) -> list[MelodyNote]:
    """A note shaken with a tone of the chord a third to a sixth below it, four strikes a quarter, six where the
    beat is in three."""
    step = 6 if not lead.swing and lead.beat == QUARTER else 4
    notes: list[MelodyNote] = []
    for start in range(onset, onset + ticks, step):
        chord = next((span.chord for span in spans if start < span.end), spans[-1].chord)
        low = _next_of(chord.pitch_classes, pitch - 3, -1)
        notes.append((start, pitch if len(notes) % 2 == 0 else low, min(step, onset + ticks - start)))
    return notes


def _next_of(classes: Set[int], pitch: int, step: int) -> int:
    """The first key of these pitch classes from `pitch` on, upward or downward."""
    while pitch % 12 not in classes:
        pitch += step
    return pitch


_KINDS: dict[str, Callable[[Gap], list[MelodyNote]]] = {
    "run": _run, "arpeggio": _arpeggio, "answer": _answer, "blue": _blue, "lick": _lick, "turn": _turn, "shake": _shake,
}  # fmt: skip


_CRUSH_TICKS = 3
"""A 32nd: the shortest step of the grid."""

_LOUD_ENOUGH_TO_SHAKE = 3
"""Level of a section: in a quiet verse a tremolo is a mandolin."""

_RIFF_CENTRE, _LINE_CENTRE = 75, 71


def complete_line(lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random) -> list[MelodyNote]:
    """The whole top line: the tune with ornaments and fills, riffs in vamps, a line of chord tones elsewhere."""
    line = _ornamented(lead, spans, style, rng)
    for section in lead.sections:
        if not section.sung:
            first, end = section.first * lead.bar, section.end * lead.bar
            inside = [span for span in spans if first <= span.onset < end]
            until = min((note[0] for note in line if first <= note[0] < end), default=end)
            extra = _riffs(lead, section, inside, style, rng) if section.riff else _chord_line(inside)
            line.extend((onset, pitch, min(ticks, until - onset)) for onset, pitch, ticks in extra if onset < until)
    return _shaken(_with_fills(sorted(line), lead, spans, style, rng), lead, spans, style, rng)


def _shaken(
    line: list[MelodyNote], lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random
) -> list[MelodyNote]:
    """Long notes now and then as a tremolo with the chord tone below: how a piano holds a note in a shout."""
    if not style.tremolo:
        return line
    done: list[MelodyNote] = []
    for onset, pitch, ticks in line:
        loud = lead.section_at(onset).level >= _LOUD_ENOUGH_TO_SHAKE
        shakes = ticks >= 2 * lead.beat and onset < lead.end - 2 * lead.bar and rng.random() < style.tremolo and loud
        done += tremolo(onset, pitch, ticks, spans, lead) if shakes else [(onset, pitch, ticks)]
    return done


def _ornamented(lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random) -> list[MelodyNote]:
    """The tune; some notes led to by a neighbour on the last part of the beat before, some crushed into from below."""
    tune = _pushed(sorted(lead.melody), lead, style.push, rng)
    done: list[MelodyNote] = []
    at = 0
    for (onset, pitch, ticks), following in zip_longest(tune, tune[1:]):
        while at + 1 < len(spans) and spans[at].end <= onset:
            at += 1
        chord = spans[at].chord
        if done and rng.random() < style.crush and ticks >= lead.beat // 2 and (pitch - chord.root) % 12 == 4:
            last = done[-1]
            if last[0] + last[2] == onset and last[2] > 2 * _CRUSH_TICKS and last[1] != pitch - 1:
                done[-1] = (last[0], last[1], last[2] - _CRUSH_TICKS)
                done.append((onset - _CRUSH_TICKS, pitch - 1, _CRUSH_TICKS))
        led = _neighbour(lead, (onset, pitch, ticks), following, spans[at]) if rng.random() < style.ornament else None
        done += [(onset, pitch, ticks)] if led is None else [(onset, pitch, led[0] - onset), led]
    return done


def _pushed(tune: list[MelodyNote], lead: LeadSheet, chance: float, rng: random.Random) -> list[MelodyNote]:
    """The tune with notes on the beat struck before it: they cut what they come from, and the last bar stays where it
    is. What comes back is pushed as it was: drawn anew each time, half the bars that returned did so no longer."""
    if not chance:
        return tune
    early, draw = lead.beat - lead.offset(0.5), rng.random()
    done = tune[:1]
    for onset, pitch, ticks in tune[1:]:
        start, before, length = done[-1]
        carries = onset % lead.beat == 0 and ticks >= lead.beat and start < onset - early < lead.end - lead.bar - early
        if carries and random.Random(f"{draw} {onset % lead.bar} {pitch} {ticks}").random() < chance:
            done[-1] = (start, before, min(length, onset - early - start))
            done.append((onset - early, pitch, ticks + early))
        else:
            done.append((onset, pitch, ticks))
    return done


def _neighbour(lead: LeadSheet, note: MelodyNote, following: MelodyNote | None, span: Span) -> MelodyNote | None:
    """A scale tone on the last part of the note's last beat, a step from the next note."""
    onset, pitch, ticks = note
    if following is None or onset + ticks != following[0] or ticks < lead.beat or following[0] % lead.beat:
        return None
    interval = following[1] - pitch
    if abs(interval) > 7 or interval == 0:
        return None
    step = -1 if interval > 0 else 1
    between = _next_of(scale_of(span.chord, lead.section_at(onset)), following[1] + step, step)
    start = following[0] - lead.beat + lead.offset(0.5)
    if between == pitch or start <= onset:
        return None
    return (start, between, following[0] - start)


def _chord_line(spans: Sequence[Span]) -> list[MelodyNote]:
    """One tone for each chord, nearest to the one before."""
    line: list[MelodyNote] = []
    at = _LINE_CENTRE
    for span in spans:
        at = chord_tone_near(span.chord, round(at * 0.7 + _LINE_CENTRE * 0.3))
        line.append((span.onset, at, span.ticks))
    return line


def _riffs(
    lead: LeadSheet, section: Section, spans: Sequence[Span], style: Style, rng: random.Random
) -> list[MelodyNote]:
    """Call and response: one rhythm high in each odd bar, another lower in each even bar, on tones of the chords."""
    call_and_response = [style.riffs[rng.randrange(len(style.riffs))] for _ in range(2)]
    line: list[MelodyNote] = []
    for bar in range(section.first, section.end):
        responding = (bar - section.first) % 2
        at = centre = _RIFF_CENTRE - 5 * responding
        for beat, length in call_and_response[responding]:
            if beat >= lead.beats_per_bar:
                continue
            onset = bar * lead.bar + int(beat) * lead.beat + lead.offset(beat % 1)
            end = min((bar + 1) * lead.bar, onset + max(lead.beat // 3, round(length * lead.beat)))
            span = next((span for span in spans if span.onset <= onset < span.end), None)
            if span is not None:
                at = chord_tone_near(span.chord, round((at + centre) / 2))
                line.append((onset, at, end - onset))
    following = pairwise([*line, (section.end * lead.bar, 0, 0)])
    return [(onset, pitch, min(ticks, end - onset)) for (onset, pitch, ticks), (end, _, _) in following]


def _with_fills(
    line: list[MelodyNote], lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random
) -> list[MelodyNote]:
    """Where the line holds or rests for two beats or more, the right hand may answer."""
    filled: list[MelodyNote] = []
    for (onset, pitch, ticks), (next_onset, _, _) in pairwise([*line, (lead.end, 0, 0)]):
        start = onset + max(lead.beat, ticks // 2 // lead.beat * lead.beat)
        start = -(-start // lead.beat) * lead.beat
        beats = min(3, (next_onset - start) // lead.beat)
        section = lead.section_at(start)
        chance = style.fill_chance * (0.5 + 0.2 * section.level)
        may = beats >= 1 and ticks >= lead.beat and not section.riff and onset < lead.end - lead.bar
        if not may or rng.random() > chance:
            filled.append((onset, pitch, ticks))
            continue
        end = start + beats * lead.beat
        under = [span for span in spans if span.onset < end and span.end > start]
        extra = fill(Gap(start, end, pitch, under, lead, section, rng), style)
        filled.append((onset, pitch, min(ticks, start - onset) if extra else ticks))
        filled.extend(extra)
    return sorted(filled)
