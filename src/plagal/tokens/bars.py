"""A piece's words cut at its bar lines, and what holds at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BAR_WORD = "BAR_START"
HELD_PREFIXES = ("KEY_", "TIMESIG_", "TEMPO_")
"""Words that hold until another of their kind."""


@dataclass(frozen=True)
class Bar:
    """One bar of a piece: its words and what held when it began."""

    words: tuple[str, ...]
    held: tuple[str, ...]


def held_words(words: Sequence[str], held: Mapping[str, str] | None = None) -> dict[str, str]:
    """Prefix -> the last KEY, TIMESIG and TEMPO word in `words`, else that of `held`; in that order."""
    last = dict(held or {})
    for word in words:
        for prefix in HELD_PREFIXES:
            if word.startswith(prefix):
                last[prefix] = word
    return {prefix: last[prefix] for prefix in HELD_PREFIXES if prefix in last}


def cut_bars(words: Sequence[str]) -> tuple[tuple[str, ...], list[Bar]]:
    """A piece's words before its first bar, and its bars; SONG_END belongs to the last."""
    starts = [i for i, word in enumerate(words) if word == BAR_WORD]
    head = tuple(words[: starts[0]] if starts else words)
    held, bars = held_words(head), []
    for start, end in zip(starts, [*starts[1:], len(words)], strict=False):  # without a bar there is no start
        bars.append(Bar(tuple(words[start:end]), tuple(held.values())))
        held = held_words(words[start:end], held)
    return head, bars
