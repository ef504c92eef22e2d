"""Guessing ahead: a small model writes some words, the large one says in one pass what it would have written there.

Each word that comes out is drawn from the large model's own probabilities with the piece's own uniform; a guess only
decides for how many words one pass is enough. So a piece is word for word what it is without guesses, whatever they
are. Both models draw with the same uniform, so that they agree by more than chance. To accept a guess by chance instead
(Leviathan et al. 2023) agrees more often, of two models in 75 of 100 draws, not 66, but each length of guess would then
write another piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from plagal.compose.row import Row
from plagal.compose.sampling import Sampler
from plagal.compose.scorer import Floats, Scorer

_MOST_WORDS = 8
_LEAST_CHANCE = 0.25
"""A guess is as long as all of it will be right so often."""
_AGREEMENT = 0.7
"""Share of guessed words that are right, at first."""
_MEMORY = 0.9
_REST_PASSES = 32
"""Where not even one word is worth a guess, so many passes go by before the next."""


class Guesser:
    """Guesses for rows side by side; how far, each row's own agreement tells."""

    def __init__(self, small: Scorer, rows: int, sampler: Sampler):
        self._reader, self._sampler = small.open(rows, small.spelling.ids[:-1]), sampler
        self._agreement = [_AGREEMENT] * rows
        self._resting = [0] * rows

    def keep(self, rows: Sequence[int]) -> None:
        self._reader.keep(rows)
        self._agreement = [self._agreement[row] for row in rows]
        self._resting = [self._resting[row] for row in rows]

    def guess(self, rows: Sequence[Row], rooms: Sequence[int]) -> list[list[int]]:
        """The columns that each row may go on with, at most as many as it has room for."""
        lengths = [0 if row.done else self._length(place) for place, row in enumerate(rows)]
        forks = [row.fork() if length else None for row, length in zip(rows, lengths, strict=True)]
        for step in range(max(lengths)):
            going = [
                (place, fork, mask) for place, (fork, length) in enumerate(zip(forks, lengths, strict=True))
                if fork is not None and step < length and not fork.done and (mask := fork.likely()).any()
            ]  # fmt: skip
            if not going:
                break
            contexts: list[list[int]] = [[] for _ in rows]
            wanted = [0] * len(rows)
            for place, fork, _ in going:
                contexts[place], wanted[place] = fork.reads_ahead(), 1
            read = self._reader.read(contexts, wanted)
            logits = np.stack([fork.leant(read[place, 0]) for place, fork, _ in going])
            uniforms = np.array([fork.random.random() for _, fork, _ in going], dtype=np.float32)
            drawn = self._sampler.draw(logits, np.stack([mask for _, _, mask in going]), uniforms)
            for (_, fork, _), word in zip(going, drawn, strict=True):
                fork.take_word(int(word))
                fork.take_forced()
        return [fork.new[: max(room, 0)] if fork is not None else [] for fork, room in zip(forks, rooms, strict=True)]

    def learn(self, guesses: Sequence[list[int]], agreed: Sequence[tuple[int, int]]) -> None:
        """How often each row's guess was right, and wrong."""
        for place, (guess, (right, wrong)) in enumerate(zip(guesses, agreed, strict=True)):
            if not guess:
                continue
            for hit in [1.0] * right + [0.0] * wrong:
                self._agreement[place] = _MEMORY * self._agreement[place] + (1 - _MEMORY) * hit

    def _length(self, place: int) -> int:
        """Words worth a guess."""
        agreement = self._agreement[place]
        length = int(math.log(_LEAST_CHANCE) / math.log(min(agreement, 0.99))) if agreement > 0 else 0
        if length == 0:
            self._resting[place] += 1
            if self._resting[place] < _REST_PASSES:
                return 0
            self._resting[place], length = 0, 1
        return min(length, _MOST_WORDS)


def take_drawn(
    rows: Sequence[Row], guesses: Sequence[list[int]], logits: Floats, sampler: Sampler
) -> list[tuple[int, int]]:
    """Draw for each row as long as it agrees with its guess, and once more; what is drawn it takes, and what that
    forces. `logits` [rows, longest guess + 1, columns]. -> draws that agreed with each guess, and that did not."""
    agreed = [(0, 0)] * len(rows)
    going = [(row, place, 0) for place, row in enumerate(rows) if not row.done]
    while going:
        uniforms = np.array([row.random.random() for row, _, _ in going], dtype=np.float32)
        masks = np.stack([row.columns for row, _, _ in going])
        drawn = sampler.draw(np.stack([row.leant(logits[place, at]) for row, place, at in going]), masks, uniforms)
        further = []
        for (row, place, at), column in zip(going, drawn, strict=True):
            row.new = []
            row.take(int(column))
            row.take_forced()
            end, guess = at + len(row.new), guesses[place]
            right, wrong = agreed[place]
            if at < len(guess):
                agreed[place] = (right + 1, wrong) if row.new[0] == guess[at] else (right, wrong + 1)
            if not row.done and row.new == guess[at:end]:
                further.append((row, place, end))
        going = further
    return agreed
