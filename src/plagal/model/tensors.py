"""Tensors on disk, with errors that say what is wrong."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import mlx.core as mx

_PROBE = bytes(1 << 16)


def save_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write one file. Raises OSError with the reason and the file's name, where MLX tells neither: its RuntimeError is
    the same for a full disk and for a wrong type."""
    try:
        mx.save_safetensors(str(path), tensors, metadata=metadata)
    except RuntimeError as error:
        with path.open("ab") as file:  # what stops MLX stops this, and has a number
            file.write(_PROBE)
            file.flush()
        raise OSError(errno.EIO, " ".join(str(error).split()), str(path)) from error
