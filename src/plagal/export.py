"""What was learned, in other programs' formats. No stage imports this, so an edit here trains nothing anew."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from plagal.model.adapters import load_stage, whole_model_under_stage2, write_tokenizer
from plagal.model.base import BASE_POINTER, find_folder, load, load_stock, read_config, read_weights
from plagal.model.gguf import LAYERS, TOP, in_halves
from plagal.model.tensors import as_floats, as_numpy, dense_of, fits_unpacked, logits_of, put_weights, unpacked_weight
from plagal.model.words import merged_rows
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, read_json, write_json
from plagal.tokens.vocabulary import prompt_text

# --- What an export tells, and what both sides of a comparison read ---

PROMPT = "Generate 8 bars of gospel in C major at 80 BPM in 4/4"
_PIECE = (
    "SONG_START KEY_C TIMESIG_4_4 TEMPO_80 BAR_START BEAT_0 NOTE_ON_48 DUR_HALF VEL_MF NOTE_ON_64 DUR_QUARTER VEL_F"
    " BEAT_1 NOTE_ON_67 DUR_QUARTER VEL_F BEAT_2 NOTE_ON_53 DUR_HALF VEL_MF BAR_START"
)
GRAMMAR_UNTOLD = "the grammar: other programs may write any word anywhere; `parse_token_response` repairs their answers"


@dataclass(frozen=True)
class Export:
    """`off`: the largest difference between what was written, read back, and the model, of `what` (a logit, a weight);
    `scale`: the largest of them; `untold`: what the format cannot say, a line each."""

    path: Path
    size_bytes: int
    off: float
    scale: float
    untold: tuple[str, ...]
    what: str = "logit"

    def lines(self) -> Iterator[str]:
        yield f"{self.path}: {self.size_bytes / 1e6:.1f} MB"
        yield f"read back: no {self.what} is off by more than {self.off:.2g} (the largest is {self.scale:.3g})"
        for line in self.untold:
            yield f"not in it: {line}"


def ids_to_compare(lm: Any) -> list[int]:
    """A prompt and the beginning of a piece, in the tokens of `lm`."""
    return [*lm.encode_text(prompt_text(PROMPT)), *map(int, lm.words.encode(_PIECE.split()))]


def _compared(lm: Any, other: Any) -> tuple[float, float]:
    """The largest difference of a logit between `lm` and the module `other`, and the largest logit."""
    ids = ids_to_compare(lm)
    ours, theirs = logits_of(lm.model, ids), logits_of(other, ids)
    return float(np.abs(ours - theirs).max()), float(np.abs(ours).max())


# --- The fused model as a folder of its own for mlx-lm and transformers: nothing in it refers to this project's ---


def to_mlx(fused: Path, out: Path) -> Export:
    """Copy the folder, links followed, and compare what stock mlx-lm loads. Raises ModelError where it is none."""
    folder = find_folder(fused)
    with atomic_path(out) as temporary:
        shutil.copytree(folder, temporary)
        off, scale = _compared(load(fused), load_stock(temporary))
        size = sum(file.stat().st_size for file in temporary.iterdir())
    return Export(out, size, off, scale, (GRAMMAR_UNTOLD,))


# --- Stage 2's adapter as Hugging Face PEFT keeps it: adapter_model.safetensors and adapter_config.json ---
#
# mlx-lm's lora_a is [in, rank] and lora_b [rank, out]; PEFT's lora_A and lora_B are their transposes, scaled by alpha /
# rank. The music words' rows go along as whole tables (`modules_to_save`), as PEFT saves a vocabulary that grew.
# Format: https://huggingface.co/docs/peft/developer_guides/checkpoint

_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def to_peft(models: Path, out: Path) -> Export:
    """Write the folder `out` from the adapters of `models`/stage2. Raises ModelError where they are missing or
    damaged."""
    lm = load_stage(models, "stage2")
    if lm.adapters is None:
        raise ModelError(f"{models / 'stage2'} has no adapter; run `make train_stage2`")
    ours, lora = lm.adapters, lm.adapters["lora_parameters"]
    tensors: dict[str, Any] = {}
    for name, module in lm.model.named_modules():
        if "lora_a" in module:
            tensors[f"{_PREFIX}{name}{_A}"] = np.ascontiguousarray(as_floats(module.lora_a).T)
            tensors[f"{_PREFIX}{name}{_B}"] = np.ascontiguousarray(as_floats(module.lora_b).T)
    tables = {name: as_floats(rows) for name, rows in merged_rows(lm.model).items()}
    layers = len(lm.model.layers)
    base = whole_model_under_stage2(models)
    pointer = base / BASE_POINTER
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": read_json(pointer)["base"] if pointer.exists() else str(base),
        "r": lora["rank"],
        "lora_alpha": lora["scale"] * lora["rank"],
        "lora_dropout": lora["dropout"],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(key.rpartition(".")[2] for key in lora["keys"]),
        "layers_to_transform": list(range(layers - ours["num_layers"], layers)),
        "layers_pattern": "layers",
        "modules_to_save": sorted(name.rpartition(".")[2] for name in tables) or None,
    }
    with atomic_path(out) as temporary:
        temporary.mkdir()
        save_file(tensors | {f"{_PREFIX}{name}.weight": rows for name, rows in tables.items()},
                  temporary / WEIGHTS, {"format": "pt"})  # fmt: skip
        write_json(temporary / CONFIG, config)
        write_tokenizer(lm, temporary)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        off, scale = _peft_compared(lm, base, temporary)
    untold = [GRAMMAR_UNTOLD, f"the window that was learned, {ours.get('window')} tokens"]
    if tables:
        untold.append(
            f"the base's new size: call resize_token_embeddings({lm.config['vocab_size']}) before you load it"
        )
    if "quantization" in lm.config:
        untold.append("the packed base: PEFT needs it in one of torch's formats, so last digits differ")
    return Export(out, size, off, scale, tuple(untold))


def _peft_compared(lm: Any, base: Path, folder: Path) -> tuple[float, float]:
    """The largest difference of a logit between `lm` and `base` with what `folder` says added to it, and the largest
    logit."""
    tensors, config = load_file(folder / WEIGHTS), read_json(folder / CONFIG)
    other, scale = load(base, "text" if config["modules_to_save"] else None), config["lora_alpha"] / config["r"]
    modules, weights = dict(other.model.named_modules()), {}
    for key, value in tensors.items():
        name = key.removeprefix(_PREFIX)
        if name.endswith(_A):
            name = name.removesuffix(_A)
            weights[name] = dense_of(modules[name]) + scale * (tensors[f"{_PREFIX}{name}{_B}"] @ value)
        elif not name.endswith(_B):
            weights[name.removesuffix(".weight")] = value
    put_weights(other.model, weights)
    return _compared(lm, other.model)


# --- The fused model as GGUF, for llama.cpp, Ollama and LM Studio: its tokenizer keeps one token a music word ---
#
# Weights are written as they are, tensor by tensor. MLX's 4-bit groups (w = scale q + bias) are GGUF's Q4_1 blocks
# (w = d q + m) of 32: the same numbers, a group of 64 as two blocks. What no block holds is written plain, in fp16.
# Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

_NAMES = {ours: theirs for theirs, ours in (TOP | LAYERS).items()}
_PRETOKENIZER = {"qwen2": "qwen2", "llama": "smollm"}
"""Architecture -> llama.cpp's name for how text is split before it is merged."""
_HEAD = {
    "context_length": "max_position_embeddings", "embedding_length": "hidden_size", "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size", "head_count": "num_attention_heads",
    "head_count_kv": "num_key_value_heads", "layer_norm_rms_eps": "rms_norm_eps", "rope_freq_base": "rope_theta",
}  # fmt: skip
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
        off, scale, what = _gguf_compared(
            fused, temporary, weights, config, {tensor.name: tensor for tensor in tensors}
        )
    untold = [GRAMMAR_UNTOLD]
    untold.append(f"the window that was learned, {config.get('plagal', {}).get('window')} tokens")
    unpacked = sum(f"{tensor.module}.scales" in weights and tensor.kind == "F16" for tensor in tensors)
    if unpacked:
        untold.append(f"the packing of {unpacked} layers: GGUF does not have it, so they become fp16")
    return Export(out, size, off, scale, tuple(untold), what)


