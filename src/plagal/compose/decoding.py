"""Writing music: many pieces at once, each word drawn from those that the grammar allows.

Every piece is valid by construction and keeps what its request asks for. Rows of a batch are padded on the left
and share steps, on one thread: each lane (plagal.model.cpu.lanes) would build every step's graph once more, which costs
more than it saves. What is forced is not drawn: it enters together with what comes next, in one forward pass. When a
context outgrows the window that the model was trained with, it is cut at a bar line exactly as training cuts its
windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import plagal.model  # noqa: F401  # the fast BLAS first
from plagal.compose.sampling import Floats, Sampler, Speller
from plagal.compose.steering import Wishes
from plagal.compose.writing import OnWord, Request, Row
from plagal.model.base import LanguageModel
from plagal.model.cpu.kernels import cpu_kernels
from plagal.model.grow import rows_of
from plagal.model.loss import hidden_states

__all__ = ["BATCH", "OnWord", "PromptMemory", "Request", "Sampler", "Wishes", "generate", "window_of"]

BATCH = 64
"""Pieces written at once. More is faster per piece and holds more memory."""
_COMPACT_SHARE = 0.75  # rows still writing under which the finished ones are dropped from the batch
_LEAST_WINDOW = 64


@dataclass
class PromptMemory:
    """What the model has read last, so that a prompt with the same beginning is not read again (one piece at a
    time)."""

    ids: list[int] = field(default_factory=list)
    caches: list[Any] = field(default_factory=list)
    reused: int = 0
    """Tokens that did not have to be read again, in all."""

    def recall(self, ids: Sequence[int]) -> int:
        """Trim the caches to the beginning that they share with `ids`; its length. One token is always left to read:
        its logits are wanted."""
        limit = min(len(self.ids), len(ids) - 1)
        shared = next((i for i in range(limit) if self.ids[i] != ids[i]), limit)
        for cache in self.caches:
            cache.trim(len(self.ids) - shared)
        self.ids = self.ids[:shared]
        self.reused += shared
        return shared


def generate(
    lm: LanguageModel,
    requests: Sequence[Request],
    *,
    seed: int = 0,
    temperature: float = 0.9,
    top_p: float = 0.9,
    max_words: int = 1200,
    grammar: bool = True,
    on_word: OnWord | None = None,
    progress: bool = False,
    memory: PromptMemory | None = None,
) -> list[list[str]]:
    """Write one piece for each request: its words from SONG_START to SONG_END. Same arguments, same pieces.

    `max_words`: a piece that comes near it is closed in good order. `grammar` off leaves only the music words, and
    their order to the model (for measuring; such pieces may be invalid). `memory`: keeps what was read, for the next
    call with one request. Raises WordsError where a request's `head` breaks the grammar.
    """
    sampler, speller = Sampler(temperature, top_p), Speller(lm.word_tokens)
    rows = [Row(lm, speller, number, request, seed, max_words, grammar) for number, request in enumerate(requests)]
    lm.model.eval()
    with cpu_kernels(lm.model), tqdm(total=len(rows), unit="piece", desc="write", disable=not progress) as bar:
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            _write(lm, some, sampler, on_word, bar, memory if len(rows) == 1 else None)
    return [row.words for row in rows]


def _write(
    lm: LanguageModel, rows: list[Row], sampler: Sampler, on_word: OnWord | None, bar: Any, memory: PromptMemory | None
) -> None:
    """Write all rows to their ends."""
    tell = _teller(on_word)
    for row in rows:
        row.take_forced()
        tell(row)
    active = [row for row in rows if not row.done]
    bar.update(len(rows) - len(active))
    while active:
        deck = _Deck(lm, active, memory)
        logits = deck.read()
        while active:
            ready = [(place, row) for place, row in enumerate(deck.rows) if not row.done and not row.waiting]
            _draw(ready, logits, sampler)
            for _, row in ready:
                tell(row)
            still = [row for row in active if not row.done]
            bar.update(len(active) - len(still))
            active = still
            if not active or deck.full():
                break
            if len(active) < _COMPACT_SHARE * len(deck.rows):
                deck.keep(active)
            logits = deck.step()
        deck.remember()


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


def _teller(on_word: OnWord | None) -> Callable[[Row], None]:
    """Tells each row's words once."""
    told: dict[int, int] = {}

    def tell(row: Row) -> None:
        if on_word is not None:
            for word in row.words[told.get(row.number, 0) :]:
                on_word(row.number, word)
            told[row.number] = len(row.words)

    return tell


def window_of(lm: LanguageModel) -> int:
    """Tokens that a model was trained to read at once."""
    return int(lm.config.get("plagal", {}).get("window", lm.config.get("max_position_embeddings", 2048)))


class _Deck:
    """Rows that step together, and their KV caches."""

    def __init__(self, lm: LanguageModel, rows: list[Row], memory: PromptMemory | None):
        from mlx_lm.models.cache import BatchKVCache

        self.lm, self.rows, self.memory = lm, rows, memory
        self.window = max(window_of(lm), _LEAST_WINDOW)
        self.contexts = [row.context(self.window) for row in rows]
        self.longest = max(map(len, self.contexts))
        padding = [self.longest - len(ids) for ids in self.contexts]
        self.known = memory.recall(self.contexts[0]) if memory is not None and memory.caches else 0
        if memory is not None and memory.caches:
            self.caches = memory.caches
        else:
            self.caches = [BatchKVCache(padding) for _ in lm.model.layers]
        head = lm.model.model.embed_tokens if lm.tied else lm.model.lm_head
        self.head = rows_of(head, mx.array(rows[0].speller.ids)).T
        mx.eval(self.head)  # once, not for each word

    def full(self) -> bool:
        """Whether what comes next would lie beyond the window."""
        return self.longest + self._width() > self.window

    def read(self) -> Floats:
        """Take in the contexts, in one forward pass. -> logits of what comes next [rows, columns]."""
        pad = self.lm.word_tokens.pad_id
        ids = np.full((len(self.rows), self.longest), pad, dtype=np.int32)
        for row, context, line in zip(self.rows, self.contexts, ids, strict=True):
            line[self.longest - len(context) :] = context
            row.waiting = []
        self._fed = list(self.contexts[0])
        return self._forward(ids[:, self.known :])

    def step(self) -> Floats:
        """Take in what all rows have ready, at least one token each. -> logits of what comes next."""
        width = self._width()
        ids = np.full((len(self.rows), width), self.lm.word_tokens.pad_id, dtype=np.int32)
        for row, line in zip(self.rows, ids, strict=True):
            if not row.done:
                line[:] = self.rows[0].speller.ids[row.waiting[:width]]
                row.waiting = row.waiting[width:]
        self.longest += width
        self._fed += map(int, ids[0])
        return self._forward(ids)

    def keep(self, rows: list[Row]) -> None:
        """Drop all rows but these."""
        kept = [i for i, row in enumerate(self.rows) if any(row is other for other in rows)]
        for one in self.caches:
            one.filter(mx.array(kept))
        self.rows = [self.rows[i] for i in kept]

    def remember(self) -> None:
        if self.memory is not None:
            self.memory.ids, self.memory.caches = self._fed, self.caches

    def _width(self) -> int:
        """Tokens that every row still writing has ready."""
        return min((len(row.waiting) for row in self.rows if not row.done), default=1)

    def _forward(self, ids: npt.NDArray[np.int32]) -> Floats:
        hidden = hidden_states(self.lm.model, mx.array(ids), self.caches)[:, -1]
        return np.array((hidden @ self.head).astype(mx.float32))
