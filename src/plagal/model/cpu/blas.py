"""A fast BLAS under MLX on Linux, and what the machine offers.

MLX's Linux wheel links the reference BLAS (4 GFLOP/s). Symbols that are already in the process's global scope win over
those of a library's own dependencies, so a fast BLAS that is loaded first takes their place. The wheel
`scipy-openblas32` has one, but under names that start with `scipy_`. A shared library of a few hundred bytes,
written here
instruction by instruction so that no compiler is needed, lends it the plain names: each entry jumps through a table
that the dynamic linker fills in. Must run before `mlx.core` is imported. macOS needs none of this (Accelerate).
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

_ROUTINES = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
_PREFIX = "scipy_"
_SEGMENT = 0x10000  # largest page size in use (arm64 with 64 KiB pages)
_SYMBOL_BYTES = 24
# machine -> (ELF machine, relocation that stores a symbol's address)
_MACHINES = {"x86_64": (62, 6), "aarch64": (183, 1025)}
_GIGA = 1e9

_loaded: list[Any] = []
_threads: int | None = None


def load_fast_blas() -> str:
    """Put OpenBLAS under MLX, once for each process. Returns the BLAS's name. It may use OPENBLAS_NUM_THREADS or
    OMP_NUM_THREADS threads, else all cores that this process may use."""
    if sys.platform != "linux":
        return blas_name()
    # MLX hands out work breadth first up to this width: wide enough that lanes (lanes.py) run side by side.
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")
    if not _loaded and platform.machine() in _MACHINES:
        try:
            if "mlx.core" in sys.modules:
                raise ImportError("mlx.core was imported before plagal.model")
            _loaded.extend(_bridge_openblas())
        except (ImportError, OSError, AttributeError) as error:
            log.warning("MLX runs on its slow built-in BLAS: %s", error)
    if _threads is None:
        named = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
        wanted = next((int(text) for text in named if text.isdigit() and int(text) > 0), 0)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        set_threads(wanted or cores or 1)
    return blas_name()


def set_threads(threads: int) -> None:
    """Threads that one matrix product may use from now on."""
    global _threads
    if _loaded:
        _threads = threads
        _loaded[0].scipy_openblas_set_num_threads(threads)
        if (of_numpy := _openblas_of_numpy()) is not None:
            of_numpy.scipy_openblas_set_num_threads64_(threads)


@cache
def _openblas_of_numpy() -> Any:
    """NumPy's wheel brings one of its own; None where it does not."""
    folder = Path(np.__file__).parents[1] / "numpy.libs"
    library = next(iter(folder.glob("libscipy_openblas64_*.so")), None)
    return ctypes.CDLL(str(library)) if library is not None else None


@contextmanager
def one_thread() -> Iterator[None]:
    """While this is open, a matrix product uses one thread; then as many as before. Lanes bring their own threads, and
    what is left at one makes every later product of the process half as fast on two cores."""
    before = _threads
    set_threads(1)
    try:
        yield
    finally:
        if before is not None:
            set_threads(before)


def blas_name() -> str:
    """ "OpenBLAS", "reference" (slow) or, where MLX brings a good one, "Accelerate" or "CUDA"."""
    if sys.platform == "darwin":
        return "Accelerate"
    return "OpenBLAS" if _loaded else "reference"


def blas_threads() -> int:
    """Threads that matrix products use; results depend on their number in the last bit."""
    return _threads or 1


def describe(seconds: float = 0.5) -> dict[str, Any]:
    """What this machine offers for training: BLAS, its measured speed, MLX's device and memory [GB]."""
    load_fast_blas()
    import mlx.core as mx

    limit: Any = mx.device_info().get("max_recommended_working_set_size")
    return {
        "blas": blas_name(),
        "threads": blas_threads(),
        "gflops": round(measured_gflops(seconds), 1),
        "device": str(mx.default_device()),
        "mlx": version("mlx"),
        "memory_gb": round(memory_bytes() / _GIGA, 1),
        "device_memory_gb": round(limit / _GIGA, 1) if limit else None,
        # mx.compile needs g++ on the CPU of Linux; without it the same steps run unfused.
        "compiler": shutil.which("g++") if sys.platform == "linux" else "built in",
    }


