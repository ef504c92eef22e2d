"""The training loop: bounded by steps, resumed bit for bit, stopped before harm.

All that decides the next step is in a checkpoint: trained weights, optimizer moments, step (and with it the learning
rate and the place in the data and the random state, functions of it), the curve so far. mlx-lm gives the models, LoRA
layers and schedules; its own loop keeps none of these.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from tqdm import tqdm

from plagal.model import adapters
from plagal.model.base import LanguageModel, total_bytes
from plagal.model.checkpoint import Run, best_name, load_checkpoint, own_run, step_name, step_of
from plagal.model.cpu import blas
from plagal.model.cpu.kernels import checkpointed, cpu_kernels, fused, on_cpu
from plagal.model.cpu.lanes import Gradients, compiled, lane_count
from plagal.model.loss import LossSum, Window, batches_from, make_loss, make_windows
from plagal.model.memory import budget_bytes, check_fits
from plagal.plumbing.errors import LockedError, TrainingError
from plagal.plumbing.files import atomic_path, write_json
from plagal.plumbing.lock import ASKED_TO_END
from plagal.plumbing.params import TrainSettings

log = logging.getLogger(__name__)

CURVE = "curve.csv"
BETAS = (0.9, 0.95)  # as GPT-3 and most since; 0.999 remembers longer than these short runs last
_ROWS_BETWEEN_EVALUATIONS = 5
_NOT_VERSIONED = ("rows", "resumed_from", "seconds")
"""Of a report: what a kill or the machine's speed decides, and what the curve holds."""
_SPIKE_NATS = 2.0  # a loss so far over its running mean, or over where it began, will not come back by itself
_SPIKE_STEPS = 3
_MEAN_KEPT = 0.95


# --- What is told of a run while it goes: curve rows (versioned, no clock in them), a progress bar, a log (clocked) ---


@dataclass(frozen=True)
class CurveRow:
    """Losses in nats per token; None where they were not measured at this step."""

    step: int
    train_loss: float | None
    valid_loss: float | None
    valid_nats_per_note: float | None
    learning_rate: float


