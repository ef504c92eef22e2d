"""Music words as tokens: how each is spelled, where its rows are, and text <-> token ids.

In the `event` encoding every music word is ONE token, with the space before it inside (" NOTE_ON_60"; SONG_START, which
opens a piece, has none), so that texts join without loss. In the `text` encoding a word is the sub-words that the
base's own tokenizer spells it with, the space before it in the first: pre-tokenizers split there, so a word's spelling
is the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from plagal.plumbing.errors import ModelError, RecordError
from plagal.tokens.vocabulary import END_MARK, FIRST_WORD, MUSIC_WORDS, PAD_MARK

Ids = npt.NDArray[np.int32]


def word_text(word: str) -> str:
    """The text of one word's token."""
    return word if word == FIRST_WORD else " " + word


@dataclass(frozen=True)
class WordTokens:
    """Token ids of the music words: one for each in the `event` encoding, the base's own sub-words in `text`.

    `spellings`: for each of MUSIC_WORDS, in order, the tokens of its text, the space before it included.
    """

    spellings: tuple[tuple[int, ...], ...]
    end_id: int
    """Of the end mark."""
    pad_id: int

    @cached_property
    def whole(self) -> bool:
        """Whether every word is one token."""
        return all(len(spelling) == 1 for spelling in self.spellings)

    @cached_property
    def ids(self) -> Ids:
        """The rows that a model needs logits for, the end mark's last. One token a word: [words + 1], in the order of
        MUSIC_WORDS; else each sub-word that spells a word, ascending."""
        used = [i for spelling in self.spellings for i in spelling]
        return np.array([*(used if self.whole else sorted(set(used))), self.end_id], dtype=np.int32)

    @cached_property
    def spelling_of(self) -> dict[str, tuple[int, ...]]:
        return dict(zip(MUSIC_WORDS, self.spellings, strict=True))

    @cached_property
    def _place_of(self) -> dict[tuple[int, ...], int]:
        return {spelling: place for place, spelling in enumerate(self.spellings)}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.spellings))

    def place_of(self, word: str) -> int:
        """In MUSIC_WORDS."""
        return self._place_of[self.spelling_of[word]]

    def encode(self, words: Sequence[str]) -> Ids:
        """Words -> token ids. Raises RecordError for a word that the vocabulary lacks."""
        try:
            spelled = [i for word in words for i in self.spelling_of[word]]
        except KeyError as error:
            raise RecordError(f"{error.args[0]!r} is not a music word; see `plagal vocab`") from None
        return np.array(spelled, dtype=np.int32)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Token ids -> words, the longest spelling first; ids of other tokens are left out."""
        given, words, start = tuple(map(int, ids)), [], 0
        while start < len(given):
            for length in range(self._longest, 0, -1):
                place = self._place_of.get(given[start : start + length])
                if place is not None:
                    words.append(MUSIC_WORDS[place])
                    break
            start += length
        return words


def find_words(tokenizer: Any, name: str) -> WordTokens:
    """How `tokenizer` (transformers) spells the music words. Raises ModelError where it cannot, or has no end mark;
    `name` is the model's."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    spelled = tokenizer([word_text(word) for word in MUSIC_WORDS], add_special_tokens=False)["input_ids"]
    spellings = tuple(tuple(map(int, ids)) for ids in spelled)
    for word, spelling in zip(MUSIC_WORDS, spellings, strict=True):
        if not spelling or (unknown is not None and unknown in spelling):
            raise ModelError(f"{name}: its tokenizer cannot spell {word!r}; take a base with a byte-level tokenizer")
    if len(set(spellings)) < len(spellings):
        raise ModelError(f"{name}: its tokenizer spells two music words alike; take a base that tells capitals apart")
    end, pad = tokenizer.convert_tokens_to_ids([END_MARK, PAD_MARK])
    if end is None or end == unknown:
        raise ModelError(f"{name}: its tokenizer lacks {END_MARK!r}; take a base that was tuned for chat with it")
    return WordTokens(spellings, int(end), int(end if pad is None or pad == unknown else pad))


def has_words(tokenizer: Any) -> bool:
    """Whether `tokenizer` holds each music word as one token."""
    added = tokenizer.get_added_vocab()
    return all(word_text(word) in added for word in MUSIC_WORDS)


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
