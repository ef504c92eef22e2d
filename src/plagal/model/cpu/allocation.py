"""How much freed memory MLX keeps for later."""

from __future__ import annotations

import mlx.core as mx

KEPT_BYTES = 8 << 20
"""Enough for the buffers that one step gives to the next."""


def keep_little(kept_bytes: int = KEPT_BYTES) -> None:
    """Give freed buffers back beyond `kept_bytes`, for a process that lives for months: MLX keeps one for each size
    that it has ever needed, and pieces of other lengths need other sizes."""
    mx.set_cache_limit(kept_bytes)