def write_curve(path: str | Path, rows: Iterable[CurveRow]) -> None:
    """CSV with CurveRow's columns, rounded so that platforms agree; an empty cell for what was not measured."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(field.name for field in fields(CurveRow))
        for row in rows:
            writer.writerow(["" if value is None else value if isinstance(value, int) else f"{value:.6g}"
                             for value in astuple(row)])  # fmt: skip


def conditions(processes: int = 1) -> dict[str, Any]:
    """All that decides the last bits of a result, besides params and data."""
    return {
        "machine": platform.machine(),
        "device": str(mx.default_device().type).rpartition(".")[2],
        "blas": blas.blas_name(),
        "lanes": max(lane_count(), processes) if on_cpu() else lane_count() * processes,
        "fused": fused(),
        "mlx": version("mlx"),
    }


Log = Callable[[dict[str, Any]], object]


@contextmanager
def open_log(path: str | Path | None) -> Iterator[Log]:
    """The log of a run, if it has one: one JSON object a line, flushed at once."""
    if path is None:
        yield lambda _: None
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a", encoding="utf-8", buffering=1) as handle:  # flushed line by line
        yield lambda values: handle.write(json.dumps({"time": round(time.time(), 3), **values}) + "\n")


class Progress:
    """A bar with ETA, loss, notes/s, tokens/s and peak memory."""

    def __init__(self, steps: int, done: int, log_values: Log, shown: bool = True):
        self._bar = tqdm(
            total=steps, initial=done, unit="step", desc="train", dynamic_ncols=True, mininterval=0.5, disable=not shown
        )
        self._log = log_values
        self._began = time.perf_counter()
        self._targets = self._notes = self._steps = 0
        self._mean: float | None = None

    def close(self) -> None:
        self._bar.close()
        seconds = time.perf_counter() - self._began
        if self._steps:
            self._log({"steps": self._steps, "seconds": round(seconds, 3),
                       "tokens_per_second": round(self._targets / seconds, 1),
                       "notes_per_second": round(self._notes / seconds, 1)})  # fmt: skip

    def update(self, loss: float, targets: int, notes: int) -> None:
        self._targets, self._notes, self._steps = self._targets + targets, self._notes + notes, self._steps + 1
        self._mean = loss if self._mean is None else 0.9 * self._mean + 0.1 * loss
        seconds = time.perf_counter() - self._began
        self._bar.set_postfix_str(
            f"loss {self._mean:.3f}, {self._notes / seconds:.0f} notes/s, {self._targets / seconds:.0f} tokens/s,"
            f" {mx.get_peak_memory() / 1e9:.2f} GB",
            refresh=False,
        )
        self._bar.update(1)


RowCallback = Callable[[CurveRow], None]


# --- The loop


@dataclass(frozen=True)
class TrainReport:
    """How a run went. `seconds` is of this process only and goes to logs, not to versioned files."""

    steps: int
    best_step: int
    best_valid_loss: float
    """[nats per token]"""
    best_nats_per_note: float
    first_valid_loss: float
    stopped_early: bool
    tokens: int
    """Tokens trained on, in all steps."""
    notes: int
    rows: tuple[CurveRow, ...]
    resumed_from: int
    seconds: float


@dataclass
class _State:
    """What a checkpoint holds besides tensors."""

    step: int = 0
    best_step: int = -1
    best_valid: float = math.inf
    best_nats: float = math.inf
    first_valid: float = math.nan
    waited: int = 0
    """Evaluations since the best."""
    stopped: bool = False
    mean_loss: float = math.nan
    first_loss: float = math.nan
    high_steps: int = 0
    loss_sum: float = 0.0
    """Since the last row of the curve."""
    targets: int = 0
    all_targets: int = 0
    all_notes: int = 0
    rows: list[list[Any]] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)


def train(
    lm: LanguageModel, train_texts: Sequence[str], valid_texts: Sequence[str], settings: TrainSettings,
    checkpoint_dir: str | Path, out_dir: str | Path, *, seed: int = 0, loss: LossSum | None = None,
    on_row: RowCallback | None = None, log_path: str | Path | None = None, stop_after: int | None = None,
) -> TrainReport:  # fmt: skip
    """Train `lm` and write its best weights to `out_dir`: an ordinary model folder in mode `full`, mlx-lm adapters in
    mode `lora`; beside them the curve (curve.csv).

    `checkpoint_dir` is this run's own (see `checkpoint.run_key`); a run found there is resumed. `stop_after`: leave,
    with a checkpoint, after so many steps in this process (for tests). `log_path`: JSON lines with speed and memory.
    Raises TrainingError, CheckpointError, LockedError, DiskError.
    """
    tokens = lm.words
    grown = tokens.whole and lm.config["vocab_size"] > 2 * len(tokens.ids)
    check_fits(lm.config, settings, budget_bytes(), encoding="event" if tokens.whole else "text", grown=grown,
               activation_bytes=4 if on_cpu() else 2)  # fmt: skip
    train_windows = make_windows(lm, train_texts, settings.max_tokens, "the training data")
    valid_windows = make_windows(lm, valid_texts, settings.max_tokens, "the validation data")
    leads = mx.distributed.init().rank() == 0  # the others of an mlx.launch run only read what the first one wrote
    with own_run(checkpoint_dir) if leads else nullcontext(Run(Path(checkpoint_dir))) as run:
        _wait_for_all()  # so that none reads before the first holds the lock
        loop = _Loop(lm, train_windows, valid_windows, settings, run, seed, loss or make_loss(lm), on_row)
        checkpointing = checkpointed(lm.model, settings.gradient_checkpointing)
        with open_log(log_path if loop.leads else None) as curve, cpu_kernels(lm.model), checkpointing:
            report = loop.run(curve, stop_after)
        if report.steps >= settings.steps or report.stopped_early:
            loop.publish(Path(out_dir), report)
    return report


class _Loop:
    def __init__(
        self, lm: LanguageModel, train_windows: list[Window], valid_windows: list[Window], settings: TrainSettings,
        run: Run, seed: int, loss: LossSum, on_row: RowCallback | None,
    ):  # fmt: skip
        self.lm, self.settings, self.seed, self.on_row, self.own = lm, settings, seed, on_row, run
        self.train_windows, self.valid_windows = train_windows, valid_windows
        mx.random.seed(seed)
        adapters.make_trainable(lm, settings)
        self.optimizer = _make_optimizer(settings)
        self.optimizer.init(lm.model.trainable_parameters())
        self._apply = compiled(self._optimize)
        group = mx.distributed.init()
        self.leads = group.rank() == 0
        self.gradients = Gradients(lm.model, loss, lm.words.pad_id, group)
        self.state = _State(conditions=conditions(group.size()))
        self._restore()
        self.resumed_from = self.state.step
        self.bytes = total_bytes(self._tensors().values())

    def run(self, curve: Log, stop_after: int | None = None) -> TrainReport:
        state, settings, began = self.state, self.settings, time.perf_counter()
        if state.step == 0 and not state.rows:
            self._evaluate(curve)
        batches = batches_from(self.train_windows, settings.batch, self.seed, state.step * settings.accumulation)
        end = settings.steps if stop_after is None else min(settings.steps, state.step + stop_after)
        with closing(Progress(settings.steps, state.step, curve, self.leads)) as progress:
            while state.step < end and not state.stopped:
                if self.leads:
                    self._check_may_go_on()
                windows = [[self.train_windows[i] for i in next(batches)] for _ in range(settings.accumulation)]
                targets, notes, value = self._step(windows)
                self._watch(value)
                progress.update(value, targets, notes)
                self._after_step(curve, last=state.step == end)
        report = self._report(time.perf_counter() - began)
        curve({"end": state.step, "seconds": round(report.seconds, 3), "peak_bytes": mx.get_peak_memory()})
        return report

    def _check_may_go_on(self) -> None:
        self.own.check_room(self.bytes * 2)  # a new checkpoint and a new best one
        if ASKED_TO_END.is_set():
            if self.state.step:  # before the first step there is nothing to save yet
                self._save()
            raise LockedError(
                f"the program that started this training has ended; {self.own.folder} is saved at step "
                f"{self.state.step}: start it again to go on from there"
            )

    def _step(self, micro_batches: list[list[Window]]) -> tuple[int, int, float]:
        """One optimizer step. -> targets, notes, mean loss [nats per token]."""
        self.lm.model.train()
        loss_sum, grads, targets, notes = 0.0, None, 0, 0
        for number, windows in enumerate(micro_batches):
            loss, these, new_targets, new_notes = self.gradients(windows, (self.seed, self.state.step, number))
            grads = these if grads is None else tree_map(lambda a, b: a + b, grads, these)
            mx.eval(loss, grads)
            loss_sum, targets, notes = loss_sum + loss.item(), targets + new_targets, notes + new_notes
        weights, old = self.lm.model.trainable_parameters(), self.optimizer.state
        weights, new, norm = self._apply(grads, mx.array(1.0 / targets), weights, old)
        mx.eval(weights, new, norm)
        finite = math.isfinite(norm.item())
        self.optimizer.state = new if finite else old
        if not finite:
            return targets, notes, math.nan  # the weights stay as they were; _watch stops the run
        self.lm.model.update(weights)
        state = self.state
        state.step += 1
        state.loss_sum, state.targets = state.loss_sum + loss_sum, state.targets + targets
        state.all_targets, state.all_notes = state.all_targets + targets, state.all_notes + notes
        return targets, notes, loss_sum / targets

    def _optimize(self, grads: Any, scale: Any, weights: Any, state: Any) -> tuple[Any, Any, Any]:
        """Clip and apply summed gradients. -> new weights, new optimizer state, the gradient's norm before clipping."""
        grads = tree_map(lambda g: g * scale.astype(g.dtype), grads)
        grads, norm = optim.clip_grad_norm(grads, self.settings.clip_norm)
        self.optimizer.state = state
        return self.optimizer.apply_gradients(grads, weights), self.optimizer.state, norm

    def _watch(self, value: float) -> None:
        """Stop where the loss left the numbers or jumped and stayed: the newest checkpoint is from before that."""
        state = self.state
        if math.isnan(state.first_loss):
            state.first_loss = state.mean_loss = value
        limit = max(state.mean_loss, min(state.first_loss, state.mean_loss + _SPIKE_NATS)) + _SPIKE_NATS
        state.high_steps = state.high_steps + 1 if value > limit else 0
        if math.isfinite(value) and state.high_steps < _SPIKE_STEPS:
            state.mean_loss = _MEAN_KEPT * state.mean_loss + (1 - _MEAN_KEPT) * value
            return
        what = "is not a number" if not math.isfinite(value) else f"jumped from {state.mean_loss:.2f} to {value:.2f}"
        kept = self.own.names("step")
        raise TrainingError(
            f"the loss {what} at step {state.step}: lower learning_rate={self.settings.learning_rate} or"
            f" clip_norm={self.settings.clip_norm}, or raise warmup_steps={self.settings.warmup_steps};"
            f" the last good checkpoint is {kept[-1] if kept else 'none yet'}"
        )

    def _after_step(self, curve: Log, last: bool) -> None:
        state, settings = self.state, self.settings
        ended = last or state.step == settings.steps
        if state.step % settings.evaluate_every == 0 or state.step == settings.steps:
            self._evaluate(curve)
            state.stopped = 0 < settings.patience <= state.waited
        elif state.step % max(settings.evaluate_every // _ROWS_BETWEEN_EVALUATIONS, 1) == 0:
            self._row(curve, None, None)
        if ended or state.stopped or state.step % settings.save_every == 0:
            self._save()

    def _evaluate(self, curve: Log) -> None:
        """The whole validation set, always."""
        valid, per_note = validation_loss(self.gradients, self.lm, self.valid_windows, self.settings.batch)
        state = self.state
        if not math.isfinite(valid):
            self._watch(valid)
        state.first_valid = valid if math.isnan(state.first_valid) else state.first_valid
        better = valid < state.best_valid
        state.waited = 0 if better else state.waited + 1
        self._row(curve, valid, per_note)
        if better:
            state.best_step, state.best_valid, state.best_nats = state.step, valid, per_note
            if self.leads:
                self.own.save(best_name(state.step), self._weights(), {"step": state.step, "valid_loss": valid})

    def _row(self, curve: Log, valid: float | None, per_note: float | None) -> None:
        state = self.state
        train_loss = state.loss_sum / state.targets if state.targets else None
        rate = float(self.optimizer.learning_rate.item())
        row = CurveRow(state.step, train_loss, valid, per_note, rate)
        state.rows.append(list(astuple(row)))
        state.loss_sum, state.targets = 0.0, 0
        curve(asdict(row))
        if self.on_row:
            self.on_row(row)

    def _weights(self) -> dict[str, Any]:
        return dict(tree_flatten(self.lm.model.trainable_parameters()))

    def _tensors(self) -> dict[str, Any]:
        return dict(tree_flatten({"model": self.lm.model.trainable_parameters(), "optimizer": self.optimizer.state}))

    def _save(self) -> None:
        if not self.leads:
            return
        self.own.save(step_name(self.state.step), self._tensors(), dict(vars(self.state)))
        self._remove_old()

    def _remove_old(self) -> None:
        """Remove what neither this step nor the checkpoints that are kept need. One from an ordered end between two of
        the plan's goes once there is a newer one: a run that was interrupted leaves what any other leaves."""
        now = step_name(self.state.step)
        names = self.own.names("step")
        planned = [name for name in names if name == now or step_of(name) % self.settings.save_every == 0]
        kept = [name for name in planned if name <= now][-self.settings.keep_newest :]
        for name in set(names) - set(kept):  # those after this one were damaged when the run was resumed
            self.own.remove(name)
        try:
            needed = int(load_checkpoint(self.own.folder / kept[0])[1]["best_step"])
        except Exception:  # a damaged old checkpoint must not stop a run; it only keeps more than needed
            needed = 0
        for name in self.own.names("best"):
            if step_of(name) < needed:
                self.own.remove(name)

    def _restore(self) -> None:
        found = self.own.newest()
        if found is None:
            return
        tensors, saved = found
        now = self.state.conditions
        self.state = _State(**saved)
        for name, value in now.items():
            if self.state.conditions.get(name) != value:
                log.warning("resumed with %s=%s, begun with %s: the end may differ in the last bits",
                            name, value, self.state.conditions.get(name))  # fmt: skip
        weights = [(k.removeprefix("model."), v) for k, v in tensors.items() if k.startswith("model.")]
        self.lm.model.load_weights(weights, strict=False)
        state = [(k.removeprefix("optimizer."), v) for k, v in tensors.items() if k.startswith("optimizer.")]
        self.optimizer.state = tree_unflatten(state)
        mx.eval(self.lm.model.parameters(), self.optimizer.state)
        if self.leads:
            self._remove_old()  # a kill may have fallen between the checkpoint and this
        log.info("resumed at step %d of %d", self.state.step, self.settings.steps)

    def _report(self, seconds: float) -> TrainReport:
        state = self.state
        return TrainReport(
            steps=state.step, best_step=state.best_step, best_valid_loss=state.best_valid,
            best_nats_per_note=state.best_nats, first_valid_loss=state.first_valid, stopped_early=state.stopped,
            tokens=state.all_targets, notes=state.all_notes, rows=tuple(CurveRow(*row) for row in state.rows),
            resumed_from=self.resumed_from, seconds=seconds,
        )  # fmt: skip

    def publish(self, out_dir: Path, report: TrainReport) -> None:
        """Load the best weights into the model and write them to `out_dir`."""
        _wait_for_all()  # the best weights may just be being written
        best, _ = load_checkpoint(self.own.folder / best_name(report.best_step))
        self.lm.model.load_weights(list(best.items()), strict=False)
        self.lm.model.eval()
        mx.eval(self.lm.model.parameters())
        if not self.leads:
            return
        with atomic_path(out_dir) as temporary:
            temporary.mkdir()
            if self.settings.mode == "full":
                config = adapters.with_window(self.lm.config, self.settings.max_tokens)
                weights = dict(tree_flatten(self.lm.model.parameters()))
                adapters.write_folder(self.lm, weights, config, temporary)
            else:
                adapters.write_adapters(self.lm, self.settings, temporary)
            write_curve(temporary / CURVE, report.rows)
            told = {key: value for key, value in asdict(report).items() if key not in _NOT_VERSIONED}
            write_json(temporary / adapters.TRAIN_REPORT, told)


def _wait_for_all() -> None:
    """Until every process of an mlx.launch run has come here; no time with one process."""
    if mx.distributed.init().size() > 1:
        mx.eval(mx.distributed.all_sum(mx.array(1.0)))


def validation_loss(
    gradients: Gradients, lm: LanguageModel, windows: Sequence[Window], batch: int
) -> tuple[float, float]:
    """Mean loss [nats per token] and the sum over notes [nats per note], over all windows."""
    lm.model.eval()
    order = sorted(range(len(windows)), key=lambda i: (len(windows[i].ids), i))
    total, targets, notes = 0.0, 0, 0
    for start in range(0, len(order), 2 * batch):
        loss, new_targets, new_notes = gradients.loss_only([windows[i] for i in order[start : start + 2 * batch]])
        total, targets, notes = total + loss.item(), targets + new_targets, notes + new_notes
    return total / targets, total / max(notes, 1)


def _make_optimizer(settings: TrainSettings) -> Any:
    """AdamW; with a `muon_learning_rate`, Muon for the blocks' matrices, AdamW for embeddings, norms and biases (Jordan
    2024: an embedding's rows are no map that could be made orthogonal)."""
    adamw = optim.AdamW(_schedule(settings, settings.learning_rate), betas=list(BETAS),
                        weight_decay=settings.weight_decay, bias_correction=True)  # fmt: skip
    if not settings.muon_learning_rate:
        return adamw
    # Weight decay 0: MLX adds it to the gradient before the momentum, where orthogonalizing undoes it.
    muon = optim.Muon(_schedule(settings, settings.muon_learning_rate), momentum=0.95, weight_decay=0.0)
    return optim.MultiOptimizer([muon, adamw], [lambda name, weight: weight.ndim == 2 and ".layers." in f".{name}"])


def _schedule(settings: TrainSettings, rate: float) -> Any:
    """A linear rise, then a cosine to the settings' share of `rate`."""
    from mlx_lm.tuner.utils import build_schedule

    warmup = min(settings.warmup_steps, settings.steps - 1)
    decay = max(settings.steps - warmup, 1)
    arguments = [rate, decay, rate * settings.final_learning_rate_share]
    return build_schedule(
        {"name": "cosine_decay", "arguments": arguments, "warmup": warmup, "warmup_init": rate / max(warmup, 1)}
    )
