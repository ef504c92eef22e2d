# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""How much of the training is lost when adapters are merged into a 4-bit base, by ours and by stock `mlx_lm.fuse`.

    python benchmarks/fuse.py [--json]

A Qwen2-shaped base with random weights in 4 bits learns made-up pieces twice: with one token a word (new rows beside
the packed ones), and in the base's own sub-words, where stock mlx-lm can read the adapters too.
`reload_difference`: largest difference of logits between our fused model and the same folder in stock `mlx_lm.load`.
`lost_share`: the share of what training gained on held-out pieces [nats per token] that fusing costs, ours asked to
pack the layers in 4 bits again (it raises the bits where that would cost more than 1 %), stock by default.
`lost_share_event` is ours on the first of the two, which stock refuses.
`peak_of_model`: MLX's peak while fusing, over the size of the larger of base and fused model; packed layers stay
packed, as on a Mac. `evaluate_peak_of_model`: the same while all four stages' models are scored, one after the other.
Each in a process of its own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from mlx.utils import tree_flatten
from shared.rows import Row, finish, parser, row
from shared.texts import made_up_texts

from plagal.plumbing.files import read_json, write_json
from plagal.model import adapters, base, trainer
from plagal.model.scorer import word_scores
from plagal.model.fuse import FuseReport, fuse, loss_on
from plagal.model.loss import make_windows
from plagal.plumbing.params import EmbeddedShape, LoraSettings, TrainSettings

SHAPE = EmbeddedShape(hidden_size=128, layers=4, heads=4, kv_heads=2, intermediate_size=384)
WIDE = EmbeddedShape(hidden_size=768, layers=8, heads=8, kv_heads=2, intermediate_size=2048)
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WINDOW, BARS = 512, 4
STOCK = "mlx_lm.fuse"
SETTINGS = TrainSettings(
    mode="lora", lora=LoraSettings(rank=16, alpha=32.0, dropout=0.0, layers=4, projections=ALL), steps=30, batch=4,
    accumulation=1, max_tokens=WINDOW, learning_rate=3e-4, warmup_steps=4, final_learning_rate_share=0.1,
    weight_decay=0.0, clip_norm=1.0, gradient_checkpointing=False, save_every=30, evaluate_every=30, patience=0,
    keep_newest=1,
)  # fmt: skip


def packed_base(folder: Path, shape: EmbeddedShape = SHAPE) -> Path:
    """As a hub would give it: 4 bits, and a tokenizer without music words."""
    from mlx_lm.models import qwen2

    base.make_embedded(folder, shape, 3)
    tokenizer = read_json(folder / "tokenizer.json")
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["special"]]
    write_json(folder / "tokenizer.json", tokenizer)
    config = read_json(folder / "config.json") | {"quantization": {"group_size": 32, "bits": 4}}
    mx.random.seed(0)
    model = qwen2.Model(qwen2.ModelArgs.from_dict(config))
    nn.quantize(model, 32, 4)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    write_json(folder / "config.json", config)
    return folder


def trained(folder: Path, encoding: base.Encoding) -> FuseReport:
    """Train, and fuse into `folder`/fused."""
    made = packed_base(folder / "base")
    write_json(made / "config.json", base.with_encoding(read_json(made / "config.json"), encoding))
    train, held_out = made_up_texts(40, 1, BARS), made_up_texts(6, 2, BARS)
    trainer.train(base.load(made), train, held_out, SETTINGS, folder / "run", folder / "adapter", seed=1)
    return fuse(made, folder / "adapter", folder / "fused", held_out, quantize_bits=4, max_tokens=WINDOW)


def stock_lost_share(folder: Path, report: FuseReport) -> float:
    """`mlx_lm.fuse` on the same adapters, measured by the same loss."""
    command = [sys.executable, "-m", "mlx_lm", "fuse", "--model", str(folder / "base"), "--adapter-path",
               str(folder / "adapter"), "--save-path", str(folder / "stock")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    write_json(folder / "stock" / "config.json", base.with_encoding(read_json(folder / "stock/config.json"), "text"))
    lm = base.load(folder / "stock")
    loss = loss_on(lm, make_windows(lm, made_up_texts(6, 2, BARS), WINDOW))
    return max(loss - report.adapted_loss, 0.0) / (report.base_loss - report.adapted_loss)


def reload_difference(folder: Path) -> float:
    """Largest difference of logits; both sides on the weights as they are packed."""
    model, _ = mlx_lm.load(str(folder))
    unpack, base.unpack = base.unpack, lambda _: None
    lm = base.load(folder)
    base.unpack = unpack
    ids = mx.array([lm.encode_text(made_up_texts(1, 9, BARS)[0])])
    return float(mx.abs(model(ids) - lm.model(ids)).max().item())


def measure(bits: dict[str, int]) -> Iterator[Row]:
    """`bits`: filled with those of the touched layers by encoding; 0 where they stay plain."""
    with tempfile.TemporaryDirectory() as scratch:
        event, text = Path(scratch) / "event", Path(scratch) / "text"
        by_word, by_subword = trained(event, "event"), trained(text, "text")
        yield row("reload_difference", reload_difference(event / "fused"), unit="logits", at_most=0.0)
        lost = stock_lost_share(text, by_subword)
        yield row("lost_share", by_subword.lost_share, lost, "share", against=STOCK, at_most=0.01, judge="ours")
        yield row("lost_share_event", by_word.lost_share, unit="share", at_most=0.01)
        bits |= {"event": by_word.touched_bits, "text": by_subword.touched_bits}


def peak_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = packed_base(folder / "base", WIDE)
        train, held_out = made_up_texts(4, 1, BARS), made_up_texts(1, 2, BARS)
        settings = SETTINGS.model_copy(update={"steps": 1, "batch": 1, "warmup_steps": 0})
        trainer.train(base.load(made), train, held_out, settings, folder / "run", folder / "stage2", seed=1)
        unit = "of the model's size"
        ours = in_process("fuse", folder)
        size = max(model_bytes(folder / name) for name in ("base", "fused"))
        yield row("peak_of_model", ours / size, unit=unit, at_most=1.6)
        shutil.copytree(folder / "stage2", folder / "stage1")
        yield row("evaluate_peak_of_model", in_process("evaluate", folder) / size, unit=unit, at_most=1.6)


def model_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))


def in_process(case: str, folder: Path) -> float:
    """MLX's peak [bytes] in a process of its own."""
    command = [sys.executable, __file__, "--case", case, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def peak(case: str, folder: Path) -> int:
    base.unpack = lambda _: None
    texts = made_up_texts(1, 2, BARS)
    if case == "fuse":
        fuse(folder / "base", folder / "stage2", folder / "fused", texts, quantize_bits=4, max_lost_share=1.0)
    else:
        for name in adapters.STAGES:
            word_scores(adapters.load_stage(folder, name), texts)
    return int(mx.get_peak_memory())


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = wishes.parse_args()
    if options.case:
        print(peak(options.case[0], Path(options.case[1])))
        return
    bits: dict[str, int] = {}
    finish("fuse", chain(measure(bits), peak_rows()), options.json, bits=bits)


if __name__ == "__main__":
    main()
