"""The plan's service: a prompt in, music words or MIDI out, without blocking the event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

from plagal.asking.request import Request, read_request
from plagal.compose.opening import opening_words
from plagal.music.midi import to_midi_bytes
from plagal.music.score import Score
from plagal.plumbing.errors import BusyError
from plagal.serving.events import Event, EventReader
from plagal.serving.writer import Job, Writer
from plagal.tokens import response as answers
from plagal.tokens.codec import decode
from plagal.tokens.response import TokenResponse

DEFAULT_MODEL = Path("models/fused")
MOST_TOKENS = 16_384
"""64 very dense bars."""
_FEWEST_TOKENS = 32
"""A head, a bar with a note, and the end."""


def new_seed() -> int:
    """For who gives none: small enough to be read out and typed again."""
    return secrets.randbelow(1_000_000)


class FinetunedQwenService:
    """Writes pieces with one model, loaded once (in `start`, or when the first piece is asked for).

        async with FinetunedQwenService("models/fused") as service:
            words = await service.generate_music_tokens("slow worship ballad in Db")

    `limits` are the Writer's: queue_limit, queue_seconds, write_seconds, batch. Where a call takes `controls`, they
    are the keys of `Request`: style, key, tempo, bars, seed, chords and so on. All raise InputError for what
    cannot be asked, BusyError where the queue is full or a time limit is over, ModelError where there is no model.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, **limits: Any):
        self.writer = Writer(model, **limits)

    async def __aenter__(self) -> FinetunedQwenService:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Load the model; harmless where it is loaded."""
        await asyncio.to_thread(self.writer.start)

    async def close(self) -> None:
        """Cancel what is being written and wait until the model's thread has ended."""
        await asyncio.to_thread(self.writer.close)

    async def generate_music_tokens(self, prompt: str = "", max_tokens: int = 2048, **controls: Any) -> list[str]:
        """The words of a piece, from SONG_START to SONG_END, at most `max_tokens`: a piece that comes near is closed
        in good order. Cancelling the call cancels the piece."""
        request = await self._read({"prompt": prompt, **controls})
        given = len(opening_words(request)) + 1
        job = self.writer.submit(Job(request, min(max(max_tokens - given, _FEWEST_TOKENS), MOST_TOKENS)))
        try:
            return await job.wait()
        finally:
            job.cancel()

    async def generate_score(self, prompt: str = "", **controls: Any) -> Score:
        """A piece as a Score: the arranger's `generate_melody`, with a model and a prompt in full."""
        job = self.writer.submit(Job(await self._read({"prompt": prompt, **controls})))
        try:
            return await asyncio.to_thread(_score_of, await job.wait())
        finally:
            job.cancel()

    async def generate_midi(self, prompt: str = "", **controls: Any) -> bytes:
        """A piece as the bytes of a MIDI file."""
        return to_midi_bytes(await self.generate_score(prompt, **controls))

    async def stream(self, prompt: str = "", **controls: Any) -> AsyncIterator[Event]:
        """Events as they are written: start, bar, chord, note, pedal, tempo, done. Leaving the loop cancels the
        piece. What has been sent cannot be written again: `tries` is 1 unless it is given."""
        request = await self._read({"prompt": prompt, "tries": 1, **controls})
        job = self.writer.submit(Job(request))
        reader, seen = EventReader(request.kept_bars + request.new_bars), 0
        try:
            async for count in job.follow():
                for word in job.words[seen:count]:
                    for event in reader.feed(word):
                        yield event
                seen = count
            await job.wait()
            yield done_event(job, reader)
        finally:
            job.cancel()

    def generate_melody(
        self, prompt_or_style: str, key: str | None = None, tempo: float | None = None, bars: int | None = None,
        seed: int = 0,
    ) -> Score:  # fmt: skip
        """The arranger's interface, written by the model. It blocks, also an event loop that runs (a notebook's)."""
        asked = {"prompt": prompt_or_style, "key": key, "tempo": tempo, "bars": bars, "seed": seed}
        request = read_request(asked)
        self.writer.start()
        job = self.writer.submit(Job(request))
        try:
            return _score_of(job.result())
        finally:
            job.cancel()

    @staticmethod
    def parse_token_response(text: str) -> TokenResponse:
        """Music words in the free text of a stock model, with what was skipped and repaired. Never raises."""
        return answers.parse_token_response(text)

    async def _read(self, asked: dict[str, Any]) -> Request:
        """Off the event loop: a melody or music to go on from takes a while to read."""
        request = await asyncio.to_thread(read_request, asked, seed=new_seed())
        await self.start()
        return request


def _score_of(words: list[str]) -> Score:
    return decode(words).score


def done_event(job: Job, reader: EventReader) -> Event:
    """The last event of a piece that is done."""
    if job.finished is None or job.started is None:
        raise BusyError("the piece is not done")
    seconds = round(job.finished - job.started, 3)
    return Event("done", {"bars": reader.bars, "notes": reader.notes, "seconds": seconds, "end": reader.end})
