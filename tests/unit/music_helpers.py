"""Small pieces with music in them, for the tests."""

from __future__ import annotations

from functools import cache

import numpy as np

from plagal.music.arranger.arrange import arrange
from plagal.music.performance.played import Played, seconds_at
from plagal.music.score import DURATION, ONSET, PITCH, VELOCITY, Metre, Score, Tempo


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


def as_written(score: Score) -> Played:
    """The score played by its own tempos, to the letter."""
    starts = seconds_at(score, score.notes[:, ONSET])
    ends = seconds_at(score, score.notes[:, ONSET] + score.notes[:, DURATION])
    notes = np.stack([starts, score.notes[:, PITCH], ends - starts, score.notes[:, VELOCITY]], axis=1)
    moves = [(float(seconds_at(score, np.array([move.onset]))[0]), float(move.state != "off")) for move in score.pedals]
    return Played(notes.astype(np.float64), np.array(moves, dtype=np.float64).reshape(-1, 2), score.title)


EMPTY = Score(np.zeros((0, 4), dtype=np.int32))
