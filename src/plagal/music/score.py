"""A piece of music as Plagal knows it: one piano part on a grid of 24 ticks to the quarter note.

Times are integers in ticks (`TICKS_PER_QUARTER` to a quarter) from the start of the piece. A beat is always a quarter
note, in every metre. `midi` reads and writes scores, `grid` brings them into their regular form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

TICKS_PER_QUARTER = 24
"""32nds (3 ticks) and triplet 16ths (4 ticks) are exact."""

LOWEST_PITCH, HIGHEST_PITCH = 21, 108
"""The piano's 88 keys."""

Notes = npt.NDArray[np.int32]
"""Shape (notes, 4); columns onset [ticks], pitch [MIDI], duration [ticks, at least 1], velocity [1-127]; sorted by
(onset, pitch)."""

ONSET, PITCH, DURATION, VELOCITY = range(4)

Hands = npt.NDArray[np.int8]
"""Shape (notes,): 0 for the left hand, 1 for the right, -1 where nobody said."""


@dataclass(frozen=True, slots=True)
class Metre:
    """A time signature that holds from `onset` (a bar line) on."""

    onset: int
    numerator: int
    denominator: int

    @property
    def tempo_beat_ticks(self) -> int:
        """The beat that tempos count: a dotted quarter in 6/8, 9/8, 12/8 (15/8 ...), a quarter elsewhere."""
        compound = self.denominator == 8 and self.numerator % 3 == 0 and self.numerator > 3
        return TICKS_PER_QUARTER * 3 // 2 if compound else TICKS_PER_QUARTER

    @property
    def bar_ticks(self) -> int:
        return 4 * TICKS_PER_QUARTER * self.numerator // self.denominator

    @property
    def is_compound(self) -> bool:
        """Whether its beat is a dotted quarter: 6/8, 9/8, 12/8."""
        return self.denominator == 8 and self.numerator in (6, 9, 12)


@dataclass(frozen=True, slots=True)
class Tempo:
    """Quarter notes a minute from `onset` on."""

    onset: int
    quarters_per_minute: float


@dataclass(frozen=True, slots=True)
class Key:
    """A key signature: `fifths` sharps (negative: flats), -7 to 7, and the mode."""

    onset: int
    fifths: int
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Pedal:
    """The sustain pedal from `onset` on: "on", "off" or "half"."""

    onset: int
    state: str


@dataclass(frozen=True, slots=True)
class Marker:
    """Something asserted about the music from `onset` on: kind "chord", "section" or "repeat" ("START", "END") and its
    text, as "Dbmaj9/F" or "VERSE". Travels in MIDI as a marker meta event."""

    onset: int
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Score:
    """One piano part. Two scores are equal when all that they hold is equal; losses do not count."""

    notes: Notes
    metres: tuple[Metre, ...] = (Metre(0, 4, 4),)
    tempos: tuple[Tempo, ...] = (Tempo(0, 120.0),)
    keys: tuple[Key, ...] = ()
    pedals: tuple[Pedal, ...] = ()
    markers: tuple[Marker, ...] = ()
    title: str = ""
    losses: dict[str, float] = field(default_factory=dict, compare=False)
    """What reading left out or bent, by name; empty where nothing was."""
    hands: Hands | None = field(default=None, compare=False)
    """Which hand plays each note, where the source says; no word says it, so scores are equal without."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Score):
            return NotImplemented
        held = ("metres", "tempos", "keys", "pedals", "markers", "title")
        return np.array_equal(self.notes, other.notes) and all(
            getattr(self, name) == getattr(other, name) for name in held
        )

    __hash__ = None  # type: ignore[assignment]  # it holds an array, which can change
