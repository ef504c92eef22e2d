"""Does it hang together? A score from 0 to 10, given by a program: no person has heard the music.

A small neural network (scikit-learn's, kept as JSON) has learned from FEATURES to tell whole pieces from copies that
were damaged in known ways. Each kind of damage has a level, whole music has 10; a piece's raw score is the level that
the network expects of it, averaged over windows. A map made on pieces held out from training turns that into the score:
6 is the median of pieces with shuffled bars, 9 that of whole ones. `coherence.json` is that network, its map and what
it measured (`calibration`), made by `main` below.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from plagal.evaluation.features import FEATURES, bars_of, cut, features, spread, windows
from plagal.evaluation.heldout import TextPiece, first_copies, read_texts
from plagal.evaluation.ngram import NGram, head_of, write_with_ngram
from plagal.evaluation.subwords import END
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Notes, Score
from plagal.plumbing.files import write_text
from plagal.tokens.vocabulary import MUSIC_WORDS

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
            raise ValueError("coherence.json was made for other features; run python -m plagal.evaluation.coherence")
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


# --- The maker of coherence.json: python -m plagal.evaluation.coherence data/text ---
#
# The argument is the folder that the stage `convert` wrote, and only its training texts are read: an ear that knew the
# tunes of the test split would judge them as old acquaintances. Whole pieces are real ones and, because hardly any
# freely usable two-handed gospel exists, some by the arranger; each is cut into windows and damaged in every way. Run
# it when FEATURES, damages or the split change.

SEED = 11
MOST_REAL, MOST_ARRANGED = 600, 300
_LEAST_NOTES, _LEAST_BARS = 12, 4
NGRAM_ORDER = 4
NGRAM_PIECES = 200

Example = tuple[str, str, int, Floats]
"""(tune, kind, bars of the window, features)."""


def training_pieces(text: Path) -> list[TextPiece]:
    """Real pieces up to a bound, and some arranged ones; drawn by seed from both stages' training texts, without the
    augmented copies."""
    pieces = [
        piece for stage in ("stage1", "stage2") for piece in first_copies(read_texts(text / stage / "train.jsonl"))
    ]
    drawn = [pieces[place] for place in np.random.default_rng(SEED).permutation(len(pieces))]
    real, arranged = ([piece for piece in drawn if piece.synthetic is kind] for kind in (False, True))
    return real[:MOST_REAL] + arranged[:MOST_ARRANGED]


def examples(piece: TextPiece, seed: int) -> list[Example]:
    """Windows of a piece, whole and damaged."""
    rng = np.random.default_rng(seed)
    rows: list[Example] = []
    for length in WINDOW_LENGTHS:
        for whole in windows(piece.score, length, 2):
            if len(whole.notes) < _LEAST_NOTES or len(bars_of(whole)) < _LEAST_BARS:
                continue
            rows.append((piece.tune, "real", length, features(whole)))
            rows += [(piece.tune, kind, length, features(damage(whole, rng))) for kind, damage in DAMAGES.items()]
    return rows


def counted_examples(pieces: Sequence[TextPiece], seed: int) -> list[Example]:
    """Windows that an n-gram of these pieces writes, each under the name of the tune whose head it goes on from."""
    model = NGram([piece.words for piece in pieces], (*MUSIC_WORDS, END), NGRAM_ORDER)
    chosen = pieces[:NGRAM_PIECES]
    rows: list[Example] = []
    for length in WINDOW_LENGTHS:
        heads = [head_of(piece.words) for piece in chosen]
        written = write_with_ngram(model, heads, length, 150 * length, seed + length)
        rows += [
            (piece.tune, "ngram", length, features(part))
            for piece, score in zip(chosen, written, strict=True)
            for part in windows(score, length, 1)
            if len(part.notes) > 1
        ]
    return rows


def main(text: Path, out: Path) -> None:
    """Fit the ear on the training texts under `text` and write it; a quarter of their tunes is kept apart to calibrate
    it on."""
    pieces = training_pieces(text)
    made = Parallel(n_jobs=-1)(
        delayed(examples)(piece, SEED + number) for number, piece in enumerate(tqdm(pieces, unit="piece"))
    )
    rows = [row for part in made for row in part] + counted_examples(pieces, SEED)
    tunes = sorted({tune for tune, *_ in rows})
    apart = {tune for place, tune in enumerate(np.random.default_rng(SEED).permutation(tunes)) if place % 4 == 0}
    model = fit(
        np.stack([row for *_, row in rows]), [kind for _, kind, _, _ in rows], [bars for _, _, bars, _ in rows],
        np.array([tune in apart for tune, *_ in rows]), SEED,
    )  # fmt: skip
    stored = model.to_json() | {"tunes": tunes}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in stored.items())
    write_text(out, f"{{\n{lines}\n}}\n")
    for length, kinds in stored["calibration"].items():
        sys.stdout.writelines(f"{length:>2s} bars {kind:18s} {measured}\n" for kind, measured in kinds.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("coherence.json"))