def memory_bytes() -> int:
    """Of the whole machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measured_gflops(seconds: float) -> float:
    """Speed of a square fp32 matrix product on MLX's default device [GFLOP/s], the best of those `seconds` hold."""
    import mlx.core as mx

    size = 1024
    a, b = mx.full((size, size), 0.5), mx.full((size, size), 0.25)
    mx.eval(a @ b)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        mx.eval(a @ b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / _GIGA if best < float("inf") else 0.0


def _bridge_openblas() -> list[Any]:
    import scipy_openblas32

    folder = Path(scipy_openblas32.get_lib_dir())
    library = next(iter(sorted(folder.glob("libscipy_openblas*.so*"))), None)
    if library is None:
        raise OSError(f"{folder} holds no libscipy_openblas.so")
    openblas = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    openblas.scipy_openblas_set_num_threads.argtypes = [ctypes.c_int]
    handle = os.memfd_create("plagal-blas")
    try:
        os.write(handle, _bridge_library(_ROUTINES, _PREFIX, platform.machine()))
        bridge = ctypes.CDLL(f"/proc/self/fd/{handle}", mode=ctypes.RTLD_GLOBAL)
    finally:
        os.close(handle)
    return [openblas, bridge]


def _jump(machine: str, at: int, slot: int) -> bytes:
    """Eight bytes at address `at` that jump to the address stored in `slot`."""
    if machine == "x86_64":
        return b"\xff\x25" + struct.pack("<i", slot - at - 6) + b"\xcc\xcc"  # jmp *slot(%rip)
    return struct.pack("<II", 0x58000010 | ((slot - at) // 4) << 5, 0xD61F0200)  # ldr x16, slot; br x16


def _bridge_library(names: tuple[str, ...], prefix: str, machine: str) -> bytes:
    """An ELF shared library that defines each of `names` as a jump to `prefix` + name.

    Layout (System V ABI, ELF-64): header, program headers, symbols, strings, hash, relocations, code; then, in a
    writable segment, the table of addresses and the dynamic section.
    """
    elf_machine, relocation = _MACHINES[machine]
    n = len(names)
    strings, offsets = b"\0", {}
    for name in (*names, *(prefix + name for name in names)):
        offsets[name] = len(strings)
        strings += name.encode() + b"\0"
    strings += b"\0" * (-len(strings) % 8)
    symbols_at = 64 + 4 * 56
    strings_at = symbols_at + _SYMBOL_BYTES * (2 * n + 1)
    hash_at = strings_at + len(strings)
    count = 2 * n + 1
    # One bucket: a chain through all symbols, so that no hash need be computed.
    hash_table = struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0)
    hash_table += b"\0" * (-len(hash_table) % 8)
    relocations_at = hash_at + len(hash_table)
    code_at = relocations_at + 24 * n
    table_at = _SEGMENT
    symbols = b"\0" * _SYMBOL_BYTES
    for i, name in enumerate(names):
        symbols += struct.pack("<IBBHQQ", offsets[name], 0x12, 0, 1, code_at + 8 * i, 8)
    for name in names:
        symbols += struct.pack("<IBBHQQ", offsets[prefix + name], 0x12, 0, 0, 0, 0)
    relocations = b"".join(struct.pack("<QQq", table_at + 8 * i, (1 + n + i) << 32 | relocation, 0) for i in range(n))
    code = b"".join(_jump(machine, code_at + 8 * i, table_at + 8 * i) for i in range(n))
    dynamic = [(4, hash_at), (5, strings_at), (6, symbols_at), (10, len(strings)), (11, _SYMBOL_BYTES)]
    dynamic += [(7, relocations_at), (8, 24 * n), (9, 24), (24, 0), (0, 0)]
    data = b"\0" * (8 * n) + b"".join(struct.pack("<QQ", *entry) for entry in dynamic)
    text_end = code_at + len(code)
    dynamic_at = table_at + 8 * n
    headers = [
        (1, 5, 0, text_end, _SEGMENT),
        (1, 6, table_at, len(data), _SEGMENT),
        (2, 6, dynamic_at, 16 * len(dynamic), 8),
        (0x6474E551, 6, 0, 0, 16),  # no executable stack
    ]
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header += struct.pack("<HHIQQQIHHHHHH", 3, elf_machine, 1, 0, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
    program = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, align) for kind, flags, at, size, align in headers
    )
    text = header + program + symbols + strings + hash_table + relocations + code
    return text + b"\0" * (table_at - len(text)) + data
