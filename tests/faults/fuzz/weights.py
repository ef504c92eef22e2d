"""Checkpoints, model folders, adapters and GGUF files."""

from __future__ import annotations

import hashlib
import json
import os
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


_PARTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "base.json", "train.json")


def _model() -> Callable[[bytes], bool]:
    """The first byte says which file of a model folder, or of adapters that lie over it, the rest is."""
    import plagal.model  # noqa: F401  (before mlx.core)
    from plagal.model.adapters import ADAPTER_CONFIG, ADAPTERS, load_adapters, trained_window
    from plagal.model.base import load

    os.environ["HF_HUB_OFFLINE"] = "1"  # a note may name a hub's model, which is asked for on purpose
    made, adapters = _model_files()
    folder, over = own_folder() / "model", own_folder() / "adapters"
    folder.mkdir()
    over.mkdir()

    def write(place: Path, files: dict[str, bytes]) -> None:
        for path in place.iterdir():
            path.unlink()
        for name, data in files.items():
            (place / name).write_bytes(data)

    def try_one(data: bytes) -> bool:
        kind = data[0] % 8 if data else 0
        ours = {ADAPTER_CONFIG: adapters[0], ADAPTERS: adapters[1]}
        if kind < len(_PARTS):
            write(folder, made | {_PARTS[kind]: data[1:]})
        else:
            write(folder, made)
            ours[(ADAPTER_CONFIG, ADAPTERS)[kind - len(_PARTS)]] = data[1:]
        write(over, ours)
        with watched():
            taken(lambda: trained_window(folder))
            lm = taken(lambda: load(folder))
            return lm is not None and taken(lambda: load_adapters(lm, over)) is not None

    return try_one


def _model_files() -> tuple[dict[str, bytes], tuple[bytes, bytes]]:
    """A tiny model folder and adapters for it, by file."""
    from model_helpers import LORA, settings, tiny_base

    import plagal.model  # noqa: F401
    from plagal.model.adapters import ADAPTER_CONFIG, ADAPTERS, add_lora, lora_config, write_adapters
    from plagal.model.base import load

    place = own_folder()
    lm = load(tiny_base(place))
    lm.model.freeze()
    add_lora(lm, lora_config(lm, LORA))
    write_adapters(lm, settings(mode="lora"), place)
    made = {path.name: path.read_bytes() for path in lm.folder.iterdir()}
    return made, ((place / ADAPTER_CONFIG).read_bytes(), (place / ADAPTERS).read_bytes())


def _model_seeds() -> list[bytes]:
    made, adapters = _model_files()
    config = json.loads(made["config.json"])
    odd = ({"hidden_size": 1 << 40}, {"num_hidden_layers": 1 << 40}, {"model_type": "../x"}, {"model_file": "x.py"},
           {"vocab_size": -1}, {"num_attention_heads": 0}, {"quantization": {"bits": 3}}, {"quantization": []},
           {"plagal": []}, {"rope_scaling": {"type": "x"}}, {"auto_map": {"AutoTokenizer": "x.Y"}},
           {"model_type": None}, {"quantization_config": {}}, {"architectures": {"a": 1}}, {"model_type": "base"},
           {"hidden_size": "x"})  # fmt: skip
    tokenizer_config = json.loads(made["tokenizer_config.json"])
    small = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    return [
        *(b"\0" + json.dumps(config | change).encode() for change in odd), b"\0[]", b"\0" + b"[" * 3000,
        *(b"\1" + seed for seed in _tensor_seeds()),
        b"\2{}", b"\2" + json.dumps(small).encode(), b'\2{"version": "1.0", "model": {"type": "WordLevel"}}',
        *(b"\3" + json.dumps(tokenizer_config | change).encode() for change in (
            {}, {"tokenizer_class": "x"}, {"auto_map": {"AutoTokenizer": ["x.Y", None]}}, {"eos_token": [1]})),
        b'\4{"base": "."}', b'\4{"base": []}', b"\4{}", b"\4[]", b'\4{"base": "/dev/null", "encoding": 3}',
        b"\5[]", b"\6" + adapters[0], b"\6[]", b'\6{"lora_parameters": 1}', b'\6{"lora_parameters": {"scale": "x"}}',
        *(b"\6" + json.dumps(json.loads(adapters[0]) | change).encode() for change in (
            {"num_layers": -9}, {"num_layers": 1 << 40},
            {"lora_parameters": {"scale": 1, "rank": 1 << 40, "dropout": 2}})),
        *(b"\7" + seed for seed in _tensor_seeds()),
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
    "model": Target("a model, or one line", _model, _model_seeds, 8192, 3072),
    "checkpoint": Target(
        "what was saved, or one line; no tensor larger than its file", _checkpoint, _checkpoint_seeds, 2048
    ),
    "gguf": Target("a model folder, or one line and no folder", _gguf, _gguf_seeds, 1 << 17),
}
