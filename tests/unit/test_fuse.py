"""Fusing: the model that comes out is the one that was trained, or none comes out."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
from model_helpers import settings, texts, tiny_base

from plagal.model import base, trainer
from plagal.model.fuse import fuse
from plagal.plumbing.errors import ModelError


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


def test_damaged_adapters_leave_no_folder(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ModelError, match="no adapters that can be read"):
        fuse(trained / "base1", tmp_path / "adapter", tmp_path / "fused", texts(2))
    assert not (tmp_path / "fused").exists()
