"""The whole evaluation: from texts and models to one tree of figures, samples and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from plagal.compose.row import Constraint
from plagal.evaluation import likelihood, report
from plagal.evaluation.coherence import bars_shuffled, notes_shuffled, random_notes, shipped
from plagal.evaluation.control import Ears, MetreEar, StyleEar, follows_score, mean_verdicts
from plagal.evaluation.features import windows
from plagal.evaluation.ngram import NGram, head_of, write_with_ngram
from plagal.evaluation.page import made_by, write_page, write_plots
from plagal.evaluation.report import Tree, direction, model_card, put, put_interval
from plagal.evaluation.samples import (
    Sample,
    arrangers_answer,
    asked_for,
    keep_samples,
    one_of_each_style,
    true_of,
    valid_share,
    write_samples,
)
from plagal.evaluation.structure import TrainingMusic, distribution, mean_signs, real_against_real, rows_of, structure
from plagal.model.adapters import FUSE_REPORT, STAGES, TRAIN_REPORT, load_stage, trained_window
from plagal.model.base import LanguageModel
from plagal.model.scorer import pieces_that_fit
from plagal.music.score import Score
from plagal.plumbing.files import read_json, write_json, write_text
from plagal.plumbing.lock import end_with_parent
from plagal.plumbing.params import EvaluateSettings
from plagal.plumbing.workers import FEW

SEEDS = 3
"""The pieces are written from so many seeds, and a target is met when the worst of them meets it: with one seed the
same commit scored a coherence of 6.77 on one processor and 7.25 on another."""
_SEEDS_APART = 7919
"""Between one seed and the next; a prime, so that tries after a rejected piece (rerank adds a number of its own) do not
meet another seed's."""
EAR_PIECES = 240
"""Training pieces that metre and style are learned from."""
_LEAST_NOTES = 12
_SMALL_BYTES = 256e6


BySeed = list[list[Sample]]


@dataclass
class Findings:
    """What the parts of an evaluation hand on to the next and to the page."""

    tree: Tree = field(default_factory=report.empty_tree)
    likelihoods: dict[str, dict[str, list[likelihood.PieceLikelihood]]] = field(default_factory=dict)
    """Split -> model -> pieces."""
    ngrams: dict[str, NGram] = field(default_factory=dict)
    samples: BySeed = field(default_factory=list)
    free: BySeed = field(default_factory=list)
    """Written without the grammar, from the same prompts."""
    arranged: list[Sample] = field(default_factory=list)
    """The arranger's, the teacher, whom the model is to outgrow: from the same prompts, as far as it can."""


def evaluate(settings: EvaluateSettings, seed: int, text: Path, models: Path, metrics: Path) -> Tree:
    """Measure base, stage 1, stage 2 and the fused model of `models` on the held-out texts under `text`, and write
    `metrics`/metrics.json, report.html, model_card.md and the folders samples and plots there. Same inputs, same
    bytes, but for the commit and the machine that the report names."""
    texts = likelihood.load_texts(text, settings.max_pieces, seed)
    found = Findings()
    # Scoring and writing know nothing of each other: a process for each, where that is worth its start, and where two
    # models are nothing to the machine.
    small = sum(file.stat().st_size for file in (models / "fused").glob("*.safetensors")) < _SMALL_BYTES
    jobs = 2 if small and settings.generated >= FEW else 1
    parts = (delayed(part)(texts, models, settings, seed) for part in (score_all, write_music))
    scored, (found.samples, found.free) = Parallel(n_jobs=jobs, initializer=end_with_parent)(parts)
    found.likelihoods, found.ngrams, xz = scored
    put_likelihoods(found, xz, seed)
    measure_music(found, texts, settings, seed)
    put_training(found.tree, models)
    tree = report.finish(found.tree)
    kept = one_of_each_style(_all(found.samples), settings.samples)
    taught = {sample.asked: sample for sample in found.arranged}
    pictures = keep_samples(kept, metrics / "samples")
    write_plots(tree, metrics / "plots")
    curves = {stage: metrics / "curves" / f"{stage}.csv" for stage in ("stage1", "stage2")}
    answers = [taught.get(sample.asked) for sample in kept]
    write_page(tree, kept, answers, pictures, curves, made_by(), metrics / "report.html")
    write_text(metrics / "model_card.md", model_card(tree, text))
    write_json(metrics / "metrics.json", tree)
    return tree


