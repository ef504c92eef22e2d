"""A pretrained base learns new tokens: one for each music word.

The base's own rows stay frozen, quantized or not; the new ones are trained beside them and begin as the mean of
the rows that spelled the word before. Fusing makes one plain embedding of both, which stock mlx_lm loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from plagal.model.words import LanguageModel, find_words, has_words, word_text
from plagal.tokens.vocabulary import MUSIC_WORDS

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
    """Rows of an embedding's or a head's weight [len(ids), hidden], unpacked if it is quantized."""
    if hasattr(layer, "rows"):
        return layer.rows(ids)
    if "scales" not in layer:
        return layer.weight[ids]
    biases = layer.biases[ids] if layer.get("biases") is not None else None
    return mx.dequantize(
        layer.weight[ids], layer.scales[ids], biases, group_size=layer.group_size, bits=layer.bits, mode=layer.mode
    )


def grow(lm: LanguageModel) -> LanguageModel:
    """Give `lm`, loaded in the text encoding, a token and rows for each music word. Where its tokenizer has them,
    only find them."""
    if not has_words(lm.tokenizer):
        spellings = lm.words.spellings
        add_words(lm.tokenizer)
        first = int(lm.tokenizer.convert_tokens_to_ids(word_text(MUSIC_WORDS[0])))
        layers = [(EMBEDDING, GrownEmbedding, lm.model.model.embed_tokens)]
        if not lm.tied:
            layers.append((HEAD, GrownHead, lm.model.lm_head))
        grown = [(name, kind(layer, _mean_rows(layer, spellings), first)) for name, kind, layer in layers]
        lm.model.update_modules(tree_unflatten(grown))
        lm.config = {**lm.config, "vocab_size": first + len(MUSIC_WORDS)}
    lm.words = find_words(lm.tokenizer, str(lm.folder))
    lm.encoding = "event"
    return lm


def add_words(tokenizer: Any) -> None:
    """One token for each music word at the end of `tokenizer` (transformers), the space before it inside."""
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(word_text(word), normalized=False, special=False) for word in MUSIC_WORDS])


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
