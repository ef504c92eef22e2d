"""A prompt in, a piece out: the plan's service for programs, which never blocks the event loop, and `write_piece` for
scripts and the terminal, which does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from plagal.asking.request import Request, arranged, read_request
from plagal.compose.opening import opening_words
from plagal.compose.write import room_for, write
from plagal.music.chords import parse_chord
from plagal.music.hands import in_two_hands
from plagal.music.keys import chord_symbol, key_name
from plagal.music.levels import in_hands
from plagal.music.midi import to_midi_bytes, write_midi
from plagal.music.score import Key, Score
from plagal.serving.writer import Job, Writer, claim_process, likelier
from plagal.tokens import repair as answers
from plagal.tokens.codec import decode, encode
from plagal.tokens.repair import TokenResponse
from plagal.tokens.vocabulary import (
    BEAT_TICKS,
    DURATION_TICKS,
    KEY_OF,
    METRE_OF,
    PEDALS,
    TEMPO_OF,
    TIED_DURATIONS,
    VELOCITY_LEVELS,
    WHOLE,
)

if TYPE_CHECKING:
    from plagal.model.scorer import ModelScorer


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

    async def generate_score(self, prompt: str = "", **controls: Any) -> Written:
        """A piece with its words, its score (a hand for every note) and its MusicXML: what a lesson needs."""
        request = await self._read({"prompt": prompt, **controls})
        job = self.writer.submit(Job(request))
        try:
            return Written(request, tuple(await job.wait()), job.judge)
        finally:
            job.cancel()

    async def generate_midi(self, prompt: str = "", **controls: Any) -> bytes:
        """A piece as the bytes of a MIDI file."""
        piece = await self.generate_score(prompt, **controls)
        return await asyncio.to_thread(lambda: to_midi_bytes(piece.score))

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
            yield reader.done(job.seconds, job.written_by, job.judge)
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
            return in_two_hands(decode(job.result()).score)
        finally:
            job.cancel()

    @staticmethod
    def parse_token_response(text: str) -> TokenResponse:
        """Music words in the free text of a stock model, with what was skipped and repaired. Never raises."""
        return answers.parse_token_response(text)

    async def _read(self, asked: dict[str, Any]) -> Request:
        """Off the event loop: a melody or music to go on from takes a while to read."""
        request = await asyncio.to_thread(read_request, asked, seed=new_seed())
        if request.writer != "arranger":
            await self.start()
        return request


# --- for scripts and the terminal

OnBar = Callable[[], object]
"""Called as each bar that was asked for is written."""


@dataclass(frozen=True)
class Written:
    """A piece that is written: what was asked, its words, from SONG_START to SONG_END, and its score. `judge`: who
    chose it, where two wrote."""

    request: Request
    words: tuple[str, ...]
    judge: str | None = None

    @cached_property
    def score(self) -> Score:
        """With a hand for every note."""
        return in_hands(decode(self.words).score, self.request.level)

    @property
    def description(self) -> str:
        """Key, tempo, metre, bars, notes and seed, for people."""
        score, bars = self.score, self.words.count("BAR_START")
        key = f"{key_name(score.keys[0])}, " if score.keys else ""
        metre, tempo = score.metres[0], score.tempos[0].quarters_per_minute
        beat, quarters = ("dotted quarters", 1.5) if metre.is_compound else ("quarters", 1.0)
        return (
            f"{key}{metre.numerator}/{metre.denominator}, {tempo / quarters:.3g} {beat} a minute, {bars} bars, "
            f"{len(score.notes)} notes, seed {self.request.seed}"
        )

    @cached_property
    def musicxml(self) -> str:
        """The piece as sheet music, named by what was asked."""
        from plagal.asking.wording import plain_prompt
        from plagal.sheet import to_musicxml

        return to_musicxml(replace(self.score, title=self.request.prompt or plain_prompt(self.request)))

    def write(self, path: str | Path) -> None:
        """Write the MIDI, whole or not at all. Raises DiskError."""
        write_midi(self.score, path)


def write_piece(prompt: str = "", model: str | Path = "models/fused", *, seed: int = 0, **controls: Any) -> Written:
    """Write a piece with the model in a folder (loaded once a process). `controls`: the keys of `Request`. Same
    arguments, same piece. Raises ModelError for a folder that is not a whole model, InputError for what cannot be
    asked."""
    return write_pieces([read_request({"prompt": prompt, "seed": seed, **controls})], model)[0]


def write_pieces(
    requests: Sequence[Request], model: str | Path = "models/fused", on_bar: OnBar | None = None
) -> list[Written]:
    """Write requests that share writer, temperature, top_p and tries, in one batch; all of them are refills, or none. A
    bar that is written again, for the piece's key or for what follows, is counted once."""
    if requests[0].writer == "arranger":
        return [Written(request, tuple(encode(arranged(request)))) for request in requests]
    begun, counted = [0] * len(requests), [0] * len(requests)

    def on_draft(row: int, word: str) -> None:
        if on_bar is not None and word in ("SONG_START", "BAR_START", "SONG_END"):
            begun[row] = 0 if word == "SONG_START" else begun[row] + (word == "BAR_START")
            done = begun[row] - requests[row].kept_bars - (word == "BAR_START")
            if counted[row] < done <= requests[row].new_bars:
                counted[row] = done
                on_bar()

    claim_process()
    longest = max(room_for(request.new_bars) for request in requests)
    scorer = loaded(Path(model))
    pieces = write(scorer, requests, max_words=longest, on_draft=on_draft)
    if requests[0].writer != "best":
        return [Written(request, tuple(words)) for request, words in zip(requests, pieces, strict=True)]
    offered = []
    for request, mine in zip(requests, pieces, strict=True):
        _, words, judge = likelier(scorer, request, mine, encode(arranged(request)), str(model))
        offered.append(Written(request, tuple(words), judge))
    return offered


