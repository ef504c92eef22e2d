"""One model, one thread that writes with it, and the pieces that wait for it.

Those that wait together are written together: a batch of n pieces costs much less than n times one. Callers on an event
loop follow their piece word by word and may go away at any time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plagal.asking.order import Order
from plagal.plumbing.errors import BusyError, ModelError, PlagalError

if TYPE_CHECKING:
    from plagal.compose.decoding import PromptMemory
    from plagal.model.base import LanguageModel

OnWord = Callable[[int, str], None]
"""Told (order, word)."""

log = logging.getLogger(__name__)

Status = Literal["queued", "writing", "done", "failed", "cancelled"]

BATCH = 32
"""Pieces written at once. More would finish sooner in all, but each later."""
QUEUE_LIMIT = 64
QUEUE_SECONDS = 300.0
WRITE_SECONDS = 300.0
"""A piece of 64 bars takes a quarter of it on two old cores."""
_GATHER_SECONDS = 0.01
"""Those that come so close behind the first still go with it."""
WORDS_A_BAR = 160
"""Room for a dense bar of two hands with chords; a piece closes in good order before it runs out."""
_PROMPT_SHARE = 4
"""A prompt may take this part of the model's window; of a longer one the model reads what was understood."""


class Job:
    """A piece on its way. `words`: what is written, from SONG_START on; `error`: why it failed; `whole`: its words are
    wanted when all are there, so it may be written again until it is as asked."""

    def __init__(
        self, order: Order, max_words: int | None = None, on_over: Callable[[Job], None] | None = None,
        whole: bool = False,
    ):  # fmt: skip
        self.order, self.whole = order, whole
        self.max_words = max_words or room_for(order.bars)
        self.words: list[str] = []
        self.status: Status = "queued"
        self.error: PlagalError | None = None
        self.ahead = 0
        """Pieces that waited when it came."""
        self.created = time.monotonic()
        self.started: float | None = None
        self.first_word: float | None = None
        """When the first word that was not given beforehand was there."""
        self.finished: float | None = None
        self._on_over = on_over
        self._lock = threading.Lock()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def over(self) -> bool:
        return self.status in ("done", "failed", "cancelled")

    @property
    def batch_key(self) -> tuple[Any, ...]:
        """Jobs of one key can be written together."""
        order = self.order
        return (order.temperature, order.top_p, self.max_words, self.whole, bool(order.after))

    def cancel(self) -> None:
        """Stop it; harmless where it is over."""
        self.end("cancelled")

    def end(self, status: Status, error: PlagalError | None = None) -> None:
        with self._lock:
            if self.over:
                return
            self.status, self.error, self.finished = status, error, time.monotonic()
        if self._on_over is not None:
            self._on_over(self)
        self._notify()

    def begin(self) -> None:
        with self._lock:
            if not self.over:
                self.status, self.started = "writing", time.monotonic()
        self._notify()

    def add(self, word: str) -> None:
        if self.first_word is None and len(self.words) > len(self.order.head):
            self.first_word = time.monotonic()
        self.words.append(word)
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            for loop, event in self._watchers:
                try:
                    loop.call_soon_threadsafe(event.set)
                except RuntimeError:  # the loop has closed, and its caller with it
                    pass

    async def follow(self, seen: int = 0, patience: float | None = None) -> AsyncIterator[int]:
        """Yield how many words there are, whenever there are more than `seen` and than before, until it is over; also
        after `patience` seconds without any."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._watchers.add((loop, event))
        try:
            while True:
                event.clear()
                over, count = self.over, len(self.words)
                if count > seen:
                    seen = count
                    yield count
                if over:
                    return
                if len(self.words) == count and not self.over:
                    try:
                        await asyncio.wait_for(event.wait(), patience)
                    except TimeoutError:
                        yield seen
        finally:
            with self._lock:
                self._watchers.discard((loop, event))

    async def wait(self) -> list[str]:
        """Its words once it is done. Raises what it failed with; BusyError where it was cancelled."""
        async for _ in self.follow():
            pass
        if self.status != "done":
            raise self.error or BusyError("the piece was cancelled")
        return list(self.words)


def room_for(bars: int) -> int:
    """Words that a piece may have: for the next power of two of bars, so that pieces of about one length share one."""
    return WORDS_A_BAR * (1 << (bars - 1).bit_length())


class _AllOver(Exception):  # noqa: N818  # no error: it ends a batch that nobody waits for
    pass


class Writer:
    """Loads the model of a folder in a thread of its own and writes there. `on_over` is told each job that ends."""

    def __init__(
        self,
        model: str | Path,
        *,
        queue_limit: int = QUEUE_LIMIT,
        queue_seconds: float = QUEUE_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        batch: int = BATCH,
    ):
        self.model = Path(model)
        self.queue_limit, self.queue_seconds = queue_limit, queue_seconds
        self.write_seconds, self.batch = write_seconds, batch
        self.writing: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._bell = threading.Condition()
        self._closing = False
        self._loaded = threading.Event()
        self._load_error: PlagalError | None = None
        self._thread: threading.Thread | None = None
        self._memory: PromptMemory | None = None

    # --- for callers, in any thread

    def start(self) -> None:
        """Load the model, once. Raises ModelError."""
        with self._bell:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="plagal-writer", daemon=True)
                self._thread.start()
        self._loaded.wait()
        if self._load_error is not None:
            raise self._load_error

    @property
    def queue(self) -> int:
        """Pieces that wait."""
        return sum(not job.over for job in tuple(self._waiting))

    @property
    def busy(self) -> bool:
        return any(not job.over for job in tuple(self.writing))

    def submit(self, job: Job) -> Job:
        """Put it into the queue. Raises BusyError where that is full or the writer has stopped."""
        with self._bell:
            if self._closing:
                raise BusyError("the service is stopping; try again later")
            waiting = [other for other in self._waiting if not other.over]
            if len(waiting) >= self.queue_limit:
                raise BusyError(f"{len(waiting)} pieces wait already, the most that may; try again in a moment")
            self._waiting = deque([*waiting, job])
            job.ahead = len(waiting) + sum(not other.over for other in self.writing)
            self._bell.notify()
        return job

    def close(self, seconds: float = 10.0) -> None:
        """End everything and let the thread end."""
        with self._bell:
            self._closing = True
            jobs = [*self._waiting, *self.writing]
            self._bell.notify_all()
        self._fail(jobs, BusyError("the service is stopping; ask again later"))
        if self._thread is not None:
            self._thread.join(seconds)

    # --- in the writer's thread

    def _run(self) -> None:
        from plagal.model.cpu.lanes import leave_thread

        try:
            self._serve()
        finally:
            leave_thread()

    def _serve(self) -> None:
        from plagal.model.base import load
        from plagal.model.cpu.lanes import keep_little

        keep_little()
        try:
            lm = load(self.model)
        except PlagalError as error:
            self._load_error = error
        except Exception as error:  # whatever stops it must reach the caller that waits
            log.exception("the model could not be loaded")
            self._load_error = ModelError(f"{self.model}: could not be loaded ({type(error).__name__})")
        self._loaded.set()
        if self._load_error is not None:
            return
        while jobs := self._next():
            self._write(lm, jobs)
            self.writing = []

    def _next(self) -> list[Job]:
        """Wait for jobs that can be written together; none when the writer closes."""
        with self._bell:
            while not any(not job.over for job in self._waiting):
                if self._closing:
                    return []
                self._bell.wait()
            if len(self._waiting) < self.batch:
                self._bell.wait(_GATHER_SECONDS)
            waiting = [job for job in self._waiting if not job.over]
            jobs = [job for job in waiting if job.batch_key == waiting[0].batch_key][: self.batch] if waiting else []
            self._waiting = deque(job for job in waiting if job not in jobs)
            self.writing = jobs
        return jobs or self._next()

    def _write(self, lm: LanguageModel, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        for job in jobs:
            if now - job.created > self.queue_seconds:
                job.end("failed", BusyError(f"waited {self.queue_seconds:g} s for its turn; try again later"))
            job.begin()
        jobs = [job for job in jobs if not job.over]
        try:
            if jobs:
                self._write_batch(lm, jobs, now + self.write_seconds)
        except _AllOver:
            pass
        except PlagalError as error:
            self._fail(jobs, error)
        except Exception as error:  # one request must not end the service
            log.exception("a piece could not be written")
            self._fail(jobs, ModelError(f"the piece could not be written ({type(error).__name__}); see the log"))

    def _write_batch(self, lm: LanguageModel, jobs: Sequence[Job], deadline: float) -> None:
        def on_draft(_: int, __: str) -> None:
            if time.monotonic() > deadline:
                self._fail(jobs, BusyError(f"writing took over {self.write_seconds:g} s; ask for fewer bars"))
            if all(other.over for other in jobs):
                raise _AllOver

        def on_word(row: int, word: str) -> None:
            job = jobs[row]
            if not job.over:
                job.add(word)
                if word == "SONG_END":
                    job.end("done")

        from plagal.compose.decoding import PromptMemory

        # A batch that is broken off leaves the memory half changed: it is put back only after a whole one.
        memory, self._memory = self._memory or PromptMemory(), None
        write(lm, [job.order for job in jobs], jobs[0].max_words, on_word, on_draft, memory, jobs[0].whole)
        self._memory = memory

    def _fail(self, jobs: Sequence[Job], error: PlagalError) -> None:
        for job in jobs:
            job.end("failed", error)


def write(
    lm: LanguageModel,
    orders: Sequence[Order],
    max_words: int,
    on_word: OnWord | None = None,
    on_draft: OnWord | None = None,
    memory: PromptMemory | None = None,
    whole: bool = False,
) -> list[list[str]]:
    """Write orders that share temperature and top_p, in one batch; all of them have bars to follow, or none.

    `on_word` is told each piece's words, in order; `on_draft` each word as it comes, also those of drafts that are
    not kept, and may raise to stop. `whole`: a piece in another key than was asked for is written again before its
    words are told; so are bars before others always. `memory`: what the model has read for the order before.
    """
    from plagal.compose.decoding import generate
    from plagal.compose.infill import fill
    from plagal.compose.rerank import generate_as_asked

    tell, draft = on_word or _nobody, on_draft or _nobody
    requests = [_as_request(lm, order) for order in orders]
    how: dict[str, Any] = {"temperature": orders[0].temperature, "top_p": orders[0].top_p, "max_words": max_words}
    if not (whole or orders[0].after):
        return generate(lm, requests, on_word=partial(_tell_both, tell, draft), memory=memory, **how)
    if orders[0].after:
        pieces = [
            fill(lm, request, order.after, on_word=partial(_as_row, draft, row), **how)
            for row, (request, order) in enumerate(zip(requests, orders, strict=True))
        ]
    else:
        pieces = generate_as_asked(lm, requests, on_word=draft, memory=memory, **how)
    made = [[*words[:-1], *order.after, words[-1]] for order, words in zip(orders, pieces, strict=True)]
    for row, words in enumerate(made):
        for word in words:
            tell(row, word)
    return made


def _tell_both(tell: OnWord, draft: OnWord, row: int, word: str) -> None:
    tell(row, word)
    draft(row, word)


def _as_row(draft: OnWord, row: int, _: int, word: str) -> None:
    draft(row, word)


def _nobody(_: int, __: str) -> None:
    pass


def _as_request(lm: LanguageModel, order: Order) -> Any:
    from plagal.compose.decoding import Request
    from plagal.compose.steering import Wishes

    wishes = Wishes(order.key, order.chords, order.melody, order.density)
    # Bars that are kept are over: without the bar line the model could still write into the last of them.
    head = (*order.head, "BAR_START") if "BAR_START" in order.head else order.head
    bars = order.bars - order.after.count("BAR_START")
    return Request(_fitting_prompt(lm, order), head, bars, order.seed, wishes)


def _fitting_prompt(lm: LanguageModel, order: Order) -> str:
    from plagal.compose.decoding import window_of

    if len(lm.encode_text(order.prompt)) <= window_of(lm) // _PROMPT_SHARE:
        return order.prompt
    return order.plain_prompt