def _tensors(weights: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[_Tensor]:
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
            yield _Tensor(name, module, "F32", value.shape, lambda v=value, t=turn: t(as_floats(v)))  # type: ignore[misc]
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
    number, _, own = module.removeprefix("model.layers.").partition(".") if module not in _NAMES else ("", "", module)
    if own not in _NAMES:
        raise ModelError(f"{module}: GGUF has no such tensor")
    return f"blk.{number}.{_NAMES[own]}" if number else _NAMES[own]


def _in_pairs(rows: Array, heads: int) -> Array:
    """llama.cpp's RoPE for llamas wants each head's rows as pairs (i, i + half); mlx-lm has the halves one after the
    other. No heads: as it is."""
    if not heads:
        return rows
    pairs = rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2)
    return np.ascontiguousarray(pairs).reshape(rows.shape)


def _packing(config: Mapping[str, Any], module: str) -> dict[str, Any]:
    quantization = config.get("quantization") or {}
    own = quantization.get(module, quantization)
    return dict(own) if own else {}


def _is_q4_1(weights: Mapping[str, Any], module: str, packing: Mapping[str, Any]) -> bool:
    if packing.get("bits") != 4 or packing.get("mode", "affine") != "affine" or packing["group_size"] % _BLOCK:
        return False
    return all(np.abs(as_floats(weights[f"{module}.{part}"])).max() < _LARGEST_HALF for part in ("scales", "biases"))


