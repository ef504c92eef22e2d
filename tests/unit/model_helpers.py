# ruff: noqa: I001  (the fast BLAS goes before mlx.core, also in processes that tests start)
"""A tiny base and made-up pieces for the tests of plagal.model."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from plagal.model import base
from plagal.plumbing.params import EmbeddedShape, LoraSettings, TrainSettings
from plagal.tokens.vocabulary import count_bars, split_text

SHAPE = EmbeddedShape(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=48)
LORA = LoraSettings(rank=4, alpha=8.0, dropout=0.1, layers=2, projections=("q_proj", "v_proj", "down_proj"))

PRETRAINED = EmbeddedShape(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=64)


def tiny_base(folder: Path, seed: int = 1) -> Path:
    return base.make_embedded(folder / f"base{seed}", SHAPE, seed)


def pretrained(folder: Path, tied: bool, bits: int = 4, mode: str = "affine") -> Path:
    """A quantized base whose tokenizer knows no music word, as a hub would give it; plain with 0 bits."""
    group_size = 16 if mode == "nvfp4" else 32
    from mlx_lm.models import qwen2

    made = base.make_embedded(folder, PRETRAINED, 3)
    tokenizer = json.loads((made / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["special"]]
    (made / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((made / "config.json").read_text())
    config |= {"tie_word_embeddings": tied}
    mx.random.seed(0)
    model = qwen2.Model(qwen2.ModelArgs.from_dict(config))
    if bits:
        config["quantization"] = {"group_size": group_size, "bits": bits} | ({"mode": mode} if mode != "affine" else {})
        nn.quantize(model, group_size, bits, mode=mode)
    mx.save_safetensors(str(made / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (made / "config.json").write_text(json.dumps(config))
    return made


class LiveModels:
    """Stands in for a function that loads a model: notes how many that it gave before still live when it is called."""

    def __init__(self, load: Callable[..., base.LanguageModel]):
        self.load, self.given, self.alive = load, [], []

    def __call__(self, *args: Any, **options: Any) -> base.LanguageModel:
        gc.collect()
        self.alive.append(sum(model() is not None for model in self.given))
        lm = self.load(*args, **options)
        self.given.append(weakref.ref(lm.model))
        return lm


def settings(**changes: object) -> TrainSettings:
    values: dict[str, object] = {
        "mode": "full",
        "lora": LORA,
        "steps": 6,
        "batch": 3,
        "accumulation": 1,
        "max_tokens": 96,
        "learning_rate": 0.01,
        "warmup_steps": 1,
        "final_learning_rate_share": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "gradient_checkpointing": False,
        "save_every": 2,
        "evaluate_every": 3,
        "patience": 0,
        "keep_newest": 2,
    }
    return TrainSettings(**(values | changes))  # type: ignore[arg-type]


def piece(random: np.random.Generator, bars: int = 6) -> list[str]:
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80"]
    for _ in range(bars):
        words.append("BAR_START")
        for beat in range(int(random.integers(1, 5))):
            words += [f"BEAT_{beat}", f"NOTE_ON_{int(random.integers(48, 60))}", "DUR_QUARTER", "VEL_MF"]
            words += [f"NOTE_ON_{int(random.integers(60, 72))}", "DUR_QUARTER", "VEL_F"]
    return [*words, "SONG_END"]


def text_of(words: list[str], prompt: str = "Generate gospel in C major") -> str:
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{' '.join(words)}<|im_end|>"


def counted(text: str) -> str:
    """The same with the bars that are left counted."""
    parts = split_text(text)
    words = " ".join(count_bars(parts.words, parts.words.count("BAR_START")))
    return f"{parts.prompt}{words}{parts.after}"


def texts(count: int, seed: int = 0, bars: int = 6) -> list[str]:
    random = np.random.default_rng(seed)
    return [text_of(piece(random, bars)) for _ in range(count)]
