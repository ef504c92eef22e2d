"""Inputs that a fuzzer found worth keeping: those that once broke a promise, and a small corpus of each reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.fuzz.targets import TARGETS

KEPT = Path(__file__).parents[1] / "fixtures" / "fuzz"
MOST_BYTES = 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_that_was_kept_is_taken_or_refused_in_one_line(name: str):
    inputs = sorted((KEPT / name).iterdir())
    assert inputs, f"nothing is kept for {name}"
    try_one = TARGETS[name].prepare()
    for path in inputs:
        try_one(path.read_bytes())


def test_what_is_kept_is_small():
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < MOST_BYTES
