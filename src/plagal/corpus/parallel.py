"""The same work on this machine's cores or on a Dask cluster: a map that keeps order and shows its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from joblib import Parallel, delayed
from tqdm import tqdm

Result = TypeVar("Result")

FEW = 16
"""Fewer calls than this aren't worth starting processes for."""


class Workers:
    """A pool of `jobs` processes (0: one for each core), started when first needed and kept until the block ends."""

    def __init__(self, jobs: int = 0) -> None:
        self._jobs = jobs or _cores()
        self._parallel: Parallel | None = None

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
        """`function(*call)` for each call, results in the order of the calls, one at a time."""
        results = self._results(function, calls, total)
        yield from tqdm(results, total=total, desc=title, delay=2, leave=False, unit=unit)

    def _results(
        self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]], total: int
    ) -> Iterator[Result]:
        if self._jobs == 1 or total < FEW:
            yield from (function(*call) for call in calls)
            return
        if self._parallel is None:
            self._parallel = Parallel(n_jobs=self._jobs, return_as="generator", batch_size="auto")
            self._parallel.__enter__()
        yield from self._parallel(delayed(function)(*call) for call in calls)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parallel is not None:
            self._parallel.__exit__(kind, error, trace)
            self._parallel = None


def _cores() -> int:
    from joblib import cpu_count

    return int(cpu_count())
