"""What a server does with a request, apart from HTTP: pieces, blind pairs, and what people say of them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field

from plagal.asking.fields import Heard
from plagal.asking.request import Request, generate_melody, read_request
from plagal.music.chords import parse_chord
from plagal.music.edits import shifts_that_fit, transpose
from plagal.music.keys import chord_symbol, key_name, key_then
from plagal.music.levels import in_hands
from plagal.music.score import Score
from plagal.plumbing.errors import BusyError, InputError, ModelError, disk_error
from plagal.serving.guards import Problem, problem, problem_of
from plagal.serving.service import Event, EventReader, new_seed
from plagal.serving.writer import Job, Status, Writer
from plagal.tokens.codec import decode, encode

# --- The pieces and pairs that a server remembers: a bounded number, in memory, the oldest forgotten first ---

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
                shown = None if self.blind else self.job
                named = {"writer": shown.written_by, "judge": shown.judge} if shown is not None else {}
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

    @property
    def over(self) -> bool:
        return self.a.over and self.b.over


_Kept = TypeVar("_Kept", Piece, Pair)


class _Shelf(Generic[_Kept]):
    """At most `most` things by their ids. Threads may share it."""

    def __init__(self, most: int):
        self._most = most
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def put(self, thing: _Kept) -> None:
        with self._lock:
            self._kept[thing.id] = thing
            while len(self._kept) > self._most:
                over = next((key for key, other in self._kept.items() if other.over), None)
                if over is None:
                    del self._kept[thing.id]
                    raise BusyError(f"{self._most} pieces are being written, the most allowed; try again in a moment")
                del self._kept[over]

    def find(self, key: str) -> _Kept | None:
        return self._kept.get(key)

    def __len__(self) -> int:
        return len(self._kept)


def new_id() -> str:
    """Not to be guessed: who has the id may read the piece."""
    return secrets.token_urlsafe(ID_BYTES)


Choice = Literal["a", "b", "tie"]


# --- The desk ---

PAIR_BARS = 8
MOST_SEMITONES = 11
_PAIR_PROMPTS = ("traditional gospel", "contemporary gospel", "gospel jazz", "worship")
GRACE_SECONDS = 15.0
"""So long a piece goes on being written after its last reader has gone: time to come back after a broken connection."""


@dataclass(frozen=True)
class Limits:
    queue: int = 64
    queue_seconds: float = 300.0
    write_seconds: float = 300.0
    pieces: int = MOST_PIECES
    grace_seconds: float = GRACE_SECONDS


_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)


class Measures:
    """What a server tells Prometheus about itself. One registry a server, so that two in a process do not add up."""

    def __init__(self, queue: Callable[[], int], busy: Callable[[], bool]):
        self.registry = CollectorRegistry()
        self.pieces = Counter("plagal_pieces", "Pieces by how they ended.", ["status"], registry=self.registry)
        self.words = Counter("plagal_words", "Words written.", registry=self.registry)
        self.notes = Counter("plagal_notes", "Notes written.", registry=self.registry)
        self.requests = Counter(
            "plagal_http_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self.ratings = Counter("plagal_ratings", "Ratings and choices heard.", ["kind"], registry=self.registry)
        self._queued, self._first, self._written = (
            Histogram(f"plagal_{name}_seconds", what, buckets=_SECONDS, registry=self.registry)
            for name, what in (("queue", "From asking to the start of writing."),
                               ("first_word", "From asking to the first word."),
                               ("write", "From the start of writing to its end."))
        )  # fmt: skip
        Gauge("plagal_queue", "Pieces that wait.", registry=self.registry).set_function(queue)
        Gauge("plagal_busy", "Whether a piece is being written.", registry=self.registry).set_function(busy)

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


class Desk:
    """One model (and perhaps the one before it), the pieces it wrote, and the file of opinions under `output`. Without
    a model (None) the arranger alone writes."""

    def __init__(self, model: Path | None, output: Path, previous: Path | None = None, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.ratings = output / "ratings.jsonl"
        asked: dict[str, Any] = {"queue_limit": self.limits.queue, "queue_seconds": self.limits.queue_seconds,
                                 "write_seconds": self.limits.write_seconds}  # fmt: skip
        self.writer = Writer(model, **asked)
        self.previous = Writer(previous, **asked) if previous is not None else None
        self.pieces, self.pairs = _Shelf[Piece](self.limits.pieces), _Shelf[Pair](MOST_PAIRS)
        self.measures = Measures(lambda: self.writer.queue, lambda: self.writer.busy)
        self._ratings_lock = threading.Lock()
        self._being_read = threading.Semaphore(self.limits.queue)

    def start(self) -> None:
        """Load the models. Raises ModelError."""
        self.writer.start()
        if self.previous is not None:
            self.previous.start()

    def close(self) -> None:
        for writer in (self.writer, self.previous):
            if writer is not None:
                writer.close()

    def check_model(self) -> None:
        """Raises ModelError where the model's folder is gone since it was loaded."""
        if self.writer.model is not None and not (self.writer.model / "config.json").is_file():
            raise ModelError(
                f"{self.writer.model} has vanished; the model is still in memory, but a restart would fail"
            )

    # --- pieces

    def order_piece(self, values: Any) -> Piece:
        """Understand a request as JSON has it and queue it. Raises InputError, BusyError. Its events are followed as
        they come, so it is written once unless it asks for more tries."""
        if not isinstance(values, dict):
            raise InputError('the body is not a JSON object; send one such as {"prompt": "slow worship ballad in Db"}')
        request = read_request(
            values, find=self._finished_words, find_request=self._request_of, seed=new_seed(), tries=1
        )
        job = Job(request, on_over=self.measures.over)
        piece = Piece(new_id(), "model", request, job)
        try:
            self.pieces.put(piece)
            self.writer.submit(job)
        except BaseException:
            job.cancel()
            raise
        return piece

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around the reading of a request, which may be big. Raises BusyError where too many are being read."""
        if not self._being_read.acquire(blocking=False):
            raise BusyError(f"{self.limits.queue} requests are being read, the most allowed; try again in a moment")
        try:
            yield
        finally:
            self._being_read.release()

    def _finished_words(self, key: str) -> list[str]:
        """Of a piece that is done. Raises InputError where there is none."""
        piece = self.pieces.find(key)
        if piece is None:
            raise InputError(f"there is no piece {key!r}; perhaps it is too old: only the newest are kept")
        if piece.status != "done":
            raise InputError(f"piece {key!r} is {piece.status}, not done; wait until it is")
        return piece.words

    def _request_of(self, piece_id: str) -> Request:
        source = self.pieces.find(piece_id)
        if source is None or source.blind:
            raise InputError(f"vary.piece: there is no piece {piece_id!r}; only the newest are kept")
        return source.request

    def leave(self, piece: Piece) -> None:
        """A reader of its events has gone: cancel it if nobody comes back in time. Called on the event loop."""
        piece.watchers -= 1
        piece.asked_for = time.monotonic()

        def look() -> None:
            gone = piece.watchers == 0 and time.monotonic() - piece.asked_for >= self.limits.grace_seconds
            if gone and piece.job is not None and not piece.blind:
                piece.job.cancel()

        if piece.watchers == 0 and not piece.over:
            asyncio.get_running_loop().call_later(self.limits.grace_seconds + 0.05, look)

    # --- blind pairs

    def order_pair(self, prompt: str, seed: int | None = None) -> Pair:
        """A piece of the model's and one of the arranger's (or of the model before), of one key, tempo and length, in
        an order that only `choose` reveals."""
        seed = seed if seed is not None else new_seed()
        draw = random.Random(seed)
        prompt = prompt or f"{draw.choice(_PAIR_PROMPTS)} in {draw.choice(('C', 'Db', 'Eb', 'F', 'G', 'Ab', 'Bb'))}"
        words: list[str] = []
        if self.previous is None:
            request, words = _matched(prompt, seed)
        else:
            request = read_request({"prompt": prompt, "seed": seed})
            if request.bars is None:
                request = request.changed(bars=PAIR_BARS)
        job = Job(request, on_over=self.measures.over)
        mine = Piece(new_id(), "model", request, job, blind=True, hidden_until=(job,))
        if self.previous is not None:
            other_job = Job(request)
            mine.hidden_until = (job, other_job)
            other = Piece(new_id(), "previous", request, other_job, blind=True, hidden_until=(job, other_job))
        else:
            other = Piece(new_id(), "arranger", request, ready=words, blind=True, hidden_until=(job,))
        a, b = (mine, other) if secrets.randbelow(2) else (other, mine)
        pair = Pair(new_id(), a, b)
        try:
            self.pieces.put(mine)
            self.pieces.put(other)
            self.pairs.put(pair)
            if other.job is not None and self.previous is not None:
                self.previous.submit(other.job)
            self.writer.submit(job)
        except BaseException:  # whichever side is refused, the other isn't written for nobody either
            for side in (mine, other):
                if side.job is not None:
                    side.job.cancel()
            raise
        return pair

    # --- opinions

    def rate(self, rater: str, piece: Piece, rating: float) -> None:
        row = {"kind": "rating", "rater": rater, "piece": piece.id, "system": piece.written_by, "rating": rating}
        self._append(row)

    def choose(self, rater: str, pair: Pair, choice: Choice) -> bool:
        """False where this rater has chosen already. Raises DiskError."""
        with self._ratings_lock:
            if rater in pair.raters:
                return False
            pair.raters.add(rater)
        try:
            sides = {"a": pair.a.system, "b": pair.b.system}
            self._append({"kind": "ab", "rater": rater, "pair": pair.id, **sides, "choice": choice})
        except BaseException:
            pair.raters.discard(rater)
            raise
        return True

    def _append(self, row: Mapping[str, Any]) -> None:
        """One line, as `plagal.evaluation.report` reads it, whole or not at all, on the disk before anybody is told
        so. Raises DiskError."""
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        try:
            with self._ratings_lock:
                self.ratings.parent.mkdir(parents=True, exist_ok=True)
                with self.ratings.open("ab+", buffering=0) as file:
                    _append_whole(file, line)
        except OSError as error:
            if (told := disk_error(self.ratings, error)) is not None:
                raise told from error
            raise
        self.measures.ratings.labels(row["kind"]).inc()


def _append_whole(file: FileIO, line: bytes) -> None:
    """Write a line behind the last whole one; a part of it that found room is taken back."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        line = line if file.read(1) == b"\n" else b"\n" + line
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _matched(prompt: str, seed: int) -> tuple[Request, list[str]]:
    """One request for both sides, and the arranger's words for it: whatever the prompt leaves open (key, mode, metre,
    tempo) is asked of the model as the arranger chose it."""
    said = read_request({"prompt": prompt, "seed": seed})
    score = generate_melody(prompt, bars=said.bars or PAIR_BARS, seed=seed)
    words, metre = encode(score), score.metres[0]
    request = read_request(
        {
            "prompt": prompt,
            "seed": seed,
            "key": score.keys[0],
            "metre": (metre.numerator, metre.denominator),
            "tempo": score.tempos[0].quarters_per_minute,
            "beat": "quarter",
            "bars": words.count("BAR_START"),
        }
    )
    return request, words


