"""Checkpoints that are whole or absent, one writer at a time, and always room for the next.

A run's folder, `.checkpoints/<key>/`:

    writer.lock     held by the one trainer that may write, and writer.json: who that is (`plumbing.lock`)
    step-00000050/  state.safetensors, state.json, and sums.json with the sha256 of both
    best-00000050/  the same, for the best validation loss so far
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from plagal.model.tensors import save_tensors
from plagal.plumbing.errors import CheckpointError, DiskError
from plagal.plumbing.files import atomic_path, remove_whole, write_json
from plagal.plumbing.lock import hold

log = logging.getLogger(__name__)

TENSORS, STATE, SUMS = "state.safetensors", "state.json", "sums.json"
_SPARE_BYTES = 16_000_000  # beyond the checkpoint itself: logs, curves, the file system's own needs


def run_key(**parts: Any) -> str:
    """Name of a run's folder: a hash of everything that decides its course (settings, data, base, code)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(path: str | Path) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass
class Run:
    """The right to write checkpoints into `folder`, from `own_run`."""

    folder: Path

    def save(self, name: str, tensors: dict[str, Any], state: dict[str, Any]) -> Path:
        """Write one checkpoint, whole or not at all."""
        path = self.folder / name
        with atomic_path(path) as temporary:
            temporary.mkdir()
            save_tensors(temporary / TENSORS, tensors)
            write_json(temporary / STATE, state)
            write_json(temporary / SUMS, {file: sha256_of(temporary / file) for file in (TENSORS, STATE)})
        return path

    def names(self, prefix: str) -> list[str]:
        """Names of checkpoints that begin with `prefix`, the newest last."""
        return sorted(path.name for path in self.folder.glob(f"{prefix}-*") if path.is_dir())

    def remove(self, name: str) -> None:
        remove_whole(self.folder / name)

    def newest(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Tensors and state of the newest checkpoint that is undamaged, as are the best weights that it refers to; None
        where there is none."""
        for name in reversed(self.names("step")):
            try:
                tensors, state = load_checkpoint(self.folder / name)
                if state.get("best_step", -1) >= 0:
                    check_whole(self.folder / best_name(state["best_step"]))
                return tensors, state
            except CheckpointError as error:
                log.warning("%s; going back to the one before", error)
        return None

    def check_room(self, bytes_needed: int) -> None:
        """Raises DiskError unless one more checkpoint of so many bytes fits; called before the step, not after it."""
        free = shutil.disk_usage(self.folder).free
        if free < bytes_needed + _SPARE_BYTES:
            wanted = (bytes_needed + _SPARE_BYTES - free) / 1e6
            raise DiskError(f"{self.folder}: no room for the next checkpoint; free {wanted:.0f} MB more and run again")


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def best_name(step: int) -> str:
    return f"best-{step:08d}"


def step_of(name: str) -> int:
    """The step that `step_name` or `best_name` made a name of."""
    return int(name.partition("-")[2])


def check_whole(path: Path) -> None:
    """Raises CheckpointError where anything differs from what was written."""
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        for file in (TENSORS, STATE):
            if sha256_of(path / file) != sums[file]:
                raise CheckpointError(
                    f"checkpoint {path} is damaged: {file} has another sha256 than when it was written"
                )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {' '.join(str(error).split())[:120]}") from error


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and state of one checkpoint. Raises CheckpointError where anything differs from what was written."""
    check_whole(path)
    try:
        tensors: Any = mx.load(str(path / TENSORS))
        return dict(tensors), json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {' '.join(str(error).split())[:120]}") from error


@contextmanager
def own_run(folder: str | Path) -> Iterator[Run]:
    """Hold the lock of a run's folder, and remove what a killed trainer left half written. Raises LockedError, which
    names the holder."""
    folder = Path(folder)
    with hold(folder / "writer", f"the run in {folder}"):
        for left in [*folder.glob(".*.part"), *folder.glob(".*.old")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield Run(folder)
