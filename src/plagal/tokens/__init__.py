"""Music to words and back. Knows no models."""

from plagal.tokens.vocabulary import text_token_service

__all__ = ["text_token_service"]
