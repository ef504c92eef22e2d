"""A throw-away clone of this project, on an overlay so small that all seven stages run in seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from plagal.music.arranger.arrange import arrange
from plagal.music.midi import write_midi
from plagal.plumbing.params import apply_profile

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "fixtures" / "tiny"


class Project:
    """A git repository with DVC; `run` is a terminal in it."""

    def __init__(self, root: Path):
        self.root = root

    def environment(self) -> dict[str, str]:
        """This project's code and an empty home, so that nothing of the machine's user leaks in."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "HOME": str(self.root.parent / "home"),
            "DVC_NO_ANALYTICS": "1",
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, timeout=500
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def repro(self) -> tuple[set[str], set[str]]:
        """`dvc repro`: the stages that ran, and those that came from the run cache."""
        output = self.run("dvc", "repro").stdout
        ran = set(re.findall(r"Running stage '(\w+)'", output))
        cached = set(re.findall(r"Stage '(\w+)' is cached", output))
        return ran, cached

    def edit(self, path: str, before: str, after: str) -> None:
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        assert before in text, f"{path} holds no {before!r}"
        file.write_text(text.replace(before, after, 1), encoding="utf-8")

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)


def copy_of_this_project(root: Path) -> Project:
    """What git would clone: the tracked files as they are in the working tree, in a repository of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    project = Project(root)
    (root.parent / "home").mkdir(exist_ok=True)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    return project


def new_file(project: Project) -> Path:
    """Where a test may put a MIDI file that git ignores, as it does all users' music."""
    return project.root / "data" / "midi_sources" / "gospel_jazz" / "new.mid"


def tiny_project(root: Path) -> Project:
    """A copy with few sources, few steps and a few real MIDI files in its folders."""
    project = copy_of_this_project(root)
    apply_profile(TINY / "params.yaml", root / "params.yaml")
    for stage in ("stage1", "stage2"):
        shutil.copyfile(TINY / f"{stage}.yaml", root / "sources" / f"{stage}.yaml")
    # The committed lock and metrics are those of the whole pipeline, not of this one.
    for stale in ("dvc.lock", "metrics"):
        path = root / stale
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for number, (genre, style) in enumerate(
        [("gospel", "traditional_gospel"), ("jazz", "jazz"), ("traditional_gospel", "worship")]
    ):
        write_midi(
            arrange(None, style, seed=100 + number), root / "data" / "midi_sources" / genre / f"own {number}.mid"
        )
    project.commit("Start tiny")
    return project