@lru_cache(maxsize=1)
def loaded(folder: Path) -> ModelScorer:
    """The model of a folder, kept for the next call."""
    from plagal.model.base import load
    from plagal.model.scorer import ModelScorer

    return ModelScorer(load(folder), memory=True)


# --- A piece as it is being written, as events for a page that draws it: bars, chords, notes, pedal, tempo ---
#
# Words go in one at a time; events come out as soon as nothing that follows can change them. Times in ticks, 24 a
# quarter.

_USUAL_VELOCITY = VELOCITY_LEVELS["VEL_MF"]
_USUAL_TEMPO = 120.0


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: start, bar, chord, note, pedal, tempo, and what a service adds: queued, done, problem."""

    kind: str
    data: dict[str, Any]


class EventReader:
    """Makes events of words. Words that its own music cannot hold (as a stock model may write them) are passed over;
    what decoding would mend is not mended here."""

    def __init__(self, bars_asked: int | None = None):
        self.bars_asked = bars_asked
        self.bars = self.notes = 0
        self.end = 0
        """Where the running bar ends [ticks]."""
        self._head: dict[str, Any] = {"key": None, "tempo": _USUAL_TEMPO, "metre": "4/4"}
        self._bar_start, self._bar_ticks, self._position = 0, WHOLE, 0
        self._bar_told = True
        self._chord: str | None = None
        self._key: Key | None = None
        """That which holds now: chords are spelled by it."""
        self._pitch, self._ticks, self._velocity = -1, 0, _USUAL_VELOCITY

    def feed(self, word: str) -> Iterator[Event]:
        """The events that are certain once `word` is read."""
        if word in METRE_OF:
            numerator, denominator = METRE_OF[word]
            self._bar_ticks = WHOLE * numerator // denominator
            self._head["metre"] = f"{numerator}/{denominator}"
            return
        if self.bars and not self._bar_told:
            self._bar_told = True
            self.end = self._bar_start + self._bar_ticks
            yield Event("bar", {"bar": self.bars, "onset": self._bar_start, "ticks": self._bar_ticks})
        onset = self._bar_start + self._position
        if self._chord is not None:
            bass = f"/{word.removeprefix('BASS_')}" if word.startswith("BASS_") else ""
            symbol, self._chord = chord_symbol(parse_chord(f"{self._chord}{bass}"), self._key), None
            yield Event("chord", {"onset": onset, "symbol": symbol})
        if word == "BAR_START":
            if not self.bars:
                yield Event("start", {**self._head, "bars_asked": self.bars_asked})
            self._bar_start, self._position, self._bar_told = self.end, 0, False
            self.bars += 1
        elif word in BEAT_TICKS:
            self._position = BEAT_TICKS[word]
        elif word in KEY_OF:
            self._key = Key(0, *KEY_OF[word])
            self._head["key"] = key_name(self._key)
        elif word in TEMPO_OF and not self.bars:
            self._head["tempo"] = TEMPO_OF[word]
        elif word in TEMPO_OF:
            yield Event("tempo", {"onset": onset, "tempo": TEMPO_OF[word]})
        elif word in PEDALS:
            yield Event("pedal", {"onset": onset, "state": PEDALS[word]})
        elif word.startswith("CHORD_"):
            self._chord = word.removeprefix("CHORD_")
        elif word.startswith("NOTE_ON_"):
            self._pitch, self._ticks = int(word.removeprefix("NOTE_ON_")), 0
        elif word in TIED_DURATIONS:
            self._ticks += TIED_DURATIONS[word]
        elif word.startswith("DUR_"):
            # An open duration lasts at least to the end of its bar, as far as is known yet.
            self._ticks += DURATION_TICKS.get(word, max(self.end - onset, 1))
        elif word.startswith("VEL_") and self._pitch >= 0:
            velocity = VELOCITY_LEVELS.get(word, 0 if word == "VEL_SILENT" else self._velocity)
            if velocity:
                self._velocity = velocity
                self.notes += 1
                note = {"onset": onset, "pitch": self._pitch, "duration": self._ticks, "velocity": velocity}
                yield Event("note", note)
            self._pitch = -1

    def done(self, seconds: float, writer: str | None = None, judge: str | None = None) -> Event:
        """The last event; `seconds` that the piece took to write, who wrote it, and who judged where two did."""
        size = {"bars": self.bars, "notes": self.notes, "seconds": round(seconds, 3), "end": self.end}
        return Event("done", {**size, "writer": writer, "judge": judge})


_EVENTS: dict[str, dict[str, str]] = {
    "queued": {"ahead": "integer"},
    "start": {"key": "string?", "tempo": "number", "metre": "string", "bars_asked": "integer?"},
    "bar": {"bar": "integer", "onset": "integer", "ticks": "integer"},
    "chord": {"onset": "integer", "symbol": "string"},
    "note": {"onset": "integer", "pitch": "integer", "duration": "integer", "velocity": "integer"},
    "pedal": {"onset": "integer", "state": "string"},
    "tempo": {"onset": "integer", "tempo": "number"},
    "done": {"bars": "integer", "notes": "integer", "seconds": "number", "end": "integer",
             "writer": "string?", "judge": "string?"},
    "problem": {"type": "string", "title": "string", "status": "integer", "detail": "string"},
}  # fmt: skip
"""What `data` holds in each kind of event; "?" where it may be null."""


def event_schema() -> dict[str, Any]:
    """An event as OpenAPI 3.2 describes one: `data` is a text that holds an object."""

    def data_of(fields: dict[str, str]) -> dict[str, Any]:
        types = {name: {"type": [kind[:-1], "null"] if kind[-1] == "?" else kind} for name, kind in fields.items()}
        return {"type": "object", "properties": types, "required": list(types), "additionalProperties": False}

    kinds = [
        {"properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"}, "event": {"const": kind},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data_of(fields)},
        }, "required": ["id", "event", "data"]}
        for kind, fields in _EVENTS.items()
    ]  # fmt: skip
    return {"type": "object", "oneOf": kinds}
