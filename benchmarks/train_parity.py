# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""Our training loop compared with mlx_lm.tuner.train, with the same base, LoRA, batches, loss and optimizer.

    python benchmarks/train_parity.py [--json] [--runs 5]

`loss_difference`: the largest over 20 steps [nats per token]. `speed`: target tokens per second, ours over theirs,
the median
of alternating runs; ours includes the lanes and kernels of the CPU backend, theirs is MLX as the wheel has it
with the same BLAS on all cores.
`share_of_peak`: floating-point operations of the matrix products in a training step of a base of 256 hidden units
(weights 6 a position, attention 12 a pair of positions and hidden unit, head 6 a target), over what as many threads
multiply in the same time with nothing else to do; both sides in turn.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs
from mlx_lm.tuner.trainer import train as stock_train
from shared.rows import Row, finish, parser, row
from shared.texts import made_up_texts

from plagal.model import adapters, base, trainer

from plagal.model.cpu import blas
from plagal.model.cpu.lanes import lane_count
from plagal.model.loss import batch_arrays, make_loss
from plagal.model.loss import batches_from, collate, make_windows
from plagal.plumbing.params import EmbeddedShape, LoraSettings, TrainSettings
from plagal.tokens.vocabulary import MUSIC_WORDS
from threadpoolctl import threadpool_limits

STEPS, SEED = 20, 5
LORA = LoraSettings(
    rank=16, alpha=32.0, dropout=0.0, layers=4, projections=("q_proj", "v_proj", "up_proj", "down_proj")
)
SETTINGS = TrainSettings(
    mode="lora", lora=LORA, steps=STEPS, batch=4, accumulation=1, max_tokens=256, learning_rate=1e-3, warmup_steps=2,
    final_learning_rate_share=0.1, weight_decay=0.0, clip_norm=1e9, gradient_checkpointing=False, save_every=STEPS,
    evaluate_every=5, patience=0, keep_newest=1,
)  # fmt: skip


BARS = 8
TEXTS = made_up_texts(60, 1, BARS)


def ours(folder: Path, evaluate_every: int) -> tuple[list[float], float]:
    """-> loss of each row, target tokens per second."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log.jsonl"
        settings = SETTINGS.model_copy(update={"evaluate_every": evaluate_every})
        run, out = Path(scratch) / "run", Path(scratch) / "out"
        report = trainer.train(
            base.load(folder), TEXTS, made_up_texts(1, 2, BARS), settings, run, out, seed=SEED, log_path=log
        )
        speeds = [json.loads(line).get("tokens_per_second") for line in log.read_text().splitlines()]
    return [row.train_loss for row in report.rows if row.train_loss is not None], max(s for s in speeds if s)


class _Losses(TrainingCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.losses.append(train_info["train_loss"])


def stock(folder: Path) -> tuple[list[float], float]:
    """The same with mlx-lm's loop."""
    lm = base.load(folder)
    blas.set_threads(2)
    mx.random.seed(SEED)
    adapters.make_trainable(lm, SETTINGS)
    windows = make_windows(lm, TEXTS, SETTINGS.max_tokens)
    loss_sum = make_loss(lm)

    def batches(**_: Any) -> Iterator[Any]:
        for indices in batches_from(windows, SETTINGS.batch, SEED, 0):
            batch = collate([windows[i] for i in indices], lm.words.pad_id)
            assert batch is not None
            yield batch_arrays(batch), batch.count

    def loss(model: Any, arrays: Any, count: Any) -> tuple[Any, Any]:
        return loss_sum(model, arrays) / count, mx.array(count)

    heard = _Losses()
    with tempfile.TemporaryDirectory() as scratch:
        args = TrainingArgs(
            batch_size=SETTINGS.batch,
            iters=STEPS,
            steps_per_report=1,
            steps_per_save=10**6,
            max_seq_length=SETTINGS.max_tokens,
            adapter_file=str(Path(scratch) / "a.safetensors"),
        )
        lm.model.train()
        began = time.perf_counter()
        stock_train(lm.model, trainer._make_optimizer(SETTINGS), [0] * 8, args=args, loss=loss, iterate_batches=batches,
                    training_callback=heard)  # fmt: skip
        seconds = time.perf_counter() - began
    trained = [next(iter_) for iter_ in [batches_from(windows, SETTINGS.batch, SEED, i) for i in range(STEPS)]]
    tokens = sum(len(windows[i].ids) - windows[i].first for batch in trained for i in batch)
    return heard.losses, tokens / seconds


