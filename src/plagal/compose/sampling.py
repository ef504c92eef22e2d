"""What `plagal.compose` asks of a model (anything that scores next words can write; `plagal.model.scorer` is MLX's),
and which token comes next: drawn by temperature and top-p among those that spell an allowed word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plagal.compose.masks import Mask

Floats = npt.NDArray[np.float32]


class Spelling(Protocol):
    """How a tokenizer spells the music words; `plagal.model.words.WordTokens` is one."""

    @property
    def spellings(self) -> tuple[tuple[int, ...], ...]:
        """Token ids of each of MUSIC_WORDS, in order."""

    @property
    def whole(self) -> bool:
        """Whether every word is one token."""

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """Tokens that logits are for [columns + 1]; the end mark's is last."""

    @property
    def pad_id(self) -> int: ...

    @property
    def counts(self) -> tuple[int, ...]:
        """Tokens of COUNT_WORDS; none where the model does not read the bars that are left."""

    def encode(self, words: Sequence[str]) -> npt.NDArray[np.int32]: ...


class Reader(Protocol):
    """A batch of rows that a model reads side by side."""

    def read(self, contexts: Sequence[list[int]], wanted: Sequence[int]) -> Floats:
        """Read all tokens of each row; what it has in common with what was read before is not read again. -> logits
        after each of its last `wanted` tokens, at least one somewhere [rows, most wanted, columns]. A row of which
        nothing is wanted is left as it is."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""


class Scorer(Protocol):
    """A model that scores next words."""

    @property
    def spelling(self) -> Spelling: ...

    @property
    def window(self) -> int:
        """Tokens that it was trained to read at once."""

    @property
    def ahead(self) -> Scorer | None:
        """A small model that guesses what this one will write, one token a word; None where there is none."""

    def encode_text(self, text: str) -> list[int]:
        """Token ids of any text; the marks in it count as marks."""

    def writing(self) -> Any:
        """A context manager around writing: threads and kernels as one short step after another wants them."""

    def open(self, rows: int, columns: npt.NDArray[np.int32]) -> Reader:
        """Begin to read a batch. `columns`: the tokens that logits are wanted for."""

    def log_probs(self, texts: Sequence[str]) -> list[Floats]:
        """Of each training text: nats (at most 0) of every word and of the end mark; NaN where no window held it."""


Typed = tuple[int, ...]
"""Columns of a word that is being spelled."""


class Sampler:
    """Draws a place among the allowed ones: temperature, then the smallest set that holds `top_p` of the
    probability."""

    def __init__(self, temperature: float, top_p: float):
        self.temperature, self.top_p = temperature, top_p

    def draw(self, logits: Floats, masks: Mask, uniforms: Floats) -> npt.NDArray[np.intp]:
        """logits [rows, places], masks alike, uniforms [rows] in [0, 1) -> places [rows]."""
        columns = np.flatnonzero(masks.any(axis=0))
        scores = np.where(masks[:, columns], logits[:, columns], -np.inf)
        if self.temperature <= 0:
            return np.asarray(columns[scores.argmax(axis=1)])
        scores = (scores - scores.max(axis=1, keepdims=True)) / self.temperature
        weights = np.exp(scores)
        total = weights.sum(axis=1, keepdims=True, dtype=np.float64)
        # All that weigh less than this weigh less than 1 - top_p together: of hundreds of words ten are left to sort.
        likely = np.flatnonzero((weights > (1 - self.top_p) / (2 * len(columns)) * total).any(axis=0))
        scores, weights = scores[:, likely], weights[:, likely]
        order = np.argsort(-scores, axis=1, kind="stable")
        sorted_weights = np.take_along_axis(weights, order, axis=1)
        # A word stays in if the probability before it is still under top_p; the first always does.
        before = np.cumsum(sorted_weights, axis=1, dtype=np.float64) - sorted_weights
        kept = before < self.top_p * total
        kept[:, 0] = True
        # Drawn in the words' own order, not by weight: two words of nearly one weight change places with the last bit
        # of a sum, and another processor, or a batch of another size, would write another piece.
        np.put_along_axis(weights, order, np.where(kept, sorted_weights, 0), axis=1)
        sums = np.cumsum(weights, axis=1, dtype=np.float64)
        drawn = (sums <= uniforms[:, None] * sums[:, -1:]).sum(axis=1)
        return np.asarray(columns[likely[drawn]])


class Speller:
    """Words as columns of logits. `ids` [columns]: the tokens that spell music words.

    Where every word is one token, columns are words. Else the spellings form a trie, and only what is left of them is
    allowed: a word has one spelling, the tokenizer's own.
    """

    def __init__(self, tokens: Spelling):
        self.ids = tokens.ids[:-1]
        self.whole, self.counting = tokens.whole, bool(tokens.counts)
        column_of = {int(token): column for column, token in enumerate(self.ids)}
        self.spellings = [tuple(column_of[token] for token in spelling) for spelling in tokens.spellings]
        self.place_of = {spelling: place for place, spelling in enumerate(self.spellings)}
        longest = max(map(len, self.spellings))
        self._grid = np.array([[*spelling, *[-1] * (longest - len(spelling))] for spelling in self.spellings])

    def columns(self, words: Mask, typed: Typed = ()) -> Mask:
        """The columns that may come next where `words` [music words] may stand and `typed` of one is there."""
        found = self._grid[words & self.beginning(typed), len(typed)]
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        mask[found[found >= 0]] = True
        return mask

    def beginning(self, typed: Typed) -> Mask:
        """The words whose spelling begins with `typed`."""
        return _beginning(self, typed)


@lru_cache(maxsize=4096)
def _beginning(speller: Speller, typed: Typed) -> Mask:
    grid = speller._grid[:, : len(typed)]
    if len(typed) >= speller._grid.shape[1]:
        return np.asarray([spelling == typed for spelling in speller.spellings])
    return np.asarray((grid == np.array(typed, dtype=grid.dtype)).all(axis=1))
