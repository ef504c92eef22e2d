"""Pieces in one call, for scripts and the terminal: what is asked for goes in, words and a score come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plagal.asking.request import Request, read_request
from plagal.compose.write import room_for, write
from plagal.music.keys import key_name
from plagal.music.midi import write_midi
from plagal.music.score import Score
from plagal.serving.writer import claim_process
from plagal.tokens.codec import decode

if TYPE_CHECKING:
    from plagal.model.scorer import ModelScorer

OnBar = Callable[[], None]
"""Called as each bar that was asked for is written."""


@dataclass(frozen=True)
class Written:
    """A piece that is written: what was asked, its words, from SONG_START to SONG_END, and its score."""

    request: Request
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
        beat, quarters = ("dotted quarters", 1.5) if metre.is_compound else ("quarters", 1.0)
        return (
            f"{key}{metre.numerator}/{metre.denominator}, {tempo / quarters:.3g} {beat} a minute, {bars} bars, "
            f"{len(score.notes)} notes, seed {self.request.seed}"
        )

    def write(self, path: str | Path) -> None:
        """Write the MIDI, whole or not at all. Raises DiskError."""
        write_midi(self.score, path)


def write_piece(prompt: str = "", model: str | Path = "models/fused", *, seed: int = 0, **controls: Any) -> Written:
    """Write a piece with the model in a folder (loaded once a process). `controls`: the keys of `Request`. Same
    arguments, same piece. Raises ModelError for a folder that is no whole model, InputError for what cannot be
    asked."""
    return write_pieces([read_request({"prompt": prompt, "seed": seed, **controls})], model)[0]


def write_pieces(
    requests: Sequence[Request], model: str | Path = "models/fused", on_bar: OnBar | None = None
) -> list[Written]:
    """Write requests that share temperature, top_p and tries, in one batch; all of them are refills, or none. A bar
    that is written again, for the piece's key or for what follows, is counted once."""
    begun, counted = [0] * len(requests), [0] * len(requests)

    def on_draft(row: int, word: str) -> None:
        if on_bar is not None and word in ("SONG_START", "BAR_START", "SONG_END"):
            begun[row] = 0 if word == "SONG_START" else begun[row] + (word == "BAR_START")
            done = begun[row] - requests[row].kept_bars - (word == "BAR_START")
            if counted[row] < done <= requests[row].new_bars:
                counted[row] = done
                on_bar()

    claim_process()
    longest = max(room_for(request.new_bars) for request in requests)
    words = write(loaded(Path(model)), requests, max_words=longest, on_draft=on_draft)
    return [Written(request, tuple(words)) for request, words in zip(requests, words, strict=True)]


@lru_cache(maxsize=1)
def loaded(folder: Path) -> ModelScorer:
    """The model of a folder, kept for the next call."""
    from plagal.model.base import load
    from plagal.model.scorer import ModelScorer

    return ModelScorer(load(folder), memory=True)
