"""Fusing: the model that comes out is the one that was trained, or none comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import model_helpers
import pytest
from model_helpers import LiveModels, pretrained, settings, texts, tiny_base

from plagal.model import adapters, base, trainer
from plagal.model import fuse as fusing
from plagal.model.fuse import fuse
from plagal.model.scorer import ModelScorer
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import read_json, write_json
from plagal.plumbing.params import EmbeddedShape
from plagal.tokens.vocabulary import END_MARK, USER_MARK


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuse")
    lm = base.load(tiny_base(folder))
    trainer.train(lm, texts(9), texts(3, 1), settings(mode="lora", steps=8), folder / "a", folder / "adapter", seed=1)
    return folder


def test_the_fused_model_reloads_in_stock_mlx_lm_with_the_trained_loss(trained: Path) -> None:
    import mlx_lm

    report = fuse(trained / "base1", trained / "adapter", trained / "fused", texts(3, 1), max_tokens=96)
    assert report.fused_loss == pytest.approx(report.adapted_loss, abs=1e-4)
    assert report.adapted_loss < report.base_loss and report.lost_share <= 0.01
    model, tokenizer = mlx_lm.load(str(trained / "fused"))
    ids = mx.array([tokenizer.encode("SONG_START KEY_C")])
    assert bool((model(ids) == base.load(trained / "fused").model(ids)).all())


def test_a_draft_goes_into_the_fused_folder_which_names_it_and_moves_as_one(trained: Path, tmp_path: Path) -> None:
    small = tiny_base(tmp_path, seed=2)
    fuse(trained / "base1", trained / "adapter", tmp_path / "made", texts(3, 1), max_tokens=96, draft=small)
    moved = (tmp_path / "made").rename(tmp_path / "moved")
    ahead = ModelScorer(base.load(moved)).ahead
    assert ahead is not None and ahead.lm.folder == moved / "draft"
    assert read_json(moved / "config.json")["plagal"]["draft"] == "draft"
    spelling = pretrained(tmp_path / "spelling", tied=True)
    with pytest.raises(ModelError, match="one token for each music word"):
        fuse(trained / "base1", trained / "adapter", tmp_path / "none", texts(3, 1), max_tokens=96, draft=spelling)
    assert not (tmp_path / "none").exists()


def test_damaged_adapters_leave_no_folder(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ModelError, match="no adapters that can be read"):
        fuse(trained / "base1", tmp_path / "adapter", tmp_path / "fused", texts(2))
    assert not (tmp_path / "fused").exists()


def test_the_model_before_is_gone_when_the_next_is_loaded(trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    models = LiveModels(fusing.load)
    monkeypatch.setattr(fusing, "load", models)
    fuse(trained / "base1", trained / "adapter", tmp_path / "fused", texts(3, 1), max_tokens=96)
    assert models.alive == [0, 0]


def test_an_attempt_that_loses_too_much_is_made_anew_from_the_base(tmp_path: Path, monkeypatch: Any) -> None:
    made = pretrained(tmp_path / "base", tied=True)
    trainer.train(base.load(made), texts(9), texts(3, 1), settings(mode="lora", steps=4), tmp_path / "a",
                  tmp_path / "adapter", seed=1)  # fmt: skip
    models = LiveModels(fusing.load)
    monkeypatch.setattr(fusing, "load", models)
    keeps = iter([False, False, True, True])
    monkeypatch.setattr(fusing.FuseReport, "keeps", lambda self, share: next(keeps))
    report = fuse(made, tmp_path / "adapter", tmp_path / "fused", texts(3, 1), quantize_bits=4, max_tokens=96)
    assert report.touched_bits == 0 and models.alive == [0] * 6
    once = fuse(made, tmp_path / "adapter", tmp_path / "once", texts(3, 1), quantize_bits=0, max_tokens=96)
    assert (tmp_path / "fused/model.safetensors").read_bytes() == (tmp_path / "once/model.safetensors").read_bytes()
    assert once.fused_loss == report.fused_loss


def test_merging_holds_one_dense_layer_at_a_time(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(base, "unpack", lambda model: None)  # as on a GPU, which reads packed layers
    shape = EmbeddedShape(hidden_size=256, layers=8, heads=4, kv_heads=4, intermediate_size=512)
    monkeypatch.setattr(model_helpers, "PRETRAINED", shape)
    lm = base.load(pretrained(tmp_path / "base", tied=True))
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    lora = settings().lora.model_copy(update={"layers": 8, "projections": every})
    adapters.make_trainable(lm, settings(mode="lora", lora=lora))
    mx.eval(lm.model.parameters())
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    fusing._write_merged(lm, 4, 96, tmp_path / "fused")
    dense, table = 4 * 256 * 512, 4 * 256 * 4000
    # The merged embedding stays plain, and is copied once while it is made; all layers dense would be 21 MB.
    assert mx.get_peak_memory() - before < 4 * dense + 3 * table


def test_a_base_that_is_no_instruct_model_ends_at_our_end_mark_once_it_is_fused(tmp_path: Path) -> None:
    """In mlx-lm, which reads config.json, in what reads generation_config.json, and in the tokenizer."""
    folder = pretrained(tmp_path / "base", tied=True)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"eos_token_id": 0})
    write_json(folder / "generation_config.json", {"eos_token_id": [0], "temperature": 0.7})
    lm = base.load(folder)
    trainer.train(lm, texts(4), texts(2, 1), settings(mode="lora", steps=2), tmp_path / "a", tmp_path / "adapter")
    fuse(folder, tmp_path / "adapter", tmp_path / "fused", texts(2, 1), max_tokens=96, max_lost_share=1.0)
    import mlx_lm

    _, tokenizer = mlx_lm.load(str(tmp_path / "fused"))
    assert tokenizer.eos_token == END_MARK and tokenizer.eos_token_ids == {lm.words.end_id}
    assert read_json(tmp_path / "fused/generation_config.json") == {
        "eos_token_id": lm.words.end_id, "temperature": 0.7}  # fmt: skip


def test_a_tokenizer_that_learned_the_words_says_its_marks_as_transformers_4_reads_them(tmp_path: Path) -> None:
    """5 writes extra_special_tokens as a list where 4 wants a dictionary. Tried by hand with 4.57.6 and 5.23.0: both
    give the same ids."""
    folder = pretrained(tmp_path / "base", tied=True)
    lm = base.load(folder)
    adapters.write_tokenizer(lm, tmp_path)
    settings = read_json(tmp_path / "tokenizer_config.json")
    assert settings["additional_special_tokens"] == [USER_MARK] and "extra_special_tokens" not in settings
    again = base.load_tokenizer(tmp_path)
    text = f"{USER_MARK}gospel{END_MARK} NOTE_ON_60"
    assert again.encode(text) == lm.tokenizer.encode(text) and USER_MARK in again.all_special_tokens


def test_both_names_of_the_quantization_say_the_same_once_layers_are_packed_otherwise(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "base", tied=False)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"quantization_config": config["quantization"]})
    lm = base.load(folder)
    trainer.train(lm, texts(4), texts(2, 1), settings(mode="lora", steps=2), tmp_path / "a", tmp_path / "adapter")
    fuse(folder, tmp_path / "adapter", tmp_path / "fused", texts(2, 1), quantize_bits=8, max_tokens=96,
         max_lost_share=1.0)  # fmt: skip
    fused = read_json(tmp_path / "fused/config.json")
    assert fused["quantization"] == fused["quantization_config"] != config["quantization"]
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(str(tmp_path / "fused")).vocab_size == fused["vocab_size"]


def test_a_base_in_nvfp4_is_fused_and_loads_in_stock_mlx_lm(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "base", tied=False, mode="nvfp4")
    lm = base.load(folder)
    trainer.train(lm, texts(4), texts(2, 1), settings(mode="lora", steps=2), tmp_path / "a", tmp_path / "adapter")
    report = fuse(folder, tmp_path / "adapter", tmp_path / "fused", texts(2, 1), quantize_bits=8, max_tokens=96,
                  max_lost_share=1.0)  # fmt: skip
    assert report.touched_bits == 8 and report.fused_loss == pytest.approx(report.adapted_loss, abs=0.01)
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(tmp_path / "fused"))
    ids = mx.array([tokenizer.encode("SONG_START KEY_C")])
    assert mx.allclose(model(ids), base.load(tmp_path / "fused").model(ids), atol=1e-2)