SIDE, PEAK_ROUNDS, PEAK_STEPS, WINDOW = 1024, 12, 6, 1024
BASE_SHAPE = EmbeddedShape(hidden_size=256, layers=4, heads=2, kv_heads=1, intermediate_size=704)


def peak() -> float:
    """Floating-point operations a second of single-precision products, a thread a lane."""
    matrix = np.ones((SIDE, SIDE), dtype=np.float32)

    def multiply() -> None:
        for _ in range(PEAK_ROUNDS):
            matrix @ matrix

    with threadpool_limits(1), ThreadPoolExecutor(lane_count()) as pool:
        multiply()
        began = time.perf_counter()
        for done in [pool.submit(multiply) for _ in range(lane_count())]:
            done.result()
        return lane_count() * PEAK_ROUNDS * 2 * SIDE**3 / (time.perf_counter() - began)


def step_rate(folder: Path) -> float:
    """Floating-point operations a second of training steps, those that the matrix products need."""
    settings = SETTINGS.model_copy(
        update={"mode": "full", "max_tokens": WINDOW, "steps": PEAK_STEPS, "save_every": PEAK_STEPS,
                "evaluate_every": PEAK_STEPS, "muon_learning_rate": 0.02}
    )  # fmt: skip
    lm = base.load(folder)
    texts = made_up_texts(24, 1, 8 * BARS)
    windows = make_windows(lm, texts, WINDOW)
    weights = sum(value.size for name, value in tree_flatten(lm.model.parameters()) if "proj" in name)
    work = targets = 0.0
    for step in range(PEAK_STEPS):
        chosen = next(batches_from(windows, settings.batch, SEED, step))
        batch = collate([windows[i] for i in chosen], lm.words.pad_id)
        assert batch is not None
        rows, length = batch.ids.shape
        work += rows * length * (6 * weights + 12 * BASE_SHAPE.layers * length * BASE_SHAPE.hidden_size)
        work += 6 * BASE_SHAPE.hidden_size * (len(MUSIC_WORDS) + 1) * batch.count
        targets += batch.count
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log.jsonl"
        trainer.train(lm, texts, made_up_texts(1, 2, BARS), settings, Path(scratch) / "run", Path(scratch) / "out",
                      seed=SEED, log_path=log)  # fmt: skip
        speeds = [json.loads(line).get("tokens_per_second") for line in log.read_text().splitlines()]
    return max(speed for speed in speeds if speed) * work / targets


def measure(runs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        shape = EmbeddedShape(hidden_size=128, layers=4, heads=2, kv_heads=1, intermediate_size=384)
        folder = base.make_embedded(Path(scratch) / "base", shape, 1)
        mine, theirs = ours(folder, 5)[0], stock(folder)[0]
        difference = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
        yield row("loss_difference", difference, unit="nats/token", at_most=1e-5)
        speeds = [(ours(folder, STEPS)[1], stock(folder)[1]) for _ in range(runs)]
        yield row("speed", *zip(*speeds, strict=True), "tokens/s", against="mlx-lm", at_least=0.95)
        wide = base.make_embedded(Path(scratch) / "wide", BASE_SHAPE, 1)
        rates = [(step_rate(wide) / 1e9, peak() / 1e9) for _ in range(runs)]
        yield row("share_of_peak", *zip(*rates, strict=True), "GFLOP/s", against="sgemm alone", at_least=0.45)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--runs", type=int, default=5)
    options = wishes.parse_args()
    finish("train_parity", measure(options.runs), options.json)


if __name__ == "__main__":
    main()
