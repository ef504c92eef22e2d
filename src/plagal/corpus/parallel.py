"""The same work on this machine's cores or on a Dask cluster: a map that keeps order and shows its progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm import tqdm

from plagal.plumbing.errors import CorpusError
from plagal.plumbing.lock import end_with_parent

Result = TypeVar("Result")

FEW = 16
"""Fewer calls than this aren't worth starting processes for."""
_CONNECT_SECONDS = 20


class Workers:
    """Who does the work: `jobs` processes of this machine (0: one for each core), or the Dask cluster whose scheduler
    stands at the address `scheduler` ("tcp://host:8786"). Started when first needed, kept until the block ends.

    The functions that it maps are pure: a call that a dying worker loses is simply made again elsewhere.
    """

    def __init__(self, jobs: int = 0, scheduler: str = "") -> None:
        self._jobs = jobs or int(cpu_count())
        self._scheduler = scheduler
        self._parallel: Parallel | None = None
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
        if not self._scheduler and (self._jobs == 1 or total < FEW):
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

    def _started(self) -> Parallel:
        # Said after an error of ours, which has ended the work, it would only hide the reason.
        warnings.filterwarnings("ignore", r"\d+ tasks which were still being processed", UserWarning)
        if not self._scheduler:
            # Workers would outlive a parent that is killed by minutes, with all that they hold in memory.
            local = Parallel(n_jobs=self._jobs, return_as="generator", initializer=end_with_parent)
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
            "Dask is not installed; `pip install 'dask[distributed]'` or leave --backend dask out"
        ) from None
    try:
        return Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CorpusError(
            f"no Dask scheduler answers at {scheduler!r} ({reason}); start one or correct --scheduler"
        ) from None
