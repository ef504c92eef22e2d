"""A terminal in a throw-away project whose commands may be killed at any instant, and what is left when they are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from pipeline.project import tiny_project

PATIENCE_SECONDS = 1200.0
"""For a command that nobody disturbs."""
_BESIDE = (".git", ".dvc/tmp", "logs", ".checkpoints")
"""Whose contents differ between two runs: times, ids of processes. Of all but git's, the names are compared."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for projects, in memory where the system has a place for that."""
    memory = Path("/dev/shm")  # noqa: S108  (a folder of our own is made in it)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@dataclass
class Ended:
    """How a command ended; `said`: all that it printed."""

    code: int
    said: str


class Command:
    """A running command, the first of a process group of its own, as a shell would start it."""

    def __init__(self, terminal: Terminal, *command: str):
        self.output = tempfile.TemporaryFile(dir=terminal.root.parent)  # noqa: SIM115  (lives as long as this does)
        self.process = subprocess.Popen(
            command, cwd=terminal.root, env=terminal.environment, stdin=subprocess.DEVNULL,
            stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.began = time.monotonic()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal_group(signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"{self.process.args} hung:\n{self.said()}") from None
        return Ended(code, self.said())

    def said(self) -> str:
        # Not with seek and read: the file's place is shared with the children, who write at it.
        size = os.fstat(self.output.fileno()).st_size
        return os.pread(self.output.fileno(), size, 0).decode(errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None

    def still_runs(self, seconds: float) -> bool:
        """Wait so long, or until it ends. -> whether it runs."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def signal_group(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def child(self, words: str) -> psutil.Process | None:
        """The process beneath this one whose command line holds `words`."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return None
        return next((process for process in below if words in _command_line(process)), None)


def tiny_terminal(folder: Path, **variables: str) -> Terminal:
    """In a project that holds what the pipeline reads, and no more: it is copied often."""
    project = tiny_project(folder / "project").root
    for name in ("benchmarks", "docs", "examples", "tests", "web"):
        shutil.rmtree(project / name, ignore_errors=True)
    return Terminal(project, **variables)


class Terminal:
    """Commands in the project at `root`, each with a home and DVC's own notes in the same scratch folder."""

    def __init__(self, root: Path, **variables: str):
        self.root = root
        self.notes = root.parent / f"{root.name}-notes"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            # Kept outside the project and its states: else each start compiles hundreds of modules anew.
            "PYTHONPYCACHEPREFIX": str(root.parent / "bytecode"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "src"),
            "HOME": str(root.parent / "home"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.notes),
            **variables,
        }

    def start(self, *command: str) -> Command:
        return Command(self, *command)

    def run(self, *command: str, check: bool = True) -> Ended:
        ended = self.start(*command).wait()
        if check and ended.code:
            raise AssertionError(f"{' '.join(command)} ended with {ended.code}:\n{ended.said}")
        return ended

    def living(self, patience_seconds: float = 0.0) -> list[psutil.Process]:
        """Processes that run in the project, whoever started them, and go on so long."""
        end = time.monotonic() + patience_seconds
        while (found := self._living()) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def _living(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def end_all(self) -> None:
        for process in self.living():
            process.kill()

    def put_back(self, state: Path) -> None:
        """Make the project what it was when `state` was kept."""
        for folder in (self.root, self.notes):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(state, self.root, symlinks=True)

    def keep(self, state: Path) -> None:
        shutil.copytree(self.root, state, symlinks=True)


def contents(root: Path) -> dict[str, str]:
    """Path -> sha256 of every file and "" of every folder of a project; "?" where contents differ by their nature."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name == ".git" or name.startswith(".git/") or "__pycache__" in path.parts:
            continue
        if path.is_dir():
            found[name] = ""
        elif name.startswith(_BESIDE):
            found[name] = "?"
        else:
            found[name] = hashlib.sha256(_entries(path) if name == "dvc.lock" else path.read_bytes()).hexdigest()
    return found


def _entries(lock: Path) -> bytes:
    """What dvc.lock says. Its order says nothing: stages that do not depend on each other come in a set's order."""
    return json.dumps(yaml.safe_load(lock.read_text(encoding="utf-8")), sort_keys=True).encode()


def differences(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, left over or other, as "- name", "+ name", "! name"."""
    return [
        *(f"- {name}" for name in wanted if name not in found),
        *(f"+ {name}" for name in found if name not in wanted),
        *(f"! {name}" for name in wanted if name in found and wanted[name] != found[name]),
    ]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
