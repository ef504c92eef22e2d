"""The plan's text in the sub-words of Qwen2.5, without that tokenizer.

Qwen's pre-tokenizer splits at every space, so a word's sub-words are a constant: `subwords.json` holds them (made by
`main` below). From a distribution over whole words follows the distribution over sub-words, exactly: what a
sub-word weighs after some others is the sum of the words that go on so.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plagal.plumbing.files import write_text
from plagal.tokens.vocabulary import MUSIC_WORDS

END = "<|im_end|>"
"""The mark that ends a piece; one sub-word."""

_ROWS_AT_ONCE = 256

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@cache
def spellings() -> dict[str, tuple[int, ...]]:
    """Every music word -> ids of its sub-words in Qwen2.5's BPE, with the space before it (SONG_START, which comes
    first, without); and END."""
    table = json.loads(files("plagal.evaluation").joinpath("subwords.json").read_text(encoding="utf-8"))
    return {word: tuple(ids) for word, ids in table.items()}


def count_subwords(words: Sequence[str]) -> int:
    """Sub-words that the words cost in the plan's text."""
    table = spellings()
    return sum(len(table[word]) for word in words)


@dataclass(frozen=True)
class SubwordHits:
    """What greedy prediction of sub-words gets right in one piece. `hits` is fractional where several were equally
    likely (the chance of guessing right); `forced` counts the sub-words that spelling alone decides."""

    hits: float
    subwords: int
    forced: int


class SpellingTrie:
    """The spellings of some words as a tree: node 0 is the root, the children of a node stand side by side."""

    def __init__(self, choices: Sequence[str], table: dict[str, tuple[int, ...]] | None = None):
        table = spellings() if table is None else table
        spelled = [table[word] for word in choices]
        self.order = np.array(sorted(range(len(spelled)), key=lambda index: spelled[index]), dtype=np.int64)
        self._grow([spelled[index] for index in self.order])
        paths = self._paths(spelled)
        self.depth: Ints = np.array([len(path) for path in paths])
        self.path: Ints = np.zeros((len(paths), int(self.depth.max())), dtype=np.int64)
        """Shape (choices, longest spelling): the node after each sub-word of a choice; 0 beyond its end."""
        for row, path in enumerate(paths):
            self.path[row, : len(path)] = path

    def _grow(self, rows: list[tuple[int, ...]]) -> None:
        """Number the nodes breadth first, over spellings in sorted order: a node is a run of rows."""
        low, high, parent, depth = [0], [len(rows)], [0], [0]
        children: list[list[int]] = [[]]
        stop = [-1]
        node = 0
        while node < len(low):
            row = low[node]
            if row < high[node] and len(rows[row]) == depth[node]:
                stop[node] = row
                row += 1
            while row < high[node]:
                piece, begin = rows[row][depth[node]], row
                while row < high[node] and rows[row][depth[node]] == piece:
                    row += 1
                children[node].append(len(low))
                low.append(begin)
                high.append(row)
                parent.append(node)
                depth.append(depth[node] + 1)
                children.append([])
                stop.append(-1)
            node += 1
        self.low, self.high, self.parent = np.array(low), np.array(high), np.array(parent)
        self.stop: Ints = np.array(stop)
        """Per node: the place in `order` of the word that ends there, or -1."""
        self.children: Ints = np.array([len(some) for some in children])
        self._first_child: Ints = np.searchsorted(self.parent[1:], np.arange(len(low))) + 1
        self._rows = {rows[index]: index for index in range(len(rows))}
        if len(self._rows) < len(rows):
            raise ValueError("two words are spelled alike")

    def _paths(self, spelled: list[tuple[int, ...]]) -> list[list[int]]:
        ends = {int(row): node for node, row in enumerate(self.stop) if row >= 0}
        paths = []
        for pieces in spelled:
            node, path = ends[self._rows[pieces]], []
            while node:
                path.append(node)
                node = int(self.parent[node])
            paths.append(path[::-1])
        return paths

    def hits(self, probabilities: Floats, targets: Ints) -> SubwordHits:
        """Greedy prediction of the sub-words of a piece.

        `probabilities`: shape (words, choices), each row a distribution over whole words; `targets`: shape (words,),
        the choice that stands there. Where a word is the beginning of another (BEAT_1 of BEAT_1.5), the sub-word after
        it is weighed against the next word's first; only there, going on counts as right when it outweighs
        stopping, which can be too strict but never too lenient.
        """
        total, forced = 0.0, 0
        previous = -1
        for begin in range(0, len(targets), _ROWS_AT_ONCE):
            some = slice(begin, begin + _ROWS_AT_ONCE)
            right, fixed = self._hits(
                probabilities[some].astype(np.float64), targets[some], probabilities, begin, previous
            )
            total, forced = total + right, forced + fixed
            previous = int(targets[some][-1])
        return SubwordHits(total, int(self.depth[targets].sum()), forced)

    def _hits(
        self, probabilities: Floats, targets: Ints, everything: Floats, begin: int, previous: int
    ) -> tuple[float, int]:
        sums = np.zeros((len(targets), len(self.order) + 1))
        np.cumsum(probabilities[:, self.order], axis=1, out=sums[:, 1:])
        rows = np.arange(len(targets))
        total, forced = 0.0, 0
        for step in range(self.path.shape[1]):
            alive = rows[self.depth[targets] > step]
            node = self.path[targets[alive], step]
            mass, best, tied = self._against_siblings(sums, alive, node)
            right = (mass >= best) / tied
            above = self.parent[node]
            if step == 0:
                right *= self._beats_going_on(mass, targets, everything, begin, previous)
            else:
                ends = self.stop[above] >= 0
                stopping = np.where(ends, probabilities[alive, self.order[np.maximum(self.stop[above], 0)]], 0.0)
                right *= mass > stopping
                forced += int(((self.children[above] == 1) & ~ends).sum())
            total += float(right.sum())
        return total, forced

    def _against_siblings(self, sums: Floats, rows: Ints, nodes: Ints) -> tuple[Floats, Floats, Floats]:
        """For each row's node: what it weighs, what the heaviest of it and its siblings weighs, how many tie there."""
        above = self.parent[nodes]
        counts = self.children[above]
        starts = np.cumsum(counts) - counts
        siblings = np.arange(counts.sum()) + np.repeat(self._first_child[above] - starts, counts)
        owners = np.repeat(rows, counts)
        weights = sums[owners, self.high[siblings]] - sums[owners, self.low[siblings]]
        best = np.maximum.reduceat(weights, starts) if len(starts) else weights
        tied = np.add.reduceat((weights >= np.repeat(best, counts)).astype(np.float64), starts) if len(starts) else best
        return sums[rows, self.high[nodes]] - sums[rows, self.low[nodes]], best, tied

    def _beats_going_on(
        self, first: Floats, targets: Ints, everything: Floats, begin: int, previous: int
    ) -> npt.NDArray[np.float64]:
        """Whether a word's first sub-word outweighs every way of going on with the word before, where that word is the
        beginning of longer ones."""
        before = np.concatenate([[previous], targets[:-1]])
        result = np.ones(len(targets))
        for row, word in enumerate(before):
            node = self.path[word, self.depth[word] - 1] if word >= 0 else 0
            if word < 0 or not self.children[node]:
                continue
            weights = everything[begin + row - 1].astype(np.float64)
            below = np.flatnonzero(self.parent == node)
            going_on = max(weights[self.order[self.low[child] : self.high[child]]].sum() for child in below)
            result[row] = float(weights[word] * first[row] > going_on)
        return result


