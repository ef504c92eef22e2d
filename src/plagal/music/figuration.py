"""Chords and a melody as two hands: the left hand's figures, the right hand's textures, fills, dynamics, pedal."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from plagal.music.chords import QUALITIES, Chord
from plagal.music.fills import fill
from plagal.music.hands import HandNote
from plagal.music.leadsheet import LeadSheet, Span
from plagal.music.styles import LeftFigure, RightTexture, Style
from plagal.music.tunebook import MelodyNote
from plagal.music.voicing import (
    HIGHEST_SHAPE,
    LARGEST_SPAN,
    LOWEST_SHAPE,
    choose_bass,
    chord_tone_near,
    essential,
    fifth_above,
    place,
    tenth_above,
    wanted,
)

LEVELS = (20, 35, 50, 65, 80, 95, 110, 125)
"""Velocities that the words can tell apart."""


@dataclass(frozen=True)
class Hands:
    left: list[HandNote]
    right: list[HandNote]


class Player:
    """Plays one lead sheet, span by span; remembers where its hands were."""

    def __init__(self, lead: LeadSheet, style: Style, rng: random.Random) -> None:
        self.lead, self.style, self.rng = lead, style, rng
        self.melody = sorted(lead.melody)
        self._onsets = [note[0] for note in self.melody]
        self.left: list[HandNote] = []
        self.right: list[HandNote] = []
        self._bass: int | None = None
        self._shape: tuple[int, ...] = ()
        self._inner: tuple[int, ...] = ()
        self._chosen: dict[tuple[int, str], tuple[LeftFigure, RightTexture]] = {}

    def play(self, spans: Sequence[Span]) -> Hands:
        self._add_fills(spans)
        for number, span in enumerate(spans):
            after = spans[number + 1].chord if number + 1 < len(spans) else None
            figure, texture = self._texture(span.onset)
            under = self._melody_in(span.onset, span.end)
            bass_before = self._bass
            low_notes = self._left_hand(span, after, figure, under)
            self._right_hand(span, texture, under, low_notes, bass_before)
        return Hands(self.left, self.right)

    def _texture(self, onset: int) -> tuple[LeftFigure, RightTexture]:
        """The same figure and texture for four bars of a section at a time."""
        section = self.lead.section_at(onset)
        phrase = (onset // self.lead.bar - section.first) // 4
        key = (section.first * 64 + phrase, section.name)
        if key not in self._chosen:
            figures = [figure for figure in self.style.left if section.level in figure.levels] or list(self.style.left)
            textures = [texture for texture in self.style.right if section.level in texture.levels] or list(self.style.right)
            self._chosen[key] = (
                self.rng.choices(figures, [figure.weight for figure in figures])[0],
                self.rng.choices(textures, [texture.weight for texture in textures])[0],
            )
        return self._chosen[key]

    def _melody_in(self, start: int, end: int) -> list[MelodyNote]:
        """Melody notes that sound in [start, end)."""
        first = max(0, bisect_left(self._onsets, start) - 1)
        found = []
        for note in self.melody[first:]:
            if note[0] >= end:
                break
            if note[0] + note[2] > start:
                found.append(note)
        return found

    def _velocity(self, tick: int, voice: int) -> int:
        """`voice`: 1 melody, 0 bass, -1 inner. The level follows the section, swells within four bars, and stresses the bar."""
        section = self.lead.section_at(tick)
        bar_in_phrase = (tick // self.lead.bar - section.first) % 4
        swell = 1 if bar_in_phrase == 2 and section.level < 4 else 0
        return LEVELS[min(7, max(1, section.level + 1 + voice + swell))]

    # Left hand

    def _left_hand(self, span: Span, after: Chord | None, figure: LeftFigure, melody: Sequence[MelodyNote]) -> list[HandNote]:
        rise = None
        bass = choose_bass(span.chord, self._bass, rise)
        self._bass = bass
        ceiling = min([HIGHEST_SHAPE, *(pitch - 3 for _, pitch, _ in melody)])
        beats = span.ticks // self.lead.beat
        played: list[HandNote] = []
        for beat in range(max(1, beats)):
            events = figure.first if beat == 0 else figure.then[(beat - 1) % len(figure.then)]
            start = span.onset + beat * self.lead.beat
            for part, gesture, length in events:
                onset = start + self.lead.offset(part)
                ticks = min(round(length * self.lead.beat), span.end - onset)
                if onset >= span.end or ticks <= 0:
                    continue
                ticks = self._until_next_part(start, part, length, ticks)
                for pitch in self._gesture(gesture, span.chord, bass, after, ceiling):
                    played.append((onset, pitch, ticks, self._velocity(onset, 0 if beat == 0 and part == 0 else -1)))
        if beats and not any(note[0] == span.onset for note in played):
            played.append((span.onset, bass, span.ticks, self._velocity(span.onset, 0)))
        self.left.extend(played)
        return played

    def _until_next_part(self, start: int, part: float, length: float, ticks: int) -> int:
        """A note of less than a beat ends where the feel puts its end (a swung half is two thirds)."""
        end = part + length
        if length < 1 and end in (0.25, 0.5, 0.75):
            return min(ticks, self.lead.offset(end) - self.lead.offset(part)) or ticks
        if length < 1 and end == 1:
            return self.lead.beat - self.lead.offset(part)
        return ticks

    def _gesture(self, gesture: str, chord: Chord, bass: int, after: Chord | None, ceiling: int) -> list[int]:
        if gesture == "root":
            return [bass]
        if gesture == "octave":
            return [bass - 12, bass] if bass >= 40 else [bass, bass + 12]
        if gesture == "fifth":
            return [fifth_above(chord, bass)]
        if gesture == "open":
            return [bass, fifth_above(chord, bass)]
        if gesture == "tenth":
            return [tenth_above(chord, bass)]
        if gesture == "tenths":
            return [bass, tenth_above(chord, bass)]
        if gesture == "sixth":
            return [bass, bass + 9 if bass % 12 == chord.root and 4 in QUALITIES[chord.quality] else fifth_above(chord, bass)]
        if gesture == "up":
            return [self._approach(bass, after)]
        if gesture in ("shape", "shell"):
            return list(self._left_shape(chord, 2 if gesture == "shell" else 3, ceiling))
        if gesture == "full":
            return [bass, *self._left_shape(chord, 2, min(ceiling, bass + LARGEST_SPAN))]
        raise ValueError(f"left-hand gesture {gesture!r} is not known")

    def _approach(self, bass: int, after: Chord | None) -> int:
        """A semitone or tone from the next bass, on the side where the hand is."""
        if after is None:
            return bass
        target = choose_bass(after, bass)
        return target - 1 if target >= bass else target + 1

    def _left_shape(self, chord: Chord, count: int, ceiling: int) -> tuple[int, ...]:
        """Guide tones first; a shape without its root, since the bass has it."""
        high = max(ceiling, LOWEST_SHAPE + 8)
        shape = place(wanted(chord, {chord.root, chord.bass}, count)[:4], LOWEST_SHAPE, high, self._shape)
        if shape is None:
            shape = (chord_tone_near(chord, LOWEST_SHAPE + 5),)
        self._shape = shape
        return shape

    # Right hand

    def _right_hand(
        self, span: Span, texture: RightTexture, melody: Sequence[MelodyNote], low: Sequence[HandNote], bass_before: int | None
    ) -> None:
        lead = self.lead
        at_start = [note for note in melody if note[0] <= span.onset < note[0] + note[2]]
        top = at_start[-1][1] if at_start else None
        have = {pitch % 12 for _, pitch, ticks, _ in low if ticks >= lead.beat // 3}
        have |= {pitch % 12 for onset, pitch, ticks in melody if min(span.end, onset + ticks) - max(onset, span.onset) >= span.ticks * 0.4}
        inner = self._inner_voices(span.chord, top, have, texture, low)
        doubled = top is not None and texture.octave and top - 12 > max((note[1] for note in low), default=0)
        if doubled and top is not None and at_start and at_start[-1][0] == span.onset:
            self._add(span.onset, top - 12, at_start[-1][2], 0)
        for onset, ticks in self._strikes(span, texture):
            for pitch in inner:
                self._add(onset, pitch, self._voice_length(pitch, onset, onset + ticks, melody), -1)
        for onset, pitch, ticks in melody:
            if onset >= span.onset:
                self._add(onset, pitch, ticks, 1)
                if onset > span.onset and texture.under and onset % lead.beat == 0:
                    self._add_under(span, onset, pitch, ticks, texture.under)

    def _inner_voices(
        self, chord: Chord, top: int | None, have: set[int], texture: RightTexture, low: Sequence[HandNote]
    ) -> tuple[int, ...]:
        held_top = top if top is not None else max(72, min(79, (self._inner[-1] + 5) if self._inner else 74))
        floor = max(50, held_top - LARGEST_SPAN + 1, *(note[1] + 1 for note in low if note[0] == low[0][0] and note[1] < held_top - 4)) if low else 52
        missing = {(chord.root + step) % 12 for step in essential(chord.quality)} - have
        count = max(texture.voices, len(missing)) if top is not None else max(texture.voices + 1, len(missing))
        classes = wanted(chord, have, min(count, 4))[:4]
        voices = place(classes, floor, held_top - 1, self._inner, top)
        if voices is None and floor > 48:
            voices = place(classes, max(48, held_top - LARGEST_SPAN), held_top - 1, self._inner, top)
        if voices is None:
            voices = place([pc for pc in classes if pc in missing] or classes[:1], 48, max(held_top - 1, 60), self._inner) or ()
        self._inner = voices or self._inner
        return voices

    def _strikes(self, span: Span, texture: RightTexture) -> list[tuple[int, int]]:
        """When the inner voices sound: where the chord begins, and where the texture strikes them again."""
        lead = self.lead
        onsets = {span.onset}
        for beat, _ in texture.comp:
            base = span.onset // lead.bar * lead.bar
            for bar in range(base, span.end, lead.bar):
                onset = bar + int(beat) * lead.beat + lead.offset(beat % 1)
                if span.onset < onset < span.end and beat < lead.beats_per_bar:
                    onsets.add(onset)
        ordered = [*sorted(onsets), span.end]
        return [(start, end - start) for start, end in zip(ordered, ordered[1:], strict=False)]

    def _voice_length(self, pitch: int, onset: int, end: int, melody: Sequence[MelodyNote]) -> int:
        """An inner voice is let go when the melody comes down to it."""
        for start, melody_pitch, _ in melody:
            if onset < start < end and melody_pitch <= pitch:
                return start - onset
        return end - onset

    def _add_under(self, span: Span, onset: int, pitch: int, ticks: int, count: int) -> None:
        """Chord tones close under a melody note inside a span: thirds and sixths."""
        sounding = {note[1] for note in self.right[-12:] if note[0] < onset < note[0] + note[2]}
        if len(sounding) >= 3:
            return
        tones = span.chord.pitch_classes
        below = [key for key in range(pitch - 3, pitch - 10, -1) if key % 12 in tones and key not in sounding][:count]
        for key in below:
            self._add(onset, key, min(ticks, span.end - onset), -1)

    def _add(self, onset: int, pitch: int, ticks: int, voice: int) -> None:
        if ticks > 0:
            self.right.append((onset, pitch, ticks, self._velocity(onset, voice)))

    # Fills

    def _add_fills(self, spans: Sequence[Span]) -> None:
        """Where the melody holds or rests for two beats or more, the right hand may answer."""
        lead = self.lead
        filled: list[MelodyNote] = []
        for number, note in enumerate(self.melody):
            onset, pitch, ticks = note
            next_onset = self.melody[number + 1][0] if number + 1 < len(self.melody) else lead.end
            start = onset + max(lead.beat, ticks // 2 // lead.beat * lead.beat)
            start = -(-start // lead.beat) * lead.beat
            room = (next_onset - start) // lead.beat
            section = lead.section_at(start)
            chance = self.style.fill_chance * (0.5 + 0.2 * section.level)
            if room < 1 or ticks < lead.beat or next_onset - onset < 2 * lead.beat + 1 or self.rng.random() > chance:
                filled.append(note)
                continue
            chords = [span for span in spans if span.onset < start + min(room, 3) * lead.beat and span.end > start]
            extra = fill(chords, start, start + min(room, 3) * lead.beat, pitch, lead, section, self.style, self.rng)
            filled.append((onset, pitch, min(ticks, start - onset) if extra else ticks))
            filled.extend(extra)
        self.melody = sorted(filled)
        self._onsets = [note[0] for note in self.melody]
