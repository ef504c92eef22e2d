"""What an export tells, and what both sides of a comparison read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plagal.tokens.vocabulary import prompt_text

PROMPT = "Generate 8 bars of gospel in C major at 80 BPM in 4/4"
_PIECE = (
    "SONG_START KEY_C TIMESIG_4_4 TEMPO_80 BAR_START BEAT_0 NOTE_ON_48 DUR_HALF VEL_MF NOTE_ON_64 DUR_QUARTER VEL_F"
    " BEAT_1 NOTE_ON_67 DUR_QUARTER VEL_F BEAT_2 NOTE_ON_53 DUR_HALF VEL_MF BAR_START"
)
GRAMMAR_UNTOLD = "the grammar: other programs write any word anywhere; `parse_token_response` mends what they answer"


@dataclass(frozen=True)
class Export:
    """`off`: the largest difference between what was written, read back, and the model, of `what` (a logit, a weight);
    `scale`: the largest of them; `untold`: what the format cannot say, a line each."""

    path: Path
    size_bytes: int
    off: float
    scale: float
    untold: tuple[str, ...]
    what: str = "logit"

    def lines(self) -> Iterator[str]:
        yield f"{self.path}: {self.size_bytes / 1e6:.1f} MB"
        yield f"read back: no {self.what} is off by more than {self.off:.2g} (the largest is {self.scale:.3g})"
        for line in self.untold:
            yield f"not in it: {line}"


def ids_to_compare(lm: Any) -> list[int]:
    """A prompt and the beginning of a piece, in the tokens of `lm`."""
    return [*lm.encode_text(prompt_text(PROMPT)), *map(int, lm.word_tokens.encode(_PIECE.split()))]