def _all(by_seed: Sequence[Sequence[Sample]]) -> list[Sample]:
    return [sample for samples in by_seed for sample in samples]


Scored = tuple[dict[str, dict[str, list[likelihood.PieceLikelihood]]], dict[str, NGram], dict[str, float]]
"""Pieces by split and model; by split the n-gram; by split xz's nats a note."""


def score_all(texts: likelihood.Texts, models: Path, settings: EvaluateSettings, _: int) -> Scored:
    """Every model and floor on every split."""
    scorer = likelihood.make_scorer()
    window = trained_window(models / "fused")
    splits = texts.held_out
    found: dict[str, dict[str, list[likelihood.PieceLikelihood]]] = {split: {} for split in splits}
    for name in STAGES:
        # No name here holds the model, so that it is gone before the next is loaded: two of 14 B are more than 16 GB.
        for split, scored in _score_splits(load_stage(models, name), splits, scorer, window).items():
            found[split][name] = scored
    floor, ngrams, xz = likelihood.floors(texts, splits, scorer, settings.ngram_orders)
    for split, scored in floor.items():
        found[split]["ngram"] = scored
    return found, ngrams, xz


def _score_splits(
    lm: LanguageModel, splits: dict[str, list[likelihood.TextPiece]], scorer: likelihood.LikelihoodScorer, window: int
) -> dict[str, list[likelihood.PieceLikelihood]]:
    return {
        split: likelihood.score_model(lm, pieces, scorer, window, progress=True) for split, pieces in splits.items()
    }


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


def put_likelihoods(found: Findings, xz: dict[str, float], seed: int) -> None:
    """Figures of each model on each split, stage 2 against its peers, and the plan's own two: gospel for the fused
    model, general music after stage 1."""
    tree = found.tree
    for split, by_model in found.likelihoods.items():
        put(tree, f"nats_per_note.{split}.xz", xz.get(split))
        for name, pieces in by_model.items():
            summary, path = likelihood.summarise(pieces, seed), f"{split}.{name}"
            if summary is None:
                continue
            put(tree, f"nats_per_note.{path}", summary.nats_per_note)
            put_interval(tree, f"nats_per_note.{path}", summary.nats_interval)
            put(tree, f"choice_accuracy.{path}", summary.choice_accuracy)
            put_interval(tree, f"choice_accuracy.{path}", summary.choice_interval)
            for facet, nats in summary.nats_split.items():
                put(tree, f"nats_split.{path}.{facet}", nats)
            for what in ("pieces", "tunes", "notes"):
                put(tree, f"held_out.{split}.{what}", getattr(summary, what))
    for split in ("gospel_real", "gospel_synthetic"):
        by_model = found.likelihoods[split]
        for peer in ("ngram", "stage1"):
            compared = (
                likelihood.compare(by_model["stage2"], by_model.get(peer, []), seed) if by_model.get("stage2") else None
            )
            if compared is not None:
                put(tree, f"ratio.{split}.stage2_vs_{peer}", compared[0])
                put_interval(tree, f"ratio.{split}.stage2_vs_{peer}", compared[1])
    gospel = [piece for split in ("gospel_real", "gospel_synthetic") for piece in found.likelihoods[split]["fused"]]
    if (after_two := likelihood.summarise(gospel, seed)) is not None:
        put(tree, "plan.perplexity", after_two.perplexity)
        put(tree, "plan.token_accuracy", after_two.token_accuracy)
    if (after_one := likelihood.summarise(found.likelihoods["general"].get("stage1", []), seed)) is not None:
        put(tree, "plan.perplexity_stage1", after_one.perplexity)


# --- what needs music and not likelihoods: generated pieces beside held-out real ones, the arranger's, and floors ---


