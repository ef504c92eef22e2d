"""Small pieces with music in them, for the tests of evaluation."""

from __future__ import annotations

from functools import cache

import numpy as np

from plagal.music.arranger.arrange import arrange
from plagal.music.score import Metre, Score, Tempo


@cache
def arranged(style: str = "traditional_gospel", seed: int = 0) -> Score:
    """A whole arrangement."""
    return arrange(None, style, seed=seed)


def melody(pitches: list[int], ticks: int = 24, metre: Metre | None = None, tempo: float = 90.0) -> Score:
    """One note after another, each `ticks` long."""
    rows = [[number * ticks, pitch, ticks, 80] for number, pitch in enumerate(pitches)]
    notes = np.array(rows, dtype=np.int32).reshape(-1, 4)
    return Score(notes, (metre or Metre(0, 4, 4),), (Tempo(0, tempo),))


def transposed(score: Score, semitones: int) -> Score:
    notes = score.notes.copy()
    notes[:, 1] += semitones
    return Score(notes, score.metres, score.tempos)


EMPTY = Score(np.zeros((0, 4), dtype=np.int32))
