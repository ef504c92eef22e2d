# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""Whether a run that is killed at random moments (kill -9) and started again ends as if nothing had happened.

    python benchmarks/resume.py [--json] [--kills 20] [--seed 1]

Both training stages (stage 1 whole, stage 2 as LoRA) and fuse run in one process on a tiny base, first undisturbed;
then twenty times with one kill each, at a moment drawn evenly over the undisturbed run, and once more to the end.
`identical_ends` counts the runs whose models, adapters, fused model and curves are those of the undisturbed run, byte
for byte. The peer is stock mlx-lm: as many LoRA runs of the same length broken off at a random step and resumed
with `resume_adapter_file`, which is all that it keeps. Takes some minutes.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx_lm.tuner.datasets import CacheDataset, TextDataset
from mlx_lm.tuner.trainer import TrainingArgs
from mlx_lm.tuner.trainer import train as stock_train
from mlx_lm.tuner.utils import linear_to_lora_layers
from shared.places import ROOT
from shared.rows import Row, finish, parser, row
from shared.texts import made_up_texts
from tqdm import tqdm

from plagal.plumbing.files import write_json, write_jsonl, write_text
from plagal.model import adapters, base
from plagal.plumbing.params import EmbeddedShape, load_params
from plagal.plumbing.params import apply_profile

STEPS, SAVE_EVERY, BARS = 80, 4, 5
_TRAIN = f"steps: {STEPS}, batch: 2, max_tokens: 128, save_every: {SAVE_EVERY}, evaluate_every: 20, warmup_steps: 2"
OVERLAY = f"""
model: {{base: embedded, embedded: {{hidden_size: 32, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 64}}}}
train_stage1: {{mode: full, {_TRAIN}}}
train_stage2: {{{_TRAIN}}}
"""
WORK = """
from pathlib import Path
from plagal.plumbing.params import load_params
from plagal.stages import STAGES
print("ready", flush=True)
for stage in ("train_stage1", "train_stage2", "fuse"):
    done = Path("done") / stage
    if not done.exists():
        STAGES[stage](load_params())
        done.parent.mkdir(exist_ok=True)
        done.touch()
"""
OUTPUTS = ("models/stage1", "models/stage2", "models/fused", "metrics/curves")


def prepare(folder: Path) -> Path:
    """A project's params and training text."""
    write_text(folder / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8"))
    write_text(folder / "overlay.yaml", OVERLAY)
    apply_profile(folder / "overlay.yaml", folder / "params.yaml")
    for number, stage in enumerate(("stage1", "stage2")):
        write_json(folder / "data" / "text" / stage / "provenance.json", [])
        for split, count in (("train", 20), ("valid", 3)):
            path = folder / "data" / "text" / stage / f"{split}.jsonl"
            write_jsonl(path, [{"text": text} for text in made_up_texts(count, 10 * number + count, BARS)])
    return folder


def work(folder: Path, kill_after: float | None = None) -> float:
    """Run to the end, or kill -9 so long after the imports. -> seconds after the imports."""
    process = subprocess.Popen([sys.executable, "-c", WORK], cwd=folder, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    try:
        _, complaint = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(complaint[-2000:])
    return time.perf_counter() - began


def kill_once(folder: Path, seconds: float, draw: random.Random) -> tuple[float, float]:
    """Start one run and kill it within `seconds`. -> when, and how long a run takes: one that ended before its kill
    tells that anew, and the kill is drawn again."""
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder)
        moment = draw.uniform(0, seconds)
        took = work(folder, moment)
        if not (folder / "done" / "fuse").exists():
            return moment, seconds
        seconds = took


def ends(folder: Path) -> dict[str, bytes]:
    files = [path for name in OUTPUTS for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def ours(scratch: Path, kills: int, seed: int) -> tuple[int, list[dict[str, Any]]]:
    """-> runs that ended identically, and what each kill met."""
    straight = prepare(scratch / "straight")
    seconds = work(straight)
    wanted, draw = ends(straight), random.Random(seed)
    same, met = 0, []
    for number in tqdm(range(kills), desc="kill", disable=None):
        folder = scratch / f"killed{number}"
        moment, seconds = kill_once(folder, seconds, draw)
        done = [path.name for path in sorted((folder / "done").glob("*"))]
        kept = sorted(path.name for path in folder.glob(".checkpoints/*/step-*"))
        work(folder)
        identical = ends(folder) == wanted
        same += identical
        met.append({"after_s": round(moment, 2), "stages_done": len(done), "newest": kept[-1] if kept else None,
                    "identical": identical})  # fmt: skip
    return same, met


def stock(scratch: Path, kills: int, seed: int) -> int:
    """The same with what mlx-lm keeps, the adapter: LoRA alone, broken off after a save."""
    folder = base.make_embedded(scratch / "base", EmbeddedShape(
        hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64), 1)  # fmt: skip
    lora = load_params(ROOT / "params.yaml").train_stage2.lora

    def run(steps: int, start: Path | None, end: Path) -> bytes:
        lm = base.load(folder)
        mx.random.seed(0)
        np.random.seed(0)
        lm.model.freeze()
        linear_to_lora_layers(lm.model, 2, adapters.lora_config(lm, lora)["lora_parameters"])
        if start is not None:
            lm.model.load_weights(str(start), strict=False)
        data = CacheDataset(TextDataset([{"text": text} for text in made_up_texts(20, 20, BARS)], lm.tokenizer))
        args = TrainingArgs(batch_size=2, iters=steps, steps_per_report=1000, steps_per_save=1000, max_seq_length=512,
                            adapter_file=str(end))  # fmt: skip
        stock_train(lm.model, optim.Adam(1e-3), data, None, args=args)
        return end.read_bytes()

    wanted, draw = run(STEPS, None, scratch / "straight.safetensors"), random.Random(seed)
    broken: dict[int, bool] = {}
    same = 0
    for _ in range(kills):
        step = draw.randrange(SAVE_EVERY, STEPS, SAVE_EVERY)
        if step not in broken:
            run(step, None, scratch / "first.safetensors")
            resumed = run(STEPS - step, scratch / "first.safetensors", scratch / "then.safetensors")
            broken[step] = resumed == wanted
        same += broken[step]
    return same


def measure(kills: int, seed: int, met: list[dict[str, Any]]) -> Iterator[Row]:
    """`met`: filled with what each kill met."""
    with tempfile.TemporaryDirectory() as scratch:
        mine, told = ours(Path(scratch) / "ours", kills, seed)
        met += told
        peer = stock(Path(scratch), kills, seed)
        yield row("identical_ends", mine, peer, f"of {kills} kills", against="mlx-lm", at_least=kills, judge="ours")


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--kills", type=int, default=20)
    wishes.add_argument("--seed", type=int, default=1)
    options = wishes.parse_args()
    met: list[dict[str, Any]] = []
    finish("resume", measure(options.kills, options.seed, met), options.json, kills=met)


if __name__ == "__main__":
    main()
