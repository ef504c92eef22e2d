"""Writing music: many pieces at once, each word drawn from those that the grammar and the request allow.

Rows of a batch share steps. What is forced is not drawn: it enters together with what comes next, in one forward pass.
When a context outgrows the window that the model was trained with, it is cut at a bar line exactly as training cuts its
windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from plagal.asking.request import Request
from plagal.compose.row import Constraint, OnWord, Row
from plagal.compose.sampling import Sampler, Speller
from plagal.compose.scorer import Floats, Reader, Scorer

BATCH = 64
"""Pieces written at once. More is faster per piece and holds more memory."""
MOST_WORDS = 1200
_COMPACT_SHARE = 0.75
"""Rows still writing, of a batch's, under which the finished ones are dropped from it."""
_LEAST_WINDOW = 64


def draft(
    scorer: Scorer,
    requests: Sequence[Request],
    *,
    max_words: int = MOST_WORDS,
    constraint: Constraint = "asked",
    on_word: OnWord | None = None,
    progress: bool = False,
) -> list[list[str]]:
    """Write one piece for each request, once: its words from SONG_START to SONG_END. Requests share temperature and
    top_p. Same requests, same pieces, whatever else is in the batch.

    `max_words`: new words; a piece that comes near it is closed in good order. Raises WordsError where music that is
    kept breaks the grammar.
    """
    sampler, speller = Sampler(requests[0].temperature, requests[0].top_p), Speller(scorer.spelling)
    rows = [Row(scorer, speller, number, request, max_words, constraint) for number, request in enumerate(requests)]
    with scorer.writing(), tqdm(total=len(rows), unit="piece", desc="write", disable=not progress) as bar:
        for start in range(0, len(rows), BATCH):
            _draft_batch(scorer, rows[start : start + BATCH], sampler, on_word, bar)
    return [row.words for row in rows]


def _draft_batch(scorer: Scorer, rows: list[Row], sampler: Sampler, on_word: OnWord | None, bar: Any) -> None:
    passed_on = dict.fromkeys((row.number for row in rows), 0)

    def pass_on(row: Row) -> None:
        if on_word is not None:
            for word in row.words[passed_on[row.number] :]:
                on_word(row.number, word)
            passed_on[row.number] = len(row.words)

    for row in rows:
        row.take_forced()
        pass_on(row)
    writing = [row for row in rows if not row.done]
    bar.update(len(rows) - len(writing))
    window = max(scorer.window, _LEAST_WINDOW)
    while writing:  # once for each time that contexts outgrow the window
        side_by_side = writing
        contexts = [row.context(window) for row in side_by_side]
        for row in side_by_side:
            row.waiting = []
        length = max(map(len, contexts))
        reader = scorer.open(contexts, side_by_side[0].speller.ids)
        logits = reader.read()
        while writing:
            ready = [(place, row) for place, row in enumerate(side_by_side) if not row.done and not row.waiting]
            _draw(ready, logits, sampler)
            for _, row in ready:
                pass_on(row)
            still = [row for row in writing if not row.done]
            bar.update(len(writing) - len(still))
            writing = still
            width = min((len(row.waiting) for row in writing), default=1)
            if not writing or length + width > window:
                break
            if len(writing) < _COMPACT_SHARE * len(side_by_side):
                reader.keep([place for place, row in enumerate(side_by_side) if not row.done])
                side_by_side = writing
            logits = _step(reader, side_by_side, width, scorer.spelling.pad_id)
            length += width
        reader.close()


def _draw(ready: Sequence[tuple[int, Row]], logits: Floats, sampler: Sampler) -> None:
    """One token for each row that has read all of its own, and whatever that forces."""
    if not ready:
        return
    masks = np.stack([row.columns for _, row in ready])
    uniforms = np.array([row.random.random() for _, row in ready], dtype=np.float32)
    drawn = sampler.draw(logits[[place for place, _ in ready]], masks, uniforms)
    for (_, row), column in zip(ready, drawn, strict=True):
        row.take(int(column))
        row.take_forced()


def _step(reader: Reader, rows: Sequence[Row], width: int, pad_id: int) -> Floats:
    """Let the model read what all rows have ready, `width` tokens each."""
    ids: npt.NDArray[np.int32] = np.full((len(rows), width), pad_id, dtype=np.int32)
    for row, line in zip(rows, ids, strict=True):
        if not row.done:
            line[:] = row.speller.ids[row.waiting[:width]]
            row.waiting = row.waiting[width:]
    return reader.step(ids)
