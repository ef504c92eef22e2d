"""How processes with a model end: their own exit codes, no abort, and no silent wait after a fork."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from model_helpers import tiny_base

from plagal.music.score import Score
from plagal.plumbing.errors import InputError
from plagal.serving import FinetunedQwenService

WAITS = "import time\nwhile not service.writer.busy:\n    time.sleep(0.01)\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)],
                          capture_output=True, text=True, check=False, cwd=cwd, timeout=120)  # fmt: skip


def plagal(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run("from plagal.cli import main; main()", *arguments, cwd=cwd)


def test_serve_says_in_one_line_that_a_model_named_is_missing_and_exits_with_one(model: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    for missing in (["--model", "nowhere/at/all"], ["--model", "half"], ["--model", model, "--previous", "none"]):
        done = plagal("serve", "--port", 0, *missing, cwd=tmp_path)
        assert done.returncode == 1, done
        assert done.stderr.startswith("plagal: error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "make repro" in plagal("serve", "--port", 0, "--model", "nowhere", cwd=tmp_path).stderr


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(3)", 3), ("raise ValueError", 1)])
def test_a_program_that_ends_while_a_piece_is_written_keeps_its_exit_code(
    model: Path, tmp_path: Path, ending: str, code: int
) -> None:
    script = (
        "import os, sys, threading\nfrom plagal.serving import FinetunedQwenService\n"
        "service = FinetunedQwenService(sys.argv[1])\n"
        "threading.Thread(target=lambda: service.generate_melody('gospel', bars=64), daemon=True).start()\n"
        f"{WAITS}{ending}\n"
    )
    done = run(script, model, cwd=tmp_path)
    assert done.returncode == code and "terminate called" not in done.stderr, done


def test_the_arrangers_interface_answers_inside_a_loop_that_runs_and_leaves_nothing_behind(model: Path) -> None:
    service = FinetunedQwenService(model)

    async def as_in_a_notebook() -> Score:
        return service.generate_melody("worship", "Db", 66.0, 2, seed=3)

    try:
        score = asyncio.run(as_in_a_notebook())
        assert score.keys[0].fifths == -5
        with pytest.raises(InputError):
            service.generate_melody("worship", "no key")
        assert not service.writer.busy and not service.writer.queue
    finally:
        service.writer.close()


def test_a_fork_of_a_process_with_a_model_is_told_so_and_never_waits(model: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom plagal.plumbing.errors import ModelError\n"
        "from plagal.serving import FinetunedQwenService\nfrom plagal.serving.service import write_piece\n"
        "service = FinetunedQwenService(sys.argv[1])\nservice.generate_melody('gospel', bars=1)\n"
        "child = os.fork()\nif child == 0:\n"
        "    tries = [lambda: service.generate_melody('gospel', bars=1), lambda: write_piece('gospel', sys.argv[1]),\n"
        "             lambda: FinetunedQwenService(sys.argv[1]).generate_melody('gospel', bars=1)]\n"
        "    for ask in tries:\n"
        "        try:\n            ask()\n        except ModelError as error:\n            print(error, flush=True)\n"
        "    service.writer.close()\n    sys.exit(7)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "assert len(service.generate_melody('gospel', bars=1).notes)\nsys.exit(code)\n"
    )
    done = run(script, model, cwd=tmp_path)
    assert done.returncode == 7 and done.stdout.count("forked") == 3, done
