"""Training: resumed bit for bit, stopped before harm, measured on the whole validation set."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from model_helpers import settings, text_of, texts, tiny_base

from plagal.model import base, checkpoint, tensors, trainer
from plagal.model.adapters import load_adapters
from plagal.plumbing.errors import CheckpointError, DiskError, LockedError, ModelError, TrainingError
from plagal.plumbing.lock import ASKED_TO_END


def run(
    folder: Path, out: str, checkpoints: str, stop_after: int | None = None, **changes: object
) -> trainer.TrainReport:
    lm = base.load(tiny_base(folder) if not (folder / "base1").exists() else folder / "base1")
    return trainer.train(lm, texts(9), texts(3, 1), settings(**changes), folder / checkpoints, folder / out, seed=5,
                         stop_after=stop_after)  # fmt: skip


@pytest.mark.parametrize(("mode", "muon"), [("full", 0.0), ("full", 0.02), ("lora", 0.0), ("lora", 0.02)])
def test_a_resumed_run_ends_bit_identical(tmp_path: Path, mode: str, muon: float) -> None:
    changes = {"mode": mode, "muon_learning_rate": muon}
    straight = run(tmp_path, "straight", "a", **changes)
    for stop in (1, 3, 2):
        broken = run(tmp_path, "resumed", "b", stop_after=stop, **changes)
    file = "model.safetensors" if mode == "full" else "adapters.safetensors"
    assert (tmp_path / "straight" / file).read_bytes() == (tmp_path / "resumed" / file).read_bytes()
    assert (tmp_path / "straight/curve.csv").read_bytes() == (tmp_path / "resumed/curve.csv").read_bytes()
    assert (straight.rows, straight.best_step, straight.tokens) == (broken.rows, broken.best_step, broken.tokens)
    assert broken.resumed_from == 4 and straight.best_valid_loss < straight.first_valid_loss


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    run(tmp_path, "straight", "a")
    run(tmp_path, "resumed", "b", stop_after=4)
    newest = tmp_path / "b" / "step-00000004" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    report = run(tmp_path, "resumed", "b")
    assert report.resumed_from == 2
    assert (tmp_path / "straight/model.safetensors").read_bytes() == (
        tmp_path / "resumed/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("damaged", [("best",), ("best", "step-00000004"), ("step-00000002", "step-00000004")])
def test_damaged_best_weights_or_checkpoints_cost_steps_but_never_the_result(
    tmp_path: Path, damaged: tuple[str, ...]
) -> None:
    run(tmp_path, "straight", "a", save_every=1)
    run(tmp_path, "resumed", "b", stop_after=4)
    for name in damaged:
        for folder in (tmp_path / "b").glob(f"{name}*"):
            file = folder / "state.safetensors"
            file.write_bytes(file.read_bytes()[::-1])
    for _ in range(7):  # killed after each step: what was damaged must not push out what is good
        run(tmp_path, "resumed", "b", stop_after=1, save_every=1)
    assert (tmp_path / "straight/model.safetensors").read_bytes() == (
        tmp_path / "resumed/model.safetensors"
    ).read_bytes()


def test_a_full_disk_is_told_where_mlx_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[write] Unable to write 8 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    with pytest.raises(OSError, match="Unable to write 8 bytes") as caught:
        tensors.save_tensors(tmp_path / "a.safetensors", {})
    assert caught.value.filename == str(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        tensors.save_tensors(tmp_path / "none" / "a.safetensors", {})


def test_the_best_weights_are_published_and_not_the_last(tmp_path: Path) -> None:
    report = run(tmp_path, "out", "a", learning_rate=0.05, steps=12, warmup_steps=0)
    rows = [row for row in report.rows if row.valid_loss is not None]
    assert report.best_valid_loss == min(row.valid_loss for row in rows)
    assert base.load(tmp_path / "out").config["plagal"]["window"] == 96


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    report = run(tmp_path, "out", "a", steps=12)
    names = sorted(path.name for path in (tmp_path / "a").iterdir() if path.is_dir())
    assert [name for name in names if name.startswith("step")] == ["step-00000010", "step-00000012"]
    assert f"best-{report.best_step:08d}" in names


def test_the_curve_names_no_clock(tmp_path: Path) -> None:
    run(tmp_path, "out", "a")
    with (tmp_path / "out/curve.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["step", "train_loss", "valid_loss", "valid_nats_per_note", "learning_rate"]
    assert [int(row["step"]) for row in rows if row["valid_loss"]] == [0, 3, 6]


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    one = run(tmp_path, "a", "a", batch=9, steps=1, evaluate_every=1, max_tokens=512)
    many = run(tmp_path, "b", "b", batch=3, accumulation=3, steps=1, evaluate_every=1, max_tokens=512)
    assert one.best_valid_loss == pytest.approx(many.best_valid_loss, abs=1e-4)


def test_a_loss_that_is_no_number_stops_with_what_to_lower(tmp_path: Path) -> None:
    lm = base.load(tiny_base(tmp_path))

    def loss(model: object, arrays: object) -> object:
        return mx.log(model.model.norm.weight.min() - 0.95)  # type: ignore[attr-defined]  # falls until it is not a number

    with pytest.raises(TrainingError, match="learning_rate"):
        trainer.train(
            lm, texts(9), texts(3), settings(steps=20, save_every=1), tmp_path / "a", tmp_path / "out", loss=loss
        )
    assert checkpoint.own_run and not (tmp_path / "out").exists()
    with checkpoint.own_run(tmp_path / "a") as own:
        newest = own.newest()
    assert newest is not None and all(bool(mx.isfinite(t).all()) for n, t in newest[0].items() if n.startswith("model"))


def test_a_loss_that_jumps_and_stays_stops_at_the_last_good_checkpoint(tmp_path: Path) -> None:
    lm = base.load(tiny_base(tmp_path))

    def loss(model: object, arrays: dict[str, mx.array]) -> mx.array:
        weight = model.model.norm.weight.min()  # type: ignore[attr-defined]
        return mx.where(weight > 0.93, weight, 50.0 + weight) * arrays["weights"].sum()  # falls, then jumps

    with pytest.raises(TrainingError, match=r"jumped from .* lower learning_rate=0\.01") as caught:
        trainer.train(lm, texts(9), texts(3), settings(steps=40, save_every=1, evaluate_every=50), tmp_path / "b",
                      tmp_path / "out", loss=loss)  # fmt: skip
    assert "the last good checkpoint is" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with checkpoint.own_run(tmp_path / "b") as own:
        newest = own.newest()
    assert newest is not None and newest[1]["high_steps"] < 3


def test_a_base_with_weights_that_are_no_numbers_is_stopped_before_the_first_step(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path)
    weights = base.read_weights(folder)
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    with pytest.raises(TrainingError, match="is not a number at step 0"):
        run(tmp_path, "out", "a")
    assert not (tmp_path / "out").exists()


def test_early_stopping_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    report = run(tmp_path, "out", "a", learning_rate=1e-9, steps=30, evaluate_every=2, patience=2, weight_decay=0.0)
    assert report.stopped_early and report.steps < 30 and (tmp_path / "out").is_dir()


def test_a_second_trainer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    import os

    with checkpoint.own_run(tmp_path / "a"), pytest.raises(LockedError, match=str(os.getpid())):
        run(tmp_path, "out", "a")


def test_a_run_that_is_asked_to_end_before_its_first_step_says_so_and_costs_nothing(tmp_path: Path) -> None:
    straight = run(tmp_path, "straight", "a")
    ASKED_TO_END.set()
    try:
        with pytest.raises(LockedError, match="at step 0"):
            run(tmp_path, "resumed", "b")
    finally:
        ASKED_TO_END.clear()
    assert run(tmp_path, "resumed", "b").rows == straight.rows
    assert kept(tmp_path / "b") == kept(tmp_path / "a")


KILLED = """
import os, sys
from plagal.model import base, trainer
sys.path.insert(0, sys.argv[1])
from model_helpers import settings, texts
def die(*a, **k): os.kill(os.getpid(), 9)
def die_after_one(*a, **k):
    unlink(*a, **k)
    os.unlink = die
