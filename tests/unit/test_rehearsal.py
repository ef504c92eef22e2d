"""The rehearsal: measures what a run would do, says go or what to change, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import plagal.model  # noqa: F401  (the fast BLAS goes first)
from plagal.model.memory import GIGA
from plagal.plumbing.params import Params, check_params
from plagal.rehearsal import run as rehearsing
from plagal.rehearsal.machine import KNOWN, billions, scratch, shape_of
from plagal.rehearsal.run import rehearse, report_lines
from waiting import wait_until

ROOT = Path(__file__).parents[2]
TINY_QWEN = KNOWN["mlx-community/Qwen2.5-7B-Instruct-4bit"] | {
    "hidden_size": 128, "num_hidden_layers": 3, "intermediate_size": 192, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 3200,
}  # fmt: skip


def params_of(**changes: object) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["model"] |= {"base": "embedded"} | dict(changes)
    raw["model"]["embedded"] = {"hidden_size": 64, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate_size": 96}
    for stage in ("train_stage1", "train_stage2"):
        raw[stage]["mode"] = "full" if stage == "train_stage1" and not changes else "lora"
        raw[stage] |= {"max_tokens": 96, "batch": 2, "accumulation": 4, "steps": 1000}
    return check_params(yaml.safe_dump(raw), "params")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_embedded_base_is_rehearsed_in_both_stages_and_leaves_its_figures_alone(folder: Path) -> None:
    report = rehearse(params_of(), minutes=0.0)
    assert report["verdict"] == ["go"]
    for stage in report["stages"].values():
        assert stage["resumed_at_step"] == 1 and stage["checkpoint_bytes"] > 0 and stage["peak_bytes"] > 0
        assert len(stage["step_seconds"]) >= 1
        low, likely, high = stage["hours"]
        assert 0 < low <= likely <= high
    assert report["words_a_second"] > 0 and report["fused_seconds_a_layer"] > 0
    assert report["disk"]["needed_bytes"] > 2 * report["disk"]["models_bytes"] > 0
    assert list(folder.iterdir()) == []
    text = "\n".join(report_lines(report))
    assert text.endswith("go") and "than planned" in text and "hours" in text
    assert str(folder) not in json.dumps(report) and os.uname().nodename not in json.dumps(report)


def test_a_few_steps_of_which_one_was_slow_promise_no_hours_below_the_fastest() -> None:
    stage = rehearsing.Stage(96, 96, 1.0, 1.0, 1.0, step_seconds=[3.6, 3.6, 90.0])
    assert rehearsing._hours(stage, params_of().train_stage1, 0.0)[0] == 1.0


def test_a_large_base_that_is_not_here_is_one_of_its_shape_with_random_weights(folder: Path) -> None:
    report = rehearse(params_of(base="mlx-community/Qwen2.5-7B-Instruct-4bit"), 0.0, TINY_QWEN, layers=2)
    assert report["base"]["weights"] == "random" and report["base"]["layers"] == 2
    assert report["verdict"] == ["go"] and report["words"] > 0


def test_what_does_not_fit_is_rehearsed_at_the_length_that_does_and_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_of()
    whole = rehearsing._planned(params, params.train_stage1, _embedded_shape(params), 1e12, grown=False).planned_bytes
    monkeypatch.setattr("plagal.model.memory.budget_bytes", lambda: 0.8 * whole)
    monkeypatch.setattr("plagal.model.trainer.budget_bytes", lambda: 0.8 * whole)
    report = rehearse(params, minutes=0.0)
    stage = report["stages"]["stage1"]
    assert 64 <= stage["max_tokens"] < 96 and stage["peak_bytes"] > 0
    assert any(line.startswith("train_stage1.max_tokens: 96 wants") for line in report["verdict"])


def test_nothing_fits_is_said_with_layers_and_rank_to_lower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plagal.model.memory.budget_bytes", lambda: 1e5)
    verdict = rehearse(params_of(), minutes=0.0)["verdict"]
    assert any("lora.layers (32) or train_stage2.lora.rank (32)" in line for line in verdict)


def test_a_disk_that_is_too_small_and_swap_that_grew_are_said() -> None:
    report = {"stages": {}, "budget_bytes": 10 * GIGA, "swap_grown_bytes": 2 * GIGA,
              "disk": {"needed_bytes": 3 * GIGA, "free_bytes": GIGA}}  # fmt: skip
    verdict = rehearsing.verdict(report, params_of())
    assert len(verdict) == 2 and "swap grew by 2.0 GB" in verdict[0] and "dvc gc" in verdict[1]


def _embedded_shape(params: Params) -> dict[str, object]:
    from plagal.model.base import make_embedded, read_config

    folder = Path("shape")
    config = read_config(make_embedded(folder, params.model.embedded, 1))
    shutil.rmtree(folder)
    return config


@pytest.mark.parametrize("group", [False, True])
def test_killed_it_leaves_nothing(folder: Path, group: bool) -> None:
    """By kill -9, of the process and of its whole group."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["model"]["base"] = "embedded"
    raw["train_stage1"]["max_tokens"] = raw["train_stage2"]["max_tokens"] = 256
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", "from plagal.cli import main; main()", "rehearse", "--minutes", "9"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    ) as it:
        wait_until(lambda: any(folder.glob(".checkpoints/rehearsal-*/stage1/step-00000001/sums.json")), 120)
        os.killpg(it.pid, signal.SIGKILL) if group else it.kill()
    wait_until(lambda: sorted(path.name for path in folder.iterdir()) == ["params.yaml"], 30)


def test_what_a_power_cut_left_goes_with_the_next_one_and_a_living_ones_stays(folder: Path) -> None:
    dead = folder / "there" / "rehearsal-999999999-00000000"
    living = folder / "there" / f"rehearsal-{os.getpid()}-00000000"
    for left in (dead, living):
        left.mkdir(parents=True)
    with scratch(folder / "there") as made:
        assert made.is_dir() and not dead.exists() and living.exists()
    assert not made.exists()


def test_large_bases_are_known_by_shape_or_by_name() -> None:
    assert billions(params_of(base="mlx-community/Qwen2.5-14B-Instruct-4bit").model) == pytest.approx(14.8, abs=0.1)
    assert billions(params_of(base="someone/Llama-3.2-3B-4bit").model) == 3.0
    assert billions(params_of(base="someone/tiny-model").model) == billions(params_of().model) == 0.0
    assert shape_of(params_of(base="smollm2").model)["num_hidden_layers"] == 30


def test_make_repro_asks_for_the_rehearsal_of_a_large_base_once(folder: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["model"]["base"] = "mlx-community/Qwen2.5-14B-Instruct-4bit"
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-c", "from plagal.cli import main; main()", "rehearse", "--if-large"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    first, second = (
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert first.returncode == 1 and "14.8 billion weights" in first.stderr and "rehearse" in first.stderr
    assert (second.returncode, second.stderr) == (0, "")
    assert "plagal rehearse --if-large" in (ROOT / "Makefile").read_text()
