"""What a target is, and the promise that each is held to: a value, or a PlagalError of one plain line; nothing written,
nothing started, nothing unpickled."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import PlagalError

LONGEST_MESSAGE = 1000
"""[characters]"""
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
           "pickle.find_class")  # fmt: skip
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
_FOLDER_AT = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1}
"""Where an event names the open folder to which its path is relative."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Broken(AssertionError):  # noqa: N818  (what it says is the finding)
    """A promise that was not kept."""


@dataclass(frozen=True)
class Target:
    """`prepare` imports what is tried (so that it can be instrumented) and gives the function that tries one input;
    it returns whether the input was taken, and raises anything where a promise is broken. `seeds`: inputs to begin
    with; `most_bytes`: of an input. What the mutator may put in stands in words/."""

    promised: str
    prepare: Callable[[], Callable[[bytes], bool]]
    seeds: Callable[[], list[bytes]]
    most_bytes: int = 4096
    most_mb: int = 1024
    """Memory of the process, its libraries included."""


def expect(kept: bool, what: str) -> None:
    if not kept:
        raise Broken(what)


def taken(act: Callable[[], Any]) -> Any:
    """What `act` gives; None where it says no in the promised way. Any other error goes through."""
    try:
        return act()
    except PlagalError as error:
        text = str(error)
        expect(bool(text) and text.isprintable(), f"no plain line: {text[:200]!r}")
        expect(len(text) <= LONGEST_MESSAGE, f"a message of {len(text)} characters: {text[:200]!r}")
        return None


_own: list[str] = []
_watching = [False]


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if not _watching[0]:
        return
    if event == "open":
        path, mode, flags = given
        if not (flags or 0) & _WRITES and not (isinstance(mode, str) and set(mode) & set("wax+")):
            return
        _outside(path, "opened for writing")
    elif event in _CHANGES:
        beside = given[_FOLDER_AT[event]] if event in _FOLDER_AT else -1
        _outside(given[0] if beside in (-1, None) else f"/proc/self/fd/{beside}/{given[0]}", event)
    elif event in _STARTS:
        _watching[0] = False  # what follows looks at files
        raise Broken(f"{event}: {given[:2]!r}")


def _outside(path: Any, what: str) -> None:
    if isinstance(path, int):
        return
    name = os.path.realpath(os.fsdecode(path))
    if name != os.devnull and not any(name.startswith(own) for own in _own):
        _watching[0] = False
        raise Broken(f"{name} {what}")


@contextmanager
def watched() -> Iterator[None]:
    """Within, a file written outside of the own folders, a process, a connection or a pickle breaks the promise.
    Python keeps its byte code to itself meanwhile: a library that is imported only when needed would write some in a
    fresh environment, and only there."""
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _watching[0] = True
    try:
        yield
    finally:
        _watching[0] = False
        sys.dont_write_bytecode = kept


def own_folder() -> Path:
    """A folder in which targets may write; `sys.addaudithook` is called once."""
    if not _own:
        sys.addaudithook(_audit)
    folder = Path(tempfile.mkdtemp(prefix="plagal-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _own.append(os.path.realpath(folder))
    return folder
