"""Parsers that never end, and those that eat memory, are ended; what they read is refused in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from plagal.plumbing.errors import InputError
from plagal.plumbing.workers import run_limited


def spin_and_catch_all() -> None:
    """As music21 does it: errors caught inside."""
    while True:
        try:
            sum(range(1000))
        except BaseException:  # noqa: S112
            continue


def spin_in_c() -> int:
    return sum(range(10**13))


def grow() -> int:
    return len([bytes(1_000_000) for _ in range(10_000)])


def fail() -> None:
    raise KeyError("its own")


@pytest.mark.parametrize("endless", [spin_and_catch_all, spin_in_c])
def test_what_runs_too_long_is_ended_with_one_line_and_the_next_file_is_read(endless):
    with pytest.raises(InputError, match="longer than 1 seconds, or 500 MB: cut it into shorter pieces"):
        run_limited(endless, (), 1)
    assert run_limited(divmod, (7, 2), 1) == (3, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_what_eats_gigabytes_is_ended_with_one_line_and_the_next_file_is_read():
    with pytest.raises(InputError, match="500 MB"):
        run_limited(grow, (), 20)
    assert run_limited(divmod, (7, 2), 1) == (3, 1)


def test_an_error_of_its_own_comes_through():
    with pytest.raises(KeyError, match="its own"):
        run_limited(fail, (), 5)


def test_many_short_works_together_may_take_longer_than_the_limit_of_one():
    for _ in range(4):
        assert run_limited(sum, (range(20_000_000),), 2) == 199_999_990_000_000


def test_a_script_without_a_main_guard_may_use_it():
    code = "from plagal.plumbing.workers import run_limited; print(run_limited(divmod, (7, 2), 5))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "(3, 1)\n"
