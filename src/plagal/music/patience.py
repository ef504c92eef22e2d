"""A limit of time for parsers that have none of their own."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plagal.plumbing.errors import InputError


class _TooLongError(BaseException):
    """No `Exception`: parsers catch those."""


def _clock() -> Callable[[], float]:
    """Seconds that this thread has had a processor; macOS does not tell other threads, so the clock there."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Ends what runs within, in this thread and in Python, after `seconds` of the thread's processor time, or of the
    clock where the system does not tell that. Raises InputError then."""
    thread = ctypes.c_ulong(threading.get_ident())
    clock = _clock()
    began = clock()
    done = threading.Event()
    told = [0]

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            left = seconds - (clock() - began)
            if left > 0:  # others had the processor meanwhile
                wait = left
                continue
            wait = 1.0  # again and again: where an error cannot go on (in a finalizer) Python drops it
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
