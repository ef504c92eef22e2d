"""Held-out pieces, and how well a model foretells them, in figures that spelling cannot flatter.

Conventions: a piece is its words, then the end; "nats" are -log p summed over all of them. What comes before the first
word (the prompt) is given, not foretold. A distribution is an array of log-probabilities, shape (words, choices), over
MUSIC_WORDS and the end in that order.

Metrics
- `nats_per_note`: nats of all words over NOTE_ON words; `nats_split` tells them apart by what the word decides.
- `perplexity`: exp(nats / sub-words of Qwen2.5), the plan's; `token_accuracy`: greedy prediction of those sub-words.
- `choice_accuracy`: words foretold right, whole, among those where the grammar leaves more than one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plagal.evaluation.ngram import NGram, best_ngrams, xz_nats
from plagal.music.score import Score
from plagal.plumbing.errors import RecordError, WordsError
from plagal.plumbing.files import read_jsonl
from plagal.tokens import grammar
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS, without_counts

if TYPE_CHECKING:
    from plagal.model.base import LanguageModel


Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# --- The plan's text in the sub-words of Qwen2.5, without that tokenizer ---
#
# Qwen's pre-tokenizer splits at every space, so a word's sub-words are a constant: `subwords.json` holds them (made by
# tools/make_subwords.py). From a distribution over whole words follows the distribution over sub-words, exactly: what a
# sub-word weighs after some others is the sum of the words that go on so.

_ROWS_AT_ONCE = 256


@cache
def spellings() -> dict[str, tuple[int, ...]]:
    """Every music word -> ids of its sub-words in Qwen2.5's BPE, with the space before it (SONG_START, which comes
    first, without); and the end."""
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
        nodes = {path: node for node, path in enumerate(sorted(beginnings, key=lambda path: (len(path), path)))}
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


# --- Figures ---

FACETS = ("when", "pitch", "length", "loudness", "harmony")
"""What a word decides. When: bars, positions, metre, tempo, form, the end; length: durations and pedal; loudness:
velocities and articulation; harmony: keys and chords."""

_FACET_OF_BEGINNING = {
    "NOTE_ON_": "pitch", "NOTE_OFF_": "length", "DUR_": "length", "PEDAL_": "length", "VEL_": "loudness",
    "STACCATO": "loudness", "LEGATO": "loudness", "ACCENT": "loudness", "GRACE": "loudness", "TRILL": "loudness",
    "ARPEGGIO": "loudness", "FERMATA": "loudness", "CHORD_": "harmony", "KEY_": "harmony", "BASS_": "harmony",
    "SLASH_": "harmony",
}  # fmt: skip

RESAMPLES = 2000
LEVEL = 0.95

Interval = tuple[float, float]


def facet_of(word: str) -> str:
    """Which of FACETS a word decides."""
    return next((facet for beginning, facet in _FACET_OF_BEGINNING.items() if word.startswith(beginning)), "when")


@dataclass(frozen=True)
class PieceLikelihood:
    """What a model made of one piece. `nats` follows FACETS; `tune` names the piece's group."""

    tune: str
    notes: int
    nats: tuple[float, ...]
    subwords: int
    subword_hits: float
    choices: int
    choice_hits: float

    def __add__(self, other: PieceLikelihood) -> PieceLikelihood:
        """Two parts of one piece."""
        nats = tuple(one + two for one, two in zip(self.nats, other.nats, strict=True))
        return PieceLikelihood(
            self.tune, self.notes + other.notes, nats, self.subwords + other.subwords,
            self.subword_hits + other.subword_hits, self.choices + other.choices, self.choice_hits + other.choice_hits,
        )  # fmt: skip


