"""The fast BLAS: in place and right. How fast it is, benchmarks say: a busy machine is no fault of ours."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from plagal.model.cpu import blas


def test_matrix_products_are_right() -> None:
    import mlx.core as mx

    random = np.random.default_rng(0)
    a, b = random.normal(size=(37, 53)).astype(np.float32), random.normal(size=(53, 29)).astype(np.float32)
    assert np.array(mx.array(a) @ mx.array(b)) == pytest.approx(a @ b, abs=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="only MLX's Linux wheel brings a slow BLAS")
def test_linux_runs_on_openblas_not_on_the_reference() -> None:
    assert blas.blas_name() == "OpenBLAS"


def test_the_description_names_what_doctor_shows() -> None:
    found = blas.describe(0.05)
    assert {"blas", "gflops", "device", "memory_gb", "compiler"} <= set(found)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_bridge_is_an_elf_library_for_its_machine(machine: str) -> None:
    library = blas._bridge_library(("cblas_sgemm", "cblas_dgemm"), "scipy_", machine)
    assert library[:4] == b"\x7fELF" and b"\0cblas_sgemm\0" in library and b"\0scipy_cblas_dgemm\0" in library
