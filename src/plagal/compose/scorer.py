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
