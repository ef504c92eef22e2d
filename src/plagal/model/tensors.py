"""Tensors on disk, with errors that say what is wrong."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_unflatten

from plagal.model.memory import UNPACKED_SHARE, budget_bytes
from plagal.model.words import rows_of

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


# --- Weights to NumPy and back, for formats of other programs ---

Floats = npt.NDArray[np.float32]


def as_numpy(tensor: Any) -> npt.NDArray[Any]:
    """fp32, fp16, bf16 (as its upper 16 bits: NumPy has no such type) or whole numbers, as they are."""
    if tensor.dtype == mx.bfloat16:
        return np.array(tensor.view(mx.uint16))
    return np.array(tensor)


def as_floats(tensor: Any) -> Floats:
    return np.array(tensor.astype(mx.float32))


def dense_of(module: Any) -> Floats:
    """The weight of a linear layer or an embedding [out, in], unpacked."""
    inner = getattr(module, "linear", module)  # below an adapter
    size = inner.weight.shape[0]
    return as_floats(rows_of(inner, mx.arange(size)))


def unpacked_weight(weights: Mapping[str, Any], name: str, packing: Mapping[str, Any]) -> Floats:
    """Of packed tensors as they are on disk [out, in]. `packing`: group_size, bits, mode."""
    made = mx.dequantize(
        weights[f"{name}.weight"], weights[f"{name}.scales"], weights.get(f"{name}.biases"),
        group_size=packing["group_size"], bits=packing["bits"], mode=packing.get("mode", "affine"),
    )  # fmt: skip
    return as_floats(made)


def put_weights(model: Any, weights: Mapping[str, Floats]) -> None:
    """Give modules plain weights: name -> weight [out, in] of a linear layer or embedding, [width] of a norm."""
    modules, plain = dict(model.named_modules()), []
    for name, weight in weights.items():
        module = modules[name]
        if weight.ndim == 1:
            module.weight = mx.array(weight)
            continue
        layer = nn.Embedding(1, 1) if hasattr(module, "as_linear") else nn.Linear(1, 1, bias=False)
        layer.weight = mx.array(weight)
        if "bias" in module:
            layer.bias = module.bias
        plain.append((name, layer))
    model.update_modules(tree_unflatten(plain))
    mx.eval(model.parameters())


def fits_unpacked(weights: int) -> bool:
    """Whether two models of so many weights can be held in fp32, to be compared."""
    return 8 * weights <= UNPACKED_SHARE * budget_bytes()


def logits_of(model: Any, ids: Sequence[int]) -> Floats:
    """Of the whole vocabulary at each of `ids` [ids, vocabulary]."""
    model.eval()
    return as_floats(model(mx.array([list(ids)]))[0])
