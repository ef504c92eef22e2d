"""The rehearsal: the profile's own shape, settings and disk; few steps."""

from __future__ import annotations

import gc
import logging
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from plagal.asking.request import read_request
from plagal.compose.write import draft
from plagal.model import adapters, memory, trainer
from plagal.model.base import LanguageModel, held_bytes, load, make_random, place_base, read_config
from plagal.model.cpu.kernels import on_cpu
from plagal.model.fuse import merge_layer, touched_layers
from plagal.model.loss import make_windows
from plagal.model.memory import peak_bytes, predict_evaluate, predict_fuse, unpacks
from plagal.model.scorer import ModelScorer, windows_that_fit, word_scores
from plagal.music.arranger.arrange import STYLES, arrange
from plagal.plumbing.errors import PlagalError
from plagal.plumbing.files import read_jsonl
from plagal.plumbing.params import Params, TrainSettings
from plagal.rehearsal.machine import (
    EMBEDDED,
    describe_machine,
    is_there,
    resident_peak_bytes,
    scratch,
    shape_of,
    swap_bytes,
)
from plagal.tokens.codec import encode
from plagal.tokens.vocabulary import TRAINING_TEMPLATE

log = logging.getLogger(__name__)

CHECKPOINTS = Path(".checkpoints")
TEXT = Path("data/text")
_MICRO_BATCHES = 2
"""Of a step here, whatever the profile accumulates: enough for a sum of gradients to be held beside new ones."""
_EVALUATE_EVERY = 9
"""Steps; the trainer then reports each step, which is timed."""
_SHARE_OF_TIME = 0.4
"""Of the minutes, for timing each of the two stages."""
_FEWEST_STEPS, _MOST_STEPS = 3, 400
_STRAY = 3.0
"""A step this many times the median was compiling a shape that it met for the first time; a long run forgets that."""
_ARRANGED = 12
_PIECE_WORDS = 150
_DVC_COPIES = 2
"""A model lies in the workspace and in DVC's cache, unless the disk can share blocks."""

T = TypeVar("T")


@dataclass
class Stage:
    """What a stage of training was found to need. Bytes, seconds."""

    max_tokens: int
    wanted_max_tokens: int
    planned_bytes: float
    budget_bytes: float
    wanted_bytes: float
    """The plan's, at the length that params ask for."""
    peak_bytes: int = 0
    step_seconds: list[float] = field(default_factory=list)
    """Of whole steps, as the profile accumulates."""
    checkpoint_bytes: int = 0
    checkpoint_seconds: float = 0.0
    resumed_at_step: int = -1
    best_bytes: int = 0
    hours: list[float] = field(default_factory=list)
    """[fewest, likely, most] of the whole stage with its evaluations."""
    evaluated_windows: int = 0
    """Of the validation text each time; 0 where there is no text yet."""
    failed: str = ""

    @property
    def off_the_plan(self) -> float:
        return self.peak_bytes / self.planned_bytes - 1 if self.peak_bytes else 0.0


class _EnoughError(Exception):
    pass


