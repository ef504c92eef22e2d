"""Attention, SwiGLU and log-sum-exp for MLX's CPU backend, where `exp` alone takes most of a training step.

MLX 0.32's CPU `exp` is scalar: 12 ns an element, twice that in training, which computes softmax again for its gradient.
Here exp is a polynomial that `mx.compile` fuses and the compiler vectorises (2 ns), softmax is kept for the backward
pass, and its gradient uses sum(dP * P) = sum(dO * O) (FlashAttention, Dao et al. 2022, equation 4). Results
agree with MLX's own to 1e-5 relative. Without g++ `power(e, x)` stands in (5 ns).

On other backends nothing here is used: Metal and CUDA have fused kernels of their own.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from plagal.model.cpu.blas import one_thread

Array = Any
_MASKED = -1e9  # added to scores that may not be seen; finite, so that no row becomes NaN


def on_cpu() -> bool:
    return mx.default_device() == mx.cpu


@cache
def fused() -> bool:
    """Whether mx.compile can fuse on this device: on the CPU it calls g++."""
    return not on_cpu() or sys.platform != "linux" or shutil.which("g++") is not None


def _exp_not_positive(x: Array) -> Array:
    """exp(x) for x <= 0, relative error under 6e-6 down to x = -32, where it stops falling (1e-14)."""
    if not fused():
        return mx.power(math.e, mx.maximum(x, -32.0))
    y = mx.maximum(x, -32.0) * (1 / 64)
    p: Array = 1 / 5040
    for coefficient in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0):
        p = p * y + coefficient
    p = p * y
    for _ in range(3):  # expm1(2 y) = expm1(y) (expm1(y) + 2): keeps the precision that 1 + p would round away
        p = p * (p + 2.0)
    p = p + 1.0
    for _ in range(3):
        p = p * p
    return p


def _silu_gate(gate: Array, up: Array) -> Array:
    return _sigmoid(gate) * gate * up


def _silu_gate_vjp(gate: Array, up: Array, cotangent: Array) -> tuple[Array, Array]:
    sigmoid = _sigmoid(gate)
    return cotangent * up * sigmoid * (1 + gate * (1 - sigmoid)), cotangent * gate * sigmoid


def _sigmoid(x: Array) -> Array:
    e = _exp_not_positive(-mx.abs(x))
    return mx.where(x >= 0, 1.0, e) / (1 + e)


def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """mx.compile once for each stream: a compiled graph stays on the stream that it was traced on."""
    compiled: dict[str, Callable[..., Any]] = {}

    def call(*arrays: Array) -> Any:
        index = str(mx.default_stream(mx.default_device()))
        if index not in compiled:
            compiled[index] = mx.compile(function) if fused() else function
        return compiled[index](*arrays)

    return call


_masked_exp = _fused(lambda scores, bias, peak: _exp_not_positive(scores + bias - peak))
_shifted_exp = _fused(lambda scores, peak: _exp_not_positive(scores - peak))
_product = _fused(lambda a, b: a * b)
_softmax_vjp = _fused(lambda p, cotangent, mean: p * (cotangent - mean))
_gate = _fused(_silu_gate)
_gate_vjp = _fused(_silu_gate_vjp)


@cache
def _causal_bias(queries: int, keys: int) -> Array:
    """[queries, keys]: 0 where a query may look, else a large negative number; the last query sees every key."""
    seen = np.arange(keys - queries, keys)[:, None] >= np.arange(keys)[None]
    return mx.array(np.where(seen, 0.0, _MASKED).astype(np.float32))


@mx.custom_function
def _attend(queries: Array, keys: Array, values: Array, bias: Array) -> tuple[Array, Array]:
    """queries [B, G, R * L, D] already scaled, keys and values [B, G, T, D], bias [..., R * L or 1, T] -> output,
    weights."""
    scores = queries @ keys.swapaxes(-1, -2)
    peak = mx.max(scores + bias, axis=-1, keepdims=True)
    weights = _masked_exp(scores, bias, peak)
    weights = _product(weights, mx.reciprocal(weights.sum(axis=-1, keepdims=True)))
    return weights @ values, weights


@_attend.vjp
def _attend_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
    queries, keys, values, bias = primals
    cotangent, (output, weights) = cotangents[0], outputs
    mean = (cotangent * output).sum(axis=-1, keepdims=True)
    scores = _softmax_vjp(weights, cotangent @ values.swapaxes(-1, -2), mean)
    grads = scores @ keys, scores.swapaxes(-1, -2) @ queries, weights.swapaxes(-1, -2) @ cotangent
    return *grads, mx.zeros_like(bias)


def attention(
    queries: Array,
    keys: Array,
    values: Array,
    cache: Any = None,  # noqa: ARG001 (mlx-lm passes it)
    scale: float = 1.0,
    mask: Any = None,
    sinks: Any = None,  # noqa: ARG001
) -> Array:
    """Stands in for `mlx_lm.models.base.scaled_dot_product_attention`. queries [B, H, L, D], keys and values
    [B, G, T, D] with G dividing H; mask None, "causal", bool or additive, broadcast to [B, 1, L, T]."""
    b, h, length, d = queries.shape
    g, t = keys.shape[1], keys.shape[2]
    if mask is None:
        bias = mx.zeros((1, 1))
    elif isinstance(mask, str):
        bias = _causal_bias(length, t)
    else:
        bias = mx.where(mask, 0.0, _MASKED) if mask.dtype == mx.bool_ else mask
    repeats = h // g
    if repeats > 1 and bias.shape[-2] > 1:
        bias = mx.concatenate([bias] * repeats, axis=-2)
    grouped = (queries * scale).reshape(b, g, repeats * length, d)
    outputs: Any = _attend(grouped, keys, values, bias)
    return outputs[0].reshape(b, h, length, d)


@mx.custom_function
def swiglu(gate: Array, up: Array) -> Array:
    """Stands in for `mlx_lm.models.activations.swiglu`."""
    return _gate(gate, up)


@swiglu.vjp
def _swiglu_vjp(primals: Any, cotangent: Any, _output: Any) -> Any:
    return _gate_vjp(*primals, cotangent)


@mx.custom_function
def _log_sum_exp(logits: Array) -> tuple[Array, Array]:
    peak = mx.max(logits, axis=-1, keepdims=True)
    weights = _shifted_exp(logits, peak)
    total = weights.sum(axis=-1, keepdims=True)
    return (mx.log(total) + peak).squeeze(-1), _product(weights, mx.reciprocal(total))


@_log_sum_exp.vjp
def _log_sum_exp_vjp(_primals: Any, cotangents: Any, outputs: Any) -> Any:
    return _product(outputs[1], cotangents[0][..., None])


def log_sum_exp(logits: Array) -> Array:
    """log(sum(exp(logits))) over the last axis [nats], in fp32."""
    if not on_cpu():
        return mx.logsumexp(logits.astype(mx.float32), axis=-1)
    outputs: Any = _log_sum_exp(logits.astype(mx.float32))
    return outputs[0]


@contextmanager
def checkpointed(model: Any, wanted: bool = True) -> Iterator[None]:
    """While this is open, layers of `model`'s kind keep only their inputs and compute the rest again for the gradient.

    mlx-lm's grad_checkpoint does the same for good; here a second run in this process starts clean."""
    kind = type(model.layers[0])
    plain = kind.__call__

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        def inner(weights: Any, *args: Any, **kwargs: Any) -> Any:
            layer.update(weights)
            return plain(layer, *args, **kwargs)

        return mx.checkpoint(inner)(layer.trainable_parameters(), *args, **kwargs)

    if wanted:
        kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = plain


_OURS: dict[str, Callable[..., Any]] = {"scaled_dot_product_attention": attention, "swiglu": swiglu}


@contextmanager
def cpu_kernels(model: Any) -> Iterator[None]:
    """While this is open, `model`'s mlx-lm module uses the functions above, if it is in fp32 on the CPU, and a matrix
    product there takes one thread: lanes (lanes.py) run side by side, and the bits must not depend on cores."""
    module = sys.modules[type(model).__module__]
    first_norm = model.model.norm.weight if hasattr(getattr(model, "model", None), "norm") else None
    usable = on_cpu() and first_norm is not None and first_norm.dtype == mx.float32
    stock = {name: getattr(module, name) for name in _OURS if usable and hasattr(module, name)}
    for name in stock:
        setattr(module, name, _OURS[name])
    try:
        with one_thread() if on_cpu() else nullcontext():
            yield
    finally:
        for name, function in stock.items():
            setattr(module, name, function)
