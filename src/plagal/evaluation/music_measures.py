"""The measures that need music and not likelihoods: generated pieces beside held-out real ones and floors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plagal.evaluation import distribution
from plagal.evaluation.asking import true_of
from plagal.evaluation.bars import bars_of, windows
from plagal.evaluation.coherence import shipped
from plagal.evaluation.control import Ears, MetreEar, StyleEar, follows_score, summarise
from plagal.evaluation.copying import TrainingMusic
from plagal.evaluation.damage import bars_shuffled, notes_shuffled, random_notes
from plagal.evaluation.features import FEATURES, features
from plagal.evaluation.gospel import mean_signs
from plagal.evaluation.heldout import Piece, Texts, choose, first_copies
from plagal.evaluation.ngram import NGram
from plagal.evaluation.ngram_pieces import head_of, write_with_ngram
from plagal.evaluation.report import Tree, put
from plagal.evaluation.samples import Sample
from plagal.music.score import Score

EAR_PIECES = 240
"""Training pieces that metre and style are learned from."""
_LEAST_NOTES = 12


def excerpts(pieces: Sequence[Piece], bars: int) -> list[Score]:
    """From each piece the window of `bars` bars in its middle: as long as what is generated, so that length tells
    nothing. Pieces with hardly a note there are left out."""
    cuts = [windows(piece.score, bars, 3) for piece in pieces]
    chosen = [some[len(some) // 2] for some in cuts if some]
    return [score for score in chosen if len(score.notes) >= _LEAST_NOTES]


def train_ears(texts: Texts, bars: int, seed: int) -> Ears:
    """On training pieces, real ones first; style only on gospel, whose styles are asked for."""
    gospel, general = first_copies(texts.stage2_train), first_copies(texts.stage1_train)
    real = [piece for piece in [*general, *gospel] if not piece.synthetic]
    metre = choose(real, EAR_PIECES, seed) + choose(gospel, EAR_PIECES // 2, seed)
    style = choose(gospel, EAR_PIECES, seed)
    return Ears(
        MetreEar([piece.score for piece in metre]),
        StyleEar([(piece.style, piece.score) for piece in style], bars, seed),
    )


def put_control(tree: Tree, texts: Texts, samples: Sequence[Sample], free: Sequence[Sample], ears: Ears) -> None:
    """As asked, with the grammar and without; beside it how the same ears do on held-out pieces as they are."""
    for where, some in (("control", samples), ("control_free", free)):
        verdicts = [follows_score(sample.asked, sample.read_back, ears) for sample in some]
        for name, share in summarise(verdicts).items():
            put(tree, f"{where}.{name}", share)
    heard = [follows_score(true_of(piece), piece.score, ears) for piece in texts.gospel]
    for name in ("key", "metre", "style"):
        put(tree, f"control_ceiling.{name}", summarise(heard).get(name))


def put_coherence(
    tree: Tree, real: Sequence[Score], model: Sequence[Score], ngram: NGram | None, heads: Sequence[Piece], seed: int
) -> None:
    ear, rng = shipped(), np.random.default_rng(seed)
    damaged = {
        "bars_shuffled": [bars_shuffled(score, rng) for score in real],
        "notes_shuffled": [notes_shuffled(score, rng) for score in real],
        "random": [random_notes(score, rng) for score in real],
    }
    if ngram is not None and real:
        bars = len(bars_of(real[0]))
        starts = [head_of(piece.words) for piece in heads]
        damaged["ngram"] = write_with_ngram(ngram, starts, bars, 150 * bars, seed)
    for name, scores in {"real": real, "model": model, **damaged}.items():
        put(tree, f"coherence.{name}", ear.mean_score(scores))
    put(tree, "plan.coherence", ear.mean_score(model))


def put_distribution(tree: Tree, model: Sequence[Score], real: Sequence[Score], seed: int) -> None:
    ours, theirs = _rows(model), _rows(real)
    found, floor = distribution.compare(ours, theirs, seed), distribution.real_against_real(theirs, seed)
    for ending, one in (("", found), ("_real", floor)):
        if one is not None:
            put(tree, f"distribution.overlap{ending}", one.overlap)
            put(tree, f"distribution.kl{ending}", one.kl)
            put(tree, f"distribution.frechet{ending}", one.frechet)
    for name, overlap in (found.by_feature if found else {}).items():
        put(tree, f"distribution_overlap.{name}", overlap)


def _rows(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    rows = [features(score) for score in scores if len(score.notes) >= 2]
    return np.stack(rows) if rows else np.zeros((0, len(FEATURES)))


def put_gospel(tree: Tree, model: Sequence[Score], real: Sequence[Score]) -> None:
    for side, scores in (("model", model), ("real", real)):
        for sign, share in mean_signs(scores).items():
            put(tree, f"gospel.{sign}.{side}", share)


def put_copying(tree: Tree, texts: Texts, model: Sequence[Score], real: Sequence[Score]) -> None:
    trained_on = [piece.score for piece in first_copies([*texts.stage2_train, *texts.stage1_train])]
    training = TrainingMusic(trained_on)
    for ending, scores in (("", model), ("_real", real)):
        found = training.measure(scores)
        if found is not None:
            put(tree, f"copying.longest_run{ending}", found.longest_run)
            put(tree, f"copying.bars_seen{ending}", found.bars_seen)
