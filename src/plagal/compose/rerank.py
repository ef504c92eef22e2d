"""Pieces that are listened to before they are handed over: one that was asked for in a key and sounds in another is
written again.

Steering keeps the notes in the key's scale, but which of its degrees a piece leans on is the model's own choice, and an
ear may take F major for D minor. What is heard here is what a listener or an evaluation would hear: the notes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plagal.compose.decoding import generate
from plagal.compose.writing import OnWord, Request
from plagal.model.base import LanguageModel
from plagal.music.harmony import hear_key
from plagal.music.keys import same_key
from plagal.tokens.codec import decode

TRIES = 3
"""Times that a piece is written at most; the last one stands as it is."""
_NEXT_SEED = 1_000_003


def generate_as_asked(
    lm: LanguageModel, requests: Sequence[Request], *, seed: int = 0, on_word: OnWord | None = None, **how: Any
) -> list[list[str]]:
    """As `plagal.compose.decoding.generate`, but a piece whose key (`wishes.key`) is not heard in it is written again
    from another seed, TRIES times in all. Same arguments, same pieces. `on_word` is told every try's words."""
    pieces = generate(lm, requests, seed=seed, on_word=on_word, **how)
    for number in range(1, TRIES):
        again = [place for place, (request, words) in enumerate(zip(requests, pieces, strict=True))
                 if not in_its_key(request, words)]  # fmt: skip
        if not again:
            break
        later = [reseeded(requests[place], number) for place in again]
        tell = None if on_word is None else _told_as(on_word, again)
        written = generate(lm, later, seed=seed + number * _NEXT_SEED, on_word=tell, **how)
        for place, words in zip(again, written, strict=True):
            pieces[place] = words
    return pieces


def in_its_key(request: Request, words: Sequence[str]) -> bool:
    """Whether the key that a request asks for is heard in a piece; True where it asks for none."""
    key = request.wishes.key
    return key is None or same_key(hear_key(decode(words).score), key)


def _told_as(on_word: OnWord, places: Sequence[int]) -> OnWord:
    return lambda row, word: on_word(places[row], word)


def reseeded(request: Request, number: int) -> Request:
    """A request's number-th try; the first, 0, is the request itself."""
    return request if request.seed is None else replace(request, seed=request.seed + number * _NEXT_SEED)
