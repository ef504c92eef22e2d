"""A GGUF file of SmolLM2's kind, but tiny: architecture llama, Q4_1 layers, a Q8_0 embedding, byte-level BPE.

Written by the format's description (version 3), since MLX writes no packed GGUF. Weights are random.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, FEED_FORWARD = 64, 2, 2, 1, 96
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_F32, _Q4_1, _Q8_0 = 0, 3, 8
_GROUP, _ALIGNMENT = 32, 32


def write_tiny_gguf(path: Path, seed: int = 0) -> Path:
    from tokenizers import pre_tokenizers

    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ON"]
    random = np.random.default_rng(seed)
    metadata: dict[str, tuple[int, Any]] = {
        "general.architecture": (_STRING, "llama"),
        "llama.embedding_length": (_UINT32, HIDDEN),
        "llama.block_count": (_UINT32, LAYERS),
        "llama.feed_forward_length": (_UINT32, FEED_FORWARD),
        "llama.attention.head_count": (_UINT32, HEADS),
        "llama.attention.head_count_kv": (_UINT32, KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": (_FLOAT32, 1e-5),
        "llama.vocab_size": (_UINT32, len(tokens)),
        "llama.context_length": (_UINT32, 2048),
        "llama.rope.freq_base": (_FLOAT32, 10000.0),
        "tokenizer.ggml.model": (_STRING, "gpt2"),
        "tokenizer.ggml.pre": (_STRING, "smollm"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, tokens)),
        "tokenizer.ggml.token_type": (_ARRAY, (_INT32, [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))),
        "tokenizer.ggml.merges": (_ARRAY, (_STRING, ["O N"])),
        "tokenizer.ggml.bos_token_id": (_UINT32, 1),
        "tokenizer.ggml.eos_token_id": (_UINT32, 2),
        "tokenizer.chat_template": (_STRING, "{{ messages[0]['content'] }}"),
    }
    _write(path, metadata, list(_tensors(random, len(tokens))))
    return path


def _tensors(random: np.random.Generator, vocabulary: int) -> Any:
    """(name, shape, kind, bytes)."""
    yield _packed("token_embd.weight", random, vocabulary, HIDDEN, _Q8_0)
    yield _plain("output_norm.weight", HIDDEN)
    width = HIDDEN // HEADS * KV_HEADS
    shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (width, HIDDEN), "attn_v": (width, HIDDEN),
              "attn_output": (HIDDEN, HIDDEN), "ffn_gate": (FEED_FORWARD, HIDDEN), "ffn_up": (FEED_FORWARD, HIDDEN),
              "ffn_down": (HIDDEN, FEED_FORWARD)}  # fmt: skip
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            yield _plain(f"blk.{layer}.{name}.weight", HIDDEN)
        for name, (rows, columns) in shapes.items():
            yield _packed(f"blk.{layer}.{name}.weight", random, rows, columns, _Q4_1)


def _plain(name: str, size: int) -> tuple[str, tuple[int, ...], int, bytes]:
    return name, (size,), _F32, np.ones(size, dtype=np.float32).tobytes()


def _packed(
    name: str, random: np.random.Generator, rows: int, columns: int, kind: int
) -> tuple[str, tuple[int, ...], int, bytes]:
    blocks = rows * columns // _GROUP
    if kind == _Q4_1:  # w = d q + m: two halves, then 16 bytes of two 4-bit q each
        scale = np.stack([np.full(blocks, 0.015), np.full(blocks, -0.11)], axis=1).astype(np.float16)
        body = random.integers(0, 256, (blocks, 16), dtype=np.uint8)
        data = np.concatenate([scale.view(np.uint8), body], axis=1)
    else:  # w = d q: a half, then 32 signed bytes
        scale = np.full((blocks, 1), 0.0005, dtype=np.float16)
        body = random.integers(-127, 128, (blocks, 32), dtype=np.int8)
        data = np.concatenate([scale.view(np.uint8), body.view(np.uint8)], axis=1)
    return name, (rows, columns), kind, data.tobytes()


def _write(path: Path, metadata: dict[str, tuple[int, Any]], tensors: list[Any]) -> None:
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, (kind, value) in metadata.items():
        head += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    body = bytearray()
    for name, shape, kind, data in tensors:
        head += _string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", kind, len(body))
        body += data + bytes(-len(data) % _ALIGNMENT)
    path.write_bytes(bytes(head) + bytes(-len(head) % _ALIGNMENT) + bytes(body))


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _string(value)
    if kind == _ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
