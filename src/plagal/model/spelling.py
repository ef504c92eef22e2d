"""From sub-words to words: how likely each music word is for a model in the `text` encoding.

The words' spellings are a tree. At each node that a word passes, the model's probabilities are taken over what may
follow there: the node's children and, where a word may end, all that can begin another word (or the end mark). Their
product along a word's path is its probability, and those of all words sum to one, as they do in the `event` encoding.

What a branch that was not written would have become is unknown without writing it. All of its probability is laid on
one of its words, the first: so log-probabilities of the words that stand there are exact, and the share of words
foretold right is at most that of exact sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.model.words import WordTokens

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Node:
    """`columns` [n] of the rows that may follow; `groups` [n]: which child each leads to; `firsts` [children]: the
    place of the first word below each; `child_of`: row id -> child, or None for the end of a word."""

    columns: Ints
    groups: Ints
    firsts: Ints
    child_of: dict[int | None, int]


class Spellings:
    """The tree of `tokens`' spellings. Rows are those of `tokens.ids`; places those of MUSIC_WORDS, the end mark
    last."""

    def __init__(self, tokens: WordTokens):
        self._spelled = [*tokens.spellings, (tokens.end_id,)]
        self._column = {int(i): column for column, i in enumerate(tokens.ids)}
        below: dict[tuple[int, ...], dict[int | None, int]] = {}
        for place, spelling in enumerate(self._spelled):
            for depth in range(len(spelling)):
                below.setdefault(spelling[:depth], {}).setdefault(spelling[depth], place)
        for place, spelling in enumerate(self._spelled):
            if spelling in below:
                below[spelling][None] = place
        self._begin = sorted(i for i in below[()] if i is not None)
        self._nodes = {prefix: self._node(children) for prefix, children in below.items()}

    def _node(self, children: dict[int | None, int]) -> _Node:
        columns, groups = [], []
        for group, i in enumerate(children):
            follows = self._begin if i is None else [i]
            columns += [self._column[j] for j in follows]
            groups += [group] * len(follows)
        return _Node(np.array(columns), np.array(groups), np.array(list(children.values())),
                     {i: group for group, i in enumerate(children)})  # fmt: skip

    def length(self, place: int) -> int:
        return len(self._spelled[place])

    def word(self, place: int, logits: Floats) -> tuple[Floats, bool]:
        """One word at `place` among all. `logits` [sub-words + 1, rows]: at each of its sub-words and after the last.
        -> log-probabilities [words + 1], and whether each of its sub-words was the likeliest there."""
        spelling = self._spelled[place]
        found = np.full(len(self._spelled), -np.inf, dtype=np.float32)
        reached, hit = 0.0, True
        for depth in range(len(spelling) + 1):
            node = self._nodes.get(spelling[:depth])
            if node is None:
                break
            logs = _log_softmax(logits[depth][node.columns], node.groups, len(node.firsts))
            taken = node.child_of[spelling[depth] if depth < len(spelling) else None]
            others = np.arange(len(logs)) != taken
            found[node.firsts[others]] = reached + logs[others]
            hit = hit and bool(logs[taken] >= logs.max())
            reached += float(logs[taken])
        found[place] = reached
        return found, hit


def _log_softmax(logits: Floats, groups: Ints, count: int) -> npt.NDArray[Any]:
    """Log of each group's share [count] of softmax(logits)."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    sums = np.bincount(groups, weights, count)
    return np.asarray(np.log(np.maximum(sums, 1e-300)) - np.log(weights.sum()))


def places_of(tokens: WordTokens, ids: Sequence[int]) -> list[int]:
    """Token ids that spell whole words, the end mark perhaps last -> places."""
    end = bool(len(ids)) and int(ids[-1]) == tokens.end_id
    words = tokens.decode(ids[: len(ids) - end])
    return [*(tokens.place_of(word) for word in words), *([len(tokens.spellings)] if end else [])]
