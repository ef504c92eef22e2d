"""Ctrl-C and SIGTERM that come where Python or a library loses them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from corpus_helpers import collect_settings, sources_file, write_hymns

from plagal.corpus.collect import collect
from plagal.music import midi
from plagal.music.score import Score
from plagal.plumbing import terminal
from plagal.plumbing.files import atomic_path, write_text


@pytest.fixture(autouse=True)
def attentive() -> Iterator[None]:
    """Signals as a terminal's command has them: a shell's `&` has Ctrl-C ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Interrupting:
    """A signal comes while a class that holds this is being defined."""

    def __init__(self, number: int = signal.SIGINT):
        self.number = number

    def __set_name__(self, owner: type, name: str) -> None:
        signal.raise_signal(self.number)


class InterruptedAtTheEnd:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def import_that_fails() -> NoReturn:
    """What a parser that catches all makes of a signal."""
    try:
        type("Defined", (), {"field": Interrupting()})
    except BaseException as error:
        raise RuntimeError("Error calling __set_name__") from error
    raise AssertionError("no signal came")


def handlers() -> tuple[object, object]:
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def test_a_corpus_that_lost_a_file_to_ctrl_c_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_hymns(tmp_path / "gospel", range(3))
    settings = collect_settings(
        sources_file(tmp_path / "sources.yaml", ("gospel", tmp_path / "gospel")), 3, {"gospel": 3}
    )
    collect("stage1", settings, tmp_path / "out", 1)
    before = (tmp_path / "out" / "discards.jsonl").read_text(encoding="utf-8")
    first, read = min((tmp_path / "gospel").iterdir()), midi.load

    def load(path: Path) -> Score:
        return import_that_fails() if path == first else read(path)

    monkeypatch.setattr("plagal.music.midi.load", load)
    assert terminal.run(lambda: collect("stage1", settings, tmp_path / "out", 1) and None, "plagal") == 130
    assert (tmp_path / "out" / "discards.jsonl").read_text(encoding="utf-8") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gospel", "out", "sources.yaml"]
    assert capsys.readouterr().err.splitlines()[-1] == "plagal: stopped"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_file_written_while_a_signal_was_lost_does_not_take_its_name(tmp_path: Path, number: int, code: int):
    def command() -> None:
        with atomic_path(tmp_path / "piece.txt") as temporary:
            temporary.write_text("half")
            try:
                type("Defined", (), {"field": Interrupting(number)})
            except BaseException:
                temporary.write_text("as if nothing had come")

    assert code_of(command) == code
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_that_python_drops_ends_the_command_all_the_same(monkeypatch: pytest.MonkeyPatch):
    dropped: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda told: dropped.append(told.exc_type))

    def command() -> None:
        InterruptedAtTheEnd()

    assert code_of(command) == 130
    assert dropped == [KeyboardInterrupt]


def test_an_error_that_a_signal_became_is_told_as_the_signal():
    assert code_of(import_that_fails) == 130


def test_the_next_command_starts_with_no_signal_in_mind(tmp_path: Path):
    assert code_of(import_that_fails) == 130
    assert code_of(lambda: write_text(tmp_path / "piece.txt", "whole")) == 0
    assert (tmp_path / "piece.txt").read_text(encoding="utf-8") == "whole"


def test_handlers_are_what_they_were_when_the_command_is_over():
    before = handlers()
    assert code_of(import_that_fails) == 130
    assert handlers() == before


def test_ctrl_c_that_nohup_has_this_process_ignore_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert code_of(lambda: signal.raise_signal(signal.SIGINT)) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def code_of(command: Callable[[], None]) -> object:
    try:
        return terminal.run(command, "plagal")
    except SystemExit as exit_:
        return exit_.code