# --- What a client sees ---


class Created(BaseModel):
    """All but `id` and `links` is left out of a blind pair's sides."""

    id: str
    seed: int | None = None
    understood: str | None = Field(None, description="What was understood of the prompt, and what not, in one line.")
    request: dict[str, Any] | None = Field(None, description="The same as a request, which you can send again.")
    not_understood: list[str] | None = Field(None, description="Parts of the prompt that were not understood.")
    heard: Heard | None = Field(None, description="What was heard in an uploaded performance; `hints` correct it.")
    links: dict[str, str]


class CreatedPair(BaseModel):
    pair: str
    a: Created
    b: Created


class Systems(BaseModel):
    """Who wrote the two sides of a blind pair."""

    a: str
    b: str


class Words(BaseModel):
    words: list[str]


class PieceAnswer(BaseModel):
    """Onsets, durations and bar lines in ticks, 24 a quarter note."""

    id: str
    status: Status
    request: dict[str, Any] = Field(description="What was asked for and understood, as a request to send again.")
    not_understood: list[str] = Field(description="Parts of the prompt that were not understood.")
    heard: Heard | None = Field(description="What was heard in an uploaded performance.")
    writer: str | None = Field(description="model or arranger; null until this is decided, and for blind pieces.")
    judge: str | None = Field(description="Who judged, if both wrote and the likelier piece was kept.")
    key: str | None
    tempo: float = Field(description="Quarter notes a minute.")
    metre: str
    bars: int
    notes: list[tuple[int, int, int, int]] = Field(description="Onset, pitch, duration, velocity.")
    hands: list[int] = Field(description="Of each note: 0 left, 1 right.")
    chords: list[tuple[int, str]]
    pedal: list[tuple[int, str]]
    tempos: list[tuple[int, float]] = Field(description="Quarter notes a minute from each onset on.")
    bar_lines: list[int]
    end: int
    title: str
    problem: Problem | None
    links: dict[str, str]


