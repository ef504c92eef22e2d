"""Writing music: many pieces at once, each word drawn from those that the grammar allows.

Every piece is valid by construction and keeps what its request asks for. Rows of a batch are padded on the left
and share steps; two halves of it run side by side (plagal.model.lanes). When a context outgrows the window that the
model was trained with, it is cut at a bar line exactly as training cuts its windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from plagal.errors import WordsError
from plagal.model.base import LanguageModel
from plagal.model.kernels import cpu_kernels
from plagal.model.lanes import lane_count, on_lanes
from plagal.model.loss import head_logits, hidden_states
from plagal.model.windows import BAR_WORD, cut_bars, held_words
from plagal.model.words import FIRST_WORD, prompt_text
from plagal.tokens import grammar
from plagal.tokens.vocabulary import MUSIC_WORDS

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BATCH = 64
"""Pieces written at once. More is faster per piece and holds more memory."""
_CLOSING_WORDS = 16  # words before the limit at which a piece starts to close: enough to finish a note and a bar
_COMPACT_SHARE = 0.75  # rows still writing under which the finished ones are dropped from the batch
_PLACE = {word: place for place, word in enumerate(MUSIC_WORDS)}
_END, _BAR, _REPEAT_END = _PLACE["SONG_END"], _PLACE[BAR_WORD], _PLACE["REPEAT_END"]
_BAR_ENDS = [_END, _BAR, _REPEAT_END]
_QUICK = np.array([word.startswith(("NOTE_ON", "DUR_", "VEL_")) and not word.endswith("_TIED") for word in MUSIC_WORDS])

OnWord = Callable[[int, str], None]
"""Called with (request, word) as each word is written; may raise to stop."""


@dataclass(frozen=True)
class Request:
    """One piece to write. `head`: words that it begins with after SONG_START (KEY_, TIMESIG_, TEMPO_, even bars of
    music to go
    on from); `bars`: end after exactly so many, counting those in `head`; `seed`: its own, else drawn from the
    batch's."""

    prompt: str
    head: tuple[str, ...] = ()
    bars: int | None = None
    seed: int | None = None


def generate(
    lm: LanguageModel,
    requests: Sequence[Request],
    *,
    seed: int = 0,
    temperature: float = 0.9,
    top_p: float = 0.95,
    max_words: int = 1200,
    grammar: bool = True,
    on_word: OnWord | None = None,
    progress: bool = False,
) -> list[list[str]]:
    """Write one piece for each request: its words from SONG_START to SONG_END. Same arguments, same pieces.

    `max_words`: a piece that comes near it is closed in good order. `grammar` off leaves only the music words, and
    their order to the model (for measuring; such pieces may be invalid). Raises WordsError where a request's
    `head` breaks the grammar.
    """
    sampler = Sampler(temperature, top_p)
    rows = [_Row(lm, number, request, seed, max_words, grammar) for number, request in enumerate(requests)]
    lm.model.eval()
    with cpu_kernels(lm.model), tqdm(total=len(rows), unit="piece", desc="write", disable=not progress) as bar:
        for start in range(0, len(rows), BATCH):
            _write(lm, rows[start : start + BATCH], sampler, on_word, bar)
    return [row.words for row in rows]


class Sampler:
    """Draws a place among the allowed words: temperature, then the smallest set that holds `top_p` of the
    probability."""

    def __init__(self, temperature: float, top_p: float):
        self.temperature, self.top_p = temperature, top_p

    def draw(self, logits: Floats, masks: Mask, uniforms: Floats) -> npt.NDArray[np.intp]:
        """logits [rows, words], masks alike, uniforms [rows] in [0, 1) -> places [rows]."""
        columns = np.flatnonzero(masks.any(axis=0))
        scores = np.where(masks[:, columns], logits[:, columns], -np.inf)
        if self.temperature <= 0:
            return columns[scores.argmax(axis=1)]
        scores = (scores - scores.max(axis=1, keepdims=True)) / self.temperature
        order = np.argsort(-scores, axis=1, kind="stable")
        weights = np.exp(np.take_along_axis(scores, order, axis=1))
        sums = np.cumsum(weights, axis=1, dtype=np.float64)
        # A word stays in if the probability before it is still under top_p; the first always does.
        kept = np.maximum((sums - weights < self.top_p * sums[:, -1:]).sum(axis=1), 1)
        limit = np.take_along_axis(sums, kept[:, None] - 1, axis=1)
        drawn = (sums <= uniforms[:, None] * limit).sum(axis=1)
        return columns[np.take_along_axis(order, np.minimum(drawn, kept - 1)[:, None], axis=1)[:, 0]]


