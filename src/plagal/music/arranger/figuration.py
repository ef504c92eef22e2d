"""Chords and a top line as two hands that play one lead sheet, and how loud and how long that rings."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise, takewhile

import numpy as np

from plagal.music.arranger.form import LeadSheet, Section, Span
from plagal.music.arranger.four_part import four_part
from plagal.music.arranger.harmony_grammar import scale
from plagal.music.arranger.styles import LeftFigure, RightTexture, Style
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.arranger.voicing import (
    HIGHEST_BASS,
    HIGHEST_SHAPE,
    LOWEST_BASS,
    LOWEST_SHAPE,
    choose_bass,
    chord_tone_near,
    drop_two,
    essential,
    fifth_above,
    place,
    rolled_shell,
    spread_shell,
    tenth_above,
    wanted,
)
from plagal.music.chords import QUALITIES, Chord
from plagal.music.hands import LARGEST_SPAN, LONGEST_ROLL, ROLL_TICKS, HandNote, Struck, reachable, together
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
    onsets, last, found = np.unique(notes[:, 0]), _last_chord(spans), list[Pedal]()
    places = {span.onset for span in spans if how == "chord" or (how == "bar" and span.onset % lead.bar == 0)}
    starts = sorted(start for start in places if start < last)
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
    last = spans[-1].chord
    same = takewhile(lambda span: (span.chord.root, span.chord.bass) == (last.root, last.bass), reversed(spans))
    return [span.onset for span in same][-1]


def tempos(lead: LeadSheet, quarters_per_minute: float, slows: bool) -> tuple[Tempo, ...]:
    """Steady, but for an ending that slows down, where the style's does."""
    last, steps = lead.sections[-1], list[tuple[int, float]]()
    if slows and last.name == "OUTRO":
        steps = [(last.first, _SLOWER_IN_OUTRO), (last.end - 1, _SLOWEST)][: last.end - last.first]
    elif slows and last.end > _LONG_ENOUGH_TO_SLOW:
        steps = [(last.end - 1, _SLOWER_IN_OUTRO)]
    slower = (Tempo(bar * lead.bar, round(quarters_per_minute * share, 1)) for bar, share in steps)
    return (Tempo(0, quarters_per_minute), *slower)


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
            tones = scale(section.tonic, section.minor) | chord.pitch_classes
            key = at + way
            while key % 12 not in tones:
                key += way
            return key
        firm = chord.pitch_classes & {(chord.root + step) % 12 for step in (0, 3, 4, 6, 7, 8)}
        leaps = [key for key in range(LOWEST_BASS, HIGHEST_BASS + 1) if key % 12 in firm and 2 < abs(key - at) < 8]
        return min(leaps, key=lambda key: (abs(abs(key - at) - 5), abs(key - target)), default=at)

    def _upper_shape(self, chord: Chord, count: int, ceiling: int) -> tuple[int, ...]:
        """Guide tones first, without the root: the bass has it."""
        high = max(ceiling, LOWEST_SHAPE + 7)
        extra = {(chord.root + 7) % 12} if len(QUALITIES[chord.quality]) > 3 and count < 3 else set()
        classes = wanted(chord, {chord.root, chord.bass} | extra, count)[:count]
        shape = place(classes, LOWEST_SHAPE, high, self._shape)
        self._shape = shape or (chord_tone_near(chord, LOWEST_SHAPE + 5),)
        return self._shape


_FREE_TOP = 74
"""About where the highest inner voice lies when no melody sounds."""

_LOWEST_INNER = 48
_MOST_INNER = 4


