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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

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
from plagal.serving.guards import Problem
from plagal.serving.service import new_seed
from plagal.serving.store import MOST_PIECES, Choice, Pair, Piece, Store, new_id
from plagal.serving.writer import Job, Status, Writer
from plagal.tokens.codec import decode, encode

PAIR_BARS = 8
MOST_SEMITONES = 11
_MOST_TUNES = 48
"""That are arranged in search of one in the mode and metre asked for; six of the book's 75 are in minor."""
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


class Desk:
    """One model (and perhaps the one before it), the pieces it wrote, and the file of opinions under `output`. Without
    a model (None) the arranger alone writes."""

    def __init__(self, model: Path | None, output: Path, previous: Path | None = None, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.ratings = output / "ratings.jsonl"
        self.writer = self._writer(model)
        self.previous = self._writer(previous) if previous is not None else None
        self.store = Store(self.limits.pieces)
        self.measures = Measures(lambda: self.writer.queue, lambda: self.writer.busy)
        self._ratings_lock = threading.Lock()
        self._being_read = threading.Semaphore(self.limits.queue)

    def _writer(self, model: Path | None) -> Writer:
        limits = self.limits
        return Writer(
            model, queue_limit=limits.queue, queue_seconds=limits.queue_seconds, write_seconds=limits.write_seconds
        )

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
            raise ModelError(f"{self.writer.model} has vanished; pieces still come from memory, a restart would fail")

    # --- pieces

    def order_piece(self, values: Any) -> Piece:
        """Understand a request as JSON has it and queue it. Raises InputError, BusyError. Its events are followed as
        they come, so it is written once unless it asks for more tries."""
        if not isinstance(values, dict):
            raise InputError('the body is not a JSON object; send one such as {"prompt": "slow worship ballad in Db"}')
        request = read_request(
            values, find=self.store.finished_words, find_request=self._request_of, seed=new_seed(), tries=1
        )
        job = Job(request, on_over=self.measures.over)
        piece = Piece(new_id(), "model", request, job)
        try:
            self.store.pieces.put(piece)
            self.writer.submit(job)
        except BaseException:
            job.cancel()
            raise
        return piece

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around the reading of a request, which may be big. Raises BusyError where too many are being read."""
        if not self._being_read.acquire(blocking=False):
            raise BusyError(f"{self.limits.queue} requests are being read, which is the limit; try again in a moment")
        try:
            yield
        finally:
            self._being_read.release()

    def _request_of(self, piece_id: str) -> Request:
        source = self.store.pieces.find(piece_id)
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
            self.store.pieces.put(mine)
            self.store.pieces.put(other)
            self.store.pairs.put(pair)
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
    # The arranger's tunes have modes and metres of their own: one is looked for that has those that were asked for.
    for tune in range(_MOST_TUNES if said.tune is None else 1):
        score = generate_melody(prompt, bars=said.bars or PAIR_BARS, seed=seed + tune)
        words, metre = encode(score), score.metres[0]
        fits = said.key is None or said.key.minor == score.keys[0].minor
        if fits and said.metre in (None, (metre.numerator, metre.denominator)):
            break
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


# --- what a client sees


class Created(BaseModel):
    """All but `id` and `links` is left out of a blind pair's sides."""

    id: str
    seed: int | None = None
    understood: str | None = Field(None, description="What was made of the prompt, and what was not, in one line.")
    request: dict[str, Any] | None = Field(None, description="The same as it may be sent again.")
    not_understood: list[str] | None = Field(None, description="Parts of the prompt that nothing was made of.")
    heard: Heard | None = Field(None, description="What a playing that came with it was heard as; `hints` correct it.")
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
    request: dict[str, Any] = Field(description="What was asked for and understood, as it may be sent again.")
    not_understood: list[str] = Field(description="Parts of the prompt that nothing was made of.")
    heard: Heard | None = Field(description="What a playing that came with it was heard as.")
    writer: str | None = Field(description="model or arranger; null while that is not decided, and for blind pieces.")
    judge: str | None = Field(description="Who judged, where two wrote and the likelier is offered.")
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
    model: str | None = Field(description="Its folder; null where the arranger alone writes.")
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
        raise InputError(f"transpose: {error}; from {fitting[0]} to {fitting[-1]} it fits") from None


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
