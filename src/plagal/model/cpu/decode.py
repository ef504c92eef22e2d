"""A small model's next words by NumPy.

A decode step is a hundred tiny operations. MLX takes 5 ms for them on a busy core where the weights, read once, take
0.4; NumPy, with the projections that share an input merged and each norm's weights folded into the matrix behind it,
takes 1 to 2. (What mx.compile fuses of such a step are the cheap parts.) A model of more than MOST_BYTES gains nothing
by it that its size does not cost, and a packed one cannot be read so.
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
        self.epsilon = float(config["rms_norm_eps"])
        self.embedding = weights["model.embed_tokens.weight"]
        self.norm = weights["model.norm.weight"]
        self.head = weights.get("lm_head.weight", self.embedding)
        self.layers = [_layer(weights, f"model.layers.{n}.") for n in range(int(config["num_hidden_layers"]))]
        self._rates = float(config.get("rope_theta", 10000.0)) ** (-np.arange(0, self.head_width, 2) / self.head_width)
        self._turns = np.empty((2, 0, 1, self.head_width // 2), dtype=np.float32)

    def open(self, rows: int, columns: npt.NDArray[np.int32]) -> PlainRows:
        return PlainRows(self, rows, np.ascontiguousarray((self.head[columns] * self.norm).T))

    def turns(self, places: npt.NDArray[np.intp]) -> Floats:
        """Cosine and sine of each position's angles [2, positions, 1, half a head]."""
        if places.max() >= self._turns.shape[1]:
            angles = np.arange(int(places.max()) + _ROOM)[:, None] * self._rates
            self._turns = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)[:, :, None]
        return self._turns[:, places]


def _layer(weights: dict[str, Floats], prefix: str) -> dict[str, Floats]:
    def side_by_side(norm: str, *names: str) -> Floats:
        rows = np.concatenate([weights[f"{prefix}{name}.weight"] for name in names])
        return np.ascontiguousarray((rows * weights[f"{prefix}{norm}.weight"]).T)

    attention = [f"self_attn.{letter}_proj" for letter in "qkv"]
    biases = [weights[f"{prefix}{name}.bias"] for name in attention if f"{prefix}{name}.bias" in weights]
    return {
        "read": side_by_side("input_layernorm", *attention),
        "bias": np.concatenate(biases) if biases else np.zeros(1, dtype=np.float32),
        "attended": np.ascontiguousarray(weights[f"{prefix}self_attn.o_proj.weight"].T),
        "gated": side_by_side("post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj"),
        "down": np.ascontiguousarray(weights[f"{prefix}mlp.down_proj.weight"].T),
    }


class PlainRows:
    """Rows side by side, each with its own keys and values: none waits for another, none is padded."""

    def __init__(self, decoder: PlainDecoder, rows: int, head: Floats):
        self._decoder, self._head = decoder, head
        shape = (len(decoder.layers), 2, decoder.groups, 0, decoder.head_width)
        self._read = [np.empty(shape, dtype=np.float32) for _ in range(rows)]

    def keep(self, rows: Sequence[int]) -> None:
        self._read = [self._read[row] for row in rows]

    def read(self, tokens: Sequence[Sequence[int]], begins: Sequence[int], wanted: Sequence[int]) -> Floats:
        """Take in each row's `tokens`, the first of which stands at position `begins`; what stood there or behind is
        forgotten. -> logits after each of the last `wanted` tokens [rows, most wanted, columns]."""
        decoder = self._decoder
        counts = [len(ids) for ids in tokens]
        ends = np.cumsum(counts)
        spans = [(row, int(end) - count, int(end)) for row, (count, end) in enumerate(zip(counts, ends, strict=True))]
        spans = [span for span in spans if counts[span[0]]]
        places = np.concatenate([np.arange(begins[row], begins[row] + counts[row]) for row, _, _ in spans])
        for row, _, _ in spans:
            self._make_room(row, begins[row] + counts[row])
        cosine, sine = decoder.turns(places)
        x = decoder.embedding[[token for ids in tokens for token in ids]]
        half, turning = decoder.head_width // 2, decoder.heads + decoder.groups
        for number, layer in enumerate(decoder.layers):
            states = _times(self._normed(x), layer["read"])
            states += layer["bias"]
            states = states.reshape(len(x), -1, decoder.head_width)
            turned = np.empty_like(states[:, :turning])
            low, high = states[:, :turning, :half], states[:, :turning, half:]
            turned[..., :half] = low * cosine - high * sine
            turned[..., half:] = high * cosine + low * sine
            turned[:, : decoder.heads] *= decoder.head_width**-0.5
            attended = np.empty((len(x), decoder.heads * decoder.head_width), dtype=np.float32)
            for row, start, end in spans:
                attended[start:end] = self._attend(
                    self._read[row][number], begins[row], turned[start:end], states[start:end, turning:]
                )
            x = x + _times(attended, layer["attended"])
            gated = _times(self._normed(x), layer["gated"])
            inner = gated.shape[1] // 2
            gate = gated[:, :inner] * np.float32(0.5)  # x sigmoid(x) = x / 2 (1 + tanh(x / 2)), which cannot overflow
            x += _times((gate + gate * np.tanh(gate)) * gated[:, inner:], layer["down"])
        logits = np.zeros((len(tokens), max(wanted), self._head.shape[1]), dtype=np.float32)
        asked = [(row, place) for row, count in enumerate(wanted) for place in range(count)]
        behind = [int(ends[row]) - wanted[row] + place for row, place in asked]
        logits[tuple(np.array(asked).T)] = _times(self._normed(x[behind]), self._head)
        return logits

    def _attend(self, kept: Floats, begin: int, turned: Floats, values: Floats) -> Floats:
        """`kept` [2, groups, room, head]; turned [n, heads + groups, head], values [n, groups, head] -> [n, width]."""
        decoder, n = self._decoder, len(turned)
        heads, groups, end = decoder.heads, decoder.groups, begin + n
        kept[0, :, begin:end] = turned[:, heads:].swapaxes(0, 1)
        kept[1, :, begin:end] = values.swapaxes(0, 1)
        queries = turned[:, :heads].reshape(n, groups, -1, decoder.head_width).transpose(1, 2, 0, 3)
        scores = queries @ kept[0, :, None, :end].swapaxes(2, 3)  # [groups, heads of a group, n, end]
        if n > 1:
            scores[..., np.arange(end) > np.arange(begin, end)[:, None]] = -1e9
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        attended = (scores @ kept[1, :, None, :end]).transpose(2, 0, 1, 3).reshape(n, -1)
        return np.asarray(attended, dtype=np.float32)

    def _make_room(self, row: int, end: int) -> None:
        kept = self._read[row]
        missing = end - kept.shape[3]
        if missing > 0:
            more = np.empty((*kept.shape[:3], -(-missing // _ROOM) * _ROOM, kept.shape[4]), dtype=np.float32)
            self._read[row] = np.concatenate([kept, more], axis=3)

    def _normed(self, x: Floats) -> Floats:
        """Each token's state over its root mean square."""
        mean = np.einsum("ij,ij->i", x, x)[:, None] * np.float32(1 / x.shape[1])
        return np.asarray(x / np.sqrt(mean + np.float32(self._decoder.epsilon)))


def _times(x: Floats, weight: Floats) -> Floats:
    """x [n, inputs] times weight [inputs, outputs]."""
    return np.asarray((x[:, None] @ weight)[:, 0] if len(x) <= _ROW_BY_ROW else x @ weight)
