"""One worker at a time, and none that works on when DVC is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plagal.plumbing.errors import LockedError
from plagal.plumbing.lock import hold
from waiting import wait_until

WORKER = """
import os, sys, time
from pathlib import Path
from plagal.plumbing.lock import ASKED_TO_END, hold
starter, folder, grace = os.getppid(), Path(sys.argv[1]), float(sys.argv[2])
import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    with hold(folder / "work", "work", starter, grace):
        (folder / "writing").write_text(str(os.getpid()))
        (folder / "writing").rename(folder / "pid")  # whole at once: its starter dies as soon as it is seen
        for _ in range(1000):
            if grace and ASKED_TO_END.is_set():
                time.sleep(0.5)  # a checkpoint takes its time
                (folder / "ended").write_text("saved")
                break
            time.sleep(0.02)
finally:
    (folder / "ended").exists() or (folder / "ended").write_text("unwound")
"""
STARTER = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"

HASTY_STARTER = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]])"
LATE = "import time; time.sleep(0.5)"


def surroundings(by_dvc: bool) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("DVC_STAGE", None)
    return {**environment, "DVC_STAGE": "work"} if by_dvc else environment


def orphan(folder: Path, grace: float, by_dvc: bool) -> int:
    """Start a worker whose starter is then killed. -> its pid, once it holds the lock."""
    environment = surroundings(by_dvc)
    starter = subprocess.Popen([sys.executable, "-c", STARTER, WORKER, str(folder), str(grace)], env=environment)
    wait_until((folder / "pid").exists)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    return int((folder / "pid").read_text())


@pytest.mark.parametrize(("grace", "way"), [(0.0, "unwound"), (20.0, "saved")])
def test_a_stage_ends_in_good_order_when_the_dvc_that_started_it_is_killed(tmp_path: Path, grace: float, way: str):
    orphan(tmp_path, grace, by_dvc=True)
    wait_until((tmp_path / "ended").exists)
    with hold(tmp_path / "work", "work", os.getppid()):
        assert (tmp_path / "ended").read_text() == way


def test_a_stage_whose_dvc_is_gone_before_it_asks_who_started_it_is_waited_for_like_any_orphan(tmp_path: Path):
    """DVC died in the 0.1 s in which the stage's Python starts: its parent is then whoever takes orphans in, and the
    next `dvc repro` was told to wait for a living process."""
    command = [sys.executable, "-c", HASTY_STARTER, LATE + WORKER, str(tmp_path), "20"]
    subprocess.run(command, env=surroundings(by_dvc=True), start_new_session=True, check=True)
    wait_until((tmp_path / "pid").exists)
    with hold(tmp_path / "work", "work", os.getppid()):
        assert (tmp_path / "ended").read_text() == "saved"


def test_an_orphan_started_by_hand_works_on_until_another_wants_its_place(tmp_path: Path):
    orphan(tmp_path, 0.0, by_dvc=False)
    time.sleep(0.5)
    assert not (tmp_path / "ended").exists()
    with hold(tmp_path / "work", "work", os.getppid()):
        assert (tmp_path / "ended").read_text() == "unwound"


def test_the_second_of_two_is_told_who_the_first_is_and_how_to_end_it(tmp_path: Path):
    told = f"work is being run by process {os.getpid()}; .* `kill {os.getpid()}`"
    with (
        hold(tmp_path / "work", "work", os.getppid()),
        pytest.raises(LockedError, match=told),
        hold(tmp_path / "work", "work", os.getppid()),
    ):
        pass
    with hold(tmp_path / "work", "work", os.getppid()):
        pass  # nothing left that a person would have to remove


def test_a_lock_left_by_a_kill_holds_nobody_up(tmp_path: Path):
    pid = orphan(tmp_path, 0.0, by_dvc=False)
    os.kill(pid, signal.SIGKILL)
    with hold(tmp_path / "work", "work", os.getppid(), wait_seconds=0.0):
        assert not (tmp_path / "work.wanted").exists()
