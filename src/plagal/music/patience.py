"""A limit of time for parsers that have none of their own."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from plagal.errors import InputError


class _TooLongError(BaseException):
    """No `Exception`: parsers catch those."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Ends what runs within, in this thread and in Python, after `seconds` of the clock. Raises InputError then."""
    thread = ctypes.c_ulong(threading.get_ident())
    done = threading.Event()
    told = [0]

    def watch() -> None:
        # Again and again: where an error cannot go on (in a finalizer) Python drops it.
        wait = seconds
        while not done.wait(wait):
            wait = 1.0
            told[0] += 1
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TooLongError))

    watcher = threading.Thread(target=watch, daemon=True)
    try:
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            if told[0]:
                time.sleep(0.01)  # one that was sent and has not come yet comes here
    except _TooLongError:
        done.set()
        raise InputError(f"it takes longer than {seconds:g} seconds: cut the piece") from None