class Health(BaseModel):
    status: str
    model: str | None = Field(description="Its folder; null if the arranger writes everything.")
    queue: int
    busy: bool


def links_of(piece: Piece, root: str = "") -> dict[str, str]:
    """`root`: the prefix under which a reverse proxy shows the server."""
    base = f"{root}/api/pieces/{piece.id}"
    files = {"midi": f"{base}.mid", "musicxml": f"{base}.musicxml", "pdf": f"{base}.pdf"}
    return {"self": base, "events": f"{base}/events", **files, "words": f"{base}/words"}


def created(piece: Piece, root: str = "") -> dict[str, Any]:
    request = piece.request
    own = {} if piece.blind else {
        "seed": request.seed, "understood": request.summary, "request": request.as_json(),
        "not_understood": list(request.not_understood), "heard": request.heard,
    }  # fmt: skip
    return {"id": piece.id, **own, "links": links_of(piece, root)}


def score_of(piece: Piece, semitones: int = 0) -> Score:
    """A piece as far as it is written, in two hands, so many semitones higher. Raises InputError where that leaves the
    keyboard."""
    score = in_hands(decode(piece.words).score, piece.request.level)
    try:
        return transpose(score, semitones) if semitones else score
    except ValueError as error:
        fitting = shifts_that_fit(score, MOST_SEMITONES)
        raise InputError(f"transpose: {error}; it fits from {fitting[0]} to {fitting[-1]}") from None


