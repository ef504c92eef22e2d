"""`plagal doctor` and `plagal plan`: what this machine offers, what training, fusing and evaluating will need of it,
and the way out where it is poor."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from plagal.plumbing.files import read_json

if TYPE_CHECKING:
    from plagal.model.memory import Need
    from plagal.plumbing.params import Params

SLOW_GFLOPS = 50.0
"""Below this the embedded default takes hours: the reference BLAS gives 4, OpenBLAS on two cores 200."""
LEAST_MEMORY_GB = 4.0
LEAST_DISK_GB = 5.0
"""The environment takes 2 GB; data, models and DVC's cache of a few runs the rest."""
_GIGA = 1e9
_HALF, _FULL = 2, 4
"""[bytes] of an activation."""


def examine(folder: Path = Path()) -> Iterator[str]:
    """Lines for a terminal: "ok" or "poor", what was found, and for what is poor the way out."""
    yield f"ok    Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield from _model_floor()
    try:
        yield f"ok    DVC {version('dvc')}"
    except PackageNotFoundError:
        yield "poor  DVC is not installed: `make setup` makes the whole environment"
    free = shutil.disk_usage(folder).free / _GIGA
    yield _line(free >= LEAST_DISK_GB, f"disk {free:.0f} GB free", "make room: `dvc gc -w` drops old runs")


def _model_floor() -> Iterator[str]:
    from plagal.model.cpu.blas import describe

    found = describe()
    device = f"MLX {found['mlx']} on {found['device']}"
    yield f"ok    {device}" + (f", {found['device_memory_gb']} GB for it" if found["device_memory_gb"] else "")
    yield _line(
        found["gflops"] >= SLOW_GFLOPS,
        f"BLAS {found['blas']}, {found['threads']} threads, {found['gflops']:.0f} GFLOP/s in fp32",
        "install scipy-openblas32 (it is in requirements.lock), or free the cores that others use",
    )
    yield _line(found["memory_gb"] >= LEAST_MEMORY_GB, f"memory {found['memory_gb']} GB", "close other programs")
    if platform.system() == "Linux":
        yield _line(found["compiler"] is not None, "g++ for mx.compile", "install g++: training runs, but slower")


def _line(good: bool, found: str, mend: str) -> str:
    return f"ok    {found}" if good else f"poor  {found}: {mend}"


def plan_lines(config: Path, params: Params) -> Iterator[str]:
    """Lines for a terminal. `config`: config.json of a base, or its folder. Raises InputError where there is none.

    Predictions: fitted to measured peaks on the CPU (benchmarks/memory.py); Metal's own scratch memory is not in them.
    """
    from plagal.model.memory import GIGA, MAC_BUDGETS_GB, mac_table, predict, predict_evaluate, predict_fuse

    shape = read_json(config / "config.json" if config.is_dir() else config)
    activation_bytes = _FULL if shape.get("torch_dtype") == "float32" else _HALF
    yield (
        "Fitted to measured peaks of MLX's CPU backend; for Metal and CUDA a prediction that leaves out their own "
        "scratch memory. In half precision attention's backward pass is taken to build no scores, as Metal's does not "
        "where the mask is causal; `plagal rehearse` measures."
    )
    for name, settings in (("train_stage1", params.train_stage1), ("train_stage2", params.train_stage2)):
        need = predict(shape, settings, encoding=params.model.encoding, activation_bytes=activation_bytes,
                       scoreless=activation_bytes == _HALF)  # fmt: skip
        yield _need_line(name, need, f"at {settings.batch} x {settings.max_tokens} tokens")
        for row in mac_table(shape, settings):
            yield (
                f"  {row['memory_gb']:>3} GB Mac, {row['metal_gb']} GB for Metal: ours {row['ours_tokens']} tokens, "
                f"{row['ours_notes']} notes; stock mlx-lm {row['stock_tokens']} tokens, {row['stock_notes']} notes"
            )
    for name, work in (("fuse", predict_fuse), ("evaluate", predict_evaluate)):
        for memory, budget in MAC_BUDGETS_GB.items():
            need = work(
                shape, params.train_stage2, params.fuse.quantize_bits, budget * GIGA,
                encoding=params.model.encoding, activation_bytes=activation_bytes,
            )  # fmt: skip
            fits = "fits" if need.total <= budget * GIGA else "does not fit"
            yield _need_line(f"{name}, {memory} GB Mac", need, f"{fits} {budget} GB for Metal")


def _need_line(name: str, need: Need, how: str) -> str:
    parts = ("weights", "trained", "activations", "attention", "logits")
    shares = ", ".join(f"{part} {getattr(need, part) / _GIGA:.2f}" for part in parts if getattr(need, part))
    return f"{name}: {need.total / _GIGA:.2f} GB {how} ({shares})"
