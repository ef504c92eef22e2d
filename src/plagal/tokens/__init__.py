"""Music to words and back. Knows no models."""

from typing import Any

__all__ = ["text_token_service"]


def __getattr__(name: str) -> Any:
    # Resolved when asked for, so that importing one module of this package does not pull in the others.
    if name == "text_token_service":
        from plagal.tokens import service

        return service.text_token_service
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
