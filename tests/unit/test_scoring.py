"""Word log-probabilities: of every word once, the same however texts are batched and cut."""

from __future__ import annotations

import numpy as np
import pytest
from model_helpers import counted, texts, tiny_base

from plagal.model import base
from plagal.model.scorer import word_scores
from plagal.tokens.vocabulary import MUSIC_WORDS, split_text, without_counts


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> base.LanguageModel:
    return base.load(tiny_base(tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize(("max_tokens", "counting"), [(80, False), (512, False), (80, True), (512, True)])
def test_every_word_of_the_music_and_the_end_is_scored_once(
    lm: base.LanguageModel, max_tokens: int, counting: bool
) -> None:
    given = [counted(text) if counting else text for text in texts(4)]
    seen = [np.zeros(0)] * 4
    distributions: dict[int, dict[int, np.ndarray]] = {i: {} for i in range(4)}

    def keep(text: int, place: int, log_probs: np.ndarray) -> None:
        for offset, row in enumerate(log_probs):
            assert place + offset not in distributions[text]
            distributions[text][place + offset] = row

    scores = word_scores(lm, given, max_tokens=max_tokens, distributions=keep)
    column = {word: i for i, word in enumerate(MUSIC_WORDS)} | {"<|im_end|>": len(MUSIC_WORDS)}
    for i, (score, text) in enumerate(zip(scores, given, strict=True)):
        assert score.words == (*without_counts(split_text(text).words), "<|im_end|>")
        assert np.isfinite(score.log_probs).all()
        seen[i] = np.array([distributions[i][place][column[word]] for place, word in enumerate(score.words)])
        assert seen[i] == pytest.approx(score.log_probs)
        assert np.exp(distributions[i][0]).sum() == pytest.approx(1, abs=1e-4)


def test_a_count_of_the_bars_that_are_left_changes_what_the_model_expects(lm: base.LanguageModel) -> None:
    (text,) = texts(1)
    plain, told = word_scores(lm, [text, counted(text)])
    first = plain.words.index("BAR_START") + 1
    assert plain.words == told.words and (plain.log_probs[:first] == pytest.approx(told.log_probs[:first], abs=1e-4))
    assert not np.allclose(plain.log_probs[first:], told.log_probs[first:], atol=1e-3)


def test_batching_changes_no_score(lm: base.LanguageModel) -> None:
    given = texts(5)
    one = word_scores(lm, given, batch=1)
    many = word_scores(lm, given, batch=5)
    for a, b in zip(one, many, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, abs=1e-4)
