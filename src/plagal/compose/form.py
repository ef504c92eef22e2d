"""Phrases that come back: which bars return later in a piece, and what they said."""

from __future__ import annotations

from plagal.asking.request import Request
from plagal.compose.opening import PlacedNote
from plagal.music.chords import Chord

PHRASE_BARS = 4
RETURNING_BARS = 2
"""So many bars of a phrase come back where it is repeated; its second half answers anew."""
LOWEST_MELODY_PITCH = 60


def returning_bars(request: Request) -> dict[int, int]:
    """Bar -> the bar that comes back there, both from 0: of four phrases (A A' B A'') the second and the fourth begin
    as the first, and after sixteen bars it begins again. Empty where melody, chords, other bars or a density are given:
    what comes back owes its notes."""
    if (
        request.density is not None
        or request.chords
        or request.melody is not None
        or request.kept_bars
        or request.refill is not None
    ):
        return {}
    returns = {}
    for bar in range(PHRASE_BARS, request.new_bars - 1):  # the last bar is the end's
        phrase, place = divmod(bar, PHRASE_BARS)
        back = {0: 4, 1: 1, 2: 0, 3: 3}[phrase % 4] * PHRASE_BARS
        if back and back <= bar and place < RETURNING_BARS:
            returns[bar] = bar - back
    return returns


class Form:
    """What a piece has said, bar by bar: its chords, and its melody (the highest note of each onset, above C4)."""

    def __init__(self, request: Request):
        self.returns = returning_bars(request)
        self._chords: dict[int, dict[int, Chord]] = {}
        self._melody: dict[int, list[PlacedNote]] = {}

    def leave_out(self, bars: frozenset[int]) -> None:
        """Bars of an introduction or an ending: nothing comes back there, nor are they what comes back."""
        self.returns = {bar: source for bar, source in self.returns.items() if not {bar, source} & bars}

    def begin_bar(self, bar: int, chord: Chord | None) -> None:
        """`chord`: what still sounds there."""
        self._chords[bar] = {} if chord is None else {0: chord}
        self._melody[bar] = []

    def add_chord(self, bar: int, tick: int, chord: Chord) -> None:
        self._chords[bar][tick] = chord

    def add_note(self, bar: int, tick: int, pitch: int, ticks: int) -> None:
        """Notes of one onset come from below."""
        melody = self._melody[bar]
        if pitch >= LOWEST_MELODY_PITCH:
            if melody and melody[-1].tick == tick:
                melody.pop()
            melody.append(PlacedNote(bar, tick, pitch, ticks))

    def coming_back(self, bar: int) -> tuple[dict[int, Chord], list[PlacedNote]]:
        """Chords by tick and melody of the bar that returns at `bar`, its notes cut where the next begins; nothing
        where none returns."""
        source = self.returns.get(bar)
        if source is None:
            return {}, []
        melody = self._melody[source]
        ends = [*(note.tick for note in melody[1:]), 1 << 30][: len(melody)]
        return self._chords[source], [
            PlacedNote(bar, note.tick, note.pitch, min(note.ticks, end - note.tick))
            for note, end in zip(melody, ends, strict=True)
        ]