def piece_json(piece: Piece, root: str = "", semitones: int = 0) -> dict[str, Any]:
    """A piece as far as it is written, so many semitones higher."""
    words = piece.words
    reader, lines = piece.reader(), []
    for word in words:
        lines += [event.data["onset"] for event in reader.feed(word) if event.kind == "bar"]
    score = score_of(piece, semitones)
    asked = {} if piece.blind else piece.request.as_json()
    metre = score.metres[0]
    return {
        "id": piece.id,
        "status": piece.status,
        "request": asked,
        "not_understood": [] if piece.blind else list(piece.request.not_understood),
        "heard": None if piece.blind else piece.request.heard,
        "writer": None if piece.blind else piece.written_by,
        "judge": piece.job.judge if piece.job is not None and not piece.blind else None,
        "key": key_name(score.keys[0]) if score.keys else None,
        "tempo": score.tempos[0].quarters_per_minute,
        "metre": f"{metre.numerator}/{metre.denominator}",
        "bars": len(lines),
        "notes": score.notes.tolist(),
        "hands": score.hands.tolist() if score.hands is not None else [],
        "chords": [
            [marker.onset, chord_symbol(parse_chord(marker.text), key_then(score.keys, marker.onset))]
            for marker in score.markers
            if marker.kind == "chord"
        ],
        "pedal": [[pedal.onset, pedal.state] for pedal in score.pedals],
        "tempos": [[tempo.onset, tempo.quarters_per_minute] for tempo in score.tempos],
        "bar_lines": lines,
        "end": reader.end,
        "title": title_of(piece),
        "problem": piece.problem,
        "links": links_of(piece, root),
    }


def title_of(piece: Piece) -> str:
    """As "Gospel jazz in Bb major"; nothing where it could tell who wrote the piece."""
    asked = piece.request.as_json()
    if piece.blind:
        return ""
    style = str(asked.get("style", "gospel")).replace("_", " ").capitalize()
    return f"{style} in {asked['key']}" if "key" in asked else style
