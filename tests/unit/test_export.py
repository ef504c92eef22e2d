"""What was learned, in other programs' formats: read back it is the same model, and what is not in it is said."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from model_helpers import PRETRAINED, SHAPE, pretrained, settings, texts, tiny_base
from safetensors.numpy import load_file
from tiny_gguf import write_tiny_gguf

import plagal.model  # noqa: F401  (the fast BLAS goes first)
from plagal.export import to_gguf, to_mlx, to_peft
from plagal.model import base, gguf, trainer
from plagal.model.fuse import fuse
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import read_json, write_json

ROOT = Path(__file__).parents[2]


def models_on(folder: Path, base_folder: Path, bits: int = 0) -> Path:
    """A pipeline's models/ over a base that lies elsewhere, both stages trained as adapters for two steps."""
    write_json(folder / "base" / "base.json", {"base": str(base_folder)})
    for name in ("stage1", "stage2"):
        lm = base.load(folder / "base")
        trained = settings(mode="lora", steps=2, learning_rate=0.05)
        trainer.train(lm, texts(4), texts(2, 1), trained, folder / "run", folder / name)
    fuse(folder / "base", folder / "stage2", folder / "fused", texts(2, 1), quantize_bits=bits, max_tokens=96,
         max_lost_share=1e9)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    return models_on(folder / "models", tiny_base(folder))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a 4-bit base that knows no music word, fused in 4 bits again."""
    folder = tmp_path_factory.mktemp("packed")
    return models_on(folder / "models", pretrained(folder / "pretrained", tied=False), bits=4)


def test_an_adapter_goes_to_peft_with_its_keys_shapes_and_logits(embedded: Path, tmp_path: Path) -> None:
    done = to_peft(embedded, tmp_path / "peft")
    assert done.off < 1e-4 * done.scale
    tensors = load_file(tmp_path / "peft/adapter_model.safetensors")
    config = read_json(tmp_path / "peft/adapter_config.json")
    a = tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    b = tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"]
    assert a.shape == (4, SHAPE.hidden_size) and b.shape == (SHAPE.hidden_size, 4)
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8.0)
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"] and config["layers_to_transform"] == [0, 1]
    assert config["modules_to_save"] is None and len(tensors) == 2 * 2 * 3
    assert config["base_model_name_or_path"].endswith("base1")
    assert any("grammar" in line for line in done.untold) and any("96 tokens" in line for line in done.untold)


def test_the_rows_of_music_words_go_to_peft_as_whole_tables_and_the_new_size_is_said(
    packed: Path, tmp_path: Path
) -> None:
    done = to_peft(packed, tmp_path / "peft")
    assert done.off < 1e-3 * done.scale
    tensors = load_file(tmp_path / "peft/adapter_model.safetensors")
    config = read_json(tmp_path / "peft/adapter_config.json")
    rows = tensors["base_model.model.lm_head.weight"]
    assert config["modules_to_save"] == ["embed_tokens", "lm_head"] and rows.shape[1] == PRETRAINED.hidden_size
    assert any(f"resize_token_embeddings({rows.shape[0]})" in line for line in done.untold)
    assert "BEAT_0" in (tmp_path / "peft/tokenizer.json").read_text()


def test_a_plain_model_goes_to_gguf_bit_for_bit(embedded: Path, tmp_path: Path) -> None:
    done = to_gguf(embedded / "fused", tmp_path / "model.gguf")
    assert done.off == 0 and done.what == "logit"
    gguf.check_gguf(tmp_path / "model.gguf")


def test_four_bits_stay_four_bits_in_gguf_and_other_packings_are_said(packed: Path, tmp_path: Path) -> None:
    four = to_gguf(packed / "fused", tmp_path / "four.gguf")
    kinds = _kinds(tmp_path / "four.gguf")
    assert (kinds["blk.0.ffn_down.weight"], kinds["output_norm.weight"]) == ("Q4_1", "F32")
    assert four.off < 1e-3 * four.scale and not any("become fp16" in line for line in four.untold)
    fuse(packed / "base", packed / "stage2", tmp_path / "eight", texts(2, 1), quantize_bits=8, max_tokens=96,
         max_lost_share=1e9)  # fmt: skip
    eight = to_gguf(tmp_path / "eight", tmp_path / "eight.gguf")
    assert _kinds(tmp_path / "eight.gguf")["blk.0.ffn_down.weight"] == "F16"
    assert eight.off < 1e-2 * eight.scale and any("become fp16" in line for line in eight.untold)


def _kinds(path: Path) -> dict[str, str]:
    from gguf import GGUFReader

    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(str(path)).tensors}


def test_a_model_from_gguf_comes_back_as_the_same_gguf_tensors(tmp_path: Path) -> None:
    """Llama's rows are in another order there; a tiny one goes to MLX and back."""
    folder = gguf.make_from_gguf(tmp_path / "base", write_tiny_gguf(tmp_path / "tiny.gguf"))
    done = to_gguf(folder, tmp_path / "back.gguf")
    assert done.off < 1e-3 * done.scale
    again = gguf.make_from_gguf(tmp_path / "again", tmp_path / "back.gguf")
    before, after = base.read_weights(folder), base.read_weights(again)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (np.array(before[name]) == np.array(after[name])).all()
    text = texts(1)[0]
    assert base.load(again, "text").encode_text(text) == base.load(folder, "text").encode_text(text)


def test_a_model_that_gguf_has_no_name_for_is_refused(embedded: Path, tmp_path: Path) -> None:
    folder = to_mlx(embedded / "fused", tmp_path / "copy").path
    write_json(folder / "config.json", read_json(folder / "config.json") | {"model_type": "mamba"})
    with pytest.raises(ModelError, match="'mamba'"):
        to_gguf(folder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_an_mlx_folder_of_its_own_gives_stock_mlx_lm_the_same_logits(embedded: Path, tmp_path: Path) -> None:
    done = to_mlx(embedded / "fused", tmp_path / "mlx")
    assert done.off == 0 and (tmp_path / "mlx/model.safetensors").exists()


def test_the_command_writes_and_says_what_is_not_in_it(embedded: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from plagal.cli import main; main()", "export", "--to", "gguf"]
    done = subprocess.run([*command, "--models", str(embedded), "-o", str(tmp_path / "a.gguf")], check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert "read back: no logit is off by more than 0 " in done.stdout and "not in it: the grammar" in done.stdout
    assert done.stderr == ""


def test_llama_cpp_itself_gives_the_same_probabilities_and_one_token_a_word(packed: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("uv pip install --no-deps --require-hashes -r requirements-llamacpp.lock")
    to_gguf(packed / "fused", tmp_path / "a.gguf")
    command = [sys.executable, str(ROOT / "tools/llama_cpp_check.py"), str(tmp_path / "a.gguf")]
    done = subprocess.run(
        [*command, "--model", str(packed / "fused"), "--tokens", "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-500:]
