"""The whole evaluation: from texts and models to one tree of figures, samples and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plagal.evaluation import distribution, report
from plagal.evaluation.asking import all_asked, true_of
from plagal.evaluation.coherence import bars_shuffled, notes_shuffled, random_notes, shipped
from plagal.evaluation.control import Ears, MetreEar, StyleEar, follows_score, mean_verdicts
from plagal.evaluation.copying import TrainingMusic
from plagal.evaluation.distribution import mean_signs
from plagal.evaluation.features import FEATURES, bars_of, features, windows
from plagal.evaluation.heldout import (
    TextPiece,
    Texts,
    choose,
    first_copies,
    floors,
    load_texts,
    make_scorer,
    score_model,
)
from plagal.evaluation.likelihood import Likelihood, LikelihoodScorer, PieceLikelihood, compare, summarise
from plagal.evaluation.ngram import NGram, head_of, write_with_ngram
from plagal.evaluation.page import write_page, write_plots
from plagal.evaluation.ratings import read_ratings, summarise_ratings
from plagal.evaluation.report import Tree, model_card, put, put_interval
from plagal.evaluation.samples import Sample, keep_samples, one_of_each_style, valid_share, write_samples
from plagal.model.adapters import FUSE_REPORT, STAGES, TRAIN_REPORT, load_stage, trained_window
from plagal.model.base import LanguageModel
from plagal.music.score import Score
from plagal.plumbing.files import read_json, write_json, write_text
from plagal.plumbing.params import EvaluateSettings

COHERENCE_BARS = 16
"""Of the real pieces that the ear for coherence is tried on; generated ones it hears as they are."""
FREE_SHARE = 10
"""One piece in so many is also written without the grammar."""


@dataclass
class Findings:
    """What the parts of an evaluation hand on to the next and to the page."""

    tree: Tree = field(default_factory=report.empty_tree)
    likelihoods: dict[str, dict[str, list[PieceLikelihood]]] = field(default_factory=dict)
    """Split -> model -> pieces."""
    summaries: dict[str, dict[str, Likelihood]] = field(default_factory=dict)
    ngrams: dict[str, NGram] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    free: list[Sample] = field(default_factory=list)
    """Written without the grammar."""


def evaluate(
    settings: EvaluateSettings, seed: int, text: Path, models: Path, metrics: Path, ratings: Path | None = None
) -> Tree:
    """Measure base, stage 1, stage 2 and the fused model of `models` on the held-out texts under `text`, and write
    `metrics`/metrics.json, report.html, model_card.md and the folders samples and plots there. `ratings`:
    JSONL of what people said, if anybody did. Same inputs, same bytes."""
    texts = load_texts(text, settings.max_pieces, seed)
    found = Findings()
    measure_likelihoods(found, texts, models, settings, seed)
    write_music(found, texts, models, settings, seed)
    measure_music(found, texts, settings, seed)
    put_ratings(found.tree, ratings, seed)
    put_training(found.tree, models)
    tree = report.finish(found.tree)
    kept = one_of_each_style(found.samples, settings.samples)
    pictures = keep_samples(kept, metrics / "samples")
    write_plots(tree, metrics / "plots")
    curves = {stage: metrics / "curves" / f"{stage}.csv" for stage in ("stage1", "stage2")}
    write_page(tree, kept, pictures, curves, metrics / "report.html")
    write_text(metrics / "model_card.md", model_card(tree, text))
    write_json(metrics / "metrics.json", tree)
    return tree


def measure_likelihoods(found: Findings, texts: Texts, models: Path, settings: EvaluateSettings, seed: int) -> None:
    """Every model and floor on every split."""
    scorer = make_scorer()
    window = trained_window(models / "fused")
    splits = texts.held_out
    found.likelihoods = {split: {} for split in splits}
    for name in STAGES:
        # No name here holds the model, so that it is gone before the next is loaded: two of 14 B are more than 16 GB.
        for split, scored in _score_splits(load_stage(models, name), splits, scorer, window).items():
            found.likelihoods[split][name] = scored
    floor, found.ngrams, xz = floors(texts, splits, scorer, settings.ngram_orders)
    for split, scored in floor.items():
        found.likelihoods[split]["ngram"] = scored
        put(found.tree, f"nats_per_note.{split}.xz", xz[split])
    put_likelihoods(found, seed)


def _score_splits(
    lm: LanguageModel, splits: dict[str, list[TextPiece]], scorer: LikelihoodScorer, window: int
) -> dict[str, list[PieceLikelihood]]:
    return {split: score_model(lm, pieces, scorer, window, progress=True) for split, pieces in splits.items()}


def write_music(found: Findings, texts: Texts, models: Path, settings: EvaluateSettings, seed: int) -> None:
    """What the fused model writes when asked about held-out tunes; some of it without the grammar."""
    fused = load_stage(models, "fused")
    asked = all_asked(texts.gospel or texts.held_out["general"], settings.bars, settings.generated, seed)
    found.samples = write_samples(fused, asked, settings, seed)
    found.free = write_samples(fused, asked[: -(-len(asked) // FREE_SHARE)], settings, seed, grammar=False)
    put(found.tree, "plan.valid_midi", valid_share(found.samples))
    put(found.tree, "control_free.valid_midi", valid_share(found.free))


def measure_music(found: Findings, texts: Texts, settings: EvaluateSettings, seed: int) -> None:
    """All that is heard in notes. Held-out gospel is the yardstick; where there is none, general music."""
    held_out = texts.gospel or texts.held_out["general"]
    real_first = [piece for piece in held_out if not piece.synthetic] or held_out
    model = [sample.read_back for sample in found.samples]
    gospel = excerpts(held_out, settings.bars)
    split = "gospel_synthetic" if "gospel_synthetic" in found.ngrams else "general"
    put_control(found.tree, texts, found.samples, found.free, train_ears(texts, settings.bars, seed))
    put_coherence(found.tree, excerpts(real_first, COHERENCE_BARS), model, found.ngrams.get(split), held_out, seed)
    put_distribution(found.tree, model, gospel, seed)
    put_gospel(found.tree, model, gospel)
    put_copying(found.tree, texts, model, gospel)


def put_ratings(tree: Tree, path: Path | None, seed: int) -> None:
    found = summarise_ratings(read_ratings(path), seed) if path is not None else None
    if found is not None:
        put(tree, "ratings.mean", found.mean)
        put(tree, "ratings.raters", found.raters)
        put_interval(tree, "ratings.mean", found.interval)
        for system, strength in found.strengths.items():
            put(tree, f"ratings.strength.{system}", strength)


def put_training(tree: Tree, models: Path) -> None:
    """Notes that each stage was trained on; what fusing cost, and in how many bits (0: plain) it left the layers that
    adapters touched. Where a stage left a note of it."""
    for stage in ("stage1", "stage2"):
        file = models / stage / TRAIN_REPORT
        if file.exists():
            put(tree, f"training.{stage}.notes_seen", read_json(file).get("notes"))
    if (models / "fused" / FUSE_REPORT).exists():
        fused = read_json(models / "fused" / FUSE_REPORT)
        for what in ("base_loss", "adapted_loss", "fused_loss", "lost_share", "touched_bits"):
            put(tree, f"training.fuse.{what}", fused.get(what))


def put_likelihoods(found: Findings, seed: int) -> None:
    for split, by_model in found.likelihoods.items():
        found.summaries[split] = {}
        for name, pieces in by_model.items():
            summary = summarise(pieces, seed)
            if summary is not None:
                found.summaries[split][name] = summary
                _put_summary(found.tree, f"{split}.{name}", summary)
                counts = {"pieces": summary.pieces, "tunes": summary.tunes, "notes": summary.notes}
                for what, count in counts.items():
                    put(found.tree, f"held_out.{split}.{what}", count)
    _put_ratios(found, seed)
    _put_plan(found, seed)


def _put_summary(tree: Tree, path: str, summary: Likelihood) -> None:
    put(tree, f"nats_per_note.{path}", summary.nats_per_note)
    put_interval(tree, f"nats_per_note.{path}", summary.nats_interval)
    put(tree, f"choice_accuracy.{path}", summary.choice_accuracy)
    put_interval(tree, f"choice_accuracy.{path}", summary.choice_interval)
    for facet, nats in summary.nats_split.items():
        put(tree, f"nats_split.{path}.{facet}", nats)


def _put_ratios(found: Findings, seed: int) -> None:
    for split in ("gospel_real", "gospel_synthetic"):
        by_model = found.likelihoods[split]
        for peer in ("ngram", "stage1"):
            compared = compare(by_model["stage2"], by_model.get(peer, []), seed) if by_model.get("stage2") else None
            if compared is not None:
                put(found.tree, f"ratio.{split}.stage2_vs_{peer}", compared[0])
                put_interval(found.tree, f"ratio.{split}.stage2_vs_{peer}", compared[1])


def _put_plan(found: Findings, seed: int) -> None:
    """The plan's own two: gospel for the fused model, general music after stage 1."""
    gospel = [piece for split in ("gospel_real", "gospel_synthetic") for piece in found.likelihoods[split]["fused"]]
    after_two, after_one = summarise(gospel, seed), found.summaries["general"].get("stage1")
    if after_two is not None:
        put(found.tree, "plan.perplexity", after_two.perplexity)
        put(found.tree, "plan.token_accuracy", after_two.token_accuracy)
    if after_one is not None:
        put(found.tree, "plan.perplexity_stage1", after_one.perplexity)


# --- what needs music and not likelihoods: generated pieces beside held-out real ones and floors ---

EAR_PIECES = 240
"""Training pieces that metre and style are learned from."""
_LEAST_NOTES = 12


def excerpts(pieces: Sequence[TextPiece], bars: int) -> list[Score]:
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
        for name, share in mean_verdicts(verdicts).items():
            put(tree, f"{where}.{name}", share)
    heard = [follows_score(true_of(piece), piece.score, ears) for piece in texts.gospel]
    for name in ("key", "metre", "style"):
        put(tree, f"control_ceiling.{name}", mean_verdicts(heard).get(name))


def put_coherence(
    tree: Tree,
    real: Sequence[Score],
    model: Sequence[Score],
    ngram: NGram | None,
    heads: Sequence[TextPiece],
    seed: int,
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
