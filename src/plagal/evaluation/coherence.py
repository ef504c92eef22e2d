"""Does it hang together? A score from 0 to 10, given by a program: no person has heard the music.

A small neural network (scikit-learn's, kept as JSON) has learned from FEATURES to tell whole pieces from copies that
were damaged in known ways. Each kind of damage has a level, whole music has 10; a piece's raw score is the level that
the network expects of it, averaged over windows. A map made on pieces held out from training turns that into the score:
6 is the median of pieces with shuffled bars, 9 that of whole ones. `coherence.json` is that network, its map and what
it measured (`calibration`), made by tools/make_coherence.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.evaluation.features import FEATURES, bars_of, cut, features, windows
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Notes, Score

# --- Damage: pieces made worse on purpose, which a measure of coherence must rank below the real thing ---

Rng = np.random.Generator
Damage = Callable[[Score, Rng], Score]


def _sorted(notes: Notes) -> Notes:
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
    return replace(score, notes=_sorted(np.concatenate(pieces)), markers=(), pedals=())


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
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def random_notes(score: Score, rng: Rng) -> Score:
    """As many notes over the same time and keys, anywhere."""
    notes = score.notes.copy()
    end = bars_of(score)[-1].end
    low, high = notes[:, PITCH].min(), notes[:, PITCH].max()
    notes[:, ONSET] = rng.integers(0, max(end // 3, 1), len(notes)) * 3
    notes[:, PITCH] = rng.integers(low, high + 1, len(notes))
    notes[:, DURATION] = np.minimum(rng.integers(1, 17, len(notes)) * 3, end - notes[:, ONSET])
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def wrong_notes(score: Score, rng: Rng) -> Score:
    """A fifth of the notes a half or whole step off."""
    notes = score.notes.copy()
    off = rng.random(len(notes)) < 0.2
    notes[off, PITCH] = np.clip(notes[off, PITCH] + rng.choice([-2, -1, 1, 2], off.sum()), 21, 108)
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def off_beat(score: Score, rng: Rng) -> Score:
    """A third of the notes a sixteenth or an eighth early or late."""
    notes = score.notes.copy()
    off = rng.random(len(notes)) < 0.33
    shift = rng.choice([-2, -1, 1, 2], off.sum()) * TICKS_PER_QUARTER // 4
    last = bars_of(score)[-1].end - notes[off, DURATION]
    notes[off, ONSET] = np.clip(notes[off, ONSET] + shift, 0, np.maximum(last, 0))
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def hands_apart(score: Score, rng: Rng) -> Score:
    """What lies below middle C comes some bars late, the last bars first: each hand plays on, but not together."""
    bars = bars_of(score)
    end = bars[-1].end
    notes = score.notes.copy()
    low = notes[:, PITCH] < 60
    shift = bars[int(rng.integers(1, max(len(bars), 2))) % len(bars)].begin
    notes[low, ONSET] = (notes[low, ONSET] + shift) % end
    notes[low, DURATION] = np.minimum(notes[low, DURATION], end - notes[low, ONSET])
    return replace(score, notes=_sorted(notes), markers=(), pedals=())


def one_bar_repeated(score: Score, rng: Rng) -> Score:
    """One bar over and over."""
    bars = bars_of(score)
    counts = np.bincount(
        np.searchsorted([bar.begin for bar in bars], score.notes[:, ONSET], side="right") - 1, minlength=len(bars)
    )
    chosen = bars[int(rng.choice(np.flatnonzero(counts > 0)))]
    content = cut(score.notes, chosen.begin, chosen.end)
    pieces = []
    for bar in bars:
        some = content[content[:, ONSET] < bar.end - bar.begin].copy()
        some[:, DURATION] = np.minimum(some[:, DURATION], bar.end - bar.begin - some[:, ONSET])
        some[:, ONSET] += bar.begin
        pieces.append(some)
    return replace(score, notes=_sorted(np.concatenate(pieces)), markers=(), pedals=())


DAMAGES: dict[str, Damage] = {
    "bars_shuffled": bars_shuffled,
    "wrong_notes": wrong_notes,
    "off_beat": off_beat,
    "hands_apart": hands_apart,
    "one_bar_repeated": one_bar_repeated,
    "notes_shuffled": notes_shuffled,
    "random": random_notes,
}


Floats = npt.NDArray[np.float64]

LEVELS = {
    "real": 10.0, "bars_shuffled": 6.5, "wrong_notes": 5.0, "off_beat": 5.0, "hands_apart": 5.0,
    "one_bar_repeated": 3.0, "notes_shuffled": 2.5, "ngram": 2.5, "random": 0.0,
}  # fmt: skip
"""What each kind is worth before calibration: set by hand, from the order that any listener would agree to."""

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
    hidden: tuple[Floats, Floats]
    output: tuple[Floats, Floats]
    levels: Floats
    map_from: Floats
    map_to: Floats
    calibration: dict[str, Any]

    def raw(self, rows: Floats) -> Floats:
        """Expected level (0-10) of feature rows, (rows, len(FEATURES)) -> (rows,); what is NaN counts as usual."""
        scaled = np.nan_to_num((rows - self.mean) / self.deviation).clip(-FARTHEST, FARTHEST)
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
            raise ValueError("coherence.json was made for other features; run python tools/make_coherence.py")
        arrays = {name: np.array(stored[name]) for name in stored if name not in ("features", "calibration", "tunes")}
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
