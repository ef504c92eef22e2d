"""A prompt in, playable music out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plagal.serving.service import FinetunedQwenService

__all__ = ["FinetunedQwenService"]


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used: commands without a model start without MLX."""
    if name == "FinetunedQwenService":
        from plagal.serving.service import FinetunedQwenService

        return FinetunedQwenService
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
