"""A look through a GGUF file before MLX maps it: MLX believes every length and offset that the file states, and reads
past its end.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from math import prod
from pathlib import Path

from plagal.plumbing.errors import ModelError

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
        raise ModelError(f"{path} is no GGUF file that can be read: {error}; fetch it again") from None


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
                raise _Damage("general.alignment is no multiple of 8")
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
