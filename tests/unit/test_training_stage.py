"""A training stage: what it leaves behind, and what a kill after its end costs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from model_helpers import settings, texts, tiny_base

from plagal.model import base, trainer
from plagal.plumbing.errors import LockedError
from plagal.plumbing.files import write_json, write_jsonl
from plagal.plumbing.lock import ASKED_TO_END
from plagal.stages import CHECKPOINTS, forget_finished, train_on


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for split, count in (("train", 9), ("valid", 3)):
        write_jsonl(tmp_path / "data/text/stage1" / f"{split}.jsonl", [{"text": text} for text in texts(count)])
    tiny_base(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(project: Path, **changes: object) -> dict[str, bytes]:
    train_on("stage1", base.load(project / "base1"), settings(**changes), 5)
    return {path.name: path.read_bytes() for path in (project / "models/stage1").iterdir()}


def test_a_kill_while_dvc_saves_a_trained_model_costs_no_step(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = train(project)
    assert "train.json" in first
    shutil.rmtree(project / "models")  # DVC does, before it runs a stage again
    caplog.set_level("INFO")
    assert train(project) == first
    assert "resumed at step 6 of 6" in caplog.text


def test_a_stage_whose_starter_is_gone_names_no_run_after_a_base_that_may_be_going(project: Path) -> None:
    lm = base.load(project / "base1")
    (project / "base1" / "model.safetensors").unlink()  # as the next `dvc repro` does before it starts the stage anew
    ASKED_TO_END.set()
    try:
        with pytest.raises(LockedError, match="the program that started stage1's training has ended"):
            train_on("stage1", lm, settings(), 5)
    finally:
        ASKED_TO_END.clear()
    assert not CHECKPOINTS.exists()


def test_finished_checkpoints_go_when_a_later_stage_begins_and_unfinished_ones_stay(project: Path) -> None:
    train(project)
    unfinished = CHECKPOINTS / "0123456789abcdef" / "step-00000001"
    unfinished.mkdir(parents=True)
    assert len(list(CHECKPOINTS.iterdir())) == 2
    forget_finished()
    assert list(CHECKPOINTS.rglob("*")) == [unfinished.parent, unfinished]


def test_training_anew_with_other_settings_keeps_no_finished_checkpoint_of_the_old(project: Path) -> None:
    train(project)
    old = list(CHECKPOINTS.iterdir())
    train(project, learning_rate=0.02)
    assert len(list(CHECKPOINTS.iterdir())) == 1 and list(CHECKPOINTS.iterdir()) != old


@pytest.fixture
def interrupted(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project after 3 of 6 steps."""
    whole = trainer.train

    def stopped(*args: Any, **options: Any) -> None:
        whole(*args, **options, stop_after=3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(project)
    return project


def test_settings_that_change_no_step_take_an_interrupted_run_up(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(interrupted, keep_newest=5, save_every=1, gradient_checkpointing=True)
    assert "resumed at step 3 of 6" in caplog.text and "anew" not in caplog.text


def test_any_other_setting_starts_anew_and_says_so_and_the_way_back_stays_open_once(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = next(CHECKPOINTS.iterdir())
    train(interrupted, learning_rate=0.02)
    assert f"stage1 starts anew, for its learning_rate 0.01 -> 0.02: what was trained before is kept in {old}" in (
        caplog.text
    )
    assert old.exists()
    forget_finished()
    assert list(CHECKPOINTS.iterdir()) == [old]


def test_checkpoints_of_runs_that_were_given_up_do_not_pile_up(interrupted: Path) -> None:
    for number in range(3):
        old = CHECKPOINTS / f"{number:016x}"
        write_json(old / "begun.json", {"stage": "stage1", "seed": number})
        os.utime(old / "begun.json", (number, number))
    other = CHECKPOINTS / "of another stage"
    write_json(other / "begun.json", {"stage": "stage2"})
    train(interrupted, learning_rate=0.02)
    left = [folder for folder in CHECKPOINTS.iterdir() if not (folder / "finished.json").exists()]
    assert len(left) == 2 and other in left
