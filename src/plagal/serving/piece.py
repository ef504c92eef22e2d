"""Pieces in one call, for scripts and the terminal: what is asked for goes in, words and a score come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plagal.asking.order import Order, understand
from plagal.asking.request import read_request
from plagal.music.keys import key_name
from plagal.music.midi import write_midi
from plagal.music.score import Score
from plagal.serving.writer import room_for, write
from plagal.tokens.codec import decode

if TYPE_CHECKING:
    from plagal.model.base import LanguageModel

OnBar = Callable[[], None]
"""Called as each bar that was asked for is written."""


@dataclass(frozen=True)
class Piece:
    """A generated piece: what was asked, its words, from SONG_START to SONG_END, and its score."""

    order: Order
    words: tuple[str, ...]

    @cached_property
    def score(self) -> Score:
        return decode(self.words).score

    @property
    def description(self) -> str:
        """Key, tempo, metre, bars, notes and seed, for people."""
        score, bars = self.score, self.words.count("BAR_START")
        key = f"{key_name(score.keys[0])}, " if score.keys else ""
        metre, tempo = score.metres[0], score.tempos[0].quarters_per_minute
        return (
            f"{key}{metre.numerator}/{metre.denominator}, {tempo:g} quarters a minute, {bars} bars, "
            f"{len(score.notes)} notes, seed {self.order.seed}"
        )

    def write(self, path: str | Path) -> None:
        """Write the MIDI, whole or not at all. Raises DiskError."""
        write_midi(self.score, path)


def generate_piece(prompt: str = "", model: str | Path = "models/fused", *, seed: int = 0, **controls: Any) -> Piece:
    """Write a piece with the model in a folder (loaded once a process). `controls`: the keys of `PieceRequest`. Same
    arguments, same piece. Raises ModelError for a folder that is no whole model, InputError for what cannot be
    asked."""
    request = read_request({"prompt": prompt, "seed": seed, **controls})
    return generate_pieces([understand(request, seed)], model)[0]


def generate_pieces(
    orders: Sequence[Order], model: str | Path = "models/fused", on_bar: OnBar | None = None
) -> list[Piece]:
    """Write orders that share temperature and top_p, in one batch; all of them have bars to follow, or none. A piece
    that is written again, for its key or for what follows, is counted once."""
    lm = loaded(Path(model))
    given = [order.head.count("BAR_START") for order in orders]
    begun, counted = [0] * len(orders), [0] * len(orders)

    def on_draft(row: int, word: str) -> None:
        if on_bar is not None and word in ("SONG_START", "BAR_START", "SONG_END"):
            begun[row] = 0 if word == "SONG_START" else begun[row] + (word == "BAR_START")
            done = begun[row] - given[row] - (word == "BAR_START")
            if counted[row] < done <= orders[row].new_bars:
                counted[row] = done
                on_bar()

    longest = max(room_for(order.bars) for order in orders)
    words = write(lm, orders, longest, on_draft=on_draft, whole=True)
    return [Piece(order, tuple(each)) for order, each in zip(orders, words, strict=True)]


@lru_cache(maxsize=1)
def loaded(folder: Path) -> LanguageModel:
    """The model of a folder, kept for the next call."""
    from plagal.model.base import load

    return load(folder)
