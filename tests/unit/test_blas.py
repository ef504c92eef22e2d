"""The fast BLAS: in place and right. How fast it is, benchmarks say: a busy machine is not a fault of ours."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from model_helpers import texts, tiny_base

from plagal.model import base
from plagal.model.cpu import blas, kernels
from plagal.model.scorer import word_scores


def test_matrix_products_are_right() -> None:
    import mlx.core as mx

    random = np.random.default_rng(0)
    a, b = random.normal(size=(37, 53)).astype(np.float32), random.normal(size=(53, 29)).astype(np.float32)
    assert np.array(mx.array(a) @ mx.array(b)) == pytest.approx(a @ b, abs=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="only MLX's Linux wheel brings a slow BLAS")
def test_linux_runs_on_openblas_by_way_of_the_bridge() -> None:
    """What MLX finds under the plain name lies in the bridge: how fast that is depends on who else is at work."""
    assert blas.blas_name() == "OpenBLAS"
    address = ctypes.cast(ctypes.CDLL(None).cblas_sgemm, ctypes.c_void_p).value
    ranges = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    (home,) = [line[-1] if "deleted" not in line[-1] else line[-2] for line in ranges
               if int(line[0].split("-")[0], 16) <= address < int(line[0].split("-")[1], 16)]  # fmt: skip
    assert "plagal-blas" in home


def test_the_description_names_what_doctor_shows() -> None:
    found = blas.describe(0.05)
    assert {"blas", "gflops", "device", "memory_gb", "compiler"} <= set(found)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_bridge_is_an_elf_library_for_its_machine(machine: str) -> None:
    library = blas._bridge_library(("cblas_sgemm", "cblas_dgemm"), "scipy_", machine)
    assert library[:4] == b"\x7fELF" and b"\0cblas_sgemm\0" in library and b"\0scipy_cblas_dgemm\0" in library


@pytest.mark.skipif(sys.platform != "linux", reason="only MLX's Linux wheel needs the bridge")
def test_writing_and_scoring_leave_the_threads_as_they_were(tmp_path: Path) -> None:
    before = blas.blas_threads()
    blas.set_threads(2)
    try:
        lm = base.load(tiny_base(tmp_path))
        word_scores(lm, texts(2))
        assert blas.blas_threads() == 2
        with pytest.raises(RuntimeError, match="midway"), kernels.cpu_kernels(lm.model):
            assert blas.blas_threads() == 1
            raise RuntimeError("midway")
        assert blas.blas_threads() == 2
    finally:
        blas.set_threads(before)
