"""Cross-entropy that builds only the logits it needs.

Where the music goes on, only a music word or the end mark can be meant, so logits are taken over those rows of the head
alone: 1,591 instead of Qwen2.5's 152,064. Prompts and padding are no targets, so they get no logits at all. A base
whose whole vocabulary is little larger than the music words (the embedded one) is trained over all rows: that
costs a few
per cent, and teaches it to give the other rows nothing, so that a stock generator without our grammar stays in
the music words too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from plagal.model.cpu.kernels import log_sum_exp
from plagal.model.grow import rows_of
from plagal.model.memory import chunk_positions
from plagal.model.windows import Batch
from plagal.model.words import LanguageModel

Array = Any
_SMALL_VOCABULARY = 2.0  # times the music words

Arrays = dict[str, Array]
LossSum = Callable[[Any, Arrays], Array]
"""(model, arrays of a batch) -> summed loss over the batch's targets [nats]."""


def batch_arrays(batch: Batch) -> Arrays:
    """What a loss is given: `ids` [rows, length], `positions`, `targets` and `weights` [n] (see windows.Batch)."""
    return {
        "ids": mx.array(batch.ids[:, :-1]),
        "positions": mx.array(batch.positions),
        "targets": mx.array(batch.targets),
        "weights": mx.array(batch.weights),
    }


def takes_all_rows(lm: LanguageModel) -> bool:
    """Whether the loss runs over the whole vocabulary (see the module)."""
    return lm.encoding == "text" or lm.config["vocab_size"] <= _SMALL_VOCABULARY * len(lm.words.ids)


def hidden_states(model: Any, ids: Array, cache: Any = None) -> Array:
    """Last hidden states [rows, length, hidden] after the final norm."""
    return model.model(ids, cache) if cache is not None else model.model(ids)


def head_logits(model: Any, hidden: Array, rows: Array | None = None) -> Array:
    """Logits [n, rows or vocabulary] of hidden states [n, hidden]; `rows` are token ids."""
    head = model.lm_head if hasattr(model, "lm_head") else model.model.embed_tokens
    if rows is not None:
        return hidden @ rows_of(head, rows).T
    return head(hidden) if hasattr(model, "lm_head") else head.as_linear(hidden)


def make_loss(lm: LanguageModel) -> LossSum:
    """The loss for `lm`'s music words: what the trainer differentiates, and what the validation loss is."""
    tokens, vocabulary = lm.word_tokens, int(lm.config["vocab_size"])
    everything = takes_all_rows(lm)
    rows = None if everything else mx.array(tokens.ids)
    place = None if everything else mx.array(_places(tokens.ids, vocabulary))
    chunk = chunk_positions(vocabulary) if everything and not tokens.whole else 0

    def loss_sum(model: Any, arrays: Arrays) -> Array:
        hidden = hidden_states(model, arrays["ids"])
        hidden = hidden.reshape(-1, hidden.shape[-1])[arrays["positions"]]
        if chunk:
            return chunked_loss(model, hidden, arrays["targets"], arrays["weights"], chunk)
        logits = head_logits(model, hidden, rows)
        targets = arrays["targets"] if place is None else place[arrays["targets"]]
        return _cross_entropy(logits, targets, arrays["weights"])

    return loss_sum


def _cross_entropy(logits: Array, targets: Array, weights: Array) -> Array:
    picked = mx.take_along_axis(logits, targets[:, None], axis=-1).squeeze(-1)
    return ((log_sum_exp(logits) - picked.astype(mx.float32)) * weights).sum()


def chunked_loss(model: Any, hidden: Array, targets: Array, weights: Array, chunk: int) -> Array:
    """Summed cross-entropy over the whole vocabulary; hidden [n, hidden], targets and weights [n]. Logits of `chunk`
    positions are built at once, and again for the gradient; each chunk waits for the one before."""
    head = model.lm_head if hasattr(model, "lm_head") else model.model.embed_tokens
    plain = "scales" not in head  # a packed head is frozen, and no gradient reaches it
    trained = plain and "weight" in head.trainable_parameters()
    parts = [slice(start, start + chunk) for start in range(0, hidden.shape[0], chunk)]

    def one(hidden: Array, rows: Array, part: slice) -> Array:
        logits = hidden @ rows.T if plain else head_logits(model, hidden)
        return _cross_entropy(logits, targets[part], weights[part])

    @mx.custom_function  # type: ignore[untyped-decorator, unused-ignore]
    def total(hidden: Array, rows: Array) -> Array:
        done = mx.array(0.0)
        for part in parts:
            (piece,) = mx.depends([hidden[part]], [done])
            done = done + one(piece, rows, part)
        return done

    @total.vjp  # type: ignore[untyped-decorator, unused-ignore]
    def gradient(primals: tuple[Array, Array], cotangent: Array, _: Array) -> tuple[Array, Array]:
        whole, rows = primals
        of_hidden, of_rows, last = [], mx.zeros_like(rows), [cotangent]
        for part in parts:
            (piece,) = mx.depends([whole[part]], last)
            _, made = mx.vjp(partial(one, part=part), [piece, rows], [cotangent])
            of_hidden.append(made[0])
            of_rows = of_rows + made[1]
            last = [made[0], of_rows] if trained else [made[0]]
        return mx.concatenate(of_hidden), of_rows

    return total(hidden, head.weight if plain else mx.zeros((1,)))


def _places(ids: Any, vocabulary: int) -> Any:
    """Token id -> its place among the rows [vocabulary]."""
    places = np.zeros(vocabulary, dtype=np.int32)
    places[ids] = np.arange(len(ids), dtype=np.int32)
    return places
