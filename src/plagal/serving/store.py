"""The pieces and pairs that a server remembers: a bounded number, in memory, the oldest forgotten first."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from plagal.asking.request import Request
from plagal.plumbing.errors import BusyError, InputError
from plagal.serving.events import Event, EventReader
from plagal.serving.guards import problem, problem_of
from plagal.serving.writer import Job, Status

MOST_PIECES = 512
MOST_PAIRS = 256
ID_BYTES = 9


@dataclass
class Piece:
    """A piece of the model's (`job`) or one that was there at once (`ready`: its words). `hidden_until`: jobs that
    must be over before this piece shows anything, so that a listener cannot tell by the wait who wrote it."""

    id: str
    system: str
    request: Request
    job: Job | None = None
    ready: Sequence[str] = ()
    blind: bool = False
    hidden_until: tuple[Job, ...] = ()
    watchers: int = 0
    asked_for: float = field(default_factory=time.monotonic)

    @property
    def written_by(self) -> str | None:
        """model, previous or arranger; None while the likelier of two is not found."""
        return self.system if self.blind or self.job is None else self.job.written_by

    @property
    def visible(self) -> bool:
        return all(job.over for job in self.hidden_until)

    @property
    def status(self) -> Status:
        if not self.visible:
            return "queued"
        return self.job.status if self.job is not None else "done"

    @property
    def over(self) -> bool:
        return self.visible and (self.job is None or self.job.over)

    @property
    def words(self) -> list[str]:
        """What is written and may be shown."""
        if not self.visible:
            return []
        return list(self.job.words if self.job is not None else self.ready)

    @property
    def problem(self) -> dict[str, Any] | None:
        """Why it will never be done; None where it is or may be."""
        if self.status == "cancelled":
            return problem(409, "the piece was cancelled")
        error = self.job.error if self.job is not None and self.status == "failed" else None
        return problem_of(error) if error is not None else None

    async def events(self) -> AsyncIterator[Event]:
        """queued, then what its words say as they come, then done or problem. They are made anew from the words for
        each reader, so nothing but the words is kept."""
        yield Event("queued", {"ahead": self.job.ahead if self.job is not None else 0})
        reader, seen = self.reader(), 0
        while True:
            over, words = self.over, self.words[seen:]
            seen += len(words)
            for word in words:
                for event in reader.feed(word):
                    yield event
            if over:
                done = self.status == "done"
                seconds = self.job.seconds if self.job is not None and not self.blind else 0.0
                named = (
                    {} if self.blind or self.job is None else {"writer": self.job.written_by, "judge": self.job.judge}
                )
                yield reader.done(seconds, **named) if done else Event("problem", self.problem or {})
                return
            # The job whose progress changes what there is to see: another one's, while the piece is hidden.
            job = next((job for job in self.hidden_until if not job.over), self.job)
            if job is not None:
                async for _ in job.follow(seen if job is self.job else len(job.words)):
                    if self.visible:
                        break

    @property
    def event_count(self) -> int:
        """Of a piece that is over: so many events it has, and so the last one is numbered."""
        reader = self.reader()
        return 2 + sum(1 for word in self.words for _ in reader.feed(word))

    def reader(self) -> EventReader:
        return EventReader(self.request.kept_bars + self.request.new_bars)


@dataclass(frozen=True)
class Pair:
    id: str
    a: Piece
    b: Piece
    raters: set[str] = field(default_factory=set)
    """Who has chosen already."""


_Kept = TypeVar("_Kept", Piece, Pair)


class _Shelf(Generic[_Kept]):
    """At most `most` things by their ids. Threads may share it."""

    def __init__(self, most: int, what: str):
        self._most, self._what = most, what
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, thing: _Kept) -> None:
        with self._lock:
            self._kept[thing.id] = thing
            while len(self._kept) > self._most:
                over = next((key for key, other in self._kept.items() if _is_over(other)), None)
                if over is None:
                    del self._kept[thing.id]
                    raise BusyError(f"{self._most} pieces are being written, which is the limit; try again in a moment")
                del self._kept[over]

    def find(self, key: str) -> _Kept | None:
        return self._kept.get(key)

    def __len__(self) -> int:
        return len(self._kept)


def _is_over(thing: Piece | Pair) -> bool:
    return thing.over if isinstance(thing, Piece) else thing.a.over and thing.b.over


class Store:
    """Pieces and pairs by their ids."""

    def __init__(self, most_pieces: int = MOST_PIECES):
        self.pieces = _Shelf[Piece](most_pieces, "piece")
        self.pairs = _Shelf[Pair](MOST_PAIRS, "pair")

    def finished_words(self, key: str) -> list[str]:
        """Of a piece that is done. Raises InputError where there is none."""
        piece = self.pieces.find(key)
        if piece is None:
            raise InputError(f"there is no piece {key!r}; it may be forgotten: only the newest are kept")
        if piece.status != "done":
            raise InputError(f"piece {key!r} is {piece.status}, not done; wait until it is")
        return piece.words


def new_id() -> str:
    """Not to be guessed: who has the id may read the piece."""
    return secrets.token_urlsafe(ID_BYTES)


Choice = Literal["a", "b", "tie"]
