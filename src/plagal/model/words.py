"""Music words as tokens: how each is spelled, where its rows are, and text <-> token ids.

In the `event` encoding every music word is ONE token, with the space before it inside (" NOTE_ON_60"; SONG_START, which
opens a piece, has none), so that texts join without loss. In the `text` encoding a word is the sub-words that the
base's own tokenizer spells it with, the space before it in the first: pre-tokenizers split there, so a word's spelling
is the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_unflatten

from plagal.plumbing.errors import ModelError, RecordError
from plagal.tokens.vocabulary import COUNT_WORDS, END_MARK, FIRST_WORD, MUSIC_WORDS, PAD_MARK

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
    counts: tuple[int, ...] = ()
    """Of each of COUNT_WORDS; none where the tokenizer spells them: there a count of every bar would cost more of the
    window than it tells."""

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
        counts = {word: (token,) for word, token in zip(COUNT_WORDS, self.counts, strict=False)}
        return dict(zip(MUSIC_WORDS, self.spellings, strict=True)) | counts

    @cached_property
    def _place_of(self) -> dict[tuple[int, ...], int]:
        return {spelling: place for place, spelling in enumerate(self.spellings)}

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
        longest = max(map(len, self.spellings))
        while start < len(given):
            for length in range(longest, 0, -1):
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
    spelled = tokenizer([word_text(word) for word in COUNT_WORDS], add_special_tokens=False)["input_ids"]
    counts = tuple(int(ids[0]) for ids in spelled) if all(len(ids) == 1 for ids in spelled) else ()
    return WordTokens(spellings, int(end), int(end if pad is None or pad == unknown else pad), counts)


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

    def encode_text(self, text: str) -> list[int]:
        """Token ids of any text; the marks in it count as marks."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))


# --- A pretrained base learns new tokens: one for each music word ---
#
# The base's own rows stay frozen, quantized or not; the new ones are trained beside them and begin as the mean of
# the rows that spelled the word before. Fusing makes one plain embedding of both, which stock mlx_lm loads.

Array = Any
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


class GrownEmbedding(nn.Module):
    """An embedding with `new_rows` [words, hidden] for ids from `first` on, over a frozen `base`. Tied heads use
    it too."""

    def __init__(self, base: nn.Module, new_rows: Array, first: int):
        super().__init__()
        self.base = base
        self.new_rows = new_rows
        self._first = first

    def __call__(self, ids: Array) -> Array:
        old = self.base(mx.minimum(ids, self._first - 1))
        new = self.new_rows[mx.maximum(ids - self._first, 0)]
        return mx.where((ids >= self._first)[..., None], new, old)

    def as_linear(self, hidden: Array) -> Array:
        old = self.base.as_linear(hidden)[..., : self._first]
        return mx.concatenate([old, hidden @ self.new_rows.T], axis=-1)

    def rows(self, ids: Array) -> Array:
        """[len(ids), hidden]; ids as in the tokenizer."""
        old = rows_of(self.base, mx.minimum(ids, self._first - 1))
        return mx.where((ids >= self._first)[:, None], self.new_rows[mx.maximum(ids - self._first, 0)], old)

    def merged(self) -> Array:
        """All rows [vocabulary, hidden], in the precision of the new ones."""
        old = rows_of(self.base, mx.arange(self._first)).astype(self.new_rows.dtype)
        return mx.concatenate([old, self.new_rows])


class GrownHead(GrownEmbedding):
    """The same for an untied head, whose base is a linear layer."""

    def __call__(self, hidden: Array) -> Array:
        old = self.base(hidden)[..., : self._first]
        return mx.concatenate([old, hidden @ self.new_rows.T], axis=-1)


def rows_of(layer: Any, ids: Array) -> Array:
    """Rows of an embedding's or a head's weight [len(ids), hidden], unpacked if it is quantized; `ids` may be a
    slice."""
    if hasattr(layer, "rows"):
        return layer.rows(ids)
    if "scales" not in layer:
        return layer.weight[ids]
    biases = layer.biases[ids] if layer.get("biases") is not None else None
    return mx.dequantize(
        layer.weight[ids], layer.scales[ids], biases, group_size=layer.group_size, bits=layer.bits, mode=layer.mode
    )


def grow(lm: LanguageModel, words: Sequence[str] = MUSIC_WORDS) -> LanguageModel:
    """Give `lm`, loaded in the text encoding, a token and rows for each of `words`, which begin with MUSIC_WORDS. Where
    its tokenizer has them, only find them."""
    from transformers import AddedToken

    if not has_words(lm.tokenizer):
        spellings = lm.tokenizer([word_text(word) for word in words], add_special_tokens=False)["input_ids"]
        # The space before a word stands inside its token.
        lm.tokenizer.add_tokens([AddedToken(word_text(word), normalized=False, special=False) for word in words])
        first = int(lm.tokenizer.convert_tokens_to_ids(word_text(MUSIC_WORDS[0])))
        add_rows(lm, first, lambda layer: _mean_rows(layer, spellings))
    lm.words = find_words(lm.tokenizer, str(lm.folder))
    lm.encoding = "event"
    return lm


def add_rows(lm: LanguageModel, first: int, rows_for: Callable[[Any], Array]) -> None:
    """Lay rows for new words, of ids from `first` on, beside those of `lm`'s embedding and untied head."""
    layers = [(EMBEDDING, GrownEmbedding, lm.model.model.embed_tokens)]
    if not lm.tied:
        layers.append((HEAD, GrownHead, lm.model.lm_head))
    grown = [(name, kind(layer, rows_for(layer), first)) for name, kind, layer in layers]
    lm.model.update_modules(tree_unflatten(grown))
    lm.config = {**lm.config, "vocab_size": first + len(grown[0][1].new_rows)}


def _mean_rows(layer: Any, spellings: Sequence[Sequence[int]]) -> Array:
    """For each spelling the mean of its tokens' rows, in the layer's precision."""
    used = sorted({i for spelling in spellings for i in spelling})
    place = {token: n for n, token in enumerate(used)}
    rows = np.array(rows_of(layer, mx.array(used)).astype(mx.float32))
    means = np.stack([rows[[place[i] for i in spelling]].mean(axis=0) for spelling in spellings])
    precision = layer.scales.dtype if "scales" in layer else layer.weight.dtype
    return mx.array(means).astype(precision)


def merged_rows(model: Any) -> dict[str, Any]:
    """Name of each grown layer -> all its rows [vocabulary, hidden], in the precision of the new ones."""
    return {name: module.merged() for name, module in model.named_modules() if isinstance(module, GrownEmbedding)}


def merge_grown(model: Any) -> None:
    """Replace grown layers by plain ones."""
    merged = []
    for name, rows in merged_rows(model).items():
        layer = nn.Linear(1, 1, bias=False) if name == HEAD else nn.Embedding(1, 1)
        layer.weight = rows
        merged.append((name, layer))
    if merged:
        model.update_modules(tree_unflatten(merged))
        mx.eval(model.parameters())
