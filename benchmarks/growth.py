# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""How cost grows with the work (corpus x10, sequence x4, model x4, clients x10), each with its exponent.

    python benchmarks/growth.py [--json] [--rounds 3] [--model models/fused] [--only PART ...]

The exponent is the slope of log(seconds) over log(size) by least squares, over three sizes or more: 1 is linear, 2
quadratic, 0 no growth. CPU seconds, because other work on the machine shall not count.
- corpus_x10: collecting and preparing MIDI hymns (see corpus.py), in one process. Linear is expected.
- sequence_x4: a training step of the embedded base on one sequence of 256 to 1,024 tokens. Linear but for attention,
  which is quadratic: between 1 and 2.
- model_x4: a training step on 512 tokens, by the weights of the layers (0.8 to 3.1 million, by width; heads
  grow with it). Linear in the matrices, less than that in what is done once a token.
- clients_x10: from 5 to 50 clients of `plagal serve` at once, eight bars each, until the last has all; CPU seconds of
  the server. Batches make it less than linear. `clients_x10_clock`: the same by the clock.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import mlx.core as mx
import numpy as np
import corpus
import serve
from shared.places import ROOT
from shared.rows import Row, finish, parser, row
from tqdm import tqdm

from plagal.model import adapters, base, trainer

from plagal.model.cpu import kernels, lanes
from plagal.model.loss import make_loss
from plagal.model.loss import Window
from plagal.plumbing.params import EmbeddedShape, load_params

FILES = (400, 1200, 4000)
LENGTHS = (256, 512, 1024)
WIDTHS = (128, 192, 256)
CLIENTS = (5, 16, 50)
STEPS = 3
PARTS = ("sequence", "model", "corpus", "clients")


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of the line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def grown(what: str, sizes: Sequence[int], unit: str, seconds: Sequence[Sequence[float]], expected: str) -> Row:
    """`seconds`: for each round, those of each size."""
    middle = [statistics.median(each) for each in zip(*seconds, strict=True)]
    shown = ", ".join(f"{size:,}: {took:.3g} s" for size, took in zip(sizes, middle, strict=True))
    told = f"exponent; {unit} {shown}; expected: {expected}"
    return row(what, [exponent(sizes, each) for each in seconds], unit=told, sizes=list(sizes), seconds=middle)


def rounds_of(rounds: int, sizes: Sequence[int], took: Callable[[int], float], name: str) -> list[list[float]]:
    """Each size in turn, so many times."""
    with tqdm(total=rounds * len(sizes), desc=name, disable=None, leave=False) as bar:
        found: list[list[float]] = []
        for _ in range(rounds):
            found.append([])
            for size in sizes:
                found[-1].append(took(size))
                bar.update()
    return found


def of_corpus(rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as name:
        corpus.write_hymns(Path(name), max(FILES))

        def took(files: int) -> float:
            found = corpus.in_process(Path(name), files)
            return files * (found["collect"] + found["prepare"])

        return grown("corpus_x10", FILES, "files", rounds_of(rounds, FILES, took, "corpus"), "1")


class Steps:
    """Training steps of one model, all weights trained; CPU seconds of one."""

    def __init__(self, folder: Path, width: int):
        shape = EmbeddedShape(
            hidden_size=width, layers=4, heads=width // 64, kv_heads=max(width // 128, 1), intermediate_size=3 * width
        )
        self.lm = base.load(base.make_embedded(folder / str(width), shape, 1))
        settings = load_params(ROOT / "params.yaml").train_stage1.model_copy(update={"mode": "full"})
        adapters.make_trainable(self.lm, settings)
        self.optimizer = trainer._make_optimizer(settings)
        self.optimizer.init(self.lm.model.trainable_parameters())
        self.gradients = lanes.Gradients(self.lm.model, make_loss(self.lm), 0)
        self.weights = shape.layers * (2 * width * (width + width // shape.heads * shape.kv_heads) + 9 * width * width)

    def took(self, length: int) -> float:
        ids = np.random.default_rng(length).choice(self.lm.words.ids[:-1], length + 1).astype(np.int32)
        window = [Window(ids, 24, 100, 0)]
        seconds = []
        with kernels.cpu_kernels(self.lm.model):
            for _ in range(STEPS + 1):
                began = time.process_time()
                loss, grads, _, _ = self.gradients(window)
                self.optimizer.update(self.lm.model, grads)
                mx.eval(loss, self.lm.model.trainable_parameters(), self.optimizer.state)
                seconds.append(time.process_time() - began)
        return statistics.median(seconds[1:])  # the first compiles


def of_sequence(rounds: int, folder: Path) -> Row:
    steps = Steps(folder, 192)
    return grown("sequence_x4", LENGTHS, "tokens", rounds_of(rounds, LENGTHS, steps.took, "sequence"), "1 to 2")


def of_model(rounds: int, folder: Path) -> Row:
    by_size = {steps.weights: steps for steps in (Steps(folder, width) for width in WIDTHS)}
    seconds = rounds_of(rounds, list(by_size), lambda size: by_size[size].took(512), "model")
    return grown("model_x4", list(by_size), "weights", seconds, "up to 1")


def cpu_seconds(pid: int) -> float | None:
    """Of a process and its threads so far; None where the system does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return None
    user, system = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def of_clients(rounds: int, model: Path) -> Iterator[Row]:
    clock: list[list[float]] = []
    with tempfile.TemporaryDirectory() as scratch, serve.plagal_server(model, Path(scratch)) as (address, pid):
        serve.ask(address, 0, bars=1)

        def took(clients: int) -> float:
            used, began = cpu_seconds(pid), time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                answers: list[Any] = list(pool.map(lambda seed: serve.ask(address, seed), range(clients)))
            assert all(answer.valid for answer in answers)
            if len(clock[-1]) == len(CLIENTS):
                clock.append([])
            clock[-1].append(time.perf_counter() - began)
            now = cpu_seconds(pid)
            return clock[-1][-1] if used is None or now is None else now - used

        clock.append([])
        seconds = rounds_of(rounds, CLIENTS, took, "clients")
    yield grown("clients_x10", CLIENTS, "clients", seconds, "under 1")
    yield grown("clients_x10_clock", CLIENTS, "clients", clock, "under 1")


def measure(rounds: int, model: Path, parts: Sequence[str]) -> Iterator[Row]:
    lanes.CPU_LANES = 1
    with tempfile.TemporaryDirectory() as scratch:
        if "sequence" in parts:
            yield of_sequence(rounds, Path(scratch))
        if "model" in parts:
            yield of_model(rounds, Path(scratch))
    if "corpus" in parts:
        yield of_corpus(rounds)
    if "clients" in parts:
        yield from of_clients(rounds, model)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--rounds", type=int, default=3)
    wishes.add_argument("--model", type=Path, default=ROOT / "models" / "fused")
    wishes.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options = wishes.parse_args()
    finish("growth", measure(options.rounds, options.model, options.only), options.json)


if __name__ == "__main__":
    main()