class LikelihoodScorer:
    """Turns distributions into `PieceLikelihood`s.

    `choices`: the words that a column stands for, in order. `masks`: words -> bools, shape (words + 1, choices), what
    the grammar allows at each word and at the end; None counts every word as a choice.
    """

    def __init__(self, choices: Sequence[str], masks: Callable[[Sequence[str]], Bools] | None = None):
        self.index_of = {word: index for index, word in enumerate(choices)}
        self.trie = SpellingTrie(choices)
        self.masks = masks
        self._free_of: dict[tuple[str, ...], Bools] = {}
        self._is_note = np.array([word.startswith("NOTE_ON_") for word in choices])
        self._facet_of = np.array([FACETS.index(facet_of(word)) for word in choices])

    def targets(self, words: Sequence[str]) -> Ints:
        """Column of each word, and of the end."""
        return np.array([self.index_of[word] for word in [*words, END_MARK]], dtype=np.int64)

    def score(self, tune: str, words: Sequence[str], log_probs: Floats) -> PieceLikelihood:
        """Of a whole piece. Raises ValueError where `log_probs` has not one row for each word and the end."""
        if len(log_probs) != len(words) + 1:
            raise ValueError(f"{log_probs.shape} is not the shape of {len(words) + 1} words by {len(self.index_of)}")
        return self.score_part(tune, words, 0, log_probs)

    def score_part(self, tune: str, words: Sequence[str], place: int, log_probs: Floats) -> PieceLikelihood:
        """Of the words from `place` on, as many as `log_probs` has rows; parts of a piece add up with `+`."""
        every = self.targets(words)
        targets = every[place : place + len(log_probs)]
        if log_probs.shape != (len(targets), len(self.index_of)):
            raise ValueError(f"{log_probs.shape} is not the shape of {len(targets)} words by {len(self.index_of)}")
        rows = np.arange(len(targets))
        nats = -log_probs[rows, targets].astype(np.float64)
        best = log_probs.max(axis=1)
        right = (log_probs[rows, targets] >= best) / (log_probs >= best[:, None]).sum(axis=1)
        free = self._free(words)[place : place + len(targets)]
        return self._part(tune, targets, nats, free, self.trie.hits(np.exp(log_probs), targets), right[free].sum())

    def blind(self, tune: str, words: Sequence[str], places: Ints) -> PieceLikelihood:
        """Of words that a model could not hold in its window: charged as an even guess, counted as missed."""
        targets = self.targets(words)[places]
        nats = np.full(len(places), np.log(len(self.index_of)))
        return self._part(tune, targets, nats, self._free(words)[places], 0.0, 0.0)

    def _part(
        self, tune: str, targets: Ints, nats: Floats, free: Bools, subword_hits: float, choice_hits: float
    ) -> PieceLikelihood:
        notes, subwords = int(self._is_note[targets].sum()), int(self.trie.depth[targets].sum())
        by_facet = tuple(np.bincount(self._facet_of[targets], nats, len(FACETS)).tolist())
        return PieceLikelihood(tune, notes, by_facet, subwords, subword_hits, int(free.sum()), float(choice_hits))

    def _free(self, words: Sequence[str]) -> Bools:
        """Where the grammar leaves a choice; remembered, as several models score the same pieces."""
        if self.masks is None:
            return np.ones(len(words) + 1, dtype=bool)
        key = tuple(words)
        if key not in self._free_of:
            self._free_of[key] = np.asarray(self.masks(words).sum(axis=1) > 1)
        return self._free_of[key]


@dataclass(frozen=True)
class Likelihood:
    """A model's figures on some pieces. Intervals (low, high) are 95 %, by bootstrap over tunes."""

    pieces: int
    tunes: int
    notes: int
    nats_per_note: float
    nats_interval: Interval | None
    nats_split: dict[str, float]
    perplexity: float
    token_accuracy: float
    choice_accuracy: float
    choice_interval: Interval | None


def summarise(pieces: Sequence[PieceLikelihood], seed: int) -> Likelihood | None:
    """All pieces together, each note and each word weighing the same; None where there are none."""
    if not pieces:
        return None
    nats = np.array([piece.nats for piece in pieces])
    notes = np.array([piece.notes for piece in pieces], dtype=np.float64)
    hits = np.array([piece.choice_hits for piece in pieces])
    choices = np.array([piece.choices for piece in pieces], dtype=np.float64)
    tunes = [piece.tune for piece in pieces]
    subwords = sum(piece.subwords for piece in pieces)
    split = nats.sum(axis=0) / notes.sum()
    return Likelihood(
        pieces=len(pieces),
        tunes=len(set(tunes)),
        notes=int(notes.sum()),
        nats_per_note=float(split.sum()),
        nats_interval=ratio_interval(nats.sum(axis=1), notes, tunes, seed),
        nats_split=dict(zip(FACETS, split.tolist(), strict=True)),
        perplexity=float(np.exp(nats.sum() / subwords)),
        token_accuracy=sum(piece.subword_hits for piece in pieces) / subwords,
        choice_accuracy=float(hits.sum() / choices.sum()),
        choice_interval=ratio_interval(hits, choices, tunes, seed),
    )


