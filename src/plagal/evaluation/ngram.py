"""The floor: counting tables of the same words, with no network.

`NGram` is interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3): three discounts for each length of
context, from its counts of counts; shorter contexts count after how many words a thing was seen instead of how often.
`xz_nats` is what a general compressor makes of the same text.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.music.score import Score
from plagal.tokens import grammar
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Level:
    """What was seen after contexts of one length.

    `keys`: sorted, context code * choices + follower; `weights`: the discounted share of each; `begins[code]` to
    `begins[code + 1]`: a context's places in them; `left[code]`: the share that goes to the next shorter context.
    """

    keys: Ints
    weights: Floats
    begins: Ints
    left: Floats


def _discounts(counts: Ints) -> Floats:
    """What to take off a count of 1, 2, and 3 or more (index 1, 2, 3), by Chen and Goodman's estimate."""
    n1, n2, n3, n4 = (max(int((counts == times).sum()), 1) for times in (1, 2, 3, 4))
    share = n1 / (n1 + 2 * n2)
    estimates = (1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
    # Tiny training sets give estimates outside the range; some discount must stay, or unseen words weigh nothing.
    return np.concatenate([[0.0], np.clip(estimates, 0.1, (0.9, 1.9, 2.9))])


class NGram:
    """A model of pieces by the `order` - 1 words before each. `choices`: the words that it foretells, the end last."""

    def __init__(self, pieces: Sequence[Sequence[str]], choices: Sequence[str], order: int):
        if order < 1 or choices[-1] != END_MARK:
            raise ValueError("order must be 1 or more, and END the last choice")
        self.choices, self.order = tuple(choices), order
        self.index_of = {word: index for index, word in enumerate(choices)}
        ids = [self._ids(piece) for piece in pieces]
        contexts = np.concatenate([self._contexts(piece) for piece in ids])
        self._tables: list[Ints] = []
        """Per length of context from 1 on: sorted, code of the next shorter context * (choices + 1) + the word before
        it. A context's code is its place there."""
        codes = np.zeros(len(contexts), dtype=np.int64)
        for words_before in contexts.T:
            table, codes = np.unique(codes * (len(choices) + 1) + words_before, return_inverse=True)
            self._tables.append(table)
        self._levels = self._count(codes * len(choices) + np.concatenate(ids))

    def _ids(self, words: Sequence[str]) -> Ints:
        return np.array([self.index_of[word] for word in [*words, END_MARK]], dtype=np.int64)

    def _contexts(self, ids: Ints) -> Ints:
        """Shape (words, order - 1): the word before each, the one before that, and so on; `len(choices)` stands
        before the first."""
        padded = np.concatenate([np.full(self.order - 1, len(self.choices)), ids])
        if self.order == 1:
            return np.zeros((len(ids), 0), dtype=np.int64)
        return np.lib.stride_tricks.sliding_window_view(padded[:-1], self.order - 1)[:, ::-1]

    def _count(self, occurrences: Ints) -> list[_Level]:
        """Levels from the shortest context to the longest. `occurrences`: context code * choices + follower."""
        levels = []
        keys, counts = np.unique(occurrences, return_counts=True)
        for table in [*self._tables[::-1], None]:
            levels.append(self._level(keys, counts, 1 if table is None else len(table)))
            if table is not None:
                codes, followers = np.divmod(keys, len(self.choices))
                shorter = table[codes] // (len(self.choices) + 1)
                keys, counts = np.unique(shorter * len(self.choices) + followers, return_counts=True)
        return levels[::-1]

    def _level(self, keys: Ints, counts: Ints, contexts: int) -> _Level:
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        codes = keys // len(self.choices)
        totals = np.bincount(codes, counts, contexts)
        begins = np.searchsorted(codes, np.arange(contexts + 1))
        left = np.bincount(codes, discounts, contexts) / totals
        return _Level(keys, (counts - discounts) / totals[codes], begins, left)

    def _known(self, contexts: Ints) -> list[Ints]:
        """The code of each context at each length from 0 on; -1 where it was never seen."""
        codes = [np.zeros(len(contexts), dtype=np.int64)]
        for table, words_before in zip(self._tables, contexts.T, strict=True):
            keys = codes[-1] * (len(self.choices) + 1) + words_before
            places = np.minimum(np.searchsorted(table, keys), len(table) - 1)
            codes.append(np.where((codes[-1] >= 0) & (table[places] == keys), places, -1))
        return codes

    def nats(self, words: Sequence[str]) -> float:
        """-log p of a whole piece, the end included."""
        ids = self._ids(words)
        weight = np.full(len(ids), 1 / len(self.choices))
        for level, codes in zip(self._levels, self._known(self._contexts(ids)), strict=True):
            keys = codes * len(self.choices) + ids
            places = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
            seen = np.where(level.keys[places] == keys, level.weights[places], 0.0)
            weight = np.where(codes >= 0, seen + level.left[codes] * weight, weight)
        return float(-np.log(weight).sum())

    def log_probs(self, words: Sequence[str]) -> npt.NDArray[np.float32]:
        """Distributions over the choices at each word and at the end; shape (words + 1, choices)."""
        return np.log(self._distributions(self._contexts(self._ids(words)))).astype(np.float32)

    def _distributions(self, contexts: Ints) -> Floats:
        result = np.full((len(contexts), len(self.choices)), 1 / len(self.choices))
        for level, codes in zip(self._levels, self._known(contexts), strict=True):
            rows = np.flatnonzero(codes >= 0)
            begins, ends = level.begins[codes[rows]], level.begins[codes[rows] + 1]
            lengths = ends - begins
            places = np.arange(lengths.sum()) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
            result[rows] *= level.left[codes[rows], None]
            result[np.repeat(rows, lengths), level.keys[places] % len(self.choices)] += level.weights[places]
        return result

    def sample(
        self, starts: Sequence[Sequence[str]], allowed: Callable[[int, Sequence[str]], Bools | None], max_words: int,
        seed: int,
    ) -> list[list[str]]:  # fmt: skip
        """Go on from each of `starts` until the end or `max_words`. `allowed(piece, words so far)` gives the choices
        that may come next (shape (choices,)) or None where the piece is done."""
        drawing = np.random.default_rng(seed)
        pieces = [list(start) for start in starts]
        running = list(range(len(pieces)))
        while running:
            asked = {piece: allowed(piece, pieces[piece]) for piece in running if len(pieces[piece]) < max_words}
            masks = {piece: mask for piece, mask in asked.items() if mask is not None}
            running = list(masks)
            if not running:
                break
            contexts = np.stack([self._last_context(pieces[piece]) for piece in running])
            weights = self._distributions(contexts) * np.stack(list(masks.values()))
            sums = weights.cumsum(axis=1)
            drawn = (sums < drawing.random(len(running))[:, None] * sums[:, -1:]).sum(axis=1)
            for piece, choice in zip(running, drawn, strict=True):
                pieces[piece].append(self.choices[choice])
            running = [piece for piece in running if pieces[piece][-1] != END_MARK]
        return [[word for word in piece if word != END_MARK] for piece in pieces]

    def _last_context(self, words: Sequence[str]) -> Ints:
        known = [self.index_of[word] for word in words[::-1][: self.order - 1]]
        return np.array(known + [len(self.choices)] * (self.order - 1 - len(known)), dtype=np.int64)


def best_ngrams(
    training_sets: Sequence[Sequence[Sequence[str]]], held_out: Mapping[str, Sequence[Sequence[str]]],
    choices: Sequence[str], orders: Sequence[int],
) -> dict[str, NGram]:  # fmt: skip
    """For each set of held-out pieces the model that foretells it best, over training sets and orders. Choosing by the
    held-out pieces themselves favours the floor, never the model that is held against it."""
    best: dict[str, tuple[float, NGram]] = {}
    for pieces in training_sets:
        for order in orders:
            model = NGram(pieces, choices, order)
            for name, words_of in held_out.items():
                nats = sum(model.nats(words) for words in words_of)
                if name not in best or nats < best[name][0]:
                    best[name] = (nats, model)
    return {name: model for name, (_, model) in best.items()}


def xz_nats(training: Sequence[Sequence[str]], held_out: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, float]:
    """What xz needs for each set of `held_out` pieces once it has seen `training`, in nats. Each word is written as two
    bytes, which serves xz better than its spelling."""
    codes: dict[str, int] = {}

    def packed(pieces: Sequence[Sequence[str]]) -> bytes:
        ids = [codes.setdefault(word, len(codes)) for words in pieces for word in [*words, END_MARK]]
        return np.array(ids, dtype="<u2").tobytes()

    def size(data: bytes) -> int:
        return len(lzma.compress(data, lzma.FORMAT_RAW, filters=_XZ))

    before = packed(training)
    alone = size(before)
    bits = {name: (size(before + packed(pieces)) - alone) * 8 for name, pieces in held_out.items()}
    return {name: float(count * np.log(2)) for name, count in bits.items()}


_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 1, "lp": 1, "pb": 1, "dict_size": 1 << 26}]
"""Literals and matches at even bytes."""


# --- What counting alone can write, under the grammar ---

_BAR = MUSIC_WORDS.index("BAR_START")
_END = MUSIC_WORDS.index("SONG_END")


def write_with_ngram(model: NGram, heads: Sequence[Sequence[str]], bars: int, max_words: int, seed: int) -> list[Score]:
    """One piece of `bars` bars for each head (words from SONG_START on); one that is not done after `max_words` ends
    where it stands."""
    states, read = [grammar.start()] * len(heads), [0] * len(heads)

    def allowed(piece: int, words: Sequence[str]) -> Bools | None:
        for word in words[read[piece] :]:
            states[piece] = grammar.advance(states[piece], word)
        read[piece], state = len(words), states[piece]
        if state.done:
            return None
        mask = np.append(grammar.allowed_mask(state), False)
        mask[_END if state.bars < bars else _BAR] = False
        return mask

    return [decode(words).score for words in model.sample(heads, allowed, max_words, seed)]


def head_of(words: Sequence[str]) -> list[str]:
    """A piece's words before its first bar."""
    return list(words[: words.index("BAR_START")]) if "BAR_START" in words else list(words[:1])
