"""The left hand: a bass line, and figures over it from the style's data."""

from __future__ import annotations

from plagal.music.arranger.dynamics import BASS, INNER, velocity
from plagal.music.arranger.harmony_grammar import scale_steps
from plagal.music.arranger.leadsheet import LeadSheet, Section, Span
from plagal.music.arranger.styles import LeftFigure
from plagal.music.arranger.voicing import (
    HIGHEST_BASS,
    HIGHEST_SHAPE,
    LOWEST_BASS,
    LOWEST_SHAPE,
    choose_bass,
    chord_tone_near,
    fifth_above,
    place,
    rolled_shell,
    spread_shell,
    tenth_above,
    wanted,
)
from plagal.music.chords import QUALITIES, Chord
from plagal.music.hands import ROLL_TICKS, HandNote

_DEEPEST_OCTAVE = 40
"""Bass notes from here up are doubled below, lower ones above."""


class LeftHand:
    """Plays figures span by span and remembers where it was."""

    def __init__(self, lead: LeadSheet) -> None:
        self._lead = lead
        self._bass: int | None = None
        self._shape: tuple[int, ...] = ()

    def play(self, span: Span, after: Chord | None, figure: LeftFigure, ceiling: int) -> list[HandNote]:
        """The figure under one chord; nothing above `ceiling` but the bass itself."""
        lead, chord = self._lead, span.chord
        bass = choose_bass(chord, self._bass)
        self._bass = bass
        played: list[HandNote] = []
        pulse = lead.beat * lead.stretch
        beats = max(1, -(-span.ticks // pulse))
        walked = bass
        for beat in range(beats):
            events = figure.first if beat == 0 else figure.then[(beat - 1) % len(figure.then)]
            start = span.onset + beat * pulse
            for part, gesture, length in events:
                onset = start + lead.offset(part) * lead.stretch
                ticks = min(self._ticks(part, length) * lead.stretch, span.end - onset)
                if ticks <= 0:
                    continue
                loud = velocity(lead, onset, BASS if beat == 0 and part == 0 else INNER)
                if gesture in ("walk", "walk_octave"):
                    walked = self._walk(chord, walked, after, beats - beat, lead.section_at(onset))
                    below = [walked - 12] if gesture == "walk_octave" and walked >= _DEEPEST_OCTAVE else []
                    keys = [*below, walked, *([walked + 12] if gesture == "walk_octave" and not below else [])]
                else:
                    keys = self._keys(gesture, chord, bass, after, min(HIGHEST_SHAPE, ceiling))
                apart = ROLL_TICKS if gesture == "rolled" and len(keys) > 2 else 0
                for number, pitch in enumerate(keys):
                    later = number * apart
                    played.append((onset + later, pitch, ticks - later, loud))
        return played

    def _ticks(self, part: float, length: float) -> int:
        """A note of less than a beat ends where the feel puts its end: a swung half is two thirds."""
        end = part + length
        if length < 1 and end <= 1:
            return self._lead.offset(end) - self._lead.offset(part)
        return round(length * self._lead.beat)

    def _keys(self, gesture: str, chord: Chord, bass: int, after: Chord | None, ceiling: int) -> list[int]:
        """What a gesture of the style's data strikes."""
        if gesture in ("shape", "shell"):
            return list(self._upper_shape(chord, 2 if gesture == "shell" else 3, ceiling))
        if gesture == "full":
            return [key for key in spread_shell(chord, bass) if key == bass or key <= max(ceiling, bass + 12)]
        if gesture == "rolled":
            return list(rolled_shell(chord, bass, ceiling)) or self._keys("tenths", chord, bass, after, ceiling)
        if gesture == "up":
            return [self._approach(bass, after)]
        single = {
            "root": [bass],
            "octave": [bass - 12, bass] if bass >= _DEEPEST_OCTAVE else [bass, bass + 12],
            "fifth": [fifth_above(chord, bass)],
            "open": [bass, fifth_above(chord, bass)],
            "tenth": [tenth_above(chord, bass)],
            "tenths": [bass, tenth_above(chord, bass)],
            "sixth": [bass, self._sixth(chord, bass)],
        }
        return [pitch for pitch in single[gesture] if pitch == bass or pitch <= max(ceiling, bass + 12)]

    def _sixth(self, chord: Chord, bass: int) -> int:
        """The boogie's sixth where the chord is a plain dominant on its root, else the fifth."""
        plain = chord.quality in ("dom7", "maj", "6", "dom13") and chord.bass == chord.root
        return bass + 9 if plain else fifth_above(chord, bass)

    def _approach(self, bass: int, after: Chord | None) -> int:
        """A semitone from the next bass, on the side where the hand is."""
        if after is None:
            return bass
        target = choose_bass(after, bass)
        return target - 1 if target >= bass else target + 1

    def _walk(self, chord: Chord, at: int, after: Chord | None, left: int, section: Section) -> int:
        """The walking bass's next key, `left` beats before the next chord: by step toward the next bass, the last step
        from the semitone beside it; where the way is too short for that, by the chord's fifth or third."""
        target = choose_bass(after, at) if after is not None else self._bass or at
        way = 1 if target > at else -1
        distance = abs(target - at)
        if left == 1 and distance >= 2:
            return at + way if distance == 2 else target - way
        if left > 1 and distance > left:
            scale = {(section.tonic + step) % 12 for step in scale_steps(section.minor)} | chord.pitch_classes
            key = at + way
            while key % 12 not in scale:
                key += way
            return key
        tones = [
            key
            for key in range(LOWEST_BASS, HIGHEST_BASS + 1)
            if key % 12 in chord.pitch_classes
            and 2 < abs(key - at) < 8
            and (key - chord.root) % 12 in (0, 3, 4, 6, 7, 8)
        ]
        return min(tones, key=lambda key: (abs(abs(key - at) - 5), abs(key - target)), default=at)

    def _upper_shape(self, chord: Chord, count: int, ceiling: int) -> tuple[int, ...]:
        """Guide tones first, without the root: the bass has it."""
        high = max(ceiling, LOWEST_SHAPE + 7)
        extra = {(chord.root + 7) % 12} if len(QUALITIES[chord.quality]) > 3 and count < 3 else set()
        classes = wanted(chord, {chord.root, chord.bass} | extra, count)[:count]
        shape = place(classes, LOWEST_SHAPE, high, self._shape)
        self._shape = shape or (chord_tone_near(chord, LOWEST_SHAPE + 5),)
        return self._shape
