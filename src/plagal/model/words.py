"""Music words as tokens: where each word's row is, and text <-> token ids.

In the `event` encoding every music word is ONE token, with the space before it inside (" NOTE_ON_60"; SONG_START, which
opens a piece, has none), so that texts join without loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.errors import ModelError, RecordError
from plagal.tokens.vocabulary import MUSIC_WORDS

USER_MARK = "<|im_start|>"
END_MARK = "<|im_end|>"
PAD_MARK = "<|endoftext|>"
FIRST_WORD = "SONG_START"
_PIECE = re.compile(r"SONG_START(?: [^\s<]+)*")

Ids = npt.NDArray[np.int32]


def word_text(word: str) -> str:
    """The text of one word's token."""
    return word if word == FIRST_WORD else " " + word


@dataclass(frozen=True)
class WordTokens:
    """Token ids of the music words.

    `ids`: [len(MUSIC_WORDS) + 1], in the order of MUSIC_WORDS, the end mark last: the rows that a model needs
    logits for.
    """

    ids: Ids
    pad_id: int
    place_of_id: dict[int, int] = field(repr=False)
    """Token id -> place in MUSIC_WORDS."""
    id_of_word: dict[str, int] = field(repr=False)

    @property
    def end_id(self) -> int:
        return int(self.ids[-1])

    def encode(self, words: Sequence[str]) -> Ids:
        """Words -> token ids. Raises RecordError for a word that the vocabulary lacks."""
        try:
            return np.array([self.id_of_word[word] for word in words], dtype=np.int32)
        except KeyError as error:
            raise RecordError(f"{error.args[0]!r} is no music word; see `plagal words`") from None

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Token ids -> words; ids of other tokens are left out."""
        return [MUSIC_WORDS[self.place_of_id[int(i)]] for i in ids if int(i) in self.place_of_id]


def find_words(tokenizer: Any, name: str) -> WordTokens:
    """The music words' tokens in `tokenizer` (transformers). Raises ModelError where one is missing; `name` is the
    model's."""
    texts = [*map(word_text, MUSIC_WORDS), END_MARK]
    ids = tokenizer.convert_tokens_to_ids(texts)
    unknown = getattr(tokenizer, "unk_token_id", None)
    missing = [text for text, i in zip(texts, ids, strict=True) if i is None or i == unknown]
    if missing:
        raise ModelError(
            f"{name}: its tokenizer lacks {missing[0]!r}; make the base anew, or set model.encoding to text"
        )
    pad = tokenizer.convert_tokens_to_ids(PAD_MARK)
    pad = ids[-1] if pad is None or pad == unknown else pad
    array = np.array(ids, dtype=np.int32)
    places = {int(i): place for place, i in enumerate(array[:-1])}
    return WordTokens(array, int(pad), places, dict(zip(MUSIC_WORDS, map(int, array[:-1]), strict=True)))


def has_words(tokenizer: Any) -> bool:
    """Whether `tokenizer` holds each music word as one token."""
    added = tokenizer.get_added_vocab()
    return all(word_text(word) in added for word in MUSIC_WORDS)


@dataclass(frozen=True)
class Text:
    """One training or test text, cut where the music begins."""

    prompt: str
    """Everything before SONG_START."""
    words: tuple[str, ...]
    after: str
    """From the end mark on."""


def split_text(text: str) -> Text:
    """Cut `text` into prompt, words and what follows. Raises RecordError where it holds no piece."""
    start = text.rfind(FIRST_WORD)
    found = _PIECE.match(text, start) if start >= 0 else None
    if found is None:
        raise RecordError(f"text {text[:40]!r} holds no piece: {FIRST_WORD} is missing; run the stage convert again")
    return Text(text[:start], tuple(found.group().split(" ")), text[found.end() :])


def prompt_text(prompt: str) -> str:
    """What stands before a piece that answers `prompt`: the beginning of the template of the stage `convert`."""
    return f"{USER_MARK}user\n{prompt}{END_MARK}\n{USER_MARK}assistant\n"
