"""A small model's next words by NumPy.

A decode step is a hundred tiny operations. MLX takes 5 ms for them on a busy core where the weights, read once, take
0.4; NumPy takes 1, with the projections that share an input merged and whatever scales a matrix's input or output
folded into it. (What mx.compile fuses of such a step are the cheap parts.) A model of more than MOST_BYTES gains
nothing by it that its size does not cost, and a packed one cannot be read so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten

from plagal.model.words import LanguageModel

Floats = npt.NDArray[np.float32]
MOST_BYTES = 64 << 20
"""Of weights in fp32."""
_ROOM = 256
"""Positions by which a row's keys and values grow."""
_ROW_BY_ROW = 5
"""So few tokens are multiplied one by one: OpenBLAS packs the whole matrix anew for each product of more than one,
which costs as much as reading it three times."""
_KINDS = ("qwen2", "llama")
_LAYER = re.compile(
    r"model\.layers\.\d+\.(self_attn\.([qkv]_proj\.(weight|bias)|o_proj\.weight)"
    r"|mlp\.(gate|up|down)_proj\.weight|(input|post_attention)_layernorm\.weight)"
)
_REST = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def plain_decoder(lm: LanguageModel) -> PlainDecoder | None:
    """What writes with `lm` here; None where it is large, packed, adapted or of another architecture."""
    weights: dict[str, Any] = dict(tree_flatten(lm.model.parameters()))
    known = all(name in _REST or _LAYER.fullmatch(name) for name in weights)
    scaled = lm.config.get("rope_scaling") or lm.config.get("rope_traditional")
    if not known or scaled or lm.config["model_type"] not in _KINDS:
        return None
    if 4 * sum(value.size for value in weights.values()) > MOST_BYTES:
        return None
    return PlainDecoder(lm, {name: np.array(value.astype(mx.float32)) for name, value in weights.items()})


