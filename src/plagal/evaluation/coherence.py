"""Does it hang together? A score from 0 to 10, given by a program: no person has heard the music.

A small neural network (scikit-learn's, kept as JSON) has learned from FEATURES to tell whole pieces from copies that
were damaged in known ways. Each kind of damage has a level, whole music has 10; a piece's raw score is the level that
the network expects of it, averaged over windows. A map made on pieces held out from training turns that into the score:
6 is the median of pieces with shuffled bars, 9 that of whole ones. `coherence.json` is that network, its map and what
it measured (`calibration`), made by `make_coherence.py`.
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

from plagal.evaluation.bars import bars_of, windows
from plagal.evaluation.features import FEATURES, features, spread
from plagal.music.score import Score

Floats = npt.NDArray[np.float64]

LEVELS = {
    "real": 10.0, "bars_shuffled": 6.5, "wrong_notes": 5.0, "off_beat": 5.0, "hands_apart": 5.0,
    "one_bar_repeated": 3.0, "notes_shuffled": 2.5, "ngram": 2.5, "random": 0.0,
}  # fmt: skip
"""What each kind is worth before calibration: set by hand, from the order that any listener would agree to."""

WINDOW_LENGTHS = (8, 16)
"""Bars. Each length has a map of its own: of eight bars the network is less sure than of sixteen."""
MOST_WINDOWS = 3
_HIDDEN = 32
_FARTHEST = 4.0
"""Standard deviations from the mean beyond which a feature counts no more."""


@dataclass(frozen=True)
class CoherenceModel:
    """Means and deviations of the features, weights of one hidden layer (tanh), and a map to 0-10 for each of
    WINDOW_LENGTHS: points of shape (lengths, points) and what they stand for."""

    mean: Floats
    deviation: Floats
    hidden: tuple[Floats, Floats]
    output: tuple[Floats, Floats]
    levels: Floats
    map_from: Floats
    map_to: Floats
    calibration: dict[str, Any]

    def raw(self, rows: Floats) -> Floats:
        """Expected level (0-10) of feature rows, (rows, len(FEATURES)) -> (rows,); what is NaN counts as usual."""
        scaled = np.nan_to_num((rows - self.mean) / self.deviation).clip(-_FARTHEST, _FARTHEST)
        logits = np.tanh(scaled @ self.hidden[0] + self.hidden[1]) @ self.output[0] + self.output[1]
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

    def to_json(self) -> dict[str, Any]:
        arrays = {"mean": self.mean, "deviation": self.deviation, "levels": self.levels, "map_from": self.map_from,
                  "map_to": self.map_to, "hidden_weights": self.hidden[0], "hidden_bias": self.hidden[1],
                  "output_weights": self.output[0], "output_bias": self.output[1]}  # fmt: skip
        shown = {name: np.vectorize(lambda one: float(f"{one:.5g}"))(array).tolist() for name, array in arrays.items()}
        return {"features": list(FEATURES), "calibration": self.calibration, **shown}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> CoherenceModel:
        """Raises ValueError where it was made for other features."""
        if tuple(stored["features"]) != FEATURES:
            raise ValueError("coherence.json was made for other features; run make_coherence.py")
        arrays = {name: np.array(stored[name]) for name in stored if name not in ("features", "calibration")}
        return cls(
            arrays["mean"], arrays["deviation"], (arrays["hidden_weights"], arrays["hidden_bias"]),
            (arrays["output_weights"], arrays["output_bias"]), arrays["levels"], arrays["map_from"], arrays["map_to"],
            stored["calibration"],
        )  # fmt: skip


@cache
def shipped() -> CoherenceModel:
    """The model that comes with Plagal."""
    stored = files("plagal.evaluation").joinpath("coherence.json").read_text(encoding="utf-8")
    return CoherenceModel.from_json(json.loads(stored))


def fit(
    rows: Floats, kinds: Sequence[str], bars: Sequence[int], held_out: npt.NDArray[np.bool_], seed: int
) -> CoherenceModel:
    """Train on the rows that are not held out, calibrate on those that are. `kinds` are names of LEVELS, `bars` lengths
    of the windows."""
    from sklearn.neural_network import MLPClassifier

    named = np.array(kinds)
    mean, deviation = spread(rows[~held_out])
    deviation = np.maximum(deviation, 1e-6)
    scaled = np.nan_to_num((rows - mean) / deviation).clip(-_FARTHEST, _FARTHEST)
    # As many whole pieces as damaged ones of the likeliest three kinds, or the network is wary of everything.
    chosen = np.flatnonzero(~held_out)
    chosen = np.concatenate([chosen, np.repeat(chosen[named[chosen] == "real"], 2)])
    network = MLPClassifier((_HIDDEN,), activation="tanh", alpha=1.0, max_iter=400, random_state=seed)
    network.fit(scaled[chosen], named[chosen])
    levels = np.array([LEVELS[kind] for kind in network.classes_])
    weights, biases = network.coefs_, network.intercepts_
    model = CoherenceModel(
        mean, deviation, (weights[0], biases[0]), (weights[1], biases[1]), levels, np.zeros(1), np.zeros(1), {}
    )
    return _calibrated(model, rows[held_out], named[held_out], np.array(bars)[held_out])


def _calibrated(
    model: CoherenceModel, rows: Floats, kinds: npt.NDArray[np.str_], bars: npt.NDArray[np.int64]
) -> CoherenceModel:
    raw = model.raw(rows)
    points = [
        [0.0, *(float(np.median(raw[(kinds == kind) & (bars == length)])) for kind in ("bars_shuffled", "real")), 10.0]
        for length in WINDOW_LENGTHS
    ]
    mapped = replace(model, map_from=np.array(points), map_to=np.array([0.0, 6.0, 9.0, 10.0]))
    scores = mapped.mapped(raw, bars)
    measured = {
        str(length): {
            kind: _summary(scores[some]) for kind in LEVELS if (some := (kinds == kind) & (bars == length)).any()
        }
        for length in WINDOW_LENGTHS
    }
    return replace(mapped, calibration=measured)


def _summary(scores: Floats) -> dict[str, float]:
    """Mean, its standard error, quartiles and count."""
    low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75])
    figures = {
        "mean": scores.mean(),
        "error": scores.std() / np.sqrt(len(scores)),
        "low": low,
        "median": middle,
        "high": high,
    }
    return {name: round(float(value), 3) for name, value in figures.items()} | {"windows": len(scores)}
