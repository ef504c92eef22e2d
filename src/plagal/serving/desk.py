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

from plagal.asking.arranged import generate_melody
from plagal.asking.request import Request, read_request
from plagal.music.chords import parse_chord
from plagal.music.keys import chord_symbol, key_name, key_then
from plagal.plumbing.errors import BusyError, InputError, ModelError
from plagal.plumbing.files import disk_error
from plagal.serving.events import EventReader
from plagal.serving.measures import Measures
from plagal.serving.service import new_seed
from plagal.serving.sse import piece_problem
from plagal.serving.store import MOST_PIECES, Choice, Pair, Piece, Store, choice_row, new_id, rating_row
from plagal.serving.writer import Job, Writer
from plagal.tokens.codec import decode, encode

PAIR_BARS = 8
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


class Desk:
    """One model (and perhaps the one before it), the pieces it wrote, and the file of opinions under `output`."""

    def __init__(self, model: Path, output: Path, previous: Path | None = None, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.ratings = output / "ratings.jsonl"
        self.writer = self._writer(model)
        self.previous = self._writer(previous) if previous is not None else None
        self.store = Store(self.limits.pieces)
        self.measures = Measures(lambda: self.writer.queue, lambda: self.writer.busy)
        self._ratings_lock = threading.Lock()
        self._being_read = threading.Semaphore(self.limits.queue)

    def _writer(self, model: Path) -> Writer:
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
        """Raises ModelError where the model's folder is gone."""
        if not (self.writer.model / "config.json").is_file():
            raise ModelError(f"{self.writer.model} has vanished; pieces still come from memory, a restart would fail")

    # --- pieces

    def order_piece(self, values: Any) -> Piece:
        """Understand a request as JSON has it and queue it. Raises InputError, BusyError. Its events are followed as
        they come, so it is written once unless it asks for more tries."""
        if not isinstance(values, dict):
            raise InputError('the body is no JSON object; send one such as {"prompt": "slow worship ballad in Db"}')
        request = read_request(
            values, find=self.store.finished_words, find_request=self._request_of, seed=new_seed(), tries=1
        )
        piece = Piece(new_id(), "model", request, Job(request, on_over=self.measures.over))
        self.store.pieces.put(piece)
        return self._submit(piece, self.writer)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around the reading of a request, which may be big. Raises BusyError where too many are being read."""
        if not self._being_read.acquire(blocking=False):
            raise BusyError(f"{self.limits.queue} requests are being read, the most that may; try again in a moment")
        try:
            yield
        finally:
            self._being_read.release()

    def _request_of(self, piece_id: str) -> Request:
        source = self.store.pieces.find(piece_id)
        if source is None or source.blind:
            raise InputError(f"vary.piece: there is no piece {piece_id!r}; only the newest are kept")
        return source.request

    def _submit(self, piece: Piece, writer: Writer) -> Piece:
        assert piece.job is not None  # noqa: S101  # pieces of the arranger are never submitted
        try:
            writer.submit(piece.job)
        except BaseException:
            piece.job.cancel()
            raise
        return piece

    def leave(self, piece: Piece, later: Callable[[float, Callable[[], None]], Any]) -> None:
        """A reader of its events has gone: cancel it if nobody comes back in time."""
        piece.watchers -= 1
        piece.asked_for = time.monotonic()

        def look() -> None:
            gone = piece.watchers == 0 and time.monotonic() - piece.asked_for >= self.limits.grace_seconds
            if gone and piece.job is not None and not piece.blind:
                piece.job.cancel()

        if piece.watchers == 0 and not piece.over:
            later(self.limits.grace_seconds + 0.05, look)

    # --- blind pairs

    def order_pair(self, prompt: str, seed: int | None = None) -> Pair:
        """A piece of the model's and one of the arranger's (or of the model before), of one key, tempo and length, in
        an order that only `choose` reveals."""
        seed = seed if seed is not None else new_seed()
        draw = random.Random(seed)
        prompt = prompt or f"{draw.choice(_PAIR_PROMPTS)} in {draw.choice(('C', 'Db', 'Eb', 'F', 'G', 'Ab', 'Bb'))}"
        request, words = _matched(prompt, seed)
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
        self.store.pieces.put(mine)
        self.store.pieces.put(other)
        self.store.pairs.put(pair)
        if other.job is not None and self.previous is not None:
            self._submit(other, self.previous)
        self._submit(mine, self.writer)
        return pair

    # --- opinions

    def rate(self, rater: str, piece: Piece, rating: float) -> None:
        self._append(rating_row(rater, piece, rating))

    def choose(self, rater: str, pair: Pair, choice: Choice) -> bool:
        """False where this rater has chosen already. Raises DiskError."""
        with self._ratings_lock:
            if rater in pair.raters:
                return False
            pair.raters.add(rater)
        try:
            self._append(choice_row(rater, pair, choice))
        except BaseException:
            pair.raters.discard(rater)
            raise
        return True

    def _append(self, row: Mapping[str, Any]) -> None:
        """One line, whole or not at all, on the disk before anybody is told so. Raises DiskError."""
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
    key = key_name(said.key) if said.key is not None else None
    score = generate_melody(prompt, key, said.quarters_per_minute, said.bars or PAIR_BARS, seed)
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


# --- what a client sees


def links_of(piece: Piece) -> dict[str, str]:
    base = f"/api/pieces/{piece.id}"
    return {"self": base, "events": f"{base}/events", "midi": f"{base}.mid", "words": f"{base}/words"}


def created(piece: Piece) -> dict[str, Any]:
    told: dict[str, Any] = {"id": piece.id, "links": links_of(piece)}
    return told if piece.blind else {"id": piece.id, "seed": piece.request.seed, "links": told["links"]}


def piece_json(piece: Piece) -> dict[str, Any]:
    """A piece as far as it is written."""
    words = piece.words
    reader, lines = EventReader(), []
    for word in words:
        lines += [event.data["onset"] for event in reader.feed(word) if event.kind == "bar"]
    score = decode(words).score
    asked = {} if piece.blind else piece.request.as_json()
    metre = score.metres[0]
    return {
        "id": piece.id,
        "status": piece.status,
        "request": asked,
        "not_understood": [] if piece.blind else list(piece.request.not_understood),
        "key": key_name(score.keys[0]) if score.keys else None,
        "tempo": score.tempos[0].quarters_per_minute,
        "metre": f"{metre.numerator}/{metre.denominator}",
        "bars": len(lines),
        "notes": score.notes.tolist(),
        "chords": [
            [marker.onset, chord_symbol(parse_chord(marker.text), key_then(score.keys, marker.onset))]
            for marker in score.markers
            if marker.kind == "chord"
        ],
        "pedal": [[pedal.onset, pedal.state] for pedal in score.pedals],
        "bar_lines": lines,
        "title": title_of(piece),
        "problem": piece_problem(piece),
        "links": links_of(piece),
    }


def title_of(piece: Piece) -> str:
    """As "Gospel jazz in Bb major"; nothing where it could tell who wrote the piece."""
    asked = piece.request.as_json()
    if piece.blind:
        return ""
    style = str(asked.get("style", "gospel")).replace("_", " ").capitalize()
    return f"{style} in {asked['key']}" if "key" in asked else style


def later_on_loop(seconds: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)