def write_music(texts: likelihood.Texts, models: Path, settings: EvaluateSettings, seed: int) -> tuple[BySeed, BySeed]:
    """What the fused model writes when asked about held-out tunes, every second piece twice as long; then once more
    without the grammar, the same prompts."""
    pieces = texts.gospel or texts.held_out["general"]
    asked = [
        asked_for(pieces[number % len(pieces)], settings.bars * (1 + number % 2), seed, number)
        for number in range(settings.generated)
    ]
    fused, window = load_stage(models, "fused"), trained_window(models / "fused")

    def written(constraint: Constraint, number: int) -> list[Sample]:
        group = asked[number::SEEDS]
        some = pieces_that_fit(fused, window, max(len(group), 1))  # on most machines all at once
        return [
            sample
            for part, start in enumerate(range(0, len(group), some))
            for sample in write_samples(fused, group[start : start + some], settings,
                                        seed + number * _SEEDS_APART + part, constraint=constraint)
        ]  # fmt: skip

    steered, free = ([written(constraint, number) for number in range(SEEDS)] for constraint in ("asked", "none"))
    return steered, free


def measure_music(found: Findings, texts: likelihood.Texts, settings: EvaluateSettings, seed: int) -> None:
    """All that is heard in notes. Held-out gospel is the yardstick of style; where there is none, general music."""
    held_out = texts.gospel or texts.held_out["general"]
    pieces = [*texts.gospel, *texts.held_out["general"]]
    real = excerpts([piece for piece in pieces if not piece.synthetic], settings.bars)
    ears = train_ears(texts, settings.bars, seed)
    asked = [sample.asked for sample in _all(found.samples)]
    answers = [arrangers_answer(one, settings, seed + number) for number, one in enumerate(asked)]
    found.arranged = [answer for answer in answers if answer is not None]
    put(found.tree, "control_arranger.answered", len(found.arranged) / len(asked) if asked else None)
    put_written(found, ears, real)
    heard = [follows_score(true_of(piece), piece.score, ears) for piece in texts.gospel]
    for name in ("key", "metre", "style"):
        put(found.tree, f"control_ceiling.{name}", mean_verdicts(heard).get(name))
    split = "gospel_synthetic" if "gospel_synthetic" in found.ngrams else "general"
    put_yardsticks(found.tree, real, found.ngrams.get(split), held_out, settings.bars, seed)
    model = [sample.read_back for sample in _all(found.samples)]
    arranged = [sample.read_back for sample in found.arranged]
    gospel = excerpts(held_out, settings.bars)
    put_distribution(found.tree, model, arranged, gospel, seed)
    for side, scores in (("model", model), ("real", gospel), ("arranger", arranged)):
        for sign, share in mean_signs(scores).items():
            put(found.tree, f"gospel.{sign}.{side}", share)
    put_copying(found.tree, texts, model, arranged, gospel)


