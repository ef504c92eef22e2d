"""The right hand's top line where the tune is silent, and what it adds to the tune: ornaments, riffs, fills."""

from __future__ import annotations

import random
from collections.abc import Sequence

from plagal.music.arranger.fills import Gap, fill, nearest_tone, scale_of, tremolo
from plagal.music.arranger.leadsheet import LeadSheet, Section, Span
from plagal.music.arranger.styles import Style
from plagal.music.arranger.tunebook import MelodyNote

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
            inside = [span for span in spans if section.first * lead.bar <= span.onset < section.end * lead.bar]
            taken = [note for note in line if section.first * lead.bar <= note[0] < section.end * lead.bar]
            until = min((note[0] for note in taken), default=section.end * lead.bar)
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
    tune = sorted(lead.melody)
    done: list[MelodyNote] = []
    at = 0
    for number, (onset, pitch, ticks) in enumerate(tune):
        while at + 1 < len(spans) and spans[at].end <= onset:
            at += 1
        chord = spans[at].chord
        if done and rng.random() < style.crush and ticks >= lead.beat // 2 and _is_third(pitch, chord.root):
            last = done[-1]
            if last[0] + last[2] == onset and last[2] > 2 * _CRUSH_TICKS and last[1] != pitch - 1:
                done[-1] = (last[0], last[1], last[2] - _CRUSH_TICKS)
                done.append((onset - _CRUSH_TICKS, pitch - 1, _CRUSH_TICKS))
        following = tune[number + 1] if number + 1 < len(tune) else None
        led = _neighbour(lead, (onset, pitch, ticks), following, spans[at]) if rng.random() < style.ornament else None
        if led is None:
            done.append((onset, pitch, ticks))
        else:
            done += [(onset, pitch, led[0] - onset), led]
    return done


def _is_third(pitch: int, root: int) -> bool:
    return (pitch - root) % 12 == 4


def _neighbour(lead: LeadSheet, note: MelodyNote, following: MelodyNote | None, span: Span) -> MelodyNote | None:
    """A scale tone on the last part of the note's last beat, a step from the next note."""
    onset, pitch, ticks = note
    if following is None or onset + ticks != following[0] or ticks < lead.beat or following[0] % lead.beat:
        return None
    interval = following[1] - pitch
    if abs(interval) > 7 or interval == 0:
        return None
    scale = scale_of(span.chord, lead.section_at(onset))
    step = -1 if interval > 0 else 1
    between = following[1] + step
    while between % 12 not in scale:
        between += step
    start = following[0] - lead.beat + lead.offset(0.5)
    if between == pitch or start <= onset:
        return None
    return (start, between, following[0] - start)


def _chord_line(spans: Sequence[Span]) -> list[MelodyNote]:
    """One tone for each chord, nearest to the one before."""
    line: list[MelodyNote] = []
    at = _LINE_CENTRE
    for span in spans:
        at = nearest_tone(span.chord, round(at * 0.7 + _LINE_CENTRE * 0.3))
        line.append((span.onset, at, span.ticks))
    return line


def _riffs(
    lead: LeadSheet, section: Section, spans: Sequence[Span], style: Style, rng: random.Random
) -> list[MelodyNote]:
    """Call and response: one rhythm high in each odd bar, another lower in each even bar, on tones of the chords."""
    call = style.riffs[rng.randrange(len(style.riffs))]
    response = style.riffs[rng.randrange(len(style.riffs))]
    line: list[MelodyNote] = []
    for bar in range(section.first, section.end):
        calling = (bar - section.first) % 2 == 0
        centre = _RIFF_CENTRE if calling else _RIFF_CENTRE - 5
        at = centre
        for beat, length in call if calling else response:
            if beat >= lead.beats_per_bar:
                continue
            onset = bar * lead.bar + int(beat) * lead.beat + lead.offset(beat % 1)
            end = min((bar + 1) * lead.bar, onset + max(lead.beat // 3, round(length * lead.beat)))
            span = next((span for span in spans if span.onset <= onset < span.end), None)
            if span is not None:
                at = nearest_tone(span.chord, round((at + centre) / 2))
                line.append((onset, at, end - onset))
    return [
        (onset, pitch, min(ticks, following[0] - onset))
        for (onset, pitch, ticks), following in zip(line, [*line[1:], (section.end * lead.bar, 0, 0)], strict=True)
    ]


def _with_fills(
    line: list[MelodyNote], lead: LeadSheet, spans: Sequence[Span], style: Style, rng: random.Random
) -> list[MelodyNote]:
    """Where the line holds or rests for two beats or more, the right hand may answer."""
    filled: list[MelodyNote] = []
    last_bar = lead.end - lead.bar
    for number, note in enumerate(line):
        onset, pitch, ticks = note
        next_onset = line[number + 1][0] if number + 1 < len(line) else lead.end
        start = onset + max(lead.beat, ticks // 2 // lead.beat * lead.beat)
        start = -(-start // lead.beat) * lead.beat
        beats = min(3, (next_onset - start) // lead.beat)
        section = lead.section_at(start)
        chance = style.fill_chance * (0.5 + 0.2 * section.level)
        if beats < 1 or ticks < lead.beat or section.riff or onset >= last_bar or rng.random() > chance:
            filled.append(note)
            continue
        end = start + beats * lead.beat
        under = [span for span in spans if span.onset < end and span.end > start]
        extra = fill(Gap(start, end, pitch, under, lead, section, rng), style)
        filled.append((onset, pitch, min(ticks, start - onset) if extra else ticks))
        filled.extend(extra)
    return sorted(filled)
