"""Parsers that never end are ended."""

from __future__ import annotations

import time

import pytest

from plagal.music import notation
from plagal.music.patience import patience
from plagal.plumbing.errors import AbcError, InputError

# What patience raises while the collector runs somebody's finalizer Python drops with this warning; it is raised again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def spin(seconds: float = 60.0) -> None:
    """As music21 does it: errors caught inside."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            sum(range(1000))
        except Exception:  # noqa: S112
            continue


def test_what_runs_too_long_is_ended_with_one_line():
    began = time.monotonic()
    with pytest.raises(InputError, match=r"longer than 0\.1 seconds"), patience(0.1):
        spin()
    assert time.monotonic() - began < 30


def test_a_limit_that_is_met_in_a_finalizer_ends_what_runs_after_it():
    class Finalized:
        def __del__(self) -> None:
            spin(0.5)

    began = time.monotonic()
    with pytest.raises(InputError, match=r"longer than 0\.1 seconds"), patience(0.1):
        Finalized()  # gone at once
        spin()
    assert time.monotonic() - began < 30


def test_what_ends_in_time_is_not_disturbed_and_nothing_comes_after_it():
    for microseconds in range(0, 3000, 100):
        try:
            with patience(0.002):
                spin(microseconds / 1e6)
        except InputError:
            pass
        spin(0.003)


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="the system does not tell a thread's time")
def test_waiting_for_a_processor_does_not_count():
    with patience(0.05):
        time.sleep(0.3)


def test_an_error_of_its_own_goes_through():
    with pytest.raises(KeyError), patience(5):
        raise KeyError


def test_a_tune_that_music21_works_at_for_minutes_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notation, "MOST_SECONDS_OF_A_TUNE", 0.5)
    hard = "X:1\nM:2/4\nL:1/1\nK:Db\n" + "D2(F>A (3cd D-|D/3E/2 z2 F8^J1 G4:|2 ^c:1cde|" * 40
    with pytest.raises(AbcError, match=r"hard\.abc does not parse as ABC: it takes longer than 0\.5 seconds"):
        notation.score_from_abc(hard, "hard.abc")
