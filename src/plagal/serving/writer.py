"""One model, one thread that writes with it, and the pieces that wait for it. The arranger's are written at once.

Those that wait together are written together: a batch of n pieces costs much less than n times one. Callers on an event
loop follow their piece word by word and may go away at any time.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from plagal.asking.request import Request, arranged
from plagal.asking.wording import prompt_for
from plagal.compose.write import room_for, write
from plagal.plumbing.errors import BusyError, ModelError, PlagalError
from plagal.tokens.codec import encode
from plagal.tokens.vocabulary import prompt_text

if TYPE_CHECKING:
    from plagal.model.scorer import ModelScorer

log = logging.getLogger(__name__)

Status = Literal["queued", "writing", "done", "failed", "cancelled"]
WrittenBy = Literal["model", "arranger"]

BATCH = 32
"""Pieces written at once. More would finish sooner in all, but each later."""
QUEUE_LIMIT = 64
QUEUE_SECONDS = 300.0
WRITE_SECONDS = 300.0
"""A piece of 64 bars takes a quarter of it on two old cores."""
_GATHER_SECONDS = 0.01
"""Those that come so close behind the first still go with it."""


NO_MODEL = 'no model is loaded: run `make repro` and start again, or ask the arranger ("writer": "arranger")'


class Job:
    """A request on its way. `words`: what is written, from SONG_START on; `error`: why it failed; `max_words`: new ones
    that the piece may have; `rival`: the arranger's piece where the likelier of two is to be offered."""

    def __init__(self, request: Request, max_words: int | None = None, on_over: Callable[[Job], None] | None = None):
        self.request = request
        self.max_words = max_words or room_for(request.new_bars)
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
        self.rival: list[str] = []
        self.written_by: WrittenBy | None = None
        """None while that is not decided."""
        self.judge: str | None = None
        """By whom it was decided which of two pieces is offered, with the figures; None where one alone was written."""
        self._on_over = on_over
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def over(self) -> bool:
        return self.status in ("done", "failed", "cancelled")

    @property
    def batch_key(self) -> tuple[Any, ...]:
        """Jobs of one key can be written together."""
        request = self.request
        return (request.temperature, request.top_p, request.tries, self.max_words, request.refill is not None)

    @property
    def seconds(self) -> float:
        """That it took to write, once it is over."""
        return self.finished - self.started if self.finished is not None and self.started is not None else 0.0

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
        self._ended.set()
        self._notify()

    def begin(self) -> None:
        with self._lock:
            if not self.over:
                self.status, self.started = "writing", time.monotonic()
        self._notify()

    def add(self, word: str) -> None:
        self.words.append(word)
        if self.first_word is None and self.words.count("BAR_START") > self.request.kept_bars:
            self.first_word = time.monotonic()
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            for loop, event in self._watchers:
                try:
                    loop.call_soon_threadsafe(event.set)
                except RuntimeError:  # the loop has closed, and its caller with it
                    pass

    async def follow(self, seen: int = 0) -> AsyncIterator[int]:
        """Yield how many words there are, whenever there are more than `seen` and than before, until it is over."""
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
                    await event.wait()
        finally:
            with self._lock:
                self._watchers.discard((loop, event))

    async def wait(self) -> list[str]:
        """Its words once it is done. Raises what it failed with; BusyError where it was cancelled."""
        async for _ in self.follow():
            pass
        return self.result()

    def result(self) -> list[str]:
        """As `wait`, but it blocks: for callers without an event loop, or inside one that they cannot leave."""
        self._ended.wait()
        if self.status != "done":
            raise self.error or BusyError("the piece was cancelled")
        return list(self.words)


_model_process: int | None = None
"""The process that has loaded a model, if any has."""


def claim_process() -> None:
    """Note that a model works in this process. Raises ModelError in a fork of a process where one did: MLX's threads
    and the writer's do not come along, and whoever waited for them would wait for ever."""
    global _model_process
    if _model_process not in (None, os.getpid()):
        raise ModelError(
            "this process was forked from one that had loaded a model, so it cannot write; load models after the fork "
            "(gunicorn without --preload), or start processes with spawn"
        )
    _model_process = os.getpid()


class _AllOver(Exception):  # noqa: N818  # no error: it ends a batch that nobody waits for
    pass


