"""Two processes under mlx.launch train what one process trains, bit for bit, and resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from model_helpers import settings, texts, tiny_base

from plagal.model import base, trainer
from plagal.model.cpu.kernels import on_cpu
from plagal.plumbing.files import write_jsonl, write_text

LAUNCH = Path(sys.executable).with_name("mlx.launch")
SCRIPT = """
import sys
from pathlib import Path
from model_helpers import settings, texts
from plagal.model import base, trainer
out = Path(sys.argv[1])
for stop in (3, None):
    trainer.train(base.load(out / "base1"), texts(9), texts(3, 1), settings(mode="lora"), out / "run", out / "adapter",
                  seed=5, stop_after=stop)
"""


@pytest.mark.skipif(not LAUNCH.exists() or not on_cpu(), reason="wants mlx.launch, and a backend that does lanes")
def test_two_processes_give_one_process_s_bits_even_when_resumed(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path)
    trainer.train(base.load(folder), texts(9), texts(3, 1), settings(mode="lora"), tmp_path / "run1",
                  tmp_path / "one", seed=5)  # fmt: skip
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [str(LAUNCH), "-n", "2", "--backend", "ring", sys.executable, str(script), str(tmp_path)]
    _launched(command, tmp_path)
    file = "adapters.safetensors"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "adapter" / file).read_bytes()


@pytest.mark.skipif(not LAUNCH.exists() or not on_cpu(), reason="wants mlx.launch, and a backend that does lanes")
def test_the_stage_itself_runs_under_mlx_launch_as_the_readme_says(tmp_path: Path) -> None:
    """Two processes of one machine: the second neither fights for the stage's lock nor writes what the first does."""
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    raw["model"]["embedded"] |= {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate_size": 64}
    raw["model"]["base"] = "embedded"
    raw["train_stage1"] |= {"mode": "full", "steps": 2, "batch": 2, "max_tokens": 128}
    raw["train_stage1"] |= {"save_every": 1, "evaluate_every": 2}
    write_text(tmp_path / "params.yaml", yaml.safe_dump(raw))
    for split, count in (("train", 9), ("valid", 3)):
        write_jsonl(tmp_path / "data/text/stage1" / f"{split}.jsonl", [{"text": text} for text in texts(count)])
    command = [str(LAUNCH), "-n", "2", "--backend", "ring", "--cwd", str(tmp_path), "--", sys.executable, "-m",
               "plagal.stages", "train_stage1"]  # fmt: skip
    assert "error" not in _launched(command, tmp_path)
    assert (tmp_path / "models/stage1/train.json").exists() and (tmp_path / "metrics/curves/stage1.csv").exists()


def _launched(command: list[str], folder: Path) -> str:
    """What the processes said on stderr; all have ended well."""
    environment = os.environ | {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        command, env=environment, cwd=folder, check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr
