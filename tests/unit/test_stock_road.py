"""The documents' commands for stock mlx-lm and for two Macs, as they stand there, for a few steps."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from model_helpers import SHAPE, texts

from plagal.model import base
from plagal.model.cpu.kernels import on_cpu
from plagal.plumbing.files import write_jsonl

PAGE = (Path(__file__).parents[2] / "docs" / "stock.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    base.make_embedded(root / "models" / "base", SHAPE.model_copy(update={"layers": 4}), 1)
    for seed, (split, count) in enumerate((("train", 8), ("valid", 4), ("test", 4))):
        rows = [{"text": text, "metadata": {"title": "x"}} for text in texts(count, seed)]
        write_jsonl(root / "data" / "text" / "stage2" / f"{split}.jsonl", rows)
    return root


def in_page(beginning: str) -> list[str]:
    return [line for line in PAGE.splitlines() if line.startswith(beginning)]


def test_the_pages_commands_for_stock_mlx_lm_run_on_the_projects_data(project: Path) -> None:
    commands = [*in_page("mlx_lm.lora --model models/base"), *in_page("mlx_lm.fuse --model models/base")]
    assert len(commands) == 3
    said = ""
    for command in commands:
        words = shlex.split(re.sub(r"--iters \d+", "--iters 3", command))
        done = subprocess.run([BIN / words[0], *words[1:]], cwd=project, capture_output=True, text=True, timeout=300,
                              env={**os.environ, "HOME": str(project)}, check=False)  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        said += done.stdout
    assert (project / "out/stock/adapters.safetensors").exists() and "Test loss" in said
    assert base.load(project / "out/stock_fused").words.whole


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # mlx leaves the file open
def test_the_pages_host_file_is_one_that_mlx_launch_reads(tmp_path: Path) -> None:
    from mlx._distributed_utils.common import Hostfile

    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    (tmp_path / "hosts.json").write_text(block.group(1))
    hosts = Hostfile.from_file(tmp_path / "hosts.json").hosts
    assert [host.ssh_hostname for host in hosts] == ["mac-1.local", "mac-2.local"] and all(host.ips for host in hosts)


@pytest.mark.skipif(not on_cpu(), reason="loopback in place of two Macs")
def test_the_pages_launch_command_runs_with_a_host_file_of_this_machine(tmp_path: Path) -> None:
    (command,) = in_page("mlx.launch --backend ring --hostfile")
    hosts = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]} for _ in range(2)]
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    script = "import mlx.core as mx; g = mx.distributed.init(); print('rank', g.rank(), 'of', g.size(), flush=True)"
    words = shlex.split(command.replace('"$PWD"', str(tmp_path)))
    words = [*words[: words.index("--") + 1], sys.executable, "-c", script]
    done = subprocess.run([BIN / words[0], *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    assert {"rank 0 of 2", "rank 1 of 2"} <= set(done.stdout.splitlines()), done.stdout