class Writer:
    """Loads the model of a folder in a thread of its own and writes there; what is asked of the arranger needs no
    model (None) and is written by who submits it."""

    def __init__(
        self, model: str | Path | None, *, queue_limit: int = QUEUE_LIMIT, queue_seconds: float = QUEUE_SECONDS,
        write_seconds: float = WRITE_SECONDS, batch: int = BATCH,
    ):  # fmt: skip
        self.model = Path(model) if model is not None else None
        self.queue_limit, self.queue_seconds = queue_limit, queue_seconds
        self.write_seconds, self.batch = write_seconds, batch
        self.writing: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._bell = threading.Condition()
        self._closing = False
        self._loaded = threading.Event()
        self._load_error: PlagalError | None = None
        self._thread: threading.Thread | None = None

    # --- for callers, in any thread

    def start(self) -> None:
        """Load the model, once, where there is one. Raises ModelError."""
        if self.model is None:
            return
        claim_process()
        with self._bell:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="plagal-writer", daemon=True)
                self._thread.start()
                # A process that ends while a thread of MLX's is at work aborts, whatever its exit code was to be.
                atexit.register(self.close)
        self._loaded.wait()
        if self._load_error is not None:
            self.close()
            raise self._load_error

    @property
    def queue(self) -> int:
        """Pieces that wait."""
        return sum(not job.over for job in tuple(self._waiting))

    @property
    def busy(self) -> bool:
        return any(not job.over for job in tuple(self.writing))

    def submit(self, job: Job) -> Job:
        """Put it into the queue; what the arranger has to do is done when this returns. Raises BusyError where the
        queue is full or the writer has stopped, InputError for what the arranger cannot do, ModelError where a model is
        wanted and there is none."""
        if job.request.writer == "arranger":
            job.begin()
            _deliver(job, encode(arranged(job.request)), "arranger")
            return job
        if self.model is None:
            raise ModelError(NO_MODEL)
        claim_process()
        if job.request.writer == "best":
            job.rival = encode(arranged(job.request))
        with self._bell:
            if self._closing:
                raise BusyError("the service is stopping; try again later")
            waiting = [other for other in self._waiting if not other.over]
            if len(waiting) >= self.queue_limit:
                raise BusyError(f"{len(waiting)} pieces are waiting, the most allowed; try again in a moment")
            self._waiting = deque([*waiting, job])
            job.ahead = len(waiting) + sum(not other.over for other in self.writing)
            self._bell.notify()
        return job

    def close(self, seconds: float = 10.0) -> None:
        """End everything and let the thread end."""
        atexit.unregister(self.close)
        if _model_process not in (None, os.getpid()):  # a fork's: the thread is not here, its lock may never open
            return
        with self._bell:
            self._closing = True
            jobs = [*self._waiting, *self.writing]
            self._bell.notify_all()
        self._fail(jobs, BusyError("the service is stopping; ask again later"))
        if self._thread is not None:
            self._thread.join(seconds)

    # --- in the writer's thread

    def _run(self) -> None:
        from plagal.model.base import load
        from plagal.model.cpu.lanes import keep_little, leave_thread
        from plagal.model.scorer import ModelScorer

        keep_little()
        try:
            try:
                scorer = ModelScorer(load(self.model or ""), memory=True)
            except PlagalError as error:
                self._load_error = error
            except Exception as error:  # whatever stops it must reach the caller that waits
                log.exception("the model could not be loaded")
                self._load_error = ModelError(f"{self.model}: could not be loaded ({type(error).__name__})")
            self._loaded.set()
            while self._load_error is None and (jobs := self._next()):
                self._write(scorer, jobs)
                self.writing = []
        finally:
            leave_thread()

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

    def _write(self, scorer: ModelScorer, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        for job in jobs:
            if now - job.created > self.queue_seconds:
                job.end("failed", BusyError(f"waited {self.queue_seconds:g} s for its turn; try again later"))
            job.begin()
        jobs = [job for job in jobs if not job.over]
        try:
            if jobs:
                self._write_batch(scorer, jobs, now + self.write_seconds)
        except _AllOver:
            pass
        except PlagalError as error:
            self._fail(jobs, error)
        except Exception as error:  # one request must not end the service
            log.exception("a piece could not be written")
            self._fail(jobs, ModelError(f"the piece could not be written ({type(error).__name__}); see the log"))

    def _write_batch(self, scorer: ModelScorer, jobs: Sequence[Job], deadline: float) -> None:
        def on_draft(_: int, __: str) -> None:
            if time.monotonic() > deadline:
                self._fail(jobs, BusyError(f"writing took over {self.write_seconds:g} s; ask for fewer bars"))
            if all(other.over for other in jobs):
                raise _AllOver

        def on_word(row: int, word: str) -> None:
            job = jobs[row]
            if job.over:
                return
            if job.rival:
                drafts[row].append(word)
                if word == "SONG_END":
                    by, words, job.judge = likelier(scorer, job.request, drafts[row], job.rival, str(self.model))
                    _deliver(job, words, by)
                return
            job.written_by = "model"
            job.add(word)
            if word == "SONG_END":
                job.end("done")

        drafts: list[list[str]] = [[] for _ in jobs]
        write(scorer, [job.request for job in jobs], max_words=jobs[0].max_words, on_word=on_word, on_draft=on_draft)

    def _fail(self, jobs: Sequence[Job], error: PlagalError) -> None:
        for job in jobs:
            job.end("failed", error)


def _deliver(job: Job, words: Sequence[str], written_by: WrittenBy) -> None:
    job.written_by = written_by
    for word in words:
        job.add(word)
    job.end("done")


def likelier(
    scorer: ModelScorer, request: Request, mine: Sequence[str], arrangement: Sequence[str], model: str
) -> tuple[WrittenBy, Sequence[str], str]:
    """Of the model's piece and the arranger's that which the model finds likelier, by the mean over its words: a long
    piece is no worse for its length. -> who wrote it, its words, and the judge with its figures."""
    asked = prompt_text(prompt_for(request)[0])
    texts = [asked + " ".join(words) for words in (mine, arrangement)]
    scores = [float(np.nanmean(log_probs)) for log_probs in scorer.log_probs(texts)]
    judge = f"the likelier of two by {model}, in nats a word: model {scores[0]:.2f}, arranger {scores[1]:.2f}"
    return ("model", mine, judge) if scores[0] >= scores[1] else ("arranger", arrangement, judge)
