"""The machine, in a form that can be sent back: nobody has run this project on a Mac yet."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def describe_machine(folder: Path) -> dict[str, Any]:
    """What decides room and time, and each road that differs between Linux and macOS (docs/macos.md), tried once in
    `folder`. Names no user, host or path."""
    from plagal.model.cpu.blas import describe

    device = describe(seconds=0.3)
    mac = sys.platform == "darwin"
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "macos": platform.mac_ver()[0] or None,
        "chip": _said("sysctl", "-n", "machdep.cpu.brand_string") if mac else _cpu_of_linux(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "mlx": device["mlx"],
        "mlx_lm": version("mlx-lm"),
        "device": device["device"],
        "memory_gb": device["memory_gb"],
        "device_memory_gb": device["device_memory_gb"],
        "gflops": device["gflops"],
        "blas": device["blas"],
        "power": _said("pmset", "-g", "batt").splitlines()[0] if mac and _said("pmset", "-g", "batt") else None,
        "roads": {
            "folders_exchanged_in_one_step": _exchanges(folder),
            "disk_ignores_case": _ignores_case(folder),
            "lock_drops_with_its_holder": _lock_drops(folder),
            "processes_start_by": multiprocessing.get_start_method(),
            "make": _first_line("make", "--version"),
            "awk": _first_line("awk", "--version") or _first_line("awk", "-W", "version"),
        },
    }


def _said(*command: str) -> str:
    """What a command prints; nothing where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else ""


def _first_line(*command: str) -> str:
    return _said(*command).partition("\n")[0]


def _cpu_of_linux() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    named = re.search(r"model name\s*:\s*(.+)", text)
    return named[1] if named else platform.processor()


def _exchanges(folder: Path) -> bool:
    from plagal.plumbing.files import _swap

    names = [folder / "one", folder / "other"]
    for name in names:
        name.mkdir()
    (names[0] / "mark").touch()
    exchanged = _swap(*names) and (names[1] / "mark").exists()
    for name in names:
        shutil.rmtree(name)
    return exchanged


def _ignores_case(folder: Path) -> bool:
    (folder / "case").touch()
    ignored = (folder / "CASE").exists()
    (folder / "case").unlink()
    return ignored


def _lock_drops(folder: Path) -> bool:
    """Whether the system gives a lock back when its holder is killed."""
    import filelock

    path = folder / "held.lock"
    holder = "import filelock, os, sys; filelock.FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", holder, str(path)], check=False)
    try:
        with filelock.FileLock(str(path), timeout=1):
            return True
    except filelock.Timeout:
        return False
    finally:
        path.unlink(missing_ok=True)


def swap_bytes() -> int:
    """Of all programs, in use now."""
    if sys.platform == "darwin":
        used = re.search(r"used = ([\d.]+)([KMG])", _said("sysctl", "-n", "vm.swapusage"))
        return int(float(used[1]) * _UNITS[used[2]]) if used else 0
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    total, free = (re.search(rf"{name}:\s+(\d+) kB", text) for name in ("SwapTotal", "SwapFree"))
    return (int(total[1]) - int(free[1])) << 10 if total and free else 0


def resident_peak_bytes() -> int:
    """The most memory that this process has ever had, all of it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # KiB on Linux
