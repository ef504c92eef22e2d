"""The texts of the stage `convert`: training pieces, and the held-out ones that every model is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plagal.evaluation.likelihood import LikelihoodScorer, PieceLikelihood, grammar_masks
from plagal.evaluation.ngram import NGram, best_ngrams, xz_nats
from plagal.evaluation.subwords import END
from plagal.model.base import LanguageModel
from plagal.model.scoring import Floats, word_scores
from plagal.music.score import Score
from plagal.plumbing.errors import RecordError
from plagal.plumbing.files import read_jsonl
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import MUSIC_WORDS

_FIRST = "SONG_START"


@dataclass(frozen=True)
class TextPiece:
    """One text: a prompt's frame, words, the end mark."""

    text: str
    metadata: dict[str, Any]

    @cached_property
    def words(self) -> tuple[str, ...]:
        begin, end = self.text.find(_FIRST), self.text.rfind(END)
        if begin < 0 or end < begin:
            raise RecordError(f"text {self.text[:40]!r} holds no whole piece; run the stage convert again")
        return tuple(self.text[begin:end].split())

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
    pieces = []
    for number, row in enumerate(read_jsonl(path), 1):
        if not isinstance(row.get("text"), str) or not isinstance(row.get("metadata"), dict):
            raise RecordError(f"{path}:{number} has no text and metadata; run the stage convert again")
        pieces.append(TextPiece(row["text"], row["metadata"]))
    return pieces


def first_copies(pieces: Iterable[TextPiece]) -> list[TextPiece]:
    """Without the augmented copies: the first of each piece."""
    found: dict[str, TextPiece] = {}
    for piece in pieces:
        found.setdefault(str(piece.metadata.get("id", len(found))), piece)
    return list(found.values())


def choose(pieces: Sequence[TextPiece], most: int, seed: int) -> list[TextPiece]:
    """At most `most` of them, drawn by seed, from as many tunes as possible: one of each tune, then a second, ..."""
    order = np.random.default_rng(seed).permutation(len(pieces))
    drawn: dict[str, int] = {}
    rounds: list[tuple[int, int, int]] = []
    for place in order:
        tune = pieces[place].tune
        rounds.append((drawn.get(tune, 0), len(rounds), int(place)))
        drawn[tune] = drawn.get(tune, 0) + 1
    return [pieces[place] for place in sorted(place for _, _, place in sorted(rounds)[:most])]


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

CHOICES = (*MUSIC_WORDS, END)


def make_scorer() -> LikelihoodScorer:
    return LikelihoodScorer(CHOICES, grammar_masks)


def score_model(
    lm: LanguageModel, pieces: Sequence[TextPiece], scorer: LikelihoodScorer, window: int, progress: bool = False
) -> list[PieceLikelihood]:
    """What a model makes of each piece, in the windows that training uses (`window` tokens)."""
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


def score_ngram(model: NGram, pieces: Sequence[TextPiece], scorer: LikelihoodScorer) -> list[PieceLikelihood]:
    return [scorer.score(piece.tune, piece.words, model.log_probs(piece.words)) for piece in pieces]


def training_sets(texts: Texts) -> list[list[tuple[str, ...]]]:
    """Stage 2's pieces; both stages'; both with the augmented copies that the models saw."""
    gospel, general = first_copies(texts.stage2_train), first_copies(texts.stage1_train)
    sets = [gospel, [*general, *gospel], [*texts.stage1_train, *texts.stage2_train]]
    return [[piece.words for piece in pieces] for pieces in sets if pieces]


def floors(
    texts: Texts, pieces: Mapping[str, Sequence[TextPiece]], scorer: LikelihoodScorer, orders: Sequence[int]
) -> tuple[dict[str, list[PieceLikelihood]], dict[str, NGram], dict[str, float]]:
    """Per split: the best n-gram's likelihoods, that n-gram, and xz's nats per note. Splits without pieces are left
    out."""
    words = {name: [piece.words for piece in some] for name, some in pieces.items() if some}
    sets = training_sets(texts)
    models = best_ngrams(sets, words, CHOICES, orders)
    scored = {name: score_ngram(models[name], pieces[name], scorer) for name in words}
    notes = {name: sum(piece.notes for piece in scored[name]) for name in words}
    xz = {name: nats / max(notes[name], 1) for name, nats in xz_nats(sets[min(1, len(sets) - 1)], words).items()}
    return scored, models, xz
