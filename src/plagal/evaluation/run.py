"""The whole evaluation: from texts and models to one tree of figures, samples and a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from plagal.evaluation import music_measures as music
from plagal.evaluation import report
from plagal.evaluation.asking import all_asked
from plagal.evaluation.card import model_card
from plagal.evaluation.charts import write_plots
from plagal.evaluation.heldout import Texts, load_texts
from plagal.evaluation.likelihood import Likelihood, PieceLikelihood, compare, summarise
from plagal.evaluation.ngram import NGram
from plagal.evaluation.page import write_page
from plagal.evaluation.ratings import read_ratings
from plagal.evaluation.ratings import summarise as summarise_ratings
from plagal.evaluation.report import Tree, put, put_interval
from plagal.evaluation.samples import Sample, keep_samples, one_of_each_style, valid_share, write_samples
from plagal.evaluation.scoring import floors, make_scorer, score_model
from plagal.model.adapters import TRAIN_REPORT
from plagal.model.folders import FUSE_REPORT, load_stage, stage_models, window_of
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
    window = window_of(models / "fused")
    splits = texts.held_out
    found.likelihoods = {split: {} for split in splits}
    for name, lm in stage_models(models):
        for split, pieces in splits.items():
            found.likelihoods[split][name] = score_model(lm, pieces, scorer, window, progress=True)
    floor, found.ngrams, xz = floors(texts, splits, scorer, settings.ngram_orders)
    for split, scored in floor.items():
        found.likelihoods[split]["ngram"] = scored
        put(found.tree, f"nats_per_note.{split}.xz", xz[split])
    put_likelihoods(found, seed)


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
    gospel = music.excerpts(held_out, settings.bars)
    split = "gospel_synthetic" if "gospel_synthetic" in found.ngrams else "general"
    music.put_control(found.tree, texts, found.samples, found.free, music.train_ears(texts, settings.bars, seed))
    music.put_coherence(
        found.tree, music.excerpts(real_first, COHERENCE_BARS), model, found.ngrams.get(split), held_out, seed
    )
    music.put_distribution(found.tree, model, gospel, seed)
    music.put_gospel(found.tree, model, gospel)
    music.put_copying(found.tree, texts, model, gospel)


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
