"""How likely a model finds each word of given texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten
from tqdm import tqdm

from plagal.model.base import total_bytes
from plagal.model.cpu.kernels import cpu_kernels, on_cpu
from plagal.model.cpu.lanes import on_lanes
from plagal.model.loss import head_logits, hidden_states
from plagal.model.memory import SCORED_WINDOWS, budget_bytes, pieces_at_once, windows_at_once
from plagal.model.windows import Ids, Window, make_windows
from plagal.model.words import LanguageModel, WordTokens
from plagal.tokens.vocabulary import END_MARK, split_text

# --- From sub-words to words: how likely each music word is for a model in the `text` encoding.
#
# The words' spellings are a tree. At each node that a word passes, the model's probabilities are taken over what may
# follow there: the node's children and, where a word may end, all that can begin another word (or the end mark). Their
# product along a word's path is its probability, and those of all words sum to one, as they do in the `event` encoding.
#
# What a branch that was not written would have become is unknown without writing it. All of its probability is laid on
# one of its words, the first: so log-probabilities of the words that stand there are exact, and the share of words
# foretold right is at most that of exact sums.

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


END = END_MARK
"""Stands for the end mark where a word is asked for."""

Scored = tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.bool_]]
Distributions = Callable[[int, int, Floats], None]
"""Called with (text, first target's index in the text's words, log-probabilities [targets, words + 1])."""


@dataclass(frozen=True)
class WordScores:
    """Of one text: for each word from SONG_START on, and the end mark last.

    `log_probs` [words + 1]: nats (at most 0), over all music words and the end mark; `hits`: whether the word was
    the most likely one. Words that no window could hold are NaN and False.
    """

    words: tuple[str, ...]
    log_probs: Floats
    hits: npt.NDArray[np.bool_]


def word_scores(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    max_tokens: int = 512,
    batch: int | None = None,
    distributions: Distributions | None = None,
    progress: bool = False,
) -> list[WordScores]:
    """Score every word of every text (of the stage `convert`), in the windows that training uses.

    `distributions` is called with the log-probabilities of all words at each place: columns in the order of
    MUSIC_WORDS, the end mark last. In the `text` encoding, see plagal.model.scoring; `hits` then says whether each
    sub-word was the likeliest.
    """
    windows = make_windows(lm, texts, max_tokens, "the texts to score")
    batch = batch or windows_that_fit(lm, max_tokens, SCORED_WINDOWS)
    found = [_empty(text) for text in texts]
    lm.model.eval()
    order = sorted(range(len(windows)), key=lambda i: (len(windows[i].ids), i))
    groups = [order[i : i + batch] for i in range(0, len(order), batch)]
    with cpu_kernels(lm.model), tqdm(total=len(windows), unit="window", desc="score", disable=not progress) as bar:
        for group, results in zip(groups, _scored(lm, windows, groups), strict=True):
            for i, (log_probs, targets, hits) in zip(group, results, strict=True):
                window, place = windows[i], windows[i].place
                scores, rows = found[window.text], np.arange(len(targets))
                scores.log_probs[place : place + len(targets)] = log_probs[rows, targets]
                scores.hits[place : place + len(targets)] = hits
                if distributions is not None:
                    distributions(window.text, place, log_probs)
            bar.update(len(group))
    return found


def windows_that_fit(lm: LanguageModel, tokens: int, most: int) -> int:
    """Windows of `tokens` that one forward pass of `lm` may take here, beside its weights."""
    return windows_at_once(lm.config, tokens, _free_bytes(lm), most, 4 if on_cpu() else 2)


def pieces_that_fit(lm: LanguageModel, tokens: int, most: int) -> int:
    """Pieces of up to `tokens` that `lm` may write at once here, beside its weights."""
    return pieces_at_once(lm.config, tokens, _free_bytes(lm), most, 4 if on_cpu() else 2)


def _free_bytes(lm: LanguageModel) -> float:
    return budget_bytes() - total_bytes(value for _, value in tree_flatten(lm.model.parameters()))


def _empty(text: str) -> WordScores:
    words = split_text(text).words
    return WordScores((*words, END), np.full(len(words) + 1, np.nan, np.float32), np.zeros(len(words) + 1, np.bool_))


def _scored(lm: LanguageModel, windows: Sequence[Window], groups: list[list[int]]) -> Iterator[list[Scored]]:
    """For each group: for each window, log-probabilities [words, words + 1], words as columns, and whether foretold."""
    tokens = lm.word_tokens
    rows = mx.array(tokens.ids)
    by_word = _by_row(tokens) if tokens.whole else _by_spelling(tokens)
    for group in groups:
        halves = [half for half in (group[0::2], group[1::2]) if half]
        made = on_lanes([partial(_logits, lm, [windows[i] for i in half], rows) for half in halves])
        mx.eval(made)
        results = {}
        for half, logits in zip(halves, made, strict=True):
            values, start = np.array(logits), 0
            for i in half:
                targets = windows[i].ids[windows[i].first :]
                results[i] = by_word(values[start : start + len(targets) + 1], targets)
                start += len(targets) + 1
        yield [results[i] for i in group]


def _by_row(tokens: WordTokens) -> Callable[[Floats, Ids], Scored]:
    """Each word is a row."""
    column = np.full(int(max(tokens.ids)) + 1, -1, dtype=np.int32)
    column[tokens.ids] = np.arange(len(tokens.ids))

    def score(logits: Floats, targets: Ids) -> Scored:
        peak = logits[:-1].max(axis=1, keepdims=True)
        log_probs = logits[:-1] - peak
        log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
        return log_probs, column[targets], log_probs.argmax(axis=1) == column[targets]

    return score


def _by_spelling(tokens: WordTokens) -> Callable[[Floats, Ids], Scored]:
    """Each word is a path of sub-words."""
    spellings = Spellings(tokens)

    def score(logits: Floats, targets: Ids) -> Scored:
        places = places_of(tokens, targets.tolist())
        log_probs = np.empty((len(places), len(tokens.spellings) + 1), dtype=np.float32)
        hits, start = np.zeros(len(places), dtype=np.bool_), 0
        for row, place in enumerate(places):
            end = start + spellings.length(place)
            log_probs[row], hits[row] = spellings.word(place, logits[start : end + 1])
            start = end
        return log_probs, np.array(places, dtype=np.int32), hits

    return score


def _logits(lm: LanguageModel, windows: list[Window], rows: Any) -> Any:
    """Over the words' rows, before each target of each window and after its last [targets + windows, rows]."""
    longest = max(len(window.ids) for window in windows)
    ids = np.full((len(windows), longest), lm.word_tokens.pad_id, dtype=np.int32)
    positions = []
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        positions.append(np.arange(window.first - 1, len(window.ids)) + row * longest)
    hidden = hidden_states(lm.model, mx.array(ids))
    hidden = hidden.reshape(-1, hidden.shape[-1])[mx.array(np.concatenate(positions))]
    return head_logits(lm.model, hidden, rows).astype(mx.float32)