def _q4_1(weights: Mapping[str, Any], module: str, turn: Callable[[Array], Array]) -> Array:
    """Blocks of 20 bytes: scale and minimum in fp16, then 32 nibbles, the later half in the upper four bits."""
    packed = turn(np.array(weights[f"{module}.weight"]))
    nibbles = (packed[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32)).astype(np.uint8) & 15
    nibbles = nibbles.reshape(packed.shape[0], -1, _BLOCK)
    codes = nibbles[..., :16] | nibbles[..., 16:] << 4
    repeats = nibbles.shape[1] // weights[f"{module}.scales"].shape[1]
    ends = [
        np.repeat(turn(as_floats(weights[f"{module}.{part}"])), repeats, axis=1)
        .astype(np.float16)[..., None]
        .view(np.uint8)
        for part in ("scales", "biases")
    ]
    return np.ascontiguousarray(np.concatenate([*ends, codes], axis=-1)).reshape(packed.shape[0], -1)


def _write_head(writer: Any, config: Mapping[str, Any], name: str) -> None:
    writer.add_name(f"Plagal {name}")
    for name, key in _HEAD.items():
        getattr(writer, f"add_{name}")(config[key])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    tokenizer, settings = read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json")
    if tokenizer["model"]["type"] != "BPE":
        raise ModelError(f"{folder}/tokenizer.json is not byte-level BPE, which GGUF needs here")
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


def _gguf_compared(
    fused: Path, file: Path, weights: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, _Tensor]
) -> tuple[float, float, str]:
    """The largest difference of a logit between the folder and the file read back, the largest logit, and "logit"; of
    weights, where two plain models are more than the machine holds."""
    import gguf

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    read: dict[str, Array] = {}
    off = scale = 0.0
    small = fits_unpacked(sum(int(np.prod(tensor.shape)) for tensor in tensors.values()))
    for found in gguf.GGUFReader(str(file)).tensors:
        tensor = tensors[found.name]
        part = found.name.rpartition(".")[2]
        value = gguf.quants.dequantize(found.data, found.tensor_type)
        if config["model_type"] == "llama":
            value = in_halves(value, heads.get(found.name.split(".")[-2], 0))
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
    return *_compared(lm, other.model), "logit"
