"""Does it hang together? A score from 0 to 10, given by a program: no person has heard the music.

A small neural network (scikit-learn's, kept as JSON) has learned from FEATURES to tell whole pieces from copies that
were damaged in known ways. Each kind of damage has a level, whole music has 10; a piece's raw score is the level that
the network expects of it, averaged over windows. A map made on pieces held out from training turns that into the score:
6 is the median of pieces with shuffled bars, 9 that of whole ones. `coherence.json` is that network, its map and what
it measured (`calibration`), made by tools/make_coherence.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.evaluation.features import FEATURES, bars_of, cut, features, windows
from plagal.music.score import DURATION, ONSET, PITCH, Notes, Score

# --- Damage: pieces made worse on purpose, which a measure of coherence must rank below the real thing ---

Rng = np.random.Generator


def in_order(notes: Notes) -> Notes:
    """In order, and one of a pitch at a time."""
    notes = notes[np.lexsort((notes[:, PITCH], notes[:, ONSET]))]
    _, first = np.unique(notes[:, ONSET].astype(np.int64) * 128 + notes[:, PITCH], return_index=True)
    return notes[first].astype(np.int32)


def bars_shuffled(score: Score, rng: Rng) -> Score:
    """The same bars in another order; bars of one length change places among themselves."""
    bars = bars_of(score)
    source = np.arange(len(bars))
    lengths = np.array([bar.end - bar.begin for bar in bars])
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        source[places] = _moved(places, rng)
    pieces = []
    for bar, other in zip(bars, source, strict=True):
        some = cut(score.notes, bars[other].begin, bars[other].end)
        some[:, ONSET] += bar.begin
        pieces.append(some)
    return replace(score, notes=in_order(np.concatenate(pieces)), markers=(), pedals=())


def _moved(places: np.ndarray, rng: Rng) -> np.ndarray:
    """A permutation that keeps no neighbours together, as far as ten tries find one."""
    best, fewest = places, len(places) + 1
    for _ in range(10):
        drawn = rng.permutation(places)
        together = int((np.diff(drawn) == 1).sum())
        if together < fewest:
            best, fewest = drawn, together
    return best


def notes_shuffled(score: Score, rng: Rng) -> Score:
    """The same rhythm with the pitches dealt anew."""
    notes = score.notes.copy()
    notes[:, PITCH] = rng.permutation(notes[:, PITCH])
    return replace(score, notes=in_order(notes), markers=(), pedals=())


def random_notes(score: Score, rng: Rng) -> Score:
    """As many notes over the same time and keys, anywhere."""
    notes = score.notes.copy()
    end = bars_of(score)[-1].end
    low, high = notes[:, PITCH].min(), notes[:, PITCH].max()
    notes[:, ONSET] = rng.integers(0, max(end // 3, 1), len(notes)) * 3
    notes[:, PITCH] = rng.integers(low, high + 1, len(notes))
    notes[:, DURATION] = np.minimum(rng.integers(1, 17, len(notes)) * 3, end - notes[:, ONSET])
    return replace(score, notes=in_order(notes), markers=(), pedals=())


Floats = npt.NDArray[np.float64]

WINDOW_LENGTHS = (8, 16)
"""Bars. Each length has a map of its own: of eight bars the network is less sure than of sixteen."""
MOST_WINDOWS = 3
FARTHEST = 4.0
"""Standard deviations from the mean beyond which a feature counts no more."""


@dataclass(frozen=True)
class CoherenceModel:
    """Means and deviations of the features, weights of one hidden layer (tanh), and a map to 0-10 for each of
    WINDOW_LENGTHS: points of shape (lengths, points) and what they stand for."""

    mean: Floats
    deviation: Floats
    hidden_weights: Floats
    hidden_bias: Floats
    output_weights: Floats
    output_bias: Floats
    levels: Floats
    map_from: Floats
    map_to: Floats
    calibration: dict[str, Any]

    def raw(self, rows: Floats) -> Floats:
        """Expected level (0-10) of feature rows, (rows, len(FEATURES)) -> (rows,); what is NaN counts as usual."""
        scaled = np.nan_to_num((rows - self.mean) / self.deviation).clip(-FARTHEST, FARTHEST)
        logits = np.tanh(scaled @ self.hidden_weights + self.hidden_bias) @ self.output_weights + self.output_bias
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights @ self.levels / weights.sum(axis=1))

    def score(self, score: Score) -> float | None:
        """0-10, from up to three windows of 16 bars; None where there are not two notes."""
        cuts = [some for some in windows(score, WINDOW_LENGTHS[-1], MOST_WINDOWS) if len(some.notes) >= 2]
        if not cuts:
            return None
        lengths = np.array([len(bars_of(some)) for some in cuts])
        return float(self.mapped(self.raw(np.stack([features(some) for some in cuts])), lengths).mean())

    def mapped(self, raw: Floats, bars: npt.NDArray[np.int64]) -> Floats:
        """Raw scores of windows of so many `bars` -> 0-10; each by the map of the nearest length."""
        nearest = np.abs(bars[:, None] - np.array(WINDOW_LENGTHS)[None, :]).argmin(axis=1)
        return np.array(
            [np.interp(one, self.map_from[which], self.map_to) for one, which in zip(raw, nearest, strict=True)]
        )

    def mean_score(self, scores: Sequence[Score]) -> float | None:
        """Over pieces; a piece without music scores 0. None where there are no pieces."""
        return float(np.mean([self.score(one) or 0.0 for one in scores])) if scores else None

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> CoherenceModel:
        """Raises ValueError where it was made for other features."""
        if tuple(stored["features"]) != FEATURES:
            raise ValueError("coherence.json was made for other features; run python tools/make_coherence.py")
        arrays = {name: np.array(stored[name]) for name in stored if name not in ("features", "calibration", "tunes")}
        return cls(**arrays, calibration=stored["calibration"])


@cache
def shipped() -> CoherenceModel:
    """The model that comes with Plagal."""
    stored = files("plagal.evaluation").joinpath("coherence.json").read_text(encoding="utf-8")
    return CoherenceModel.from_json(json.loads(stored))
