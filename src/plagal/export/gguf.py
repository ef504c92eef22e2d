"""The fused model as GGUF, for llama.cpp, Ollama and LM Studio: its tokenizer keeps one token a music word.

Weights are written as they are, tensor by tensor. MLX's 4-bit groups (w = scale q + bias) are GGUF's Q4_1 blocks
(w = d q + m) of 32: the same numbers, a group of 64 as two blocks. What no block holds is written plain, in fp16.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.export.report import GRAMMAR_UNTOLD, Export, ids_to_compare
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, read_json

_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_PRETOKENIZER = {"qwen2": "qwen2", "llama": "smollm"}
"""Architecture -> llama.cpp's name for how text is split before it is merged."""
_BLOCK, _BLOCK_BYTES = 32, 20  # of Q4_1
_LARGEST_HALF = 65504.0
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
"""Kinds of tokens. User-defined ones are found in text before anything is merged, as added tokens are."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Tensor:
    """`name`: in GGUF; `module`: in MLX; `kind`: of GGMLQuantizationType; `shape`: of what `make` gives, which is bytes
    for Q4_1 and BF16."""

    name: str
    module: str
    kind: str
    shape: tuple[int, ...]
    make: Callable[[], Array]

    @property
    def size(self) -> int:
        width = {"F32": 4, "F16": 2}.get(self.kind, 1)
        return int(np.prod(self.shape)) * width


def to_gguf(fused: Path, out: Path) -> Export:
    """Write the file `out` from a fused folder. Raises ModelError for one that is neither Qwen2- nor llama-shaped."""
    import gguf

    from plagal.model.base import find_folder, read_config, read_weights

    logging.getLogger("gguf").setLevel(logging.ERROR)  # it says at length which file it writes
    folder = find_folder(fused)
    config = read_config(folder)
    if config["model_type"] not in _PRETOKENIZER:
        raise ModelError(f"{fused}: model_type {config['model_type']!r}; only {', '.join(_PRETOKENIZER)} go to GGUF")
    weights = read_weights(folder)
    tensors = list(_tensors(weights, config))
    with atomic_path(out) as temporary:
        writer = gguf.GGUFWriter(str(temporary), config["model_type"])
        _write_head(writer, config, fused.resolve().name)
        _write_tokenizer(writer, folder, config)
        for tensor in tensors:
            width = {"F32": np.float32, "F16": np.float16}.get(tensor.kind, np.uint8)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(width), tensor.size,
                                   gguf.GGMLQuantizationType[tensor.kind])  # fmt: skip
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:  # one at a time: all of them may be more than the machine holds
            writer.write_tensor_data(tensor.make())
        writer.close()
        size = temporary.stat().st_size
        off, scale, what = _compared(fused, temporary, weights, config, {tensor.name: tensor for tensor in tensors})
    untold = [GRAMMAR_UNTOLD]
    untold.append(f"the window that was learned, {config.get('plagal', {}).get('window')} tokens")
    unpacked = sum(f"{tensor.module}.scales" in weights and tensor.kind == "F16" for tensor in tensors)
    if unpacked:
        untold.append(f"the packing of {unpacked} layers: GGUF has no such blocks, so they are plain fp16")
    return Export(out, size, off, scale, tuple(untold), what)


def _tensors(weights: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[_Tensor]:
    from plagal.model.exchange import as_numpy, unpacked_weight

    heads = {"self_attn.q_proj": config["num_attention_heads"], "self_attn.k_proj": config["num_key_value_heads"]}
    for key, value in weights.items():
        module, _, part = key.rpartition(".")
        if part not in ("weight", "bias"):
            continue
        name, own = f"{_gguf_name(module)}.{part}", module.partition("model.layers.")[2].partition(".")[2]
        turned = heads.get(own, 0) if config["model_type"] == "llama" else 0
        turn: Callable[[Array], Array] = partial(_in_pairs, heads=turned)
        packing = _packing(config, module)
        if value.ndim == 1:
            yield _Tensor(name, module, "F32", value.shape, lambda v=value, t=turn: t(_floats(v)))  # type: ignore[misc]
        elif f"{module}.scales" in weights and _is_q4_1(weights, module, packing):
            width = value.shape[1] * 32 // packing["bits"]
            shape = (value.shape[0], width // _BLOCK * _BLOCK_BYTES)
            yield _Tensor(name, module, "Q4_1", shape, partial(_q4_1, weights, module, turn))
        elif f"{module}.scales" in weights:
            shape = (value.shape[0], value.shape[1] * 32 // packing["bits"])
            yield _Tensor(name, module, "F16", shape, lambda m=module, p=packing, t=turn: (  # type: ignore[misc]
                t(unpacked_weight(weights, m, p)).astype(np.float16)))  # fmt: skip
        else:
            kind = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[str(value.dtype).rpartition(".")[2]]
            shape = (value.shape[0], value.shape[1] * 2) if kind == "BF16" else value.shape
            yield _Tensor(name, module, kind, shape, lambda v=value, t=turn, b=kind == "BF16": (  # type: ignore[misc]
                np.ascontiguousarray(t(as_numpy(v))).view(np.uint8) if b else t(as_numpy(v))))  # fmt: skip


def _gguf_name(module: str) -> str:
    if module in _TOP:
        return _TOP[module]
    number, _, own = module.removeprefix("model.layers.").partition(".")
    if own not in _LAYER:
        raise ModelError(f"{module}: no such tensor goes to GGUF")
    return f"blk.{number}.{_LAYER[own]}"


def _floats(value: Any) -> Array:
    from plagal.model.exchange import as_floats

    return as_floats(value)


def _in_pairs(rows: Array, heads: int) -> Array:
    """llama.cpp's RoPE for llamas wants each head's rows as pairs (i, i + half); mlx-lm has the halves one after the
    other. No heads: as it is."""
    if not heads:
        return rows
    pairs = rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2)
    return np.ascontiguousarray(pairs).reshape(rows.shape)


def _in_halves(rows: Array, heads: int) -> Array:
    """Back from `_in_pairs`."""
    if not heads:
        return rows
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _packing(config: Mapping[str, Any], module: str) -> dict[str, Any]:
    quantization = config.get("quantization") or {}
    own = quantization.get(module, quantization)
    return dict(own) if own else {}


def _is_q4_1(weights: Mapping[str, Any], module: str, packing: Mapping[str, Any]) -> bool:
    if packing.get("bits") != 4 or packing.get("mode", "affine") != "affine" or packing["group_size"] % _BLOCK:
        return False
    return all(np.abs(_floats(weights[f"{module}.{part}"])).max() < _LARGEST_HALF for part in ("scales", "biases"))


def _q4_1(weights: Mapping[str, Any], module: str, turn: Callable[[Array], Array]) -> Array:
    """Blocks of 20 bytes: scale and minimum in fp16, then 32 nibbles, the later half in the upper four bits."""
    packed = turn(np.array(weights[f"{module}.weight"]))
    nibbles = (packed[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32)).astype(np.uint8) & 15
    nibbles = nibbles.reshape(packed.shape[0], -1, _BLOCK)
    codes = nibbles[..., :16] | nibbles[..., 16:] << 4
    repeats = nibbles.shape[1] // weights[f"{module}.scales"].shape[1]
    ends = [
        np.repeat(turn(_floats(weights[f"{module}.{part}"])), repeats, axis=1)
        .astype(np.float16)[..., None]
        .view(np.uint8)
        for part in ("scales", "biases")
    ]
    return np.ascontiguousarray(np.concatenate([*ends, codes], axis=-1)).reshape(packed.shape[0], -1)


def _write_head(writer: Any, config: Mapping[str, Any], name: str) -> None:
    writer.add_name(f"Plagal {name}")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    tokenizer, settings = read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json")
    if tokenizer["model"]["type"] != "BPE":
        raise ModelError(f"{folder}/tokenizer.json is not byte-level BPE, which GGUF wants here")
    tokens = [f"[unused {number}]" for number in range(config["vocab_size"])]
    kinds = [_UNUSED] * len(tokens)
    for text, number in tokenizer["model"]["vocab"].items():
        tokens[number], kinds[number] = text, _NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRETOKENIZER[config["model_type"]])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(config["eos_token_id"])
    if isinstance(config.get("bos_token_id"), int):
        writer.add_bos_token_id(config["bos_token_id"])
    by_text = {text: number for number, text in enumerate(tokens)}
    if settings.get("pad_token") in by_text:
        writer.add_pad_token_id(by_text[settings["pad_token"]])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    if settings.get("chat_template"):
        writer.add_chat_template(settings["chat_template"])


def _compared(
    fused: Path, file: Path, weights: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, _Tensor]
) -> tuple[float, float, str]:
    """The largest difference of a logit between the folder and the file read back, the largest logit, and "logit"; of
    weights, where two plain models are more than the machine holds."""
    import gguf

    from plagal.model.base import load
    from plagal.model.exchange import as_floats, fits_unpacked, logits_of, put_weights, unpacked_weight

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    read: dict[str, Array] = {}
    off = scale = 0.0
    small = fits_unpacked(sum(int(np.prod(tensor.shape)) for tensor in tensors.values()))
    for found in gguf.GGUFReader(str(file)).tensors:
        tensor = tensors[found.name]
        part = found.name.rpartition(".")[2]
        value = gguf.quants.dequantize(found.data, found.tensor_type)
        if config["model_type"] == "llama":
            value = _in_halves(value, heads.get(found.name.split(".")[-2], 0))
        if part != "weight":
            continue
        if small:
            read[tensor.module] = np.array(value, dtype=np.float32)
            continue
        packed = f"{tensor.module}.scales" in weights
        ours = (unpacked_weight(weights, tensor.module, _packing(config, tensor.module)) if packed
                else as_floats(weights[f"{tensor.module}.weight"]))  # fmt: skip
        off, scale = max(off, float(np.abs(ours - value).max())), max(scale, float(np.abs(ours).max()))
    if not small:
        return off, scale, "weight"
    lm, other = load(fused, "text"), load(fused, "text")  # as they are on disk: nothing is grown
    put_weights(other.model, read)
    ids = ids_to_compare(lm)
    mine, theirs = logits_of(lm.model, ids), logits_of(other.model, ids)
    return float(np.abs(mine - theirs).max()), float(np.abs(mine).max()), "logit"
