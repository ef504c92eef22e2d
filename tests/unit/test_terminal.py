"""How a command ends when a signal comes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plagal.plumbing import errors
from plagal.plumbing.files import atomic_path


@pytest.fixture(autouse=True)
def attentive() -> Iterator[None]:
    """Signals as a terminal's command has them: a shell's `&` has Ctrl-C ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def code_of(command: Callable[[], None]) -> object:
    try:
        return errors.run(command, "plagal")
    except SystemExit as exit_:
        return exit_.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_file_half_written_when_a_signal_comes_leaves_nothing(tmp_path: Path, number: int, code: int):
    def command() -> None:
        with atomic_path(tmp_path / "piece.txt") as temporary:
            temporary.write_text("half")
            signal.raise_signal(number)

    assert code_of(command) == code
    assert list(tmp_path.iterdir()) == []


def test_handlers_are_what_they_were_when_the_command_is_over():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert code_of(lambda: signal.raise_signal(signal.SIGTERM)) == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_whoever_started_it_has_this_process_ignore_stays_ignored(number: int):
    signal.signal(number, signal.SIG_IGN)
    assert code_of(lambda: signal.raise_signal(number)) == 0
