"""`plagal doctor`: what this machine offers for the pipeline, and what to do where it is poor."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SLOW_GFLOPS = 50.0
"""Below this the embedded default takes hours: the reference BLAS gives 4, OpenBLAS on two cores 200."""
LEAST_MEMORY_GB = 4.0
LEAST_DISK_GB = 5.0
"""The environment takes 2 GB; data, models and DVC's cache of a few runs the rest."""
_GIGA = 1e9


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
