"""A model in memory with its tokenizer, and how it reads music words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plagal.model.words import WordTokens

Encoding = Literal["event", "text"]


@dataclass
class LanguageModel:
    """A model in memory with its tokenizer.

    `model`: mlx-lm's module; `tokenizer`: transformers'; `words`: the music words' tokens; `config`: of config.json;
    `folder`: where it came from.
    """

    model: Any
    tokenizer: Any
    words: WordTokens
    config: dict[str, Any]
    folder: Path
    encoding: Encoding = "event"
    adapters: dict[str, Any] | None = None
    """The config of adapters laid over it, if any."""

    @property
    def tied(self) -> bool:
        return not hasattr(self.model, "lm_head")

    @property
    def word_tokens(self) -> WordTokens:
        return self.words

    def encode_text(self, text: str) -> list[int]:
        """Token ids of any text; the marks in it count as marks."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))
