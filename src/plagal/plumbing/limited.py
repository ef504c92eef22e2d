"""Limits of time and memory for other people's parsers that have none of their own: the work runs in a process of its
own, which the kernel ends.

An exception thrown into the running thread was tried before: parsers catch it, finalizers drop it, C code never sees
it. A process costs its start, 0.3 s and the parser's import, so it is kept for the next file.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from plagal.plumbing.errors import InputError
from plagal.plumbing.lock import end_with_parent

Result = TypeVar("Result")

MEGABYTES = 500
_HUNG_SECONDS = 600.0
"""By the clock: nothing that is read here waits for anything, but a machine may be busy."""
_worker: Any = None


def run_limited(function: Callable[..., Result], args: tuple[Any, ...], seconds: int) -> Result:
    """`function(*args)` in a worker process, within `seconds` of processor time and MEGABYTES more memory than it had
    (where the system limits that; macOS does not). Function, arguments and result are pickled. What it raises comes
    through. Raises InputError where a limit is passed."""
    global _worker
    if _worker is None:
        from joblib.externals.loky import ProcessPoolExecutor

        _worker = ProcessPoolExecutor(max_workers=1, initializer=end_with_parent)
    try:
        result: Result = _worker.submit(_within, function, args, seconds).result(timeout=_HUNG_SECONDS)
        return result
    except (BrokenProcessPool, TimeoutError):  # the kernel has ended it, and so the pool
        _worker.shutdown(wait=True, kill_workers=True)
        _worker = None
        # Which limit it was is not said: where memory is short, a thread of the pool may be the one that gets none.
        raise InputError(f"it takes longer than {seconds} seconds, or {MEGABYTES} MB: cut the piece") from None
    except MemoryError:
        raise InputError(f"it takes more than {MEGABYTES} MB of memory: cut the piece") from None


def _within(function: Callable[..., Any], args: tuple[Any, ...], seconds: int) -> Any:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most))
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            pages = int(file.read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEGABYTES * 1_000_000, before[1]))
    except (OSError, ValueError):  # no /proc, or a limit that this system does not take
        pass
    try:
        return function(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
