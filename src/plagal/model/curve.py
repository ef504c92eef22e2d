"""What is told about a run while it goes: curve rows (versioned, no clock in them), a progress bar and a log
(clocked)."""

from __future__ import annotations

import csv
import json
import platform
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import mlx.core as mx
from tqdm import tqdm

from plagal.model.cpu import blas, kernels
from plagal.model.cpu.lanes import lane_count
from plagal.plumbing.files import atomic_path

CURVE_FIELDS = ("step", "train_loss", "valid_loss", "valid_nats_per_note", "learning_rate")


@dataclass(frozen=True)
class CurveRow:
    """Losses in nats per token; None where they were not measured at this step."""

    step: int
    train_loss: float | None
    valid_loss: float | None
    valid_nats_per_note: float | None
    learning_rate: float

    def as_list(self) -> list[Any]:
        return list(astuple(self))


def write_curve(path: str | Path, rows: Iterable[CurveRow]) -> None:
    """CSV with the columns CURVE_FIELDS, rounded so that platforms agree; an empty cell for what was not measured."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(CURVE_FIELDS)
        for row in rows:
            writer.writerow(["" if value is None else value if isinstance(value, int) else f"{value:.6g}"
                             for value in row.as_list()])  # fmt: skip


def conditions(processes: int = 1) -> dict[str, Any]:
    """All that decides the last bits of a result, besides params and data."""
    return {
        "machine": platform.machine(),
        "device": str(mx.default_device().type).rpartition(".")[2],
        "blas": blas.blas_name(),
        "lanes": lane_count() * processes if not kernels.on_cpu() else max(lane_count(), processes),
        "fused": kernels.fused(),
        "mlx": version("mlx"),
    }


class Curve:
    """The log of a run, if it has one: one JSON object a line, flushed at once."""

    def __init__(self, path: str | Path | None):
        self._path = Path(path) if path else None
        self._handle: IO[str] | None = None

    def __enter__(self) -> Curve:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle:
            self._handle.close()

    def add(self, row: CurveRow) -> None:
        self.log(dict(zip(CURVE_FIELDS, row.as_list(), strict=True)))

    def log(self, values: dict[str, Any]) -> None:
        if self._handle:
            self._handle.write(json.dumps({"time": round(time.time(), 3), **values}) + "\n")
            self._handle.flush()


class Progress:
    """A bar with ETA, loss, notes/s, tokens/s and peak memory."""

    def __init__(self, steps: int, done: int, curve: Curve, shown: bool = True):
        self._bar = tqdm(
            total=steps, initial=done, unit="step", desc="train", dynamic_ncols=True, mininterval=0.5, disable=not shown
        )
        self._curve = curve
        self._began = time.perf_counter()
        self._targets = self._notes = self._steps = 0
        self._mean: float | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        seconds = time.perf_counter() - self._began
        if self._steps:
            self._curve.log({"steps": self._steps, "seconds": round(seconds, 3),
                             "tokens_per_second": round(self._targets / seconds, 1),
                             "notes_per_second": round(self._notes / seconds, 1)})  # fmt: skip

    def update(self, loss: float, targets: int, notes: int) -> None:
        self._targets, self._notes, self._steps = self._targets + targets, self._notes + notes, self._steps + 1
        self._mean = loss if self._mean is None else 0.9 * self._mean + 0.1 * loss
        seconds = time.perf_counter() - self._began
        self._bar.set_postfix_str(
            f"loss {self._mean:.3f}, {self._notes / seconds:.0f} notes/s, {self._targets / seconds:.0f} tokens/s,"
            f" {mx.get_peak_memory() / 1e9:.2f} GB",
            refresh=False,
        )
        self._bar.update(1)
