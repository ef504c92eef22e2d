"""What a server tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from plagal.serving.writer import Job

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)


class Measures:
    """One registry a server, so that two in a process do not add up."""

    def __init__(self, queue: Callable[[], int], busy: Callable[[], bool]):
        self.registry = CollectorRegistry()
        self.pieces = Counter("plagal_pieces", "Pieces by how they ended.", ["status"], registry=self.registry)
        self.words = Counter("plagal_words", "Words written.", registry=self.registry)
        self.notes = Counter("plagal_notes", "Notes written.", registry=self.registry)
        self.requests = Counter(
            "plagal_http_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self.ratings = Counter("plagal_ratings", "Ratings and choices heard.", ["kind"], registry=self.registry)
        self._queued = self._histogram("plagal_queue_seconds", "From asking to the start of writing.")
        self._first = self._histogram("plagal_first_word_seconds", "From asking to the first word.")
        self._written = self._histogram("plagal_write_seconds", "From the start of writing to its end.")
        Gauge("plagal_queue", "Pieces that wait.", registry=self.registry).set_function(queue)
        Gauge("plagal_busy", "Whether a piece is being written.", registry=self.registry).set_function(busy)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, buckets=_SECONDS, registry=self.registry)

    def over(self, job: Job) -> None:
        """A job has ended, however it did."""
        self.pieces.labels(job.status).inc()
        self.words.inc(len(job.words))
        self.notes.inc(sum(word.startswith("NOTE_ON_") for word in job.words))
        if job.started is not None:
            self._queued.observe(job.started - job.created)
        if job.first_word is not None:
            self._first.observe(job.first_word - job.created)
        if job.started is not None and job.finished is not None:
            self._written.observe(job.finished - job.started)

    def text(self) -> bytes:
        return generate_latest(self.registry)
