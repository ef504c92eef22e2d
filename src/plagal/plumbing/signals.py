"""Ctrl-C and SIGTERM, remembered until this process has ended.

Python raises a signal as an exception at whatever instruction runs then, and libraries lose exceptions: one that comes
while a class is being defined (in `__set_name__`, up to Python 3.11) becomes a RuntimeError, which reads like a bad
file; one that comes in `__del__` is dropped. Work would go on without the file, and end well. So a signal that was lost
is raised again before a file takes its name, and when the command is over.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HEEDED = (signal.SIGINT, signal.SIGTERM)
_asked: list[int] = []
"""Signals that came since the command began."""


@contextmanager
def heeded() -> Iterator[None]:
    """Within, Ctrl-C unwinds as KeyboardInterrupt and SIGTERM as SystemExit(143), at the latest when the block ends,
    whatever else it ended with. A signal that whoever started this process has it ignore (nohup, a shell's `&`) stays
    ignored. For the main thread alone."""
    _asked.clear()
    before = {number: signal.getsignal(number) for number in _HEEDED}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _note_and_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        try:
            raise_if_asked()
        finally:
            _asked.clear()


def raise_if_asked() -> None:
    """Raise again for a signal that came since `heeded` began."""
    if _asked:
        _raise(_asked[-1])


def _note_and_raise(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
