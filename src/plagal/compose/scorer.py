"""What `plagal.compose` asks of a model: anything that scores next words can write. `plagal.model.scorer` is MLX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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

    def encode(self, words: Sequence[str]) -> npt.NDArray[np.int32]: ...


class Reader(Protocol):
    """A batch of rows that a model reads side by side, one token each or more at a time."""

    def read(self) -> Floats:
        """Take in the rows' contexts. -> logits of what comes next [rows, columns]."""

    def step(self, ids: npt.NDArray[np.int32]) -> Floats:
        """Take in `ids` [rows, tokens]. -> logits of what comes next [rows, columns]."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""

    def close(self) -> None:
        """Nothing more will be read."""


class Scorer(Protocol):
    """A model that scores next words."""

    @property
    def spelling(self) -> Spelling: ...

    @property
    def window(self) -> int:
        """Tokens that it was trained to read at once."""

    def encode_text(self, text: str) -> list[int]:
        """Token ids of any text; the marks in it count as marks."""

    def writing(self) -> Any:
        """A context manager around writing: threads and kernels as one short step after another wants them."""

    def open(self, contexts: Sequence[Sequence[int]], columns: npt.NDArray[np.int32]) -> Reader:
        """Begin to read a batch. `columns`: the tokens that logits are wanted for."""

    def log_probs(self, texts: Sequence[str]) -> list[Floats]:
        """Of each training text: nats (at most 0) of every word and of the end mark; NaN where no window held it."""
