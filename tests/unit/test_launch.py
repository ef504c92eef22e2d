"""Two processes under mlx.launch train what one process trains, bit for bit, and resume."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from model_helpers import settings, texts, tiny_base

from plagal.model import base, trainer
from plagal.model.cpu.kernels import on_cpu

LAUNCH = Path(sys.executable).with_name("mlx.launch")
SCRIPT = """
import sys
from pathlib import Path
from model_helpers import settings, texts
from plagal.model import base, trainer
out, stop = Path(sys.argv[1]), int(sys.argv[2]) or None
lm = base.load(sys.argv[3])
trainer.train(lm, texts(9), texts(3, 1), settings(mode="lora"), out / "run", out / "adapter", seed=5,
              stop_after=stop)
"""


@pytest.mark.skipif(not LAUNCH.exists() or not on_cpu(), reason="wants mlx.launch, and a backend that does lanes")
def test_two_processes_give_one_process_s_bits_even_when_resumed(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path)
    trainer.train(base.load(folder), texts(9), texts(3, 1), settings(mode="lora"), tmp_path / "run1",
                  tmp_path / "one", seed=5)  # fmt: skip
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for stop in (3, 0):
        command = [str(LAUNCH), "-n", "2", "--backend", "ring", sys.executable, str(script), str(tmp_path), str(stop)]
        paths = ":".join(path for path in sys.path if path)
        done = subprocess.run([*command, str(folder)], env={**_environment(), "PYTHONPATH": paths}, check=False,
                              capture_output=True, text=True, timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    file = "adapters.safetensors"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "adapter" / file).read_bytes()


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)