class _Row:
    """One piece being written."""

    def __init__(self, lm: LanguageModel, number: int, request: Request, seed: int, max_words: int, grammatical: bool):
        self.number, self.request, self.max_words, self.grammatical = number, request, max_words, grammatical
        self.random = np.random.Generator(
            np.random.Philox(key=[request.seed if request.seed is not None else seed, number])
        )
        if request.seed is not None:
            self.random = np.random.Generator(np.random.Philox(key=[request.seed, 0]))
        self.tokens = lm.word_tokens
        self.prompt = lm.encode_text(prompt_text(request.prompt))
        self.words: list[str] = []
        self.state = grammar.start()
        self.kept = _kept(request.head)
        self.silent = False
        for word in (FIRST_WORD, *request.head):
            self.add(word)

    def add(self, word: str) -> None:
        try:
            self.state = grammar.advance(self.state, word)
        except WordsError as error:
            if self.grammatical:
                raise WordsError(len(self.words), word, error.allowed) from None
            self.state = self.state._replace(kind=grammar.SONG_END) if word == "SONG_END" else self.state
        self.words.append(word)
        self.silent = word == BAR_WORD or (self.silent and not word.startswith("NOTE_ON_"))

    @property
    def done(self) -> bool:
        return self.state.done or (len(self.words) >= self.max_words and not self.grammatical)

    def mask(self) -> Mask:
        """Words that may come next: the grammar's, less those that the request forbids."""
        if not self.grammatical:
            return _ALL
        mask = grammar.allowed_mask(self.state)
        bars = self.request.bars
        closing = len(self.words) >= self.max_words - _CLOSING_WORDS
        if bars is None and not closing and not self.silent and self.kept is _ALL:
            return mask
        mask = mask & self.kept
        if self.silent:  # a bar without a note is no music that anybody asked for
            mask[_BAR_ENDS] = False
        if bars is not None and self.state.bars < bars and not closing:
            mask[_END] = False
        elif bars is not None:
            mask[_BAR] = False
        return _close(mask) if closing else mask

    def context(self, window: int) -> list[int]:
        """The tokens to read before the next word: all, or the prompt and the last bars, at most half the window."""
        ids = [*self.prompt, *self.tokens.encode(self.words)]
        if len(ids) < window:
            return ids
        head, bars = cut_bars(self.words)
        size, first = 0, len(bars) - 1
        while first > 0 and size + len(bars[first - 1].words) <= window // 2:
            size += len(bars[first - 1].words)
            first -= 1
        words = [*(bars[first].held if bars else held_words(head).values())]
        for bar in bars[first:]:
            words += bar.words
        return [*self.prompt, *self.tokens.encode(words)]


_ALL: Mask = np.ones(len(MUSIC_WORDS), dtype=np.bool_)
_HELD = ("KEY_", "TIMESIG_", "TEMPO_")


@cache
def _kept(head: tuple[str, ...]) -> Mask:
    """All words but those that would change a key, metre or tempo that a request's head asks for."""
    asked = tuple(held for held in _HELD if any(word.startswith(held) for word in head))
    return np.array([not word.startswith(asked) for word in MUSIC_WORDS]) if asked else _ALL


def _close(mask: Mask) -> Mask:
    """What is left of a mask when a piece must end: its end, or the shortest way there."""
    for place in (_END, _REPEAT_END):
        if mask[place]:
            only = np.zeros_like(mask)
            only[place] = True
            return only
    quick = mask & _QUICK
    return quick if quick.any() else mask


