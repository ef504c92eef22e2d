"""Work in other processes: other people's parsers within limits of time and memory, and one map over this machine's
cores or a Dask cluster that keeps order and shows its progress.

For a parser without limits of its own an exception thrown into the running thread was tried before: parsers catch it,
finalizers drop it, C code never sees it. So the kernel ends a process. That costs its start, 0.3 s and the parser's
import, so it is kept for the next file.
"""

from __future__ import annotations

import resource
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

from plagal.plumbing.errors import CorpusError, InputError
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
        raise InputError(
            f"it takes longer than {seconds} seconds, or {MEGABYTES} MB: cut it into shorter pieces"
        ) from None
    except MemoryError:
        raise InputError(f"it takes more than {MEGABYTES} MB of memory: cut it into shorter pieces") from None


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


FEW = 16
"""Fewer calls than this aren't worth starting processes for."""
_CONNECT_SECONDS = 20


class Workers:
    """Who does the work: `jobs` processes of this machine (0: one for each core), or the Dask cluster whose scheduler
    stands at the address `scheduler` ("tcp://host:8786"). Started when first needed, kept until the block ends.

    The functions that it maps are pure: a call that a dying worker loses is simply made again elsewhere.
    """

    def __init__(self, jobs: int = 0, scheduler: str = "") -> None:
        self._jobs = jobs
        self._scheduler = scheduler
        self._parallel: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Workers:
        return self

    def map(
        self,
        function: Callable[..., Result],
        calls: Iterable[tuple[Any, ...]],
        total: int,
        title: str,
        unit: str = " files",
    ) -> Iterator[Result]:
        """`function(*call)` for each call, results in the order of the calls, one at a time. Calls are drawn only a
        little ahead of the results. Raises CorpusError where the cluster cannot be reached."""
        results = self._results(function, calls, total)
        yield from tqdm(results, total=total, desc=title, delay=2, leave=False, unit=unit)

    def _results(
        self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]], total: int
    ) -> Iterator[Result]:
        from joblib import cpu_count, delayed

        if not self._scheduler and ((self._jobs or cpu_count()) == 1 or total < FEW):
            yield from (function(*call) for call in calls)
            return
        if self._parallel is None:
            self._parallel = self._started()
        try:
            yield from self._parallel(delayed(function)(*call) for call in calls)
        except BrokenProcessPool:
            raise CorpusError(
                "a worker process died: out of memory, or a file that kills its reader; close other programs and run "
                "again, and if it dies again find the file by halving the folder"
            ) from None

    def _started(self) -> Any:
        from joblib import Parallel, parallel_config

        # Said after an error of ours, which has ended the work, it would only hide the reason.
        warnings.filterwarnings("ignore", r"\d+ tasks which were still being processed", UserWarning)
        if not self._scheduler:
            # Workers would outlive a parent that is killed by minutes, with all that they hold in memory.
            local = Parallel(n_jobs=self._jobs or -1, return_as="generator", initializer=end_with_parent)
            return self._stack.enter_context(local)
        client = self._stack.enter_context(_client(self._scheduler))
        self._stack.enter_context(parallel_config(backend="dask", client=client))
        return self._stack.enter_context(Parallel(n_jobs=-1, return_as="generator"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parallel = None
        self._stack.close()


def _client(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise CorpusError(
            "Dask is not installed; `pip install 'dask[distributed]'` or leave out --backend dask"
        ) from None
    try:
        return Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CorpusError(
            f"no Dask scheduler answers at {scheduler!r} ({reason}); start one or correct --scheduler"
        ) from None
