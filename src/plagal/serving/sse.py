"""A piece's events as a stream of server-sent events that can be taken up again where it broke off.

Events are made anew from the words for each reader, so nothing but the words is kept. Their ids count from 1.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable

from plagal.serving.events import Event, EventReader
from plagal.serving.problems import problem, told
from plagal.serving.store import Piece

KEEP_ALIVE_SECONDS = 10.0


async def event_stream(piece: Piece, last_id: int = 0, patience: float = KEEP_ALIVE_SECONDS) -> AsyncIterator[str]:
    """The events after number `last_id`, as they come, to the last; a comment where none comes for `patience` s."""
    frames = _Frames(last_id)
    yield frames.of([Event("queued", {"ahead": piece.job.ahead if piece.job is not None else 0})]) or ": here\n\n"
    reader, seen = EventReader(piece.request.kept_bars + piece.request.new_bars), 0
    while True:
        job, over = piece.waits_for, piece.over
        words = piece.words[seen:]
        seen += len(words)
        text = frames.of(event for word in words for event in reader.feed(word))
        if text:
            yield text
        if over:
            yield frames.of([_last_event(piece, reader)])
            return
        if job is None:
            continue
        async for count in job.follow(seen if job is piece.job else len(job.words), patience):
            if count > seen and piece.visible:
                break
            yield ": keep-alive\n\n"


class _Frames:
    """Numbers events and writes those that the reader lacks."""

    def __init__(self, last_id: int):
        self._last_id, self._number = last_id, 0

    def of(self, events: Iterable[Event]) -> str:
        frames = []
        for event in events:
            self._number += 1
            if self._number > self._last_id:
                data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
                frames.append(f"id: {self._number}\nevent: {event.kind}\ndata: {data}\n\n")
        return "".join(frames)


def _last_event(piece: Piece, reader: EventReader) -> Event:
    if piece.status == "done":
        job = piece.job
        seconds = 0.0
        if job is not None and job.finished is not None and job.started is not None and not piece.blind:
            seconds = round(job.finished - job.started, 3)
        return Event("done", {"bars": reader.bars, "notes": reader.notes, "seconds": seconds, "end": reader.end})
    return Event("problem", piece_problem(piece) or {})


def piece_problem(piece: Piece) -> dict[str, object] | None:
    """Why a piece will never be done; None where it is or may be."""
    if piece.status == "cancelled":
        return problem(409, "the piece was cancelled")
    return told(piece.error) if piece.status == "failed" and piece.error is not None else None