def _write(lm: LanguageModel, rows: list[_Row], sampler: Sampler, on_word: OnWord | None, bar: Any) -> None:
    """Write all rows to their ends."""
    for row in rows:
        for word in row.words if on_word else ():
            on_word(row.number, word)  # type: ignore[misc]
    active = [row for row in rows if not row.done]
    bar.update(len(rows) - len(active))
    while active:
        deck = _Deck(lm, active)
        logits = deck.read()
        while active:
            masks = np.stack([_ALL if row.done else row.mask() for row in deck.rows])
            uniforms = np.array([row.random.random() for row in deck.rows], dtype=np.float32)
            places = sampler.draw(logits, masks, uniforms)
            for row, place in zip(deck.rows, places, strict=True):
                if not row.done:
                    row.add(MUSIC_WORDS[place])
                    if on_word:
                        on_word(row.number, MUSIC_WORDS[place])
            still = [row for row in active if not row.done]
            bar.update(len(active) - len(still))
            active = still
            if not active or deck.full():
                break
            dropping = len(active) < _COMPACT_SHARE * len(deck.rows)
            logits = deck.keep(active, places) if dropping else deck.step(places)


class _Deck:
    """Rows that step together: on each lane a share of them with its KV cache."""

    def __init__(self, lm: LanguageModel, rows: list[_Row]):
        from mlx_lm.models.cache import BatchKVCache

        self.lm, self.rows = lm, rows
        self.window = int(lm.config.get("plagal", {}).get("window", lm.config.get("max_position_embeddings", 2048)))
        self.contexts = [row.context(self.window) for row in rows]
        self.longest = max(map(len, self.contexts))
        lanes = min(lane_count(), len(rows))
        bounds = [len(rows) * i // lanes for i in range(lanes + 1)]
        self.shares = [slice(a, b) for a, b in pairwise(bounds)]
        padding = [self.longest - len(ids) for ids in self.contexts]
        self.caches = [[BatchKVCache(padding[share]) for _ in lm.model.layers] for share in self.shares]
        self.head_rows = mx.array(lm.word_tokens.ids[:-1])

    def full(self) -> bool:
        """Whether the next word would lie beyond the window."""
        return self.longest + 1 > max(self.window, 64)

    def read(self) -> Floats:
        """Take in the contexts, in one forward pass. -> logits of the next words [rows, words]."""
        pad = self.lm.word_tokens.pad_id
        ids = np.full((len(self.rows), self.longest), pad, dtype=np.int32)
        for row, context in zip(ids, self.contexts, strict=True):
            row[self.longest - len(context) :] = context
        return self._forward(ids)

    def step(self, places: npt.NDArray[np.intp]) -> Floats:
        """Take in one word for each row. -> logits of the next words."""
        self.longest += 1
        return self._forward(self.lm.word_tokens.ids[places][:, None])

    def keep(self, rows: list[_Row], places: npt.NDArray[np.intp]) -> Floats:
        """Drop all rows but these, then step."""
        kept = [i for i, row in enumerate(self.rows) if any(row is other for other in rows)]
        shares, caches, start = [], [], 0
        for share, share_caches in zip(self.shares, self.caches, strict=True):
            inside = [i - share.start for i in kept if share.start <= i < share.stop]
            if not inside:
                continue
            for one in share_caches:
                one.filter(mx.array(inside))
            shares.append(slice(start, start + len(inside)))
            caches.append(share_caches)
            start += len(inside)
        self.rows, self.shares, self.caches = [self.rows[i] for i in kept], shares, caches
        return self.step(places[kept])

    def _forward(self, ids: npt.NDArray[np.int32]) -> Floats:
        def task(share: slice, caches: list[Any]) -> Callable[[], Any]:
            def forward() -> Any:
                hidden = hidden_states(self.lm.model, mx.array(ids[share]), caches)[:, -1]
                return head_logits(self.lm.model, hidden, self.head_rows).astype(mx.float32)

            return forward

        made = on_lanes([task(share, caches) for share, caches in zip(self.shares, self.caches, strict=True)])
        mx.eval(made)
        return np.concatenate([np.array(part) for part in made])
