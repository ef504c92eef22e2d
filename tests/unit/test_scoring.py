"""Word log-probabilities: of every word once, the same however texts are batched and cut."""

from __future__ import annotations

import numpy as np
import pytest
from model_helpers import texts, tiny_base

from plagal.model import base
from plagal.model.scorer import word_scores
from plagal.tokens.vocabulary import MUSIC_WORDS, split_text


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> base.LanguageModel:
    return base.load(tiny_base(tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize("max_tokens", [80, 512])
def test_every_word_and_the_end_is_scored_once(lm: base.LanguageModel, max_tokens: int) -> None:
    given = texts(4)
    seen = [np.zeros(0)] * 4
    distributions: dict[int, dict[int, np.ndarray]] = {i: {} for i in range(4)}

    def keep(text: int, place: int, log_probs: np.ndarray) -> None:
        for offset, row in enumerate(log_probs):
            assert place + offset not in distributions[text]
            distributions[text][place + offset] = row

    scores = word_scores(lm, given, max_tokens=max_tokens, distributions=keep)
    column = {word: i for i, word in enumerate(MUSIC_WORDS)} | {"<|im_end|>": len(MUSIC_WORDS)}
    for i, (score, text) in enumerate(zip(scores, given, strict=True)):
        assert score.words == (*split_text(text).words, "<|im_end|>")
        assert np.isfinite(score.log_probs).all()
        seen[i] = np.array([distributions[i][place][column[word]] for place, word in enumerate(score.words)])
        assert seen[i] == pytest.approx(score.log_probs)
        assert np.exp(distributions[i][0]).sum() == pytest.approx(1, abs=1e-4)


def test_batching_changes_no_score(lm: base.LanguageModel) -> None:
    given = texts(5)
    one = word_scores(lm, given, batch=1)
    many = word_scores(lm, given, batch=5)
    for a, b in zip(one, many, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, abs=1e-4)