def compare(
    ours: Sequence[PieceLikelihood], theirs: Sequence[PieceLikelihood], seed: int
) -> tuple[float, Interval | None] | None:
    """Our nats over theirs on the same pieces, and its interval by tune (both sides resampled alike); None where there
    are no pieces. Raises ValueError where the pieces are not the same."""
    if [(piece.tune, piece.notes) for piece in ours] != [(piece.tune, piece.notes) for piece in theirs]:
        raise ValueError("the two sides did not score the same pieces")
    if not ours:
        return None
    mine = np.array([sum(piece.nats) for piece in ours])
    other = np.array([sum(piece.nats) for piece in theirs])
    return float(mine.sum() / other.sum()), ratio_interval(mine, other, [piece.tune for piece in ours], seed)


def ratio_interval(above: Floats, below: Floats, tunes: Sequence[str], seed: int) -> Interval | None:
    """95 % percentile bootstrap of sum(above) / sum(below), drawing whole tunes: settings of one tune go together, so
    that many copies of a tune do not narrow the interval. None for one tune alone, of which nothing can be said."""
    groups = {tune: index for index, tune in enumerate(dict.fromkeys(tunes))}
    if len(groups) < 2:
        return None
    member = np.array([groups[tune] for tune in tunes])
    sums = np.stack([np.bincount(member, side, len(groups)) for side in (above, below)])
    drawn = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), RESAMPLES)
    tops, bottoms = drawn @ sums[0], drawn @ sums[1]
    ratios = tops[bottoms > 0] / bottoms[bottoms > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def grammar_masks(words: Sequence[str]) -> Bools:
    """What the grammar allows at each word of a piece and at the end; shape (words + 1, music words + 1). After words
    that the grammar refuses, everything counts as allowed."""
    masks = np.ones((len(words) + 1, len(MUSIC_WORDS) + 1), dtype=bool)
    state = grammar.start()
    masks[:-1, -1] = False
    masks[-1, :-1] = False
    for row, word in enumerate(words):
        masks[row, :-1] = grammar.allowed_mask(state)
        try:
            state = grammar.advance(state, word)
        except WordsError:
            break
    return masks


# --- The texts of the stage `convert`: training pieces, and the held-out ones that every model is measured on ---

_FIRST = "SONG_START"


@dataclass(frozen=True)
class TextPiece:
    """One text: a prompt's frame, words, the end mark."""

    text: str
    metadata: dict[str, Any]

    @cached_property
    def words(self) -> tuple[str, ...]:
        begin, end = self.text.find(_FIRST), self.text.rfind(END_MARK)
        if begin < 0 or end < begin:
            raise RecordError(f"text {self.text[:40]!r} holds no whole piece; run the stage convert again")
        return tuple(without_counts(self.text[begin:end].split()))

    @cached_property
    def score(self) -> Score:
        return decode(self.words).score

    @property
    def tune(self) -> str:
        """Settings of one tune share it."""
        return str(self.metadata.get("tune_group") or self.metadata.get("tune") or self.metadata["id"])

    @property
    def synthetic(self) -> bool:
        return bool(self.metadata.get("synthetic"))

    @property
    def style(self) -> str:
        return str(self.metadata.get("style") or self.metadata.get("genre") or "")

    @property
    def genre(self) -> str:
        return str(self.metadata.get("genre") or "")


def read_texts(path: Path) -> list[TextPiece]:
    """Raises InputError and RecordError that name file and line."""
    rows = list(read_jsonl(path))
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("text"), str) or not isinstance(row.get("metadata"), dict):
            raise RecordError(f"{path}:{number} has no text and metadata; run the stage convert again")
    return [TextPiece(row["text"], row["metadata"]) for row in rows]


def first_copies(pieces: Iterable[TextPiece]) -> list[TextPiece]:
    """Without the augmented copies: the first of each piece."""
    found: dict[str, TextPiece] = {}
    for piece in pieces:
        found.setdefault(str(piece.metadata.get("id", len(found))), piece)
    return list(found.values())