class PlainDecoder:
    """The weights as a step wants them: [inputs, outputs], those that read the same side by side."""

    def __init__(self, lm: LanguageModel, weights: dict[str, Floats]):
        config = lm.config
        self.heads = int(config["num_attention_heads"])
        self.groups = int(config.get("num_key_value_heads") or self.heads)
        self.width = int(config["hidden_size"])
        self.head_width = int(config.get("head_dim") or self.width // self.heads)
        self.epsilon = np.float32(self.width * config["rms_norm_eps"])
        self.embedding = weights["model.embed_tokens.weight"]
        norms = {name: value for name, value in weights.items() if name.endswith("norm.weight")}
        weights |= {name: value * np.float32(self.width**0.5) for name, value in norms.items()}
        self.norm = weights["model.norm.weight"]
        self.head = weights.get("lm_head.weight", self.embedding)
        self.layers = [self._layer(weights, f"model.layers.{n}.") for n in range(int(config["num_hidden_layers"]))]
        self._rates = float(config.get("rope_theta", 10000.0)) ** (-np.arange(0, self.head_width, 2) / self.head_width)
        self._turns = np.empty((0, 1, self.head_width // 2), dtype=np.complex64)

    def open(self, rows: int, columns: npt.NDArray[np.int32]) -> PlainRows:
        return PlainRows(self, rows, np.ascontiguousarray((self.head[columns] * self.norm).T))

    def turns(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.complex64]:
        """By what each position turns the pairs of a head [positions, 1, half a head]."""
        if places.max() >= len(self._turns):
            angles = np.arange(int(places.max()) + _ROOM)[:, None, None] * self._rates
            self._turns = np.exp(1j * angles).astype(np.complex64)
        return self._turns[places]

    def _layer(self, weights: dict[str, Floats], prefix: str) -> dict[str, Floats]:
        """Norms, the scale of scores and SiLU's half stand in the matrices; the halves of a head that turn together lie
        side by side, so that a turn is one complex product."""
        pairs = np.arange(self.head_width).reshape(2, -1).T.ravel()
        counts = {"q": self.heads, "k": self.groups, "v": self.groups}

        def of_heads(kind: str) -> Floats:
            parts = []
            for letter, count in counts.items():
                part = weights.get(f"{prefix}self_attn.{letter}_proj.{kind}", np.zeros(count * self.head_width))
                part = part.reshape(count, self.head_width, -1) * (self.head_width**-0.5 if letter == "q" else 1)
                parts.append((part if letter == "v" else part[:, pairs]).reshape(count * self.head_width, -1))
            return np.concatenate(parts).astype(np.float32)

        gate, up = (weights[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "up"))
        matrices = {
            "read": of_heads("weight") * weights[f"{prefix}input_layernorm.weight"],
            "attended": weights[f"{prefix}self_attn.o_proj.weight"],
            "gated": np.concatenate([gate / 2, up]) * weights[f"{prefix}post_attention_layernorm.weight"],
            "down": weights[f"{prefix}mlp.down_proj.weight"],
        }
        transposed = {name: np.ascontiguousarray(matrix.T) for name, matrix in matrices.items()}
        return {**transposed, "bias": of_heads("bias")[:, 0]}


class PlainRows:
    """Rows side by side, each as far as it has come: in products they share, none is padded."""

    def __init__(self, decoder: PlainDecoder, rows: int, head: Floats):
        self._decoder, self._head = decoder, head
        self._kept = np.zeros((len(decoder.layers), 2, rows, decoder.groups, 0, decoder.head_width), dtype=np.float32)
        """Keys and values of each position."""

    def keep(self, rows: Sequence[int]) -> None:
        self._kept = self._kept[:, :, rows]

    def read(self, tokens: Sequence[Sequence[int]], begins: Sequence[int], wanted: Sequence[int]) -> Floats:
        """Take in each row's `tokens`, the first of which stands at position `begins`; what stood there or behind is
        forgotten. -> logits after each of the last `wanted` tokens [rows, most wanted, columns]."""
        decoder, counts = self._decoder, np.array([len(ids) for ids in tokens])
        ends = np.cumsum(counts)
        row = np.repeat(np.arange(len(tokens)), counts)
        places = np.arange(len(row)) + np.repeat(np.array(begins) - (ends - counts), counts)
        end = int(places.max()) + 1
        self._make_room(end)
        # Each row's last token attends beside the others' (a row that reads none beside itself, for nothing), what it
        # read before that alone: rows of one word each are the rule, and a long row would make all long.
        spans = [(int(last), slice(int(start), int(last))) for start, last in zip(ends - counts, ends - 1, strict=True)]
        earlier = [(number, span, _hidden(places[span], places[last])) for number, (last, span) in enumerate(spans)
                   if last > span.start]  # fmt: skip
        reads, lasts, hidden = counts > 0, ends - 1, _hidden(places[ends - 1, None], end)
        alike = len(row) == len(tokens) and bool(reads.all())
        turns = decoder.turns(places)
        x = decoder.embedding[[token for ids in tokens for token in ids]]
        heads, turning = decoder.heads, decoder.heads + decoder.groups
        for layer, (keys, values) in zip(decoder.layers, self._kept, strict=True):
            states = _times(self._normed(x), layer["read"])
            states += layer["bias"]
            states = states.reshape(len(x), -1, decoder.head_width)
            states[:, :turning].view(np.complex64)[...] *= turns
            keys[row, :, places], values[row, :, places] = states[:, heads:turning], states[:, turning:]
            attended = latest = _attend(states[lasts, None, :heads], keys[:, :, :end], values[:, :, :end], hidden)
            if not alike:
                attended = np.empty((len(x), latest.shape[1]), dtype=np.float32)
                attended[lasts[reads]] = latest[reads]
            for number, span, mask in earlier:
                known = np.s_[number : number + 1, :, : mask.shape[-1]]
                attended[span] = _attend(states[None, span, :heads], keys[known], values[known], mask)
            x = x + _times(attended, layer["attended"])
            gated = _times(self._normed(x), layer["gated"])
            inner = gated.shape[1] // 2
            gate = np.tanh(gated[:, :inner])  # x sigmoid(x) = x / 2 (1 + tanh(x / 2)), which cannot overflow
            gate += 1
            gate *= gated[:, :inner]
            gate *= gated[:, inner:]
            x += _times(gate, layer["down"])
        logits = np.zeros((len(tokens), max(wanted), self._head.shape[1]), dtype=np.float32)
        asked, at = np.nonzero(np.arange(max(wanted)) < np.array(wanted)[:, None])
        logits[asked, at] = _times(self._normed(x[(ends - wanted)[asked] + at]), self._head)
        return logits

    def _make_room(self, end: int) -> None:
        missing = end - self._kept.shape[4]
        if missing > 0:  # zeros, for what is hidden is multiplied, too
            shape = (*self._kept.shape[:4], -(-missing // _ROOM) * _ROOM, self._kept.shape[5])
            self._kept = np.concatenate([self._kept, np.zeros(shape, dtype=np.float32)], axis=4)

    def _normed(self, x: Floats) -> Floats:
        """Each token's state over its length; what makes it the root mean square stands in the weights."""
        squares: Floats = np.vecdot(x, x)[:, None]
        return np.asarray(x / np.sqrt(squares + self._decoder.epsilon))


def _hidden(places: npt.NDArray[np.intp], end: int) -> Floats:
    """What hides from queries at `places` [..., steps] the keys behind them [..., 1, 1, steps, end]; empty: nothing."""
    behind = np.arange(end) > places[..., None]
    return np.float32(-1e9) * behind[..., None, None, :, :]


def _attend(queries: Floats, keys: Floats, values: Floats, hidden: Floats) -> Floats:
    """queries [rows, steps, heads, head]; keys, values [rows, groups, end, head] -> [rows x steps, heads x head]."""
    rows, steps, _, width = queries.shape
    queries = queries.reshape(rows, steps, keys.shape[1], -1, width).transpose(0, 2, 3, 1, 4)
    scores = queries @ keys[:, :, None].swapaxes(3, 4)  # [rows, groups, heads of a group, steps, end]
    scores += hidden
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    attended = scores @ values[:, :, None]
    attended /= scores.sum(axis=-1, keepdims=True)
    return np.asarray(attended.transpose(0, 3, 1, 2, 4).reshape(rows * steps, -1), dtype=np.float32)


def _times(x: Floats, weight: Floats) -> Floats:
    """x [n, inputs] times weight [inputs, outputs]."""
    return np.asarray((x[:, None] @ weight)[:, 0] if 1 < len(x) <= _ROW_BY_ROW else x @ weight)
