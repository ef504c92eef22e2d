"""Checkpoints, model folders, adapters and GGUF files."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .frame import Target, expect, own_folder, taken, watched

sys.path.insert(0, str(Path(__file__).parents[2] / "unit"))


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor_seeds() -> list[bytes]:
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return [
        _safetensors({"a": one, "__metadata__": {"format": "mlx"}}, bytes(8)),
        _safetensors({"a": one, "b": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [8, 12]}}, bytes(12)),
        _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, bytes(8)),
        _safetensors({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}, bytes(8)),
        _safetensors({"a": {"dtype": "F99", "shape": [[]], "data_offsets": None}}, bytes(8)),
        _safetensors({"a": one}, b"", 1 << 62),
        _safetensors(b"[" * 3000),
        _safetensors(b'{"a": {}}'),
        _safetensors([1]),
    ]


def _checkpoint() -> Callable[[bytes], bool]:
    """The first byte says which file of a checkpoint the rest is; its sum is right, so that it is read at all."""
    import plagal.model  # noqa: F401  (before mlx.core)
    from plagal.model.checkpoint import SUMS, load_checkpoint

    folder = own_folder() / "step-00000001"
    folder.mkdir()
    whole = {"state.safetensors": _tensor_seeds()[0], "state.json": b'{"step": 1}'}

    def try_one(data: bytes) -> bool:
        files = dict(whole)
        kind = data[0] % 4 if data else 0
        if kind < 2:
            files[tuple(whole)[kind]] = data[1:]
        sums = {name: hashlib.sha256(held).hexdigest() for name, held in files.items()}
        files[SUMS] = data[1:] if kind == 2 else json.dumps(sums).encode()
        for name, held in files.items():
            (folder / name).write_bytes(held)
        with watched():
            found = taken(lambda: load_checkpoint(folder))
            if found is None:
                return False
            return _readable(found[0])

    return try_one


def _readable(tensors: dict[str, Any]) -> bool:
    import mlx.core as mx

    for tensor in tensors.values():
        expect(tensor.nbytes <= 1 << 20, f"{tensor.nbytes} bytes from a small file")
        mx.eval(tensor)
    return True


def _checkpoint_seeds() -> list[bytes]:
    return [b"\0" + seed for seed in _tensor_seeds()] + [
        b'\1{"step": 1}', b"\1[]", b'\1{"step": 1e999}', b"\1" + b"[" * 3000, b"\2{}", b"\2[]", b"\2null",
        b'\2{"state.safetensors": 1, "state.json": []}', b"\3",
    ]  # fmt: skip


def _gguf() -> Callable[[bytes], bool]:
    import plagal.model  # noqa: F401
    from plagal.model.gguf import make_from_gguf

    folder = own_folder()
    file, made = folder / "a.gguf", folder / "made"

    def try_one(data: bytes) -> bool:
        file.write_bytes(data)
        with watched():
            found = taken(lambda: make_from_gguf(made, file))
        left = sorted(path.name for path in folder.iterdir())
        expect(left == (["a.gguf"] if found is None else ["a.gguf", "made"]), f"left: {left}")
        shutil.rmtree(made, ignore_errors=True)
        return found is not None

    return try_one


def _gguf_seeds() -> list[bytes]:
    from tiny_gguf import write_tiny_gguf

    file = own_folder() / "tiny.gguf"
    whole = write_tiny_gguf(file).read_bytes()
    empty = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    many = b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60)
    text = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62)
    return [whole, empty, many, text, whole[:1000], whole[: len(whole) // 2]]


TARGETS = {
    "checkpoint": Target(
        "what was saved, or one line; no tensor larger than its file", _checkpoint, _checkpoint_seeds, 2048
    ),
    "gguf": Target("a model folder, or one line and no folder", _gguf, _gguf_seeds, 1 << 17),
}
