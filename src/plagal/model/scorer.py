"""A language model as `plagal.compose` writes with it: MLX underneath, NumPy outside.

Rows are padded on the left and share steps, on one thread: each lane (plagal.model.cpu.lanes) would build every step's
graph once more, which costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from plagal.model.base import LanguageModel
from plagal.model.cpu.kernels import cpu_kernels
from plagal.model.grow import rows_of
from plagal.model.loss import hidden_states
from plagal.model.scoring import word_scores
from plagal.model.words import WordTokens

Floats = npt.NDArray[np.float32]


class ModelScorer:
    """Scores next words with `lm`. With `memory`, what was read for one piece is kept for the next that begins alike
    (a chat's next line, a piece that goes on); of use where pieces are written singly."""

    def __init__(self, lm: LanguageModel, memory: bool = False):
        self.lm, self.memory = lm, memory
        self._ids: list[int] = []
        self._caches: list[Any] = []
        self.reused = 0
        """Tokens that did not have to be read again, in all."""

    @property
    def spelling(self) -> WordTokens:
        return self.lm.word_tokens

    @property
    def window(self) -> int:
        config = self.lm.config
        return int(config.get("plagal", {}).get("window", config.get("max_position_embeddings", 2048)))

    def encode_text(self, text: str) -> list[int]:
        return self.lm.encode_text(text)

    @contextmanager
    def writing(self) -> Iterator[None]:
        self.lm.model.eval()
        with cpu_kernels(self.lm.model):
            yield

    def open(self, contexts: Sequence[Sequence[int]], columns: npt.NDArray[np.int32]) -> _Reader:
        return _Reader(self, contexts, columns)

    def log_probs(self, texts: Sequence[str]) -> list[Floats]:
        return [scores.log_probs for scores in word_scores(self.lm, texts, max_tokens=self.window)]

    def _recall(self, ids: Sequence[int]) -> tuple[int, list[Any]]:
        """How many of `ids` were read last, and the caches that hold them and nothing else. One token is always left to
        read: its logits are wanted. What is taken out is forgotten here until it is given back whole."""
        caches, known = self._caches, self._ids
        self._caches, self._ids = [], []
        limit = min(len(known), len(ids) - 1)
        shared = next((i for i in range(limit) if known[i] != ids[i]), limit)
        for cache in caches:
            cache.trim(len(known) - shared)
        self.reused += shared
        return shared, caches


class _Reader:
    """One batch and its KV caches."""

    def __init__(self, scorer: ModelScorer, contexts: Sequence[Sequence[int]], columns: npt.NDArray[np.int32]):
        from mlx_lm.models.cache import BatchKVCache

        self._scorer, self._lm = scorer, scorer.lm
        self._contexts = contexts
        self._longest = max(map(len, contexts))
        self._alone = scorer.memory and len(contexts) == 1
        known, caches = scorer._recall(contexts[0]) if self._alone else (0, [])
        self._known = known
        self._caches = caches or [BatchKVCache([self._longest - len(ids) for ids in contexts]) for _ in self._layers]
        head = self._lm.model.model.embed_tokens if self._lm.tied else self._lm.model.lm_head
        self._head = rows_of(head, mx.array(columns)).T
        mx.eval(self._head)  # once, not for each word
        self._fed = list(contexts[0])

    @property
    def _layers(self) -> Any:
        return self._lm.model.layers

    def read(self) -> Floats:
        ids = np.full((len(self._contexts), self._longest), self._lm.word_tokens.pad_id, dtype=np.int32)
        for context, line in zip(self._contexts, ids, strict=True):
            line[self._longest - len(context) :] = context
        return self._forward(ids[:, self._known :])

    def step(self, ids: npt.NDArray[np.int32]) -> Floats:
        self._fed += map(int, ids[0])
        return self._forward(ids)

    def keep(self, rows: Sequence[int]) -> None:
        for cache in self._caches:
            cache.filter(mx.array(list(rows)))

    def close(self) -> None:
        if self._alone:
            self._scorer._ids, self._scorer._caches = self._fed, self._caches

    def _forward(self, ids: npt.NDArray[np.int32]) -> Floats:
        hidden = hidden_states(self._lm.model, mx.array(ids), self._caches)[:, -1]
        return np.array((hidden @ self._head).astype(mx.float32))