def rehearse(
    params: Params, minutes: float = 5.0, config: dict[str, Any] | None = None, layers: int = 0
) -> dict[str, Any]:
    """Do a little of everything that a run of `params` does, and measure it. -> the report (JSON's types).

    `config`: shape of a base that is neither here nor known; `layers`: cut a base of random weights to so many, 0 keeps
    all. Raises PlagalError only where no base can be made at all: what goes wrong later is part of the report.
    """
    began, swap = time.monotonic(), swap_bytes()
    with scratch(CHECKPOINTS) as folder:
        machine = describe_machine(folder)
        (lm, shape, source), loading = _timed(lambda: _base(params, folder, config, layers))
        budget, grown = memory.budget_bytes(), source != "made here"
        base_bytes = peak_bytes(start_anew=True)
        stages: dict[str, Stage] = {}
        for name, settings in (("stage1", params.train_stage1), ("stage2", params.train_stage2)):
            log.info("%s: steps at full length, a checkpoint, resumed", name)
            stage = _planned(params, settings, shape, budget, grown)
            stages[name] = stage
            _train(lm, settings, stage, folder / name, _texts(name), params.seed,
                   60 * minutes * _SHARE_OF_TIME)  # fmt: skip
        log.info("fuse of a layer, an evaluation batch, a piece")
        rest = _after_training(params, lm, shape, budget, grown)
        for name, settings in (("stage1", params.train_stage1), ("stage2", params.train_stage2)):
            stages[name].hours = _hours(stages[name], settings, rest.get("evaluated_seconds_a_window", 0.0))
        disk = _disk(params, shape, stages, folder)
    report = {
        "machine": machine,
        "base": {"name": params.model.base, "weights": source, "layers": shape["num_hidden_layers"],
                 "encoding": params.model.encoding, "load_seconds": round(loading, 1), "load_peak_bytes": base_bytes},
        "budget_bytes": budget,
        "stages": {name: asdict(stage) | {"off_the_plan": round(stage.off_the_plan, 4)}
                   for name, stage in stages.items()},
        **rest,
        "disk": disk,
        "swap_grown_bytes": swap_bytes() - swap,
        "resident_peak_bytes": resident_peak_bytes(),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    report["verdict"] = verdict(report, params)
    return report


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def _base(
    params: Params, folder: Path, config: dict[str, Any] | None, layers: int
) -> tuple[LanguageModel, dict[str, Any], str]:
    """The base in memory, its shape before music words grow it, and where its weights are from."""
    if config is None and not layers and is_there(params.model):
        base = place_base(params.model, folder / "base", params.seed)
        lm = load(base, params.model.encoding)
        return lm, read_config(lm.folder), "real" if params.model.base != EMBEDDED else "made here"
    shape = dict(config or shape_of(params.model))
    if layers:
        shape["num_hidden_layers"] = min(layers, shape["num_hidden_layers"])
    return make_random(shape, folder / "base", params.model.encoding, params.seed), shape, "random"


def _planned(params: Params, settings: TrainSettings, shape: dict[str, Any], budget: float, grown: bool) -> Stage:
    """A stage with the plan's need, at the profile's length or, where that does not fit, at the longest that does."""
    options: dict[str, Any] = {
        "encoding": params.model.encoding, "grown": grown, "activation_bytes": 4 if on_cpu() else 2,
        "scoreless": memory.on_metal(), "unpacked": unpacks(shape),
    }  # fmt: skip
    wanted = memory.predict(shape, settings, **options).total
    length = settings.max_tokens
    if wanted > budget:
        length = memory.longest_sequence(shape, settings, budget, **options)
    fitting = settings.model_copy(update={"max_tokens": length})
    return Stage(length, settings.max_tokens, memory.predict(shape, fitting, **options).total, budget, wanted)


def _train(
    lm: LanguageModel, settings: TrainSettings, stage: Stage, folder: Path, texts: list[str], seed: int, seconds: float
) -> None:
    """One step at full length with its checkpoint, then steps of music, taken up from there. Fills `stage`."""
    if stage.max_tokens < 64:
        stage.failed = "no length fits"
        return
    short = settings.model_copy(update={
        "max_tokens": stage.max_tokens, "accumulation": min(settings.accumulation, _MICRO_BATCHES),
        "evaluate_every": _EVALUATE_EVERY, "save_every": settings.steps, "patience": 0,
    })  # fmt: skip
    full = [_full_text(lm, stage.max_tokens)] * (settings.batch * short.accumulation)
    valid = TEXT / folder.name / "valid.jsonl"
    peak_bytes(start_anew=True)
    try:
        if valid.exists():
            texts_held_out = [row["text"] for row in read_jsonl(valid)]
            stage.evaluated_windows = len(make_windows(lm, texts_held_out, stage.max_tokens, str(valid)))
        trainer.train(lm, full, full[:1], short, folder, folder / "out", seed=seed, stop_after=1)
        stage.peak_bytes = peak_bytes(start_anew=True)
        saved = folder / "step-00000001"
        stage.checkpoint_bytes, stage.best_bytes = _size(saved), _size(folder / "best-00000000")
        _, stage.checkpoint_seconds = _timed(lambda: shutil.copytree(saved, folder / "again"))
        shutil.rmtree(folder / "again")
        if settings.mode == "lora" and lm.adapters is None:
            lm.adapters = adapters.lora_config(lm, settings.lora)
        times = [time.monotonic()]
        evaluated = []
        end = times[0] + seconds

        def on_row(row: trainer.CurveRow) -> None:
            if stage.resumed_at_step < 0:
                stage.resumed_at_step = row.step - 1
            times.append(time.monotonic())
            evaluated.append(row.valid_loss is not None)
            enough = len(times) > _FEWEST_STEPS and times[-1] > end
            if enough or len(times) > _MOST_STEPS:
                raise _EnoughError

        with suppress(_EnoughError):
            trainer.train(lm, texts, full[:1], short, folder, folder / "out", seed=seed, on_row=on_row)
        taken = [after - before for before, after in pairwise(times)][1:]  # the first compiled everything
        kept = [t for t, with_evaluation in zip(taken, evaluated[1:], strict=True) if not with_evaluation]
        scale = settings.accumulation / short.accumulation
        middle = statistics.median(kept) if kept else 0.0
        stage.step_seconds = [round(t * scale, 4) for t in kept if t <= _STRAY * middle]
    except (PlagalError, RuntimeError, MemoryError) as error:  # MLX tells of memory that it did not get as RuntimeError
        stage.failed = " ".join(str(error).split())[:300]
        log.warning("%s", stage.failed)


def _full_text(lm: LanguageModel, max_tokens: int) -> str:
    """A text that fills a window of `max_tokens` but for a few: bars of one note each."""
    tokens = lm.words
    bar = ["BAR_START", "BEAT_0", "NOTE_ON_60", "DUR_QUARTER", "VEL_MF"]
    head = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80"]
    prompt = "Generate gospel in C major"
    empty = TRAINING_TEMPLATE.format(prompt=prompt, words="SONG_START")
    room = max_tokens - len(lm.encode_text(empty)) - len(tokens.encode([*head, "SONG_END"]))
    bars = max(room // len(tokens.encode(bar)), 1)
    return TRAINING_TEMPLATE.format(prompt=prompt, words=" ".join([*head, *bar * bars, "SONG_END"]))


def _texts(stage: str) -> list[str]:
    """The stage's own training text; where it is not made yet, arrangements."""
    path = TEXT / stage / "train.jsonl"
    if path.exists():
        return [row["text"] for row in read_jsonl(path)]
    names = list(STYLES)
    pieces = [arrange(None, names[seed % len(names)], seed=seed) for seed in range(_ARRANGED)]
    prompt = "Generate gospel in C major"
    return [TRAINING_TEMPLATE.format(prompt=prompt, words=" ".join(encode(piece))) for piece in pieces]


def _after_training(
    params: Params, lm: LanguageModel, shape: dict[str, Any], budget: float, grown: bool
) -> dict[str, Any]:
    """What fusing and evaluating take. The model is evaluated as it will be: without adapters. Its peak is what was
    measured beside the weights that are here, and the weights of the plan: fused ones are packed otherwise."""
    report: dict[str, Any] = {}
    try:
        last = f"layers.{len(lm.model.layers) - 1}."
        modules = [module for name, module in touched_layers(lm).items() if last in name]
        packed = params.fuse.quantize_bits if "quantization" in lm.config else 0
        group = lm.config["quantization"]["group_size"] if packed else 0
        _, seconds = _timed(lambda: [merge_layer(module, packed, group) for module in modules])
        report["fused_seconds_a_layer"] = round(seconds, 3)

        settings = params.train_stage2
        lm.model.eval()
        adapters.remove_lora(lm)
        gc.collect()  # of training
        weights = held_bytes(lm)
        for name, plan in (("fuse", predict_fuse), ("evaluate", predict_evaluate)):
            need = plan(shape, settings, params.fuse.quantize_bits, budget, encoding=params.model.encoding,
                        activation_bytes=lm.model.model.norm.weight.dtype.size, grown=grown,
                        unpacked=unpacks(shape))  # fmt: skip
            report[f"{name}_planned_bytes"] = need.total
        length = min(settings.max_tokens, ModelScorer(lm).window)
        windows = windows_that_fit(lm, length, memory.SCORED_WINDOWS)
        peak_bytes(start_anew=True)
        full = [_full_text(lm, length)] * windows
        _, seconds = _timed(lambda: word_scores(lm, full, max_tokens=length))
        report["evaluated_windows"] = windows
        report["evaluated_seconds_a_window"] = round(seconds / windows, 4)
        report["evaluated_peak_bytes"] = peak_bytes(start_anew=True) - weights + need.weights
        request = read_request({"prompt": "Generate 8 bars of gospel in C major at 80 BPM in 4/4", "seed": params.seed})
        options = {"max_words": _PIECE_WORDS, "constraint": "grammar"}
        draft(ModelScorer(lm), [request], max_words=8, constraint="grammar")
        words, seconds = _timed(lambda: draft(ModelScorer(lm), [request], **options)[0])  # type: ignore[arg-type]
        report["words"], report["words_a_second"] = len(words), round(len(words) / seconds, 1)
        report["written_peak_bytes"] = peak_bytes(start_anew=True)
        report["held_bytes"] = weights
    except (PlagalError, RuntimeError, MemoryError) as error:
        report["failed"] = " ".join(str(error).split())[:300]
    return report


def _hours(stage: Stage, settings: TrainSettings, window_seconds: float) -> list[float]:
    """[fewest, likely, most] of a stage: its steps and its evaluations of the whole validation text. The spread is two
    standard errors of the mean step."""
    steps = stage.step_seconds
    if not steps:
        return []
    mean = statistics.fmean(steps)
    error = 2 * statistics.stdev(steps) / math.sqrt(len(steps)) if len(steps) > 1 else mean / 2
    evaluations = settings.steps / settings.evaluate_every * stage.evaluated_windows * window_seconds
    fewest = max(mean - error, min(steps))  # on a busy machine the error of a few steps is larger than their mean
    return [round((settings.steps * per + evaluations) / 3600, 3) for per in (fewest, mean, mean + error)]


def _disk(params: Params, shape: dict[str, Any], stages: dict[str, Stage], folder: Path) -> dict[str, Any]:
    """[bytes] that the whole run will put on this disk, and what is free."""
    model, settings = memory.Model.of_config(shape), params.train_stage2
    # Checkpoints of a stage go when the next begins; the newest few, one more while it is written, and two best.
    checkpoints = max(
        (trained.keep_newest + 1) * stage.checkpoint_bytes + 2 * stage.best_bytes
        for stage, trained in zip(stages.values(), (params.train_stage1, settings), strict=True)
    )
    rows = memory.new_rows(model, params.model.base != EMBEDDED, params.model.encoding)
    models = float(sum(stage.best_bytes for stage in stages.values()))
    models += memory.fused_bytes(model, settings, params.fuse.quantize_bits, rows)
    fetched = 0 if is_there(params.model) else model.weight_bytes
    return {"checkpoints_bytes": checkpoints, "models_bytes": models, "fetched_bytes": fetched,
            "needed_bytes": checkpoints + _DVC_COPIES * models + fetched,
            "free_bytes": shutil.disk_usage(folder).free}  # fmt: skip


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def verdict(report: dict[str, Any], params: Params) -> list[str]:
    """ "go", or what to change, a line each."""
    changes = []
    for name, stage in report["stages"].items():
        key = f"train_{name}"
        settings: TrainSettings = getattr(params, key)
        if stage["max_tokens"] != stage["wanted_max_tokens"]:
            changes.append(
                f"{key}.max_tokens: {stage['wanted_max_tokens']} wants {stage['wanted_bytes'] / 1e9:.1f} GB of"
                f" {stage['budget_bytes'] / 1e9:.1f}; "
                + (f"{stage['max_tokens']} fit" if stage["max_tokens"] >= 64 else "no length fits: lower"
                   f" {key}.lora.layers ({settings.lora.layers}) or {key}.lora.rank ({settings.lora.rank}),"
                   " or take a smaller base")
            )  # fmt: skip
        elif stage["failed"]:
            changes.append(f"{key} failed: {stage['failed']}")
        elif stage["peak_bytes"] > stage["budget_bytes"]:
            lower = max(int(settings.max_tokens * 0.8) // 32 * 32, 64)
            changes.append(
                f"{key}.max_tokens: {settings.max_tokens} took {stage['peak_bytes'] / 1e9:.1f} GB of"
                f" {stage['budget_bytes'] / 1e9:.1f}; try {lower}, or fewer lora.layers than {settings.lora.layers}"
            )
        if stage["resumed_at_step"] not in (1, -1):
            changes.append(f"{key}: a checkpoint of step 1 was taken up at step {stage['resumed_at_step']}")
    if report.get("failed"):
        changes.append(f"evaluating failed: {report['failed']}")
    if report["swap_grown_bytes"] > 0.05 * report["budget_bytes"]:
        changes.append(
            f"swap grew by {report['swap_grown_bytes'] / 1e9:.1f} GB: close other programs, or lower max_tokens"
        )
    disk = report["disk"]
    if disk["needed_bytes"] > disk["free_bytes"]:
        changes.append(
            f"disk: {disk['needed_bytes'] / 1e9:.1f} GB are needed and {disk['free_bytes'] / 1e9:.1f} free;"
            " `dvc gc -w` drops old runs"
        )
    return changes or ["go"]


# --- The rehearsal's figures as lines for a terminal ---

_GIGA = 1e9


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    machine, base = report["machine"], report["base"]
    system = f"macOS {machine['macos']}" if machine["macos"] else machine["system"]
    yield f"{machine['chip']}, {machine['memory_gb']} GB, {system}, MLX {machine['mlx']} on {machine['device']}"
    yield (
        f"base {base['name']}: {base['layers']} layers, weights {base['weights']}, {base['encoding']};"
        f" one process may use {report['budget_bytes'] / _GIGA:.1f} GB"
    )
    for name, stage in report["stages"].items():
        yield from _stage_lines(f"train_{name}", stage)
    if "fused_seconds_a_layer" in report:
        yield f"fuse: {report['fused_seconds_a_layer']} s a layer, {_plan_of(report, 'fuse')}"
    if "evaluated_peak_bytes" in report:
        yield (
            f"evaluate: {report['evaluated_seconds_a_window']} s a window, peak"
            f" {_gb(report['evaluated_peak_bytes'])} with {report['evaluated_windows']} windows,"
            f" {_plan_of(report, 'evaluate')}"
        )
    if "words_a_second" in report:
        yield f"writing: {report['words_a_second']} words a second, one piece, under the grammar"
    disk = report["disk"]
    yield (
        f"disk: {_gb(disk['needed_bytes'])} (checkpoints {_gb(disk['checkpoints_bytes'])}, models"
        f" {_gb(disk['models_bytes'])} twice, here and in DVC's cache; to fetch {_gb(disk['fetched_bytes'])});"
        f" {_gb(disk['free_bytes'])} free"
    )
    yield f"swap grew by {_gb(max(report['swap_grown_bytes'], 0))}; the whole rehearsal took {report['seconds']:.0f} s"
    for line in report["verdict"]:
        yield line if line == "go" else f"change: {line}"


def _stage_lines(name: str, stage: dict[str, Any]) -> Iterator[str]:
    if stage["peak_bytes"]:
        off = 100 * stage["off_the_plan"]
        yield (
            f"{name}: peak {_gb(stage['peak_bytes'])} at {stage['max_tokens']} tokens, planned"
            f" {_gb(stage['planned_bytes'])} ({abs(off):.1f} % {'more' if off > 0 else 'less'} than planned)"
        )
    if stage["step_seconds"] and stage["hours"]:
        low, likely, high = stage["hours"]
        without = "" if stage["evaluated_windows"] else ", its evaluations not counted (no validation text yet)"
        yield (
            f"{name}: {statistics.fmean(stage['step_seconds']):.2f} s a step ({len(stage['step_seconds'])} timed):"
            f" {likely:.2g} hours, {low:.2g} to {high:.2g}{without}"
        )
    if stage["checkpoint_bytes"]:
        yield f"{name}: a checkpoint of {_gb(stage['checkpoint_bytes'])}, taken up at step {stage['resumed_at_step']}"
    if stage["failed"]:
        yield f"{name}: {stage['failed']}"


def _plan_of(report: dict[str, Any], name: str) -> str:
    key = f"{name}_planned_bytes"
    return f"planned {_gb(report[key])} for all of it" if key in report else "not planned"


def _gb(size: float) -> str:
    return f"{size / _GIGA:.2f} GB" if size >= _GIGA else f"{size / 1e6:.0f} MB"
