"""Chords and a top line as two hands that play one lead sheet."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence

from plagal.music.arranger.dynamics import MELODY, velocity
from plagal.music.arranger.four_part import four_part
from plagal.music.arranger.leadsheet import LeadSheet, Section, Span
from plagal.music.arranger.left_hand import LeftHand
from plagal.music.arranger.right_hand import RightHand
from plagal.music.arranger.styles import LeftFigure, RightTexture, Style
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.hands import HandNote, Struck, reachable, together

_PHRASE_BARS = 4
"""Figure and texture stay for so many bars of a section."""

_ROOM_UNDER_MELODY = 3
"""Semitones that the left hand keeps under the top line."""


_LAST_FIGURE = LeftFigure("last", 1.0, (1,), "any", ((0.0, "octave", 64.0),), ((),))
_LAST_TEXTURE = RightTexture("last", 1.0, (1,), "any", "close", 3, 0, False, ())
"""The last chord is struck once and held."""


class _Phrases:
    """Which figure and texture each phrase has, drawn when first asked for."""

    def __init__(self, lead: LeadSheet, style: Style, rng: random.Random) -> None:
        self._lead, self._rng = lead, rng
        feel = "compound" if lead.beat > 24 else "simple"
        self._left = [figure for figure in style.left if figure.feel in ("any", feel)]
        self._right = [texture for texture in style.right if texture.feel in ("any", feel)]
        self._drawn: dict[tuple[int, int], tuple[LeftFigure, RightTexture]] = {}

    def at(self, section: Section, onset: int) -> tuple[LeftFigure, RightTexture]:
        key = (section.first, (onset // self._lead.bar - section.first) // _PHRASE_BARS)
        if key not in self._drawn:
            left = [figure for figure in self._left if section.level in figure.levels] or self._left
            right = [texture for texture in self._right if section.level in texture.levels] or self._right
            self._drawn[key] = (
                self._rng.choices(left, [figure.weight for figure in left])[0],
                self._rng.choices(right, [texture.weight for texture in right])[0],
            )
        return self._drawn[key]


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
    for number, span in enumerate(spans):
        after = spans[number + 1].chord if number + 1 < len(spans) else None
        section = lead.section_at(span.onset)
        figure, texture = phrases.at(section, span.onset) if after else (_LAST_FIGURE, _LAST_TEXTURE)
        sounding = _sounding(line, onsets, span)
        ceiling = min((pitch - _ROOM_UNDER_MELODY for _, pitch, _ in sounding), default=127)
        low = left_hand.play(span, after, figure, ceiling)
        left.extend(low)
        right.extend(right_hand.play(span, texture, sounding, low, section.riff))
    right = reachable(right)
    return together(reachable(left), right), {(note[0], note[1]) for note in right}


def _sounding(line: Sequence[MelodyNote], onsets: Sequence[int], span: Span) -> list[MelodyNote]:
    """Notes of the line that sound in the span."""
    first = max(0, bisect_left(onsets, span.onset) - 1)
    until = bisect_left(onsets, span.end)
    return [note for note in line[first:until] if note[0] + note[2] > span.onset]
