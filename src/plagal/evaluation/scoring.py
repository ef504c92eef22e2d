"""Each model and each floor on the same held-out pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plagal.evaluation.heldout import Piece, Texts, first_copies
from plagal.evaluation.likelihood import LikelihoodScorer, PieceLikelihood, grammar_masks
from plagal.evaluation.ngram import NGram, best_ngrams, xz_nats
from plagal.evaluation.subwords import END
from plagal.model.base import LanguageModel
from plagal.model.scoring import Floats, word_scores
from plagal.tokens.vocabulary import MUSIC_WORDS

CHOICES = (*MUSIC_WORDS, END)


def make_scorer() -> LikelihoodScorer:
    return LikelihoodScorer(CHOICES, grammar_masks)


def score_model(
    lm: LanguageModel, pieces: Sequence[Piece], scorer: LikelihoodScorer, window: int, progress: bool = False
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


def score_ngram(model: NGram, pieces: Sequence[Piece], scorer: LikelihoodScorer) -> list[PieceLikelihood]:
    return [scorer.score(piece.tune, piece.words, model.log_probs(piece.words)) for piece in pieces]


def training_sets(texts: Texts) -> list[list[tuple[str, ...]]]:
    """Stage 2's pieces; both stages'; both with the augmented copies that the models saw."""
    gospel, general = first_copies(texts.stage2_train), first_copies(texts.stage1_train)
    sets = [gospel, [*general, *gospel], [*texts.stage1_train, *texts.stage2_train]]
    return [[piece.words for piece in pieces] for pieces in sets if pieces]


def floors(
    texts: Texts, pieces: Mapping[str, Sequence[Piece]], scorer: LikelihoodScorer, orders: Sequence[int]
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