class RightHand:
    """Plays span by span and remembers where its inner voices were."""

    def __init__(self, lead: LeadSheet) -> None:
        self._lead = lead
        self._inner: tuple[int, ...] = ()

    def play(
        self, span: Span, texture: RightTexture, line: Sequence[MelodyNote], low: Sequence[HandNote], riff: bool
    ) -> list[HandNote]:
        """Under one chord: `line` is the part of the top line that sounds in it, `low` the left hand's notes."""
        lead = self._lead
        held = [note for note in line if note[0] <= span.onset < note[0] + note[2]]
        top = held[-1][1] if held else None
        rolled = {note[1] for note in low if 0 < note[0] - low[0][0] <= LONGEST_ROLL}
        voices = self._inner_voices(span.chord, top, self._sounding(span, line, low), texture, low)
        inner = tuple(key for key in voices if key not in rolled)
        played: list[HandNote] = []
        for onset, pitch, ticks in held[-1:]:
            if texture.octave and onset == span.onset and pitch - 12 > max((note[1] for note in low), default=0):
                played.append((onset, pitch - 12, ticks, velocity(lead, onset, BASS)))
        for onset, ticks in self._strikes(span, texture):
            loud = velocity(lead, onset, INNER)
            played.extend((onset, pitch, _until_crossed(pitch, onset, onset + ticks, line), loud) for pitch in inner)
        for onset, pitch, ticks in line:
            if onset < span.onset:
                continue
            played.append((onset, pitch, ticks, velocity(lead, onset, MELODY)))
            firm = onset % lead.beat == 0 or onset % lead.beat + ticks > lead.beat  # on a beat, or held over one
            count = max(2, texture.under) if riff else texture.under if firm else 0
            if onset > span.onset and count:
                played.extend(self._under(span, (onset, pitch, ticks), count, inner if not riff else ()))
        return played

    def _sounding(self, span: Span, line: Sequence[MelodyNote], low: Sequence[HandNote]) -> set[int]:
        """Pitch classes that the left hand or the line sound long enough in the span to count for the chord."""
        enough = min(self._lead.beat // 2, span.ticks // 3)
        return {pitch % 12 for _, pitch, ticks, _ in low if ticks >= enough} | {
            pitch % 12 for onset, pitch, ticks in line
            if min(span.end, onset + ticks) - max(onset, span.onset) >= 0.4 * span.ticks
        }  # fmt: skip

    def _inner_voices(
        self, chord: Chord, top: int | None, have: set[int], texture: RightTexture, low: Sequence[HandNote]
    ) -> tuple[int, ...]:
        ceiling = top if top is not None else _FREE_TOP
        if top is None and self._inner:
            ceiling = max(_FREE_TOP - 3, min(_FREE_TOP + 4, self._inner[-1] + 5))
        at_start = [note[1] for note in low if note[0] - low[0][0] <= LONGEST_ROLL and note[1] < ceiling - 3]
        floor = max([_LOWEST_INNER + 2, ceiling - LARGEST_SPAN, *(pitch + 1 for pitch in at_start)])
        missing = {(chord.root + step) % 12 for step in essential(chord.quality)} - have
        count = min(_MOST_INNER, max(texture.voices + (1 if top is None else 0), len(missing)))
        classes = wanted(chord, have, count)[:_MOST_INNER]
        voices: tuple[int, ...] | None = None
        if texture.shape == "drop2" and top is not None:
            voices = drop_two(classes, top, floor)
        for low_end in (floor, _LOWEST_INNER):
            voices = voices or place(classes, max(low_end, ceiling - LARGEST_SPAN), ceiling - 1, self._inner, top)
        if not voices:
            few = [pc for pc in classes if pc in missing] or classes[:1]
            voices = place(few, _LOWEST_INNER, max(ceiling - 1, _LOWEST_INNER + 12), self._inner) or ()
        self._inner = voices or self._inner
        return voices

    def _strikes(self, span: Span, texture: RightTexture) -> list[tuple[int, int]]:
        """When the inner voices sound, and how long: from where the chord begins, and where the texture strikes them
        again; of one that answers, only there, but where the chord begins off the beat."""
        lead = self._lead
        lengths = {span.onset: span.ticks} if not texture.answers or span.onset % lead.beat else {}
        for beat, length in texture.comp:
            if beat * lead.stretch >= lead.beats_per_bar:
                continue
            for bar in range(span.onset // lead.bar * lead.bar, span.end, lead.bar):
                onset = bar + (int(beat) * lead.beat + lead.offset(beat % 1)) * lead.stretch
                if span.onset < onset < span.end:
                    lengths[onset] = max(lead.beat // 3, round(length * lead.beat))
        lengths = lengths or {span.onset: span.ticks}
        ordered = [*sorted(lengths), span.end]
        return [(start, min(end - start, lengths[start])) for start, end in pairwise(ordered)]

    def _under(self, span: Span, note: MelodyNote, count: int, held: Sequence[int]) -> list[HandNote]:
        """Chord tones close under a note of the line inside a span: thirds and sixths."""
        onset, pitch, ticks = note
        if len(held) > 2:
            return []
        tones = span.chord.pitch_classes
        keys = [key for key in range(pitch - 3, pitch - 10, -1) if key % 12 in tones and key not in held][:count]
        loud = velocity(self._lead, onset, INNER)
        return [(onset, key, min(ticks, span.end - onset), loud) for key in keys]


def _until_crossed(pitch: int, onset: int, end: int, line: Sequence[MelodyNote]) -> int:
    """Ticks until the line comes down to an inner voice, which is let go there."""
    return next((start for start, key, _ in line if onset < start < end and key <= pitch), end) - onset


_PHRASE_BARS = 4
"""Figure and texture stay for so many bars of a section."""

_ROOM_UNDER_MELODY = 3
"""Semitones that the left hand keeps under the top line."""


_LAST_FIGURE = LeftFigure(name="last", weight=1.0, levels=(1,), first=((0.0, "octave", 64.0),), then=((),))
_LAST_TEXTURE = RightTexture(name="last", weight=1.0, levels=(1,), voices=3)
"""The last chord is struck once and held."""


_BREAK = LeftFigure(name="break", weight=1.0, levels=(4,), first=((0.0, "octave", 0.5),), then=((),))


class _Phrases:
    """Which figure and texture each phrase has, and whether it ends in a break, drawn when first asked for."""

    def __init__(self, lead: LeadSheet, style: Style, rng: random.Random) -> None:
        self._lead, self._rng = lead, rng
        feel = "compound" if lead.beat > 24 else "simple"
        self._left = [figure for figure in style.left if figure.feel in ("any", feel)]
        self._right = [texture for texture in style.right if texture.feel in ("any", feel)]
        self._breaks = style.breaks
        self._drawn: dict[tuple[int, int], tuple[LeftFigure, RightTexture, bool]] = {}

    def at(self, section: Section, onset: int) -> tuple[LeftFigure, RightTexture]:
        phrase, bar = divmod(onset // self._lead.bar - section.first, _PHRASE_BARS)
        key = (section.first, phrase)
        if key not in self._drawn:
            left = [figure for figure in self._left if section.level in figure.levels] or self._left
            right = [texture for texture in self._right if section.level in texture.levels] or self._right
            self._drawn[key] = (
                self._rng.choices(left, [figure.weight for figure in left])[0],
                self._rng.choices(right, [texture.weight for texture in right])[0],
                section.riff and bool(self._breaks) and self._rng.random() < self._breaks,
            )
        figure, texture, breaks = self._drawn[key]
        return _BREAK if breaks and bar == _PHRASE_BARS - 1 else figure, texture


def play(
    lead: LeadSheet, spans: Sequence[Span], line: Sequence[MelodyNote], style: Style, rng: random.Random
) -> tuple[list[HandNote], set[Struck]]:
    """Both hands' notes, reachable and without doubled keys, in order of onset and pitch; and which of them the right
    hand strikes."""
    if style.texture == "four_part":
        return four_part(lead, spans, line, rng)
    phrases = _Phrases(lead, style, rng)
    left_hand, right_hand = LeftHand(lead), RightHand(lead)
    onsets = [note[0] for note in line]
    left: list[HandNote] = []
    right = [(*note, velocity(lead, note[0], MELODY)) for note in line if note[0] < spans[0].onset]
    above = _as_pushed(spans, line, lead) if style.push else spans
    for span, heard, after in zip(spans, above, [*spans[1:], None], strict=True):
        section = lead.section_at(span.onset)
        figure, texture = phrases.at(section, span.onset) if after else (_LAST_FIGURE, _LAST_TEXTURE)
        ceiling = min((pitch - _ROOM_UNDER_MELODY for _, pitch, _ in _sounding(line, onsets, span)), default=127)
        low = left_hand.play(span, after.chord if after else None, figure, ceiling)
        left.extend(low)
        right.extend(right_hand.play(heard, texture, _sounding(line, onsets, heard), low, section.riff))
    right = reachable(right)
    return together(reachable(left), right), {(note[0], note[1]) for note in right}


def _as_pushed(spans: Sequence[Span], line: Sequence[MelodyNote], lead: LeadSheet) -> list[Span]:
    """Where the right hand has each chord: half a beat early with a melody note that is struck there and held over."""
    early = lead.beat - lead.offset(0.5)
    held = {onset + early for onset, _, ticks in line if ticks > early}
    pushes = [False, *(span.onset in held and last.ticks > early for last, span in pairwise(spans))]
    starts = [span.onset - early * pushed for span, pushed in zip(spans, pushes, strict=True)]
    edges = pairwise([*starts, spans[-1].end])
    return [Span(start, end, span.chord) for (start, end), span in zip(edges, spans, strict=True)]


def _sounding(line: Sequence[MelodyNote], onsets: Sequence[int], span: Span) -> list[MelodyNote]:
    """Notes of the line that sound in the span."""
    first = max(0, bisect_left(onsets, span.onset) - 1)
    until = bisect_left(onsets, span.end)
    return [note for note in line[first:until] if note[0] + note[2] > span.onset]
