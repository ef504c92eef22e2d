"""The plan's text in the sub-words of Qwen2.5, without that tokenizer.

Qwen's pre-tokenizer splits at every space, so a word's sub-words are a constant: `subwords.json` holds them (made by
tools/make_subwords.py). From a distribution over whole words follows the distribution over sub-words, exactly: what a
sub-word weighs after some others is the sum of the words that go on so.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

END = "<|im_end|>"
"""The mark that ends a piece; one sub-word."""

_ROWS_AT_ONCE = 256

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@cache
def spellings() -> dict[str, tuple[int, ...]]:
    """Every music word -> ids of its sub-words in Qwen2.5's BPE, with the space before it (SONG_START, which comes
    first, without); and END."""
    table = json.loads(files("plagal.evaluation").joinpath("subwords.json").read_text(encoding="utf-8"))
    return {word: tuple(ids) for word, ids in table.items()}


class SpellingTrie:
    """The spellings of some words as a tree: nodes are numbered breadth first, 0 is the root, and the children of one
    stand side by side."""

    def __init__(self, choices: Sequence[str], table: dict[str, tuple[int, ...]] | None = None):
        table = spellings() if table is None else table
        spelled = [table[word] for word in choices]
        if len(set(spelled)) < len(spelled):
            raise ValueError("two words are spelled alike")
        self.order = np.array(sorted(range(len(spelled)), key=lambda index: spelled[index]), dtype=np.int64)
        rows = [spelled[index] for index in self.order]
        beginnings = {spelling[:depth] for spelling in spelled for depth in range(len(spelling) + 1)}
        nodes = {
            beginning: node for node, beginning in enumerate(sorted(beginnings, key=lambda path: (len(path), path)))
        }
        # The words that begin with a node's sub-words are a run of `order`.
        self.low: Ints = np.array([bisect_left(rows, path) for path in nodes])
        self.high: Ints = np.array(
            [bisect_left(rows, (*path[:-1], path[-1] + 1)) if path else len(rows) for path in nodes]
        )
        self.parent: Ints = np.array([nodes[path[:-1]] for path in nodes])
        self.families: Ints = np.unique(self.parent[1:], return_index=True)[1]
        """Where the children of each node that has some begin, among all nodes but the root."""
        ends = set(rows)
        self.stop: Ints = np.array([bisect_left(rows, path) if path in ends else -1 for path in nodes])
        """Per node: the place in `order` of the word that ends there, or -1."""
        self.depth: Ints = np.array([len(spelling) for spelling in spelled])
        self.path: Ints = np.zeros((len(spelled), int(self.depth.max())), dtype=np.int64)
        """Shape (choices, longest spelling): the node after each sub-word of a choice; 0 beyond its end."""
        for row, spelling in enumerate(spelled):
            self.path[row, : len(spelling)] = [nodes[spelling[: depth + 1]] for depth in range(len(spelling))]

    def hits(self, probabilities: Floats, targets: Ints) -> float:
        """Greedy prediction of the sub-words of a piece: how many are right, in fractions where several were equally
        likely (the chance of guessing right).

        `probabilities`: shape (words, choices), each row a distribution over whole words; `targets`: shape (words,),
        the choice that stands there. Where a word is the beginning of another (BEAT_1 of BEAT_1.5), the sub-word after
        it is weighed against the next word's first; only there, going on counts as right when it outweighs
        stopping, which can be too strict but never too lenient.
        """
        family = np.repeat(np.arange(len(self.families)), np.diff(self.families, append=len(self.low) - 1))
        total = 0.0
        for begin in range(0, len(targets), _ROWS_AT_ONCE):
            some = slice(begin, begin + _ROWS_AT_ONCE)
            weights, path = probabilities[some].astype(np.float64)[:, self.order], self.path[targets[some]]
            sums = np.zeros((len(path), len(self.order) + 1))
            np.cumsum(weights, axis=1, out=sums[:, 1:])
            mass = sums.take(self.high, axis=1) - sums.take(self.low, axis=1)  # of each node: all words that begin so
            best = np.maximum.reduceat(mass[:, 1:], self.families, axis=1)
            tied = np.add.reduceat(mass[:, 1:] >= best.take(family, axis=1), self.families, axis=1, dtype=np.int32)
            rows, own = np.arange(len(path))[:, None], family[path - 1]
            right = (mass[rows, path] >= best[rows, own]) / tied[rows, own]
            above = self.parent[path]
            stopping = np.where(self.stop[above] >= 0, weights[rows, self.stop[above]], -1.0)
            right[:, 1:] *= (mass[rows, path] > stopping)[:, 1:]
            for row in range(len(path)):
                if (place := begin + row) and not self._outweighs_going_on(
                    probabilities[place - 1], int(targets[place - 1]), mass[row, path[row, 0]]
                ):
                    right[row, 0] = 0.0
            total += float(right[path > 0].sum())
        return total

    def _outweighs_going_on(self, weights: Floats, before: int, first: float) -> bool:
        """Whether a word's first sub-word, which weighs `first`, outweighs every way of going on with the word `before`
        it, where that is the beginning of longer ones. `weights`: the distribution at that word."""
        below = np.flatnonzero(self.parent == self.path[before, self.depth[before] - 1])
        ways = [weights[self.order[self.low[child] : self.high[child]]].astype(np.float64).sum() for child in below]
        return not ways or bool(weights[before] * first > max(ways))
