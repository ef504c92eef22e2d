"""A language model as `plagal.compose` writes with it: MLX or NumPy underneath, NumPy outside.

A small model reads by `plagal.model.cpu.decode`, any other by mlx-lm, on one thread: each lane (plagal.model.cpu.lanes)
would build every step's graph once more, which costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from plagal.model.base import LanguageModel, load
from plagal.model.cpu.decode import PlainDecoder, PlainRows, plain_decoder
from plagal.model.cpu.kernels import cpu_kernels
from plagal.model.grow import rows_of
from plagal.model.loss import hidden_states
from plagal.model.scoring import word_scores
from plagal.model.words import WordTokens
from plagal.plumbing.errors import ModelError

Floats = npt.NDArray[np.float32]


class ModelScorer:
    """Scores next words with `lm`. With `memory`, what was read for one piece is kept for the next that begins alike
    (a chat's next line, a piece that goes on); of use where pieces are written singly."""

    def __init__(self, lm: LanguageModel, memory: bool = False):
        self.lm, self.memory = lm, memory
        self._kept: _Reader | None = None
        self.reused = 0
        """Tokens that did not have to be read again, in all."""
        self.passes = 0
        """Times that the model read, in all."""

    @property
    def spelling(self) -> WordTokens:
        return self.lm.word_tokens

    @property
    def window(self) -> int:
        config = self.lm.config
        return int(config.get("plagal", {}).get("window", config.get("max_position_embeddings", 2048)))

    @cached_property
    def ahead(self) -> ModelScorer | None:
        """The small model that the folder names to write ahead of this one (config.json, plagal.draft). Raises
        ModelError where it is not there."""
        name = self.lm.config.get("plagal", {}).get("draft")
        if name is None:
            return None
        folder = self.lm.folder / str(name)
        if not folder.is_dir():
            raise ModelError(f"{self.lm.folder}/config.json names the draft {name!r}, which is not a folder there")
        small = ModelScorer(load(folder), self.memory)
        if not small.spelling.whole:
            raise ModelError(f"{folder}: a draft has one token for each music word; this one spells them")
        return small

    @cached_property
    def _plain(self) -> PlainDecoder | None:
        return plain_decoder(self.lm)

    def encode_text(self, text: str) -> list[int]:
        return self.lm.encode_text(text)

    @contextmanager
    def writing(self) -> Iterator[None]:
        self.lm.model.eval()
        with cpu_kernels(self.lm.model), self.ahead.writing() if self.ahead is not None else nullcontext():
            yield

    def open(self, rows: int, columns: npt.NDArray[np.int32]) -> _Reader:
        reader = self._kept if self.memory and rows == 1 else None
        if reader is None:
            plain = self._plain
            reader = _Reader(self, rows, plain.open(rows, columns) if plain else _MlxRows(self.lm, rows, columns))
            self._kept = reader if self.memory and rows == 1 else self._kept
        reader.begins = True
        return reader

    def log_probs(self, texts: Sequence[str]) -> list[Floats]:
        return [scores.log_probs for scores in word_scores(self.lm, texts, max_tokens=self.window)]


class _Reader:
    """One batch, and what each of its rows has read."""

    def __init__(self, scorer: ModelScorer, rows: int, within: PlainRows | _MlxRows):
        self._scorer, self._within = scorer, within
        self._read: list[list[int]] = [[] for _ in range(rows)]
        self.begins = True

    def read(self, contexts: Sequence[list[int]], wanted: Sequence[int]) -> Floats:
        begins, tokens = [], []
        for row, (ids, count) in enumerate(zip(contexts, wanted, strict=True)):
            begin = (
                min(_shared(self._read[row], ids), len(ids) - count) if count else max(len(self._read[row]), len(ids))
            )
            begins.append(begin)
            tokens.append(ids[begin:])
            if count:
                self._read[row] = ids
        if self.begins:
            self._scorer.reused += sum(begins)
            self.begins = False
        self._scorer.passes += 1
        return self._within.read(tokens, begins, wanted)

    def keep(self, rows: Sequence[int]) -> None:
        self._read = [self._read[row] for row in rows]
        self._within.keep(rows)


def _shared(known: list[int], ids: list[int]) -> int:
    """How many tokens two rows begin alike with."""
    if ids[: len(known)] == known:
        return len(known)
    return next((n for n, (one, other) in enumerate(zip(known, ids, strict=False)) if one != other), len(ids))


class _MlxRows:
    """Rows side by side in mlx-lm's model, padded on the right; each has its own length."""

    def __init__(self, lm: LanguageModel, rows: int, columns: npt.NDArray[np.int32]):
        self._lm = lm
        self._places = _Places(rows)
        self._caches = [_RowCache(self._places) for _ in lm.model.layers]
        head = lm.model.model.embed_tokens if lm.tied else lm.model.lm_head
        self._head = rows_of(head, mx.array(columns)).T
        mx.eval(self._head)  # once, not for each word

    def keep(self, rows: Sequence[int]) -> None:
        self._places.rows = len(rows)
        for cache in self._caches:
            cache.keep(rows)

    def read(self, tokens: Sequence[Sequence[int]], begins: Sequence[int], wanted: Sequence[int]) -> Floats:
        """As PlainRows.read."""
        width = max(map(len, tokens))
        ids = np.full((len(tokens), width), self._lm.word_tokens.pad_id, dtype=np.int32)
        for line, row in zip(ids, tokens, strict=True):
            line[: len(row)] = row
        self._places.move(begins, width)
        hidden = hidden_states(self._lm.model, mx.array(ids), self._caches)
        ends = np.array([[len(row) - count] for row, count in zip(tokens, wanted, strict=True)])
        behind = np.clip(ends + np.arange(max(wanted)), 0, width - 1)
        hidden = mx.take_along_axis(hidden, mx.array(behind)[..., None], axis=1)
        return np.array((hidden @ self._head).astype(mx.float32))


class _Places:
    """Where the rows of a batch stand: all layers' caches share it."""

    def __init__(self, rows: int):
        self.rows = rows

    def move(self, begins: Sequence[int], width: int) -> None:
        """`width` tokens are to be read by each row, the first of them at `begins`."""
        self.end = max(begins) + width
        self.begin = begins[0]
        self.offset: Any = begins[0]
        if self.rows > 1:
            self.offset = mx.array(list(begins))
            at = np.array(begins)[:, None] + np.arange(width)
            self.at = mx.array(at)[:, None, :, None]
            self.mask = mx.array(np.arange(self.end) <= at[:, :, None])[:, None]


class _RowCache:
    """Keys and values of one layer, as mlx-lm asks for them. Its own KVCache has one length for all rows: rows of which
    one agreed with more guesses than another would have to read again what they know."""

    _STEP = 256

    def __init__(self, places: _Places):
        self._places = places
        self._kept: list[Any] = []

    @property
    def offset(self) -> Any:
        return self._places.offset

    def make_mask(self, width: int, return_array: bool = False, window_size: int | None = None) -> Any:  # noqa: ARG002
        if self._places.rows > 1:
            return self._places.mask
        return None if width == 1 else "causal"

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        end = self._places.end
        new = (keys, values)
        missing = end - (self._kept[0].shape[2] if self._kept else 0)
        if missing > 0:
            room = -(-missing // self._STEP) * self._STEP
            more = [mx.zeros((*part.shape[:2], room, part.shape[3]), part.dtype) for part in new]
            if self._kept:
                more = [mx.concatenate(list(pair), axis=2) for pair in zip(self._kept, more, strict=True)]
            self._kept = more
        for number, part in enumerate(new):
            if self._places.rows > 1:
                at = mx.broadcast_to(self._places.at, part.shape)
                self._kept[number] = mx.put_along_axis(self._kept[number], at, part, axis=2)
            else:
                self._kept[number][..., self._places.begin : end, :] = part
        return self._kept[0][..., :end, :], self._kept[1][..., :end, :]

    def keep(self, rows: Sequence[int]) -> None:
        self._kept = [part[mx.array(list(rows))] for part in self._kept]
