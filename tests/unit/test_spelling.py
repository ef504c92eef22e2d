"""Words from sub-words: probabilities of all words sum to one, and a word's own is the product along its spelling."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from model_helpers import counted, pretrained, settings, texts, tiny_base

from plagal.model import base, trainer
from plagal.model.fuse import fuse
from plagal.model.scorer import Spellings, word_scores
from plagal.model.words import WordTokens
from plagal.plumbing.files import write_json
from plagal.tokens.vocabulary import MUSIC_WORDS, split_text


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> base.LanguageModel:
    return base.load(pretrained(tmp_path_factory.mktemp("base") / "base", tied=True), "text")


def test_the_probabilities_of_all_words_sum_to_one(lm: base.LanguageModel) -> None:
    spellings, random = Spellings(lm.words), np.random.default_rng(0)
    for place in (0, 17, 400, len(MUSIC_WORDS)):
        logits = random.normal(size=(spellings.length(place) + 1, len(lm.words.ids))).astype(np.float32)
        found, _ = spellings.word(place, logits)
        assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


def test_a_word_that_begins_another_is_likely_only_as_far_as_it_ends_there() -> None:
    """Spelled [0], [0, 1], [2]: after 0 comes 1, or what begins a word."""
    tokens = WordTokens(((0,), (0, 1), (2,)), 3, 3)
    logits = np.log(np.array([[0.6, 0.1, 0.2, 0.1], [0.1, 0.4, 0.2, 0.3]], dtype=np.float32))
    found, hit = Spellings(tokens).word(0, logits)
    first = 0.6 / 0.9
    assert np.exp(found) == pytest.approx([first * 0.6, first * 0.4, 0.2 / 0.9, 0.1 / 0.9], abs=1e-6)
    assert hit


def test_each_word_is_scored_once_by_its_sub_words(lm: base.LanguageModel) -> None:
    given = texts(3)
    for max_tokens in (400, 4096):
        scores = word_scores(lm, given, max_tokens=max_tokens)
        for score, text in zip(scores, given, strict=True):
            assert score.words == (*split_text(text).words, "<|im_end|>")
            assert np.isfinite(score.log_probs).all() and (score.log_probs <= 1e-6).all()


def test_a_model_that_spells_words_reads_no_counts_of_bars(lm: base.LanguageModel) -> None:
    (plain,), (told,) = (word_scores(lm, [text]) for text in (texts(1)[0], counted(texts(1)[0])))
    assert plain.words == told.words and (plain.log_probs == told.log_probs).all()


def test_a_words_score_is_the_product_along_its_spelling(lm: base.LanguageModel) -> None:
    """The sub-words' own conditional probabilities, multiplied by hand."""
    text = texts(1)[0]
    tokens = lm.words
    words = split_text(text).words
    ids = lm.encode_text(text)
    first = len(lm.encode_text(split_text(text).prompt))
    logits = np.array(lm.model(mx.array([ids]))[0].astype(mx.float32))[:, tokens.ids]
    score = word_scores(lm, [text], max_tokens=4096)[0]
    spellings, start, by_hand = Spellings(tokens), first - 1, []
    for word in words:
        place = MUSIC_WORDS.index(word)
        end = start + spellings.length(place)
        by_hand.append(spellings.word(place, logits[start : end + 1])[0][place])
        start = end
    assert score.log_probs[:-1] == pytest.approx(np.array(by_hand), abs=1e-3)


def test_on_a_base_that_has_the_words_both_encodings_score_alike(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path)
    one, other = (word_scores(base.load(folder, encoding), texts(2)) for encoding in ("event", "text"))
    for a, b in zip(one, other, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, abs=1e-6)


def test_a_base_trains_on_its_own_sub_words_and_comes_out_as_a_stock_model(tmp_path: Path) -> None:
    import mlx_lm

    folder = pretrained(tmp_path / "base", tied=True)
    lm = base.load(folder, "text")
    report = trainer.train(lm, texts(6), texts(2, 1), settings(mode="lora", max_tokens=300, steps=9),
                           tmp_path / "run", tmp_path / "adapter", seed=1)  # fmt: skip
    assert report.best_valid_loss < report.first_valid_loss
    config = base.read_config(folder)
    write_json(folder / "config.json", base.with_encoding(config, "text"))
    fused = fuse(folder, tmp_path / "adapter", tmp_path / "fused", texts(2, 1), max_tokens=300)
    assert fused.lost_share <= 0.01
    again = base.load(tmp_path / "fused")
    assert again.encoding == "text" and not again.words.whole
    model, tokenizer = mlx_lm.load(str(tmp_path / "fused"))
    ids = mx.array([tokenizer.encode("SONG_START KEY_C", add_special_tokens=False)])
    assert ids.tolist()[0] == again.words.encode(["SONG_START", "KEY_C"]).tolist()
    assert np.array(model(ids)) == pytest.approx(np.array(again.model(ids)), abs=1e-4)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert chat == "<|im_start|>user\nx<|im_end|>"


def test_adapters_of_one_encoding_are_refused_in_the_other(tmp_path: Path) -> None:
    from plagal.model.adapters import load_adapters
    from plagal.plumbing.errors import ModelError

    folder = pretrained(tmp_path / "base", tied=True)
    trainer.train(base.load(folder, "text"), texts(3), texts(1, 1), settings(mode="lora", max_tokens=300, steps=1),
                  tmp_path / "run", tmp_path / "adapter", seed=1)  # fmt: skip
    with pytest.raises(ModelError, match="encoding 'text'"):
        load_adapters(base.load(folder), tmp_path / "adapter")
