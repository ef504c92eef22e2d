"""`plagal doctor`, `plan`, `rehearse` and `export`: what this machine offers, what a run will need of it, found out by
counting or by doing a little of it, and what was learned, for other programs."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plagal.plumbing.files import read_json

if TYPE_CHECKING:
    from plagal.model.memory import Need
    from plagal.plumbing.params import ModelSettings, Params


SLOW_GFLOPS = 50.0
"""Below this the embedded default takes hours: the reference BLAS gives 4, OpenBLAS on two cores 200."""
LEAST_MEMORY_GB = 4.0
LEAST_DISK_GB = 5.0
"""The environment takes 2 GB; data, models and DVC's cache of a few runs the rest."""
_GIGA = 1e9
_HALF, _FULL = 2, 4
"""[bytes] of an activation."""


def doctor() -> None:
    """Check this machine, and say what to do if something is missing or too small."""
    for line in examine():
        print(line)


def examine() -> Iterator[str]:
    """Lines for a terminal: "ok" or "poor", what was found, and for what is poor the way out."""
    yield f"ok    Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield from _model_floor()
    try:
        yield f"ok    DVC {version('dvc')}"
    except PackageNotFoundError:
        yield "poor  DVC is not installed: `make setup` makes the whole environment"
    free = shutil.disk_usage(".").free / _GIGA
    yield _line(free >= LEAST_DISK_GB, f"disk {free:.0f} GB free", "make room: `dvc gc -w` drops old runs")


def _model_floor() -> Iterator[str]:
    from plagal.model.cpu.blas import describe

    found = describe()
    device = f"MLX {found['mlx']} on {found['device']}"
    yield f"ok    {device}" + (f", {found['device_memory_gb']} GB for it" if found["device_memory_gb"] else "")
    yield _line(
        found["gflops"] >= SLOW_GFLOPS,
        f"BLAS {found['blas']}, {found['threads']} threads, {found['gflops']:.0f} GFLOP/s in fp32",
        "install scipy-openblas32 (it is in requirements.lock), or close programs that use the cores",
    )
    yield _line(found["memory_gb"] >= LEAST_MEMORY_GB, f"memory {found['memory_gb']} GB", "close other programs")
    if platform.system() == "Linux":
        yield _line(found["compiler"] is not None, "g++ for mx.compile", "install g++: training runs, but slower")


def _line(good: bool, found: str, mend: str) -> str:
    return f"ok    {found}" if good else f"poor  {found}: {mend}"


def plan(
    config: Annotated[Path, typer.Argument(help="config.json of the base, or its folder.")] = Path("models/base"),
) -> None:
    """Show the memory that training, fusing and evaluating need, and the longest text that fits each size of Mac."""
    from plagal.plumbing.params import load_params

    for line in plan_lines(config, load_params()):
        print(line)


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


# --- `plagal export`: what was learned, for other programs ---


class To(StrEnum):
    peft = "peft"
    gguf = "gguf"
    mlx = "mlx"


def export(
    to: Annotated[To, typer.Option(help="peft: the adapter; gguf, mlx: the fused model.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default out/plagal-TO or out/plagal.gguf.")
    ] = None,
    models: Annotated[Path, typer.Option(help="The pipeline's folder of models.")] = Path("models"),
) -> None:
    """Write the model for other programs (Hugging Face PEFT, GGUF or MLX), read it back and compare the logits."""
    import plagal.model  # noqa: F401  (the fast BLAS goes before everything that loads another)
    from plagal.export import to_gguf, to_mlx, to_peft

    out = output or Path("out") / ("plagal.gguf" if to is To.gguf else f"plagal-{to.value}")
    write = {To.peft: to_peft, To.gguf: to_gguf, To.mlx: to_mlx}[to]
    done = write(models if to is To.peft else models / "fused", out)
    for line in done.lines():
        print(line)


# --- `plagal rehearse`: minutes before days ---

REPORT = Path("logs/rehearsal.json")
ASKED = Path("logs/rehearsal_asked.json")
"""That `make repro` has asked for a rehearsal once: {"base": ...}."""
_LARGE_BILLIONS = 1.0


def rehearse(
    profile: Annotated[str, typer.Option(help="A file in profiles/, applied only for this run.")] = "",
    minutes: Annotated[float, typer.Option(min=0.0, help="To time steps; loading and compiling come on top.")] = 5.0,
    config: Annotated[
        Path | None, typer.Option(help="config.json of a base that you don't have; uses random weights of its shape.")
    ] = None,
    layers: Annotated[int, typer.Option(min=0, help="Use random weights with this many layers; 0: all.")] = 0,
    if_large: Annotated[
        bool, typer.Option("--if-large", help="Only ask, once, if the base has over 1 B weights.")
    ] = False,
) -> None:
    """Run a few steps of all that a long run does, then say "go" or what to change: memory, hours, disk, speed."""
    from plagal.plumbing.files import read_json, write_json
    from plagal.plumbing.params import check_params, load_params, profile_path, with_profile

    params = load_params()
    if profile:
        params = check_params(with_profile(profile_path(profile)), f"params.yaml with profile {profile}")
    if if_large:
        _ask_once(params.model)
        return
    import plagal.model  # noqa: F401  (the fast BLAS goes before everything that loads another)
    from plagal.rehearsal.run import rehearse as run
    from plagal.rehearsal.run import report_lines

    shape = read_json(config / "config.json" if config.is_dir() else config) if config else None
    report = {"profile": profile, **run(params, minutes, shape, layers)}
    write_json(REPORT, report)
    for line in report_lines(report):
        print(line)
    print(f"{REPORT} has the details, and names no user, host or folder")


def _ask_once(model: ModelSettings) -> None:
    """For `make repro`. Raises InputError where a large base was neither rehearsed nor asked about."""
    from plagal.plumbing.errors import InputError
    from plagal.plumbing.files import read_json, write_json
    from plagal.rehearsal.machine import billions

    base, size = model.base, billions(model)
    if size <= _LARGE_BILLIONS:
        return
    if REPORT.exists() and read_json(REPORT).get("base", {}).get("name") == base:
        return
    if ASKED.exists() and read_json(ASKED) == {"base": base}:
        return
    write_json(ASKED, {"base": base})
    raise InputError(
        f"{base} has {size:.1f} billion weights, so its run takes days. `plagal rehearse` tells you in minutes whether"
        " it fits here; run `make repro` again to start without it"
    )
