"""A base of a given shape with random weights, in memory alone: what a rehearsal trains without the real one.

It takes the room and the time of the real one: packed where that is packed, in the precision that it has on this
device, grown by the music words. What it writes is noise.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from plagal.model.base import LanguageModel, load_tokenizer, make_embedded, total_bytes, unpack
from plagal.model.cpu.kernels import on_cpu
from plagal.model.grow import EMBEDDING, HEAD, GrownEmbedding, GrownHead
from plagal.model.words import Encoding, WordTokens, find_words, word_text
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import read_json, write_json
from plagal.plumbing.params import EmbeddedShape
from plagal.tokens.vocabulary import MUSIC_WORDS

_TOKENIZER = EmbeddedShape(hidden_size=8, layers=1, heads=1, kv_heads=1, intermediate_size=8)
"""The least model of our own: its tokenizer is what is wanted."""


def make_random(config: dict[str, Any], folder: Path, encoding: Encoding = "event", seed: int = 0) -> LanguageModel:
    """A base as `config` (config.json) describes it. `folder` gets a tokenizer and no weights. In the `text` encoding
    words are spelled letter by letter: three times as long as a real tokenizer spells them. Raises ModelError for a
    kind that mlx-lm does not know."""
    try:
        module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    except ImportError:
        raise ModelError(f"model_type {config['model_type']!r}: mlx-lm knows no model of that kind") from None
    mx.random.seed(seed)
    model = module.Model(module.ModelArgs.from_dict(config))
    if not on_cpu():  # half precision is slow on CPUs
        model.set_dtype(mx.bfloat16)
    packed = config.get("quantization")
    if packed:
        nn.quantize(model, packed["group_size"], packed["bits"])
    for _, module_ in model.named_modules():  # one by one: all dense weights at once are eight times the packed ones
        mx.eval(module_.parameters() if not module_.children() else [])
    mx.clear_cache()
    if on_cpu():
        unpack(model)
    words, tokenizer = _words(folder, encoding, config["vocab_size"])
    lm = LanguageModel(model, tokenizer, words, dict(config), folder, encoding)
    if encoding == "event":
        _grow(lm)
    mx.eval(model.parameters())
    return lm


def _words(folder: Path, encoding: Encoding, vocabulary: int) -> tuple[WordTokens, Any]:
    made = make_embedded(folder, _TOKENIZER, 0)
    (made / "model.safetensors").unlink()
    if encoding == "text":
        tokenizer = read_json(made / "tokenizer.json")
        ours = {word_text(word) for word in MUSIC_WORDS}
        tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] not in ours]
        write_json(made / "tokenizer.json", tokenizer)
        loaded = load_tokenizer(made)
        return find_words(loaded, str(made)), loaded
    loaded = load_tokenizer(made)
    marks = find_words(loaded, str(made))
    # The words' rows stand behind all of the base's own, as `grow` puts them.
    rows = tuple((vocabulary + place,) for place in range(len(MUSIC_WORDS)))
    return WordTokens(rows, marks.end_id, marks.pad_id), loaded


def _grow(lm: LanguageModel) -> None:
    hidden, first = lm.config["hidden_size"], lm.config["vocab_size"]
    precision = lm.model.model.norm.weight.dtype
    kinds = [(EMBEDDING, GrownEmbedding)] if lm.tied else [(EMBEDDING, GrownEmbedding), (HEAD, GrownHead)]
    for name, kind in kinds:
        rows = (mx.random.normal((len(MUSIC_WORDS), hidden)) * 0.02).astype(precision)
        if name == EMBEDDING:
            lm.model.model.embed_tokens = kind(lm.model.model.embed_tokens, rows, first)
        else:
            lm.model.lm_head = kind(lm.model.lm_head, rows, first)
    lm.config = {**lm.config, "vocab_size": first + len(MUSIC_WORDS)}


def held_bytes(lm: LanguageModel) -> int:
    """Of all weights in memory."""
    from mlx.utils import tree_flatten

    return total_bytes(value for _, value in tree_flatten(lm.model.parameters()))
