"""Writing music: many pieces at once, each word drawn from those that the grammar and the request allow.

Rows of a batch share passes of the model. What is forced is not drawn: it enters together with what comes next, in one
pass. When a context outgrows the window that the model was trained with, it is cut at a bar line exactly as training
cuts its windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from plagal.asking.request import Request
from plagal.compose.ahead import Guesser, take_drawn
from plagal.compose.row import Constraint, OnWord, Row
from plagal.compose.sampling import Sampler, Speller
from plagal.compose.scorer import Scorer

BATCH = 64
"""Pieces written at once. More is faster per piece and holds more memory."""
MOST_WORDS = 1200
_COMPACT_SHARE = 0.75
"""Rows still writing, of a batch's, under which the finished ones are dropped from it."""


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
    side_by_side = writing
    reader = scorer.open(len(writing), rows[0].speller.ids)
    guesser = Guesser(scorer.ahead, len(writing), sampler) if scorer.ahead is not None else None
    while writing:
        contexts = [row.reads() for row in side_by_side]
        rooms = [row.context.window - len(ids) for row, ids in zip(side_by_side, contexts, strict=True)]
        guesses = guesser.guess(side_by_side, rooms) if guesser is not None else [[] for _ in side_by_side]
        ids = [[*known, *rows[0].speller.ids[guess].tolist()] for known, guess in zip(contexts, guesses, strict=True)]
        wanted = [0 if row.done else 1 + len(guess) for row, guess in zip(side_by_side, guesses, strict=True)]
        agreed = take_drawn(side_by_side, guesses, reader.read(ids, wanted), sampler)
        if guesser is not None:
            guesser.learn(guesses, agreed)
        for row in writing:
            pass_on(row)
        still = [row for row in writing if not row.done]
        bar.update(len(writing) - len(still))
        writing = still
        if 0 < len(writing) < _COMPACT_SHARE * len(side_by_side):
            places = [place for place, row in enumerate(side_by_side) if not row.done]
            reader.keep(places)
            if guesser is not None:
                guesser.keep(places)
            side_by_side = writing