def excerpts(pieces: Sequence[likelihood.TextPiece], bars: int) -> list[Score]:
    """From each piece the window in its middle, of `bars` and of twice as many bars in turn: as long as what is
    generated, so that length tells nothing. Pieces with hardly a note there are left out."""
    cuts = [windows(piece.score, bars * (1 + number % 2), 3) for number, piece in enumerate(pieces)]
    chosen = [cut[len(cut) // 2] for cut in cuts if cut]
    return [score for score in chosen if len(score.notes) >= _LEAST_NOTES]


def train_ears(texts: likelihood.Texts, bars: int, seed: int) -> Ears:
    """On training pieces, real ones first; style only on gospel, whose styles are asked for."""
    gospel, general = likelihood.first_copies(texts.stage2_train), likelihood.first_copies(texts.stage1_train)
    real = [piece for piece in [*general, *gospel] if not piece.synthetic]
    metre = likelihood.choose(real, EAR_PIECES, seed) + likelihood.choose(gospel, EAR_PIECES // 2, seed)
    style = likelihood.choose(gospel, EAR_PIECES, seed)
    return Ears(
        MetreEar([piece.score for piece in metre]),
        StyleEar([(piece.style, piece.score) for piece in style], bars, seed),
    )


def put_written(found: Findings, ears: Ears, real: Sequence[Score]) -> None:
    """Figures of what was written, over all seeds; and under `worst` each one's worst of the seeds, where better and
    worse can be told apart."""
    figures = written_figures(_all(found.samples), _all(found.free), ears, real)
    figures |= figures_of(found.arranged, "control_arranger", "arranger", ears, real)
    for path, value in figures.items():
        put(found.tree, path, value)
    by_seed = [written_figures(*both, ears, real) for both in zip(found.samples, found.free, strict=True)]
    for path in by_seed[0]:
        values = [value for figures in by_seed if (value := figures.get(path)) is not None]
        if values and direction(path):
            put(found.tree, f"worst.{path}", min(values) if direction(path) > 0 else max(values))


def written_figures(
    samples: Sequence[Sample], free: Sequence[Sample], ears: Ears, real: Sequence[Score]
) -> dict[str, float | None]:
    """Dotted path -> figure, of pieces written with the grammar (`samples`) and without (`free`)."""
    steered = figures_of(samples, "control", "model", ears, real)
    plan = {"plan.valid_midi": steered.pop("control.valid_midi"), "plan.coherence": steered["coherence.model"]}
    return plan | steered | figures_of(free, "control_free", "model_free", ears, real)


def figures_of(
    written: Sequence[Sample], where: str, ending: str, ears: Ears, real: Sequence[Score]
) -> dict[str, float | None]:
    """Dotted path -> figure: rows `where`.* for what was done as asked, and those that end with `ending`."""
    verdicts = [follows_score(sample.asked, sample.read_back, ears) for sample in written]
    scores = [sample.read_back for sample in written]
    return {
        f"{where}.valid_midi": valid_share(written),
        **{f"{where}.{name}": share for name, share in mean_verdicts(verdicts).items()},
        f"coherence.{ending}": shipped().mean_score(scores),
        **{f"structure.{name}.{ending}": value for name, value in structure(scores, real).items()},
    }


def put_yardsticks(
    tree: Tree, real: Sequence[Score], ngram: NGram | None, heads: Sequence[likelihood.TextPiece], bars: int, seed: int
) -> None:
    """The two judges on held-out real music and on real music damaged."""
    rng = np.random.default_rng(seed)
    others = {
        "bars_shuffled": [bars_shuffled(score, rng) for score in real],
        "notes_shuffled": [notes_shuffled(score, rng) for score in real],
        "random": [random_notes(score, rng) for score in real],
    }
    if ngram is not None:
        others["ngram"] = write_with_ngram(ngram, [head_of(piece.words) for piece in heads], bars, 150 * bars, seed)
    for name, scores in {"real": real, **others}.items():
        put(tree, f"coherence.{name}", shipped().mean_score(scores))
    half = len(real) // 2
    halves = structure(real[:half], real[half:])
    for name, value in {**halves, **structure(real, None)}.items():  # only distance holds one half against the other
        put(tree, f"structure.{name}.real", value)


def put_distribution(
    tree: Tree, model: Sequence[Score], arranged: Sequence[Score], real: Sequence[Score], seed: int
) -> None:
    theirs = rows_of(real)
    generated, taught = (distribution(rows_of(scores), theirs, seed) for scores in (model, arranged))
    floor = real_against_real(theirs, seed)
    for ending, measured in (("", generated), ("_real", floor), ("_arranger", taught)):
        for figure in ("overlap", "kl", "frechet") if measured is not None else ():
            put(tree, f"distribution.{figure}{ending}", getattr(measured, figure))
    for name, overlap in (generated.by_feature if generated else {}).items():
        put(tree, f"distribution_overlap.{name}", overlap)


def put_copying(
    tree: Tree, texts: likelihood.Texts, model: Sequence[Score], arranged: Sequence[Score], real: Sequence[Score]
) -> None:
    trained_on = [piece.score for piece in likelihood.first_copies([*texts.stage2_train, *texts.stage1_train])]
    training = TrainingMusic(trained_on)
    for ending, scores in (("", model), ("_real", real), ("_arranger", arranged)):
        found = training.measure(scores)
        if found is not None:
            put(tree, f"copying.longest_run{ending}", found.longest_run)
            put(tree, f"copying.bars_seen{ending}", found.bars_seen)
            put(tree, f"copying.inner_bars_seen{ending}", found.inner_bars_seen)
