"""Make src/plagal/evaluation/coherence.json: the ear for coherence, its map to 0-10 and what it measured.

    python tools/make_coherence.py data/text

The argument is the folder that the stage `convert` wrote, and only its training texts are read: an ear that knew the
tunes of the test split would judge them as old acquaintances. Whole pieces are real ones and, because hardly any
freely usable two-handed gospel exists, some by the arranger; each is cut into windows and damaged in every way. Run
it when FEATURES, damages or the split change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from plagal.evaluation.coherence import (
    FARTHEST,
    WINDOW_LENGTHS,
    CoherenceModel,
    Floats,
    Rng,
    bars_shuffled,
    in_order,
    notes_shuffled,
    random_notes,
)
from plagal.evaluation.features import FEATURES, bars_of, cut, features, spread, windows
from plagal.evaluation.likelihood import TextPiece, first_copies, read_texts
from plagal.evaluation.ngram import NGram, head_of, write_with_ngram
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Score
from plagal.plumbing.files import write_text
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS

LEVELS = {
    "real": 10.0, "bars_shuffled": 6.5, "wrong_notes": 5.0, "off_beat": 5.0, "hands_apart": 5.0,
    "one_bar_repeated": 3.0, "notes_shuffled": 2.5, "ngram": 2.5, "random": 0.0,
}  # fmt: skip
"""What each kind is worth before calibration: set by hand, from the order that any listener would agree to."""

_HIDDEN = 32
SEED = 11
MOST_REAL, MOST_ARRANGED = 600, 300
_LEAST_NOTES, _LEAST_BARS = 12, 4
NGRAM_ORDER = 4
NGRAM_PIECES = 200

Example = tuple[str, str, int, Floats]
"""(tune, kind, bars of the window, features)."""


Damage = Callable[[Score, Rng], Score]


def wrong_notes(score: Score, rng: Rng) -> Score:
    """A fifth of the notes a half or whole step off."""
    notes = score.notes.copy()
    off = rng.random(len(notes)) < 0.2
    notes[off, PITCH] = np.clip(notes[off, PITCH] + rng.choice([-2, -1, 1, 2], off.sum()), 21, 108)
    return replace(score, notes=in_order(notes), markers=(), pedals=())


def off_beat(score: Score, rng: Rng) -> Score:
    """A third of the notes a sixteenth or an eighth early or late."""
    notes = score.notes.copy()
    off = rng.random(len(notes)) < 0.33
    shift = rng.choice([-2, -1, 1, 2], off.sum()) * TICKS_PER_QUARTER // 4
    last = bars_of(score)[-1].end - notes[off, DURATION]
    notes[off, ONSET] = np.clip(notes[off, ONSET] + shift, 0, np.maximum(last, 0))
    return replace(score, notes=in_order(notes), markers=(), pedals=())


def hands_apart(score: Score, rng: Rng) -> Score:
    """What lies below middle C comes some bars late, the last bars first: each hand plays on, but not together."""
    bars = bars_of(score)
    end = bars[-1].end
    notes = score.notes.copy()
    low = notes[:, PITCH] < 60
    shift = bars[int(rng.integers(1, max(len(bars), 2))) % len(bars)].begin
    notes[low, ONSET] = (notes[low, ONSET] + shift) % end
    notes[low, DURATION] = np.minimum(notes[low, DURATION], end - notes[low, ONSET])
    return replace(score, notes=in_order(notes), markers=(), pedals=())


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
    return replace(score, notes=in_order(np.concatenate(pieces)), markers=(), pedals=())


DAMAGES: dict[str, Damage] = {
    "bars_shuffled": bars_shuffled,
    "wrong_notes": wrong_notes,
    "off_beat": off_beat,
    "hands_apart": hands_apart,
    "one_bar_repeated": one_bar_repeated,
    "notes_shuffled": notes_shuffled,
    "random": random_notes,
}


def to_json(model: CoherenceModel) -> dict[str, Any]:
    names = ("mean", "deviation", "levels", "map_from", "map_to", "hidden_weights", "hidden_bias", "output_weights",
             "output_bias")  # fmt: skip
    rounded = np.vectorize(lambda one: float(f"{one:.5g}"))
    shown = {name: rounded(getattr(model, name)).tolist() for name in names}
    return {"features": list(FEATURES), "calibration": model.calibration, **shown}


def fit(
    rows: Floats, kinds: Sequence[str], bars: Sequence[int], held_out: npt.NDArray[np.bool_], seed: int
) -> CoherenceModel:
    """Train on the rows that are not held out, calibrate on those that are. `kinds` are names of LEVELS, `bars` lengths
    of the windows."""
    from sklearn.neural_network import MLPClassifier

    named = np.array(kinds)
    mean, deviation = spread(rows[~held_out])
    deviation = np.maximum(deviation, 1e-6)
    scaled = np.nan_to_num((rows - mean) / deviation).clip(-FARTHEST, FARTHEST)
    # As many whole pieces as damaged ones of the likeliest three kinds, or the network is wary of everything.
    chosen = np.flatnonzero(~held_out)
    chosen = np.concatenate([chosen, np.repeat(chosen[named[chosen] == "real"], 2)])
    network = MLPClassifier((_HIDDEN,), activation="tanh", alpha=1.0, max_iter=400, random_state=seed)
    network.fit(scaled[chosen], named[chosen])
    levels = np.array([LEVELS[kind] for kind in network.classes_])
    weights, biases = network.coefs_, network.intercepts_
    model = CoherenceModel(
        mean, deviation, weights[0], biases[0], weights[1], biases[1], levels, np.zeros(1), np.zeros(1), {}
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
    model = NGram([piece.words for piece in pieces], (*MUSIC_WORDS, END_MARK), NGRAM_ORDER)
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
    stored = to_json(model) | {"tunes": tunes}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in stored.items())
    write_text(out, f"{{\n{lines}\n}}\n")
    for length, kinds in stored["calibration"].items():
        sys.stdout.writelines(f"{length:>2s} bars {kind:18s} {measured}\n" for kind, measured in kinds.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parents[1] / "src/plagal/evaluation/coherence.json")
