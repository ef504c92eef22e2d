"""A language model as `plagal.compose` writes with it: MLX or NumPy underneath, NumPy outside.

A small model reads by `plagal.model.cpu.decode`, any other by mlx-lm, on one thread: each lane (plagal.model.cpu.lanes)
would build every step's graph once more, which costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten
from tqdm import tqdm

from plagal.model.base import load, total_bytes
from plagal.model.cpu.decode import PlainDecoder, PlainRows, plain_decoder
from plagal.model.cpu.kernels import cpu_kernels, on_cpu
from plagal.model.cpu.lanes import on_lanes
from plagal.model.loss import Ids, Window, head_logits, hidden_states, make_windows
from plagal.model.memory import SCORED_WINDOWS, budget_bytes, pieces_at_once, windows_at_once
from plagal.model.words import LanguageModel, WordTokens, rows_of
from plagal.plumbing.errors import ModelError
from plagal.tokens.vocabulary import END_MARK, split_text, without_counts

Floats = npt.NDArray[np.float32]


class ModelScorer:
    """Scores next words with `lm`. With `memory`, what was read for one piece is kept for the next that begins alike
    (a chat's next line, a piece that goes on); of use where pieces are written singly."""

    def __init__(self, lm: LanguageModel, memory: bool = False):
        self.lm, self.memory = lm, memory
        self._kept: _Reader | None = None
        self.reused = 0
        """Tokens that did not have to be read again, in all."""
        self.passes = 0
        """Times that the model read, in all."""

    @property
    def spelling(self) -> WordTokens:
        return self.lm.words

    @property
    def window(self) -> int:
        config = self.lm.config
        return int(config.get("plagal", {}).get("window", config.get("max_position_embeddings", 2048)))

    @cached_property
    def ahead(self) -> ModelScorer | None:
        """The small model that the folder names to write ahead of this one (config.json, plagal.draft). Raises
        ModelError where it is not there."""
        name = self.lm.config.get("plagal", {}).get("draft")
        if name is None:
            return None
        folder = self.lm.folder / str(name)
        if not folder.is_dir():
            raise ModelError(f"{self.lm.folder}/config.json names the draft {name!r}, which is not a folder there")
        small = ModelScorer(load(folder), self.memory)
        if not small.spelling.whole:
            raise ModelError(f"{folder}: a draft has one token for each music word; this one spells them")
        return small

    @cached_property
    def _plain(self) -> PlainDecoder | None:
        return plain_decoder(self.lm)

    def encode_text(self, text: str) -> list[int]:
        return self.lm.encode_text(text)

    @contextmanager
    def writing(self) -> Iterator[None]:
        self.lm.model.eval()
        with cpu_kernels(self.lm.model), self.ahead.writing() if self.ahead is not None else nullcontext():
            yield

    def open(self, rows: int, columns: npt.NDArray[np.int32]) -> _Reader:
        reader = self._kept if self.memory and rows == 1 else None
        if reader is None:
            plain = self._plain
            reader = _Reader(self, rows, plain.open(rows, columns) if plain else _MlxRows(self.lm, rows, columns))
            self._kept = reader if self.memory and rows == 1 else self._kept
        reader.begins = True
        return reader

    def log_probs(self, texts: Sequence[str]) -> list[Floats]:
        return [scores.log_probs for scores in word_scores(self.lm, texts, max_tokens=self.window)]


class _Reader:
    """One batch, and what each of its rows has read."""

    def __init__(self, scorer: ModelScorer, rows: int, within: PlainRows | _MlxRows):
        self._scorer, self._within = scorer, within
        self._read: list[list[int]] = [[] for _ in range(rows)]
        self.begins = True

    def read(self, contexts: Sequence[list[int]], wanted: Sequence[int]) -> Floats:
        begins, tokens = [], []
        for row, (ids, count) in enumerate(zip(contexts, wanted, strict=True)):
            begin = (
                min(_shared(self._read[row], ids), len(ids) - count) if count else max(len(self._read[row]), len(ids))
            )
            begins.append(begin)
            tokens.append(ids[begin:])
            if count:
                self._read[row] = ids
        if self.begins:
            self._scorer.reused += sum(begins)
            self.begins = False
        self._scorer.passes += 1
        return self._within.read(tokens, begins, wanted)

    def keep(self, rows: Sequence[int]) -> None:
        self._read = [self._read[row] for row in rows]
        self._within.keep(rows)


def _shared(known: list[int], ids: list[int]) -> int:
    """How many tokens two rows begin alike with."""
    if ids[: len(known)] == known:
        return len(known)
    return next((n for n, (one, other) in enumerate(zip(known, ids, strict=False)) if one != other), len(ids))


class _MlxRows:
    """Rows side by side in mlx-lm's model, padded on the right; each has its own length."""

    def __init__(self, lm: LanguageModel, rows: int, columns: npt.NDArray[np.int32]):
        self._lm = lm
        self._places = _Places(rows)
        self._caches = [_RowCache(self._places) for _ in lm.model.layers]
        head = lm.model.model.embed_tokens if lm.tied else lm.model.lm_head
        self._head = rows_of(head, mx.array(columns)).T
        mx.eval(self._head)  # once, not for each word

    def keep(self, rows: Sequence[int]) -> None:
        self._places.rows = len(rows)
        for cache in self._caches:
            cache.keep(rows)

    def read(self, tokens: Sequence[Sequence[int]], begins: Sequence[int], wanted: Sequence[int]) -> Floats:
        """As PlainRows.read."""
        width = max(map(len, tokens))
        ids = np.full((len(tokens), width), self._lm.words.pad_id, dtype=np.int32)
        for line, row in zip(ids, tokens, strict=True):
            line[: len(row)] = row
        self._places.move(begins, width)
        hidden = hidden_states(self._lm.model, mx.array(ids), self._caches)
        ends = np.array([[len(row) - count] for row, count in zip(tokens, wanted, strict=True)])
        behind = np.clip(ends + np.arange(max(wanted)), 0, width - 1)
        hidden = mx.take_along_axis(hidden, mx.array(behind)[..., None], axis=1)
        return np.array((hidden @ self._head).astype(mx.float32))


class _Places:
    """Where the rows of a batch stand: all layers' caches share it."""

    def __init__(self, rows: int):
        self.rows = rows

    def move(self, begins: Sequence[int], width: int) -> None:
        """`width` tokens are to be read by each row, the first of them at `begins`."""
        self.end = max(begins) + width
        self.begin = begins[0]
        self.offset: Any = begins[0]
        if self.rows > 1:
            self.offset = mx.array(list(begins))
            at = np.array(begins)[:, None] + np.arange(width)
            self.at = mx.array(at)[:, None, :, None]
            self.mask = mx.array(np.arange(self.end) <= at[:, :, None])[:, None]


class _RowCache:
    """Keys and values of one layer, as mlx-lm asks for them. Its own KVCache has one length for all rows: rows of which
    one agreed with more guesses than another would have to read again what they know."""

    _STEP = 256

    def __init__(self, places: _Places):
        self._places = places
        self._kept: list[Any] = []

    @property
    def offset(self) -> Any:
        return self._places.offset

    def make_mask(self, width: int, return_array: bool = False, window_size: int | None = None) -> Any:  # noqa: ARG002
        if self._places.rows > 1:
            return self._places.mask
        return None if width == 1 else "causal"

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        end = self._places.end
        new = (keys, values)
        missing = end - (self._kept[0].shape[2] if self._kept else 0)
        if missing > 0:
            room = -(-missing // self._STEP) * self._STEP
            more = [mx.zeros((*part.shape[:2], room, part.shape[3]), part.dtype) for part in new]
            if self._kept:
                more = [mx.concatenate(list(pair), axis=2) for pair in zip(self._kept, more, strict=True)]
            self._kept = more
        for number, part in enumerate(new):
            if self._places.rows > 1:
                at = mx.broadcast_to(self._places.at, part.shape)
                self._kept[number] = mx.put_along_axis(self._kept[number], at, part, axis=2)
            else:
                self._kept[number][..., self._places.begin : end, :] = part
        return self._kept[0][..., :end, :], self._kept[1][..., :end, :]

    def keep(self, rows: Sequence[int]) -> None:
        self._kept = [part[mx.array(list(rows))] for part in self._kept]


# --- How likely a model finds each word of given texts ---

# --- From sub-words to words: how likely each music word is for a model in the `text` encoding.
#
# The words' spellings are a tree. At each node that a word passes, the model's probabilities are taken over what may
# follow there: the node's children and, where a word may end, all that can begin another word (or the end mark). Their
# product along a word's path is its probability, and those of all words sum to one, as they do in the `event` encoding.
#
# What a branch that was not written would have become is unknown without writing it. All of its probability is laid on
# one of its words, the first: so log-probabilities of the words that stand there are exact, and the share of words
# foretold right is at most that of exact sums.

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
    lm: LanguageModel, texts: Sequence[str], *, max_tokens: int = 512, batch: int | None = None,
    distributions: Distributions | None = None, progress: bool = False,
) -> list[WordScores]:  # fmt: skip
    """Score every word of every text (of the stage `convert`), in the windows that training uses.

    `distributions` is called with the log-probabilities of all words at each place: columns in the order of
    MUSIC_WORDS, the end mark last. In the `text` encoding, see plagal.model.scorer; `hits` then says whether each
    sub-word was the likeliest.
    """
    windows = make_windows(lm, texts, max_tokens, "the texts to score")
    batch = batch or windows_that_fit(lm, max_tokens, SCORED_WINDOWS)
    words_of = [(*without_counts(split_text(text).words), END_MARK) for text in texts]
    found = [WordScores(w, np.full(len(w), np.nan, np.float32), np.zeros(len(w), np.bool_)) for w in words_of]
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


def _scored(lm: LanguageModel, windows: Sequence[Window], groups: list[list[int]]) -> Iterator[list[Scored]]:
    """For each group: for each window, log-probabilities [words, words + 1], words as columns, and whether foretold."""
    tokens = lm.words
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
    column = np.full(int(max(*tokens.ids, *tokens.counts)) + 1, -1, dtype=np.int32)
    column[tokens.ids] = np.arange(len(tokens.ids))

    def score(logits: Floats, targets: Ids) -> Scored:
        music = column[targets] >= 0  # a count of bars is read, not foretold
        logits, targets = logits[:-1][music], targets[music]
        peak = logits.max(axis=1, keepdims=True)
        log_probs = logits - peak
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
    ids = np.full((len(windows), longest), lm.words.pad_id, dtype=np.int32)
    positions = []
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        positions.append(np.arange(window.first - 1, len(window.ids)) + row * longest)
    hidden = hidden_states(lm.model, mx.array(ids))
    hidden = hidden.reshape(-1, hidden.shape[-1])[mx.array(np.concatenate(positions))]
    return head_logits(lm.model, hidden, rows).astype(mx.float32)
