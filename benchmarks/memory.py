# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""The memory plan against mx.get_peak_memory(): settings that vary length, rank, layers, batch, checkpointing,
vocabulary.

    python benchmarks/memory.py [--json]

On the CPU with one lane and MLX's own order of evaluation; this is no evidence for Metal. `plan_error` is the largest
relative error of plagal.model.memory over the settings. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["MLX_BFS_MAX_WIDTH"] = "20"
import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from tqdm import tqdm

from plagal.model import adapters, base, grow, kernels, lanes, trainer
from plagal.model.loss import make_loss
from plagal.model.memory import predict
from plagal.model.windows import Window
from plagal.model.words import WordTokens
from plagal.params import EmbeddedShape, TrainSettings, load_params
from plagal.tokens.vocabulary import MUSIC_WORDS

ROOT = Path(__file__).parents[1]
SMALL = EmbeddedShape(hidden_size=192, layers=4, heads=3, kv_heads=1, intermediate_size=512)
MIDDLE = EmbeddedShape(hidden_size=256, layers=6, heads=4, kv_heads=2, intermediate_size=704)
WIDE = EmbeddedShape(hidden_size=512, layers=8, heads=8, kv_heads=2, intermediate_size=1408)
# shape, own vocabulary (0: the embedded base's), bits, length, batch, rank, mode, checkpointing, LoRA layers
SETTINGS: list[tuple[Any, ...]] = [
    (SMALL, 0, 0, 512, 4, 32, "full", False, 32),
    (SMALL, 0, 0, 256, 8, 32, "lora", False, 32),
    (MIDDLE, 20_000, 0, 512, 2, 32, "lora", False, 32),
    (MIDDLE, 20_000, 0, 512, 2, 32, "lora", True, 32),
    (MIDDLE, 20_000, 0, 1024, 2, 8, "lora", True, 32),
    (MIDDLE, 20_000, 0, 256, 2, 64, "lora", False, 32),
    (MIDDLE, 152_064, 4, 512, 2, 16, "lora", True, 32),
    (MIDDLE, 152_064, 4, 1024, 1, 16, "lora", False, 3),
    (WIDE, 49_152, 4, 256, 4, 16, "lora", True, 32),
    (WIDE, 49_152, 4, 512, 1, 64, "lora", False, 32),
]


def make(folder: Path, shape: EmbeddedShape, vocabulary: int, bits: int) -> base.LanguageModel:
    """The embedded base, or one of its shape with `vocabulary` random rows, packed, and grown by the music words."""
    from mlx_lm.models import qwen2

    lm = base.load(base.make_embedded(folder, shape, 1))
    if not vocabulary:
        return lm
    config = {**lm.config, "vocab_size": vocabulary}
    model = qwen2.Model(qwen2.ModelArgs.from_dict(config))
    if bits:
        nn.quantize(model, 32, bits)
        config["quantization"] = {"group_size": 32, "bits": bits}
    rows = mx.random.normal((len(MUSIC_WORDS), shape.hidden_size)) * 0.02
    model.model.embed_tokens = grow.GrownEmbedding(model.model.embed_tokens, rows, vocabulary)
    words = WordTokens(tuple((vocabulary + place,) for place in range(len(MUSIC_WORDS))), 5, 0)
    return base.LanguageModel(model, lm.tokenizer, words, {**config, "vocab_size": vocabulary + len(rows)}, folder)


def measure(lm: base.LanguageModel, settings: TrainSettings) -> int:
    """Peak of the second of two steps [bytes]."""
    adapters.make_trainable(lm, settings)
    optimizer = trainer._make_optimizer(settings)
    optimizer.init(lm.model.trainable_parameters())
    mx.eval(lm.model.parameters(), optimizer.state)
    gradients = lanes.Gradients(lm.model, make_loss(lm), 0)
    random = np.random.default_rng(0)
    ids = lm.word_tokens.ids[:-1]
    windows = [Window(random.choice(ids, settings.max_tokens + 1).astype(np.int32), 24, 100, 0)
               for _ in range(settings.batch)]  # fmt: skip
    with kernels.cpu_kernels(lm.model), kernels.checkpointed(lm.model, settings.gradient_checkpointing):
        for _ in range(2):
            mx.reset_peak_memory()
            loss, grads, _, _ = gradients(windows)
            mx.eval(loss, grads)
            optimizer.update(lm.model, grads)
            mx.eval(lm.model.trainable_parameters(), optimizer.state)
            del loss, grads
    return int(mx.get_peak_memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lanes.CPU_LANES = 1
    stage = load_params(ROOT / "params.yaml").train_stage2
    cases = []
    for shape, vocabulary, bits, length, batch, rank, mode, checkpointing, layers in tqdm(SETTINGS, disable=None):
        mx.clear_cache()
        lora = stage.lora.model_copy(update={"rank": rank, "layers": layers})
        changes = {"mode": mode, "lora": lora, "max_tokens": length, "batch": batch, "accumulation": 1}
        settings = stage.model_copy(update={**changes, "gradient_checkpointing": checkpointing})
        with tempfile.TemporaryDirectory() as scratch:
            lm = make(Path(scratch) / "base", shape, vocabulary, bits)
            # The words' new rows are counted apart from the base's vocabulary.
            config = {**lm.config, "vocab_size": vocabulary or lm.config["vocab_size"]}
            planned = predict(config, settings, grown=bool(vocabulary)).total
            measured = measure(lm, settings)
        cases.append({"setting": [shape.hidden_size, shape.layers, vocabulary, bits, length, batch, rank, mode,
                                  checkpointing, layers], "measured_mb": round(measured / 1e6, 1),
                      "planned_mb": round(planned / 1e6, 1), "error": round(planned / measured - 1, 4)})  # fmt: skip
        print(cases[-1])
    worst = max(abs(case["error"]) for case in cases)
    row = {"what": "plan_error", "ours": worst, "peer": None, "unit": "share", "ratio": None, "target": 0.1,
           "ok": worst <= 0.1}  # fmt: skip
    print(f"plan_error {worst:.1%} over {len(cases)} settings on the {'CPU' if kernels.on_cpu() else 'GPU'}")
    if options.json:
        print(json.dumps({"name": "memory", "rows": [row], "cases": cases}))


if __name__ == "__main__":
    main()