def choose(pieces: Sequence[TextPiece], most: int, seed: int) -> list[TextPiece]:
    """At most `most` of them, drawn by seed, from as many tunes as possible: one of each tune, then a second, ..."""
    order = np.random.default_rng(seed).permutation(len(pieces))
    drawn: Counter[str] = Counter()
    rounds: list[tuple[int, int]] = []
    for place in order.tolist():
        rounds.append((drawn[pieces[place].tune], place))
        drawn[pieces[place].tune] += 1
    rounds.sort(key=lambda turn: turn[0])  # of each round, in the order drawn
    return [pieces[place] for place in sorted(place for _, place in rounds[:most])]


@dataclass(frozen=True)
class Texts:
    """All that an evaluation reads. `held_out`: split of the report -> its pieces, chosen."""

    stage1_train: list[TextPiece]
    stage2_train: list[TextPiece]
    held_out: dict[str, list[TextPiece]]

    @property
    def gospel(self) -> list[TextPiece]:
        return self.held_out["gospel_real"] + self.held_out["gospel_synthetic"]


def load_texts(folder: Path, most: int, seed: int) -> Texts:
    """From the folder of the stage `convert`: stage1/ and stage2/ with train.jsonl and test.jsonl."""
    gospel = read_texts(folder / "stage2" / "test.jsonl")
    rest = read_texts(folder / "stage1" / "test.jsonl")
    splits = {
        "gospel_real": [piece for piece in gospel if not piece.synthetic],
        "gospel_synthetic": [piece for piece in gospel if piece.synthetic],
        "general": [piece for piece in rest if piece.metadata.get("domain", "general") == "general"],
    }
    return Texts(
        read_texts(folder / "stage1" / "train.jsonl"),
        read_texts(folder / "stage2" / "train.jsonl"),
        {name: choose(pieces, most, seed) for name, pieces in splits.items()},
    )


# --- Each model and each floor on the same held-out pieces ---

CHOICES = (*MUSIC_WORDS, END_MARK)


def make_scorer() -> LikelihoodScorer:
    return LikelihoodScorer(CHOICES, grammar_masks)


def score_model(
    lm: LanguageModel, pieces: Sequence[TextPiece], scorer: LikelihoodScorer, window: int, progress: bool = False
) -> list[PieceLikelihood]:
    """What a model makes of each piece, in the windows that training uses (`window` tokens)."""
    from plagal.model.scorer import word_scores

    found: dict[int, PieceLikelihood] = {}

    def take(text: int, place: int, log_probs: Floats) -> None:
        part = scorer.score_part(pieces[text].tune, pieces[text].words, place, log_probs)
        found[text] = found[text] + part if text in found else part

    if not pieces:
        return []
    texts = [piece.text for piece in pieces]
    for text, scores in enumerate(word_scores(lm, texts, max_tokens=window, distributions=take, progress=progress)):
        unseen = np.flatnonzero(np.isnan(scores.log_probs))
        if len(unseen):
            found[text] += scorer.blind(pieces[text].tune, pieces[text].words, unseen)
    return [found[text] for text in range(len(pieces))]


def floors(
    texts: Texts, pieces: Mapping[str, Sequence[TextPiece]], scorer: LikelihoodScorer, orders: Sequence[int]
) -> tuple[dict[str, list[PieceLikelihood]], dict[str, NGram], dict[str, float]]:
    """Per split: the best n-gram's likelihoods, that n-gram, and xz's nats per note. Splits without pieces are left
    out."""
    words = {name: [piece.words for piece in some] for name, some in pieces.items() if some}
    gospel, general = first_copies(texts.stage2_train), first_copies(texts.stage1_train)
    # Stage 2's pieces; both stages'; both with the augmented copies that the models saw.
    kinds = (gospel, [*general, *gospel], [*texts.stage1_train, *texts.stage2_train])
    sets = [[piece.words for piece in some] for some in kinds if some]
    models = best_ngrams(sets, words, CHOICES, orders)
    scored = {
        name: [scorer.score(piece.tune, piece.words, models[name].log_probs(piece.words)) for piece in pieces[name]]
        for name in words
    }
    notes = {name: sum(piece.notes for piece in scored[name]) for name in words}
    xz = {name: nats / max(notes[name], 1) for name, nats in xz_nats(sets[min(1, len(sets) - 1)], words).items()}
    return scored, models, xz
