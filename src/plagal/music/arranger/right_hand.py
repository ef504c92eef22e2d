"""The right hand: the top line, the chord under it, and the strikes between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from plagal.music.arranger.dynamics import BASS, INNER, MELODY, velocity
from plagal.music.arranger.leadsheet import LeadSheet, Span
from plagal.music.arranger.styles import RightTexture
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.arranger.voicing import LARGEST_SPAN, drop_two, essential, place, wanted
from plagal.music.chords import Chord
from plagal.music.hands import LONGEST_ROLL, HandNote

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
        if held and texture.octave and held[-1][0] == span.onset:
            below = held[-1][1] - 12
            if below > max((note[1] for note in low), default=0):
                played.append((span.onset, below, held[-1][2], velocity(lead, span.onset, BASS)))
        for onset, ticks in self._strikes(span, texture):
            loud = velocity(lead, onset, INNER)
            played.extend((onset, pitch, _until_crossed(pitch, onset, onset + ticks, line), loud) for pitch in inner)
        for onset, pitch, ticks in line:
            if onset < span.onset:
                continue
            played.append((onset, pitch, ticks, velocity(lead, onset, MELODY)))
            count = max(2, texture.under) if riff else texture.under if onset % lead.beat == 0 else 0
            if onset > span.onset and count:
                played.extend(self._under(span, (onset, pitch, ticks), count, inner if not riff else ()))
        return played

    def _sounding(self, span: Span, line: Sequence[MelodyNote], low: Sequence[HandNote]) -> set[int]:
        """Pitch classes that the left hand or the line sound long enough in the span to count for the chord."""
        enough = min(self._lead.beat // 2, span.ticks // 3)
        found = {pitch % 12 for _, pitch, ticks, _ in low if ticks >= enough}
        for onset, pitch, ticks in line:
            if min(span.end, onset + ticks) - max(onset, span.onset) >= 0.4 * span.ticks:
                found.add(pitch % 12)
        return found

    def _inner_voices(
        self, chord: Chord, top: int | None, have: set[int], texture: RightTexture, low: Sequence[HandNote]
    ) -> tuple[int, ...]:
        ceiling = top if top is not None else self._free_top()
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

    def _free_top(self) -> int:
        return max(_FREE_TOP - 3, min(_FREE_TOP + 4, self._inner[-1] + 5)) if self._inner else _FREE_TOP

    def _strikes(self, span: Span, texture: RightTexture) -> list[tuple[int, int]]:
        """When the inner voices sound, and how long: from where the chord begins, and where the texture strikes them
        again."""
        lead = self._lead
        lengths = {span.onset: span.ticks}
        for beat, length in texture.comp:
            if beat * lead.stretch >= lead.beats_per_bar:
                continue
            for bar in range(span.onset // lead.bar * lead.bar, span.end, lead.bar):
                onset = bar + (int(beat) * lead.beat + lead.offset(beat % 1)) * lead.stretch
                if span.onset < onset < span.end:
                    lengths[onset] = max(lead.beat // 3, round(length * lead.beat))
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
    for start, melody_pitch, _ in line:
        if onset < start < end and melody_pitch <= pitch:
            return start - onset
    return end - onset