# --- The maker of subwords.json ---
# Make `subwords.json` anew: `python -m plagal.evaluation.subwords qwen.tiktoken`.
#
# The argument is a file of Qwen's byte-pair merges in tiktoken's form (a token in base64 and its rank on each line);
# Qwen2.5's own tokenizer shares them. Run this whenever the vocabulary grew.

_END_ID = 151645
"""<|im_end|> in Qwen2.5."""

_PIECES = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\na-zA-Z0-9]?[a-zA-Z]+|[0-9]| ?[^\sa-zA-Z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer, for ASCII (all that music words hold)."""


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Token -> rank, which is its id."""
    lines = Path(path).read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def encode(text: str, ranks: dict[bytes, int]) -> list[int]:
    """Ids of an ASCII text by byte-pair encoding: in each piece the pair of lowest rank is merged first."""
    ids = []
    for piece in _PIECES.findall(text):
        parts = [bytes([byte]) for byte in piece.encode("ascii")]
        while len(parts) > 1:
            pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
            place = min(range(len(pairs)), key=pairs.__getitem__)
            if pairs[place] == len(ranks):
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def main(merges: str) -> None:
    ranks = read_ranks(merges)
    table = {word: encode(word if word == "SONG_START" else f" {word}", ranks) for word in MUSIC_WORDS} | {
        END: [_END_ID]
    }
    lines = ",\n".join(f"{json.dumps(word)}: {json.dumps(ids, separators=(',', ':'))}" for word, ids in table.items())
    write_text(Path(__file__).with_name("subwords.json"), f"{{\n{lines}\n}}\n")
    sys.stdout.write(f"{len(table)} words\n")


if __name__ == "__main__":
    main(sys.argv[1])