unlink, save = os.unlink, trainer._Loop._save
def last_save(self):
    if self.state.step == self.settings.steps:
        {kill}
    save(self)
trainer._Loop._save = last_save
folder = sys.argv[2]
trainer.train(base.load(folder + "/base1"), texts(9), texts(3, 1), settings(keep_newest=1), folder + "/b",
              folder + "/resumed", seed=5)
"""
WHERE = {
    "in the midst of a removal": "os.unlink = die_after_one",
    "between the last checkpoint and the removals": "self.own.remove = die",
}


def kept(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


def test_a_run_that_was_asked_to_end_between_two_checkpoints_leaves_what_any_other_leaves(tmp_path: Path) -> None:
    run(tmp_path, "straight", "a", save_every=3, keep_newest=3)
    run(tmp_path, "resumed", "b", save_every=3, keep_newest=3, stop_after=2)
    assert "step-00000002" in kept(tmp_path / "b")
    run(tmp_path, "resumed", "b", save_every=3, keep_newest=3)
    assert kept(tmp_path / "b") == kept(tmp_path / "a")


@pytest.mark.parametrize("where", WHERE)
def test_a_kill_leaves_nothing_that_the_next_run_does_not_remove(tmp_path: Path, where: str) -> None:
    run(tmp_path, "straight", "a", keep_newest=1)
    script = KILLED.replace("{kill}", WHERE[where])
    tests = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", script, tests, str(tmp_path)], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    run(tmp_path, "resumed", "b", keep_newest=1)
    assert kept(tmp_path / "b") == kept(tmp_path / "a")


def test_a_full_disk_is_found_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))
    rows: list[object] = []
    lm = base.load(tiny_base(tmp_path))
    with pytest.raises(DiskError, match="no room for the next checkpoint"):
        trainer.train(lm, texts(9), texts(3), settings(evaluate_every=1), tmp_path / "a", tmp_path / "out",
                      on_row=rows.append)  # fmt: skip
    assert len(rows) == 1, "a step was taken although its checkpoint had no room"


def test_adapters_of_another_base_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "out", "a", mode="lora", steps=1)
    other = base.load(tiny_base(tmp_path, seed=2))
    with pytest.raises(ModelError, match="another base"):
        load_adapters(other, tmp_path / "out")


def test_no_text_is_a_named_error(tmp_path: Path) -> None:
    lm = base.load(tiny_base(tmp_path))
    with pytest.raises(TrainingError, match="no text"):
        trainer.train(lm, [], texts(1), settings(), tmp_path / "a", tmp_path / "out")


def test_a_truncated_checkpoint_is_a_checkpoint_error(tmp_path: Path) -> None:
    with checkpoint.own_run(tmp_path / "a") as own:
        path = own.save("step-00000001", {"x": mx.array(np.arange(4.0))}, {"step": 1})
    (path / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load_checkpoint(path)


def test_a_pickled_checkpoint_is_passed_over_and_never_run(tmp_path: Path) -> None:
    import json
    import pickle

    run(tmp_path, "resumed", "b", stop_after=4)
    newest = tmp_path / "b" / "step-00000004"
    trap = tmp_path / "trap"
    (newest / checkpoint.TENSORS).write_bytes(pickle.dumps(_Trap(str(trap))))
    sums = {name: checkpoint.sha256_of(newest / name) for name in (checkpoint.TENSORS, checkpoint.STATE)}
    (newest / checkpoint.SUMS).write_text(json.dumps(sums))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load_checkpoint(newest)
    assert run(tmp_path, "resumed", "b").resumed_from == 2 and not trap.exists()


class _Trap:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_a_data_set_without_a_line_is_named(tmp_path: Path) -> None:
    from plagal.stages import texts_of

    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(TrainingError, match=r"train\.jsonl holds no text"):
        texts_of(tmp_path / "train.jsonl")


def test_a_prompt_longer_than_any_window_is_named_with_the_param_to_raise(tmp_path: Path) -> None:
    lm = base.load(tiny_base(tmp_path))
    long = text_of(["SONG_START", "BAR_START", "SONG_END"], "x" * 300)
    with pytest.raises(TrainingError, match="max_tokens=96; raise it"):
        trainer.train(lm, [long], texts(1), settings(), tmp_path / "a", tmp_path / "out")
