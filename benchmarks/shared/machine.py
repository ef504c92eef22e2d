"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("plagal", "mlx", "mlx-lm", "miditok", "music21", "symusic", "dvc", "numpy")
_STAT = Path("/proc/stat")


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory [GB]."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {"processor": _processor(), "cores": cores, "memory_gb": round(memory), "system": platform.system()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def busy_cores_of_others() -> Callable[[], float | None]:
    """Start counting; what comes back says how many cores others kept busy since (None where the system does not
    tell). What a benchmark's own children took counts as its own once they have ended."""
    begun, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def others() -> float | None:
        if busy is None:
            return None
        now, seconds = _busy_seconds(), time.perf_counter() - begun
        assert now is not None
        return round(max(now - busy - (_own_seconds() - own), 0.0) / seconds, 2)

    return others


def _busy_seconds() -> float | None:
    """User, nice, system and interrupt time of all cores since the start of the machine."""
    if not _STAT.exists() or sys.platform != "linux":
        return None
    user, nice, system, _, _, hard, soft = map(int, _STAT.read_text(encoding="ascii").split()[1:8])
    return (user + nice + system + hard + soft) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
