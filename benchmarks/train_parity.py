# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""Our step loop against mlx_lm.tuner.train: the same base, LoRA, batches, loss and optimizer.

    python benchmarks/train_parity.py [--json] [--runs 3]

`loss_difference`: the largest over 20 steps [nats per token]. `speed`: target tokens per second, ours over theirs,
the median
of alternating runs; ours includes the lanes and kernels of the CPU backend, theirs is MLX as the wheel has it
with the same BLAS on all cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import mlx.core as mx
import numpy as np
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs
from mlx_lm.tuner.trainer import train as stock_train

from plagal.model import adapters, base, blas, trainer
from plagal.model.loss import batch_arrays, make_loss
from plagal.model.windows import batches_from, collate, make_windows
from plagal.params import EmbeddedShape, LoraSettings, TrainSettings

STEPS, SEED = 20, 5
LORA = LoraSettings(
    rank=16, alpha=32.0, dropout=0.0, layers=4, projections=("q_proj", "v_proj", "up_proj", "down_proj")
)
SETTINGS = TrainSettings(
    mode="lora", lora=LORA, steps=STEPS, batch=4, accumulation=1, max_tokens=256, learning_rate=1e-3, warmup_steps=2,
    final_learning_rate_share=0.1, weight_decay=0.0, clip_norm=1e9, gradient_checkpointing=False, save_every=STEPS,
    evaluate_every=5, patience=0, keep_newest=1,
)  # fmt: skip


def texts(count: int, seed: int) -> list[str]:
    """Made-up pieces: what is measured does not depend on the music."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80"]
        for _ in range(8):
            words.append("BAR_START")
            for beat in range(4):
                words += [f"BEAT_{beat}", f"NOTE_ON_{int(random.integers(40, 80))}", "DUR_QUARTER", "VEL_MF"]
        made.append(f"<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n{' '.join(words)} SONG_END<|im_end|>")
    return made


def ours(folder: Path, evaluate_every: int) -> tuple[list[float], float]:
    """-> loss of each row, target tokens per second."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log.jsonl"
        settings = SETTINGS.model_copy(update={"evaluate_every": evaluate_every})
        run, out = Path(scratch) / "run", Path(scratch) / "out"
        report = trainer.train(
            base.load(folder), texts(60, 1), texts(1, 2), settings, run, out, seed=SEED, log_path=log
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
    windows = make_windows(lm, texts(60, 1), SETTINGS.max_tokens)
    loss_sum = make_loss(lm)

    def batches(**_: Any) -> Iterator[Any]:
        for indices in batches_from(windows, SETTINGS.batch, SEED, 0):
            batch = collate([windows[i] for i in indices], lm.word_tokens.pad_id)
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


def row(what: str, mine: float, peer: float, unit: str, ratio: float | None, target: float, ok: bool) -> dict[str, Any]:
    names = ("what", "ours", "peer", "unit", "ratio", "target", "ok")
    return dict(zip(names, (what, mine, peer, unit, ratio, target, ok), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        shape = EmbeddedShape(hidden_size=128, layers=4, heads=2, kv_heads=1, intermediate_size=384)
        folder = base.make_embedded(Path(scratch) / "base", shape, 1)
        mine, theirs = ours(folder, 5)[0], stock(folder)[0]
        difference = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
        speeds = [(ours(folder, STEPS)[1], stock(folder)[1]) for _ in range(options.runs)]
    our_speed, their_speed = (statistics.median(side) for side in zip(*speeds, strict=True))
    ratio = our_speed / their_speed
    rows = [
        row("loss_difference", difference, 0.0, "nats/token", None, 1e-5, difference <= 1e-5),
        row("speed", round(our_speed, 1), round(their_speed, 1), "tokens/s", round(ratio, 3), 0.95, ratio >= 0.95),
    ]
    for found in rows:
        ok = "ok" if found["ok"] else "missed"
        print(f"{found['what']}: ours {found['ours']}, mlx-lm {found['peer']} {found['unit']} ({ok})")
    if options.json:
        print(json.dumps({"name": "train_parity", "rows": rows, "runs": speeds}))


if __name__ == "__main__":
    main()
