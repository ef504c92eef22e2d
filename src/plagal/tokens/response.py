"""A stock model's free text read as music words: those found, what was skipped, what had to be mended."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plagal.tokens.repair import Repair, mend
from plagal.tokens.vocabulary import MUSIC_WORDS

_KNOWN = frozenset(MUSIC_WORDS)
_LONGEST_TEXT = 1_000_000
"""[characters] that are read; an answer of 2,048 tokens has about 10,000."""


@dataclass(frozen=True)
class TokenResponse:
    """`words`: a whole grammatical piece; `found`: the music words in the order of the text; `skipped`: what else
    stood there, in the order of the text, each once; `repairs`: what was done to `found` to make `words`."""

    words: list[str]
    found: list[str]
    skipped: list[str]
    repairs: list[Repair]


def parse_token_response(text: str) -> TokenResponse:
    """Read any text. Never raises: where there is no music, `words` holds an empty piece."""
    found, skipped = [], dict[str, None]()
    for piece in re.split(r"[\s,;|`\"'\[\]()<>]+", text[:_LONGEST_TEXT]):
        word = piece if piece in _KNOWN else piece.strip(".:!?*-")
        if word in _KNOWN:
            found.append(word)
        elif word:
            skipped[word] = None
    words, repairs = mend(found)
    return TokenResponse(words, found, list(skipped), repairs)
