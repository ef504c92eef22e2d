"""Disks that fill up, turn read-only or rot: the tiny project on a small file system in memory."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from faults.campaign import Row
from faults.checkpoints import damaged_checkpoints
from faults.small_disk import WHY_NOT, SmallDisk, small_disk
from faults.stored import damaged_cache, damaged_outputs
from faults.tally import Tally, not_tried
from pipeline.project import Project, tiny_project
from plagal.plumbing.dvc_cache import md5_of

STAGES = ("collect_stage1", "collect_stage2", "convert", "train_stage1", "train_stage2", "fuse", "evaluate")
OUTPUTS = {
    "collect_stage1": ("data/stage1",), "collect_stage2": ("data/stage2",),
    "convert": ("data/text/stage1", "data/text/stage2"),
    "train_stage1": ("models/base", "models/stage1"), "train_stage2": ("models/stage2",), "fuse": ("models/fused",),
    "evaluate": ("metrics/metrics.json", "metrics/samples", "metrics/plots", "metrics/report.html"),
}  # fmt: skip
_MEBIBYTES = 160
_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of this run's own is made there


def rows(short: bool, seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="plagal-disk-", dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        yield from damaged_checkpoints(Path(scratch) / "checkpoints", 4 if short else 100, seed)
        with small_disk(Path(scratch) / "small", _MEBIBYTES) as disk:
            if disk is None:
                yield not_tried("full and read-only disks under every stage", "one line; nothing lost", WHY_NOT)
                return
            project = tiny_project(disk.folder / "project")
            stages = STAGES[:4] if short else STAGES
            if not short:
                project.repro()
                project.commit("Run the pipeline")
            trial = Trial(disk, project, stages, seed)
            for stage in STAGES[2:4] if short else STAGES:
                yield trial.full(stage, 1 if short else 4)
            yield trial.read_only(STAGES[:1] if short else STAGES, 1 if short else 2)
            yield from damaged_outputs(project, 1 if short else 99, 1 if short else 3, seed)
            if not short:
                yield trial.full_under_dvc(6)
                yield damaged_cache(project, 8, seed)


class Trial:
    """A project on a small disk, what its outputs are, and how long its stages take."""

    def __init__(self, disk: SmallDisk, project: Project, stages: tuple[str, ...], seed: int):
        self.disk, self.project, self.draw = disk, project, random.Random(seed)
        self.seconds: dict[str, float] = {}
        self.found = self.left()  # copied from a working tree in which somebody is writing
        for stage in tqdm(stages, desc="each stage once", disable=None):
            began = time.monotonic()
            code, said = self.stage(stage)
            assert code == 0, said
            self.seconds[stage] = time.monotonic() - began
        self.whole = {stage: self.hashes(stage) for stage in stages}

    def hashes(self, stage: str) -> dict[str, str]:
        root = self.project.root
        return {path: md5_of(root / path) for path in OUTPUTS[stage] if (root / path).exists()}

    def left(self) -> set[Path]:
        """Temporary files."""
        return {path for path in self.project.root.rglob(".*") if path.name.endswith((".part", ".old"))}

    def start(self, *command: str) -> subprocess.Popen[str]:
        root = self.project.root
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), "HOME": str(root.parent / "home"),
                       "OMP_NUM_THREADS": "1",
                       "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
        return subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def stage(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Run one stage as DVC would. -> exit code, all that it said."""
        process = self.start(sys.executable, "-m", "plagal.stages", name)
        meanwhile()
        said = process.communicate(timeout=300)[0]
        return process.returncode, said

    def full(self, stage: str, count: int) -> Row:
        tally, refused = Tally(), 0
        for number in tqdm(range(count), desc=f"full disk, {stage}", disable=None):
            wait = self.draw.uniform(0, 0.9) * self.seconds[stage] if number else 0.0
            leave = self.draw.choice((0, 0, self.draw.randrange(1 << 18)))
            code, said = self.stage(stage, lambda wait=wait, leave=leave: self._fill_after(wait, leave))  # type: ignore[misc]
            refused += self._judge(tally, stage, code, said, ("no room",))
            self.disk.make_room()
            self._again(tally, stage)
        return tally.row(
            f"a disk that fills up at a random instant of {stage}",
            "one line with the file and the way out; what was there stays; with room again the same hashes",
            f"{refused} ended so, {count - refused} had been done before; all the same afterwards",
            count,
        )

    def _fill_after(self, seconds: float, leave: int) -> None:
        time.sleep(seconds)
        self.disk.fill(leave)

    def read_only(self, stages: tuple[str, ...], count: int) -> Row:
        tally, refused = Tally(), 0
        for stage in tqdm(stages, desc="read-only disk", disable=None):
            for number in range(count):
                wait = self.draw.uniform(0, 0.8) * self.seconds[stage] if number else 0.0
                code, said = self.stage(stage, lambda wait=wait: self._read_only_after(wait))  # type: ignore[misc]
                refused += self._judge(tally, stage, code, said, ("read-only", "cannot be written"))
                self.disk.read_only(False)
                self._again(tally, stage)
        return tally.row(
            f"a disk that turns read-only under {len(stages)} stages, before or while they run",
            "one line with the file and the way out; what was there stays; then the same hashes",
            f"{refused} ended so, the others had been done before; all the same afterwards",
            count * len(stages),
        )

    def _read_only_after(self, seconds: float) -> None:
        time.sleep(seconds)
        for _ in range(200):  # refused while a file is open for writing
            try:
                self.disk.read_only()
                return
            except subprocess.CalledProcessError:
                time.sleep(0.02)

    def _judge(self, tally: Tally, stage: str, code: int, said: str, words: tuple[str, ...]) -> bool:
        """Whether it was refused; a stage that had been done before is fine, too."""
        told = re.findall(rf"{stage}: error: [^\n]*", said)  # a bar of progress may stand before it
        in_words = len(told) == 1 and any(word in told[0] for word in words) and "Traceback" not in said
        tally.check(code == 0 or (code == 1 and in_words), f"{stage} ended with {code}: {said[-600:]}")
        if code:
            now = self.hashes(stage)
            tally.check(now == self.whole[stage], f"{stage}: outputs are {now}, were {self.whole[stage]}")
        return code != 0

    def _again(self, tally: Tally, stage: str) -> None:
        code, said = self.stage(stage)
        left = self.left() - self.found
        same = code == 0 and self.hashes(stage) == self.whole[stage]
        tally.check(same, f"{stage} again ended with {code}: {said[-400:]}")
        tally.check(not left, f"left over: {left}")

    def full_under_dvc(self, count: int) -> Row:
        """The disk fills up while `dvc repro` runs: the stage, or DVC's own notes and cache, find no room."""
        tally, refused, mended = Tally(), 0, 0
        for _ in tqdm(range(count), desc="full disk under dvc", disable=None):
            stage = self.draw.choice(STAGES)
            process = self.start("dvc", "repro", "--force", "--single-item", stage)
            self._fill_after(self.draw.uniform(0, 1) * (self.seconds[stage] + 4), 0)
            said = process.communicate(timeout=300)[0]
            refused += process.returncode != 0
            self.disk.make_room()
            told = self.start("plagal", "mend").communicate(timeout=300)[0]
            mended += bool(told.strip())
            again = self.start("dvc", "repro")
            last = again.communicate(timeout=500)[0]
            same = all(self.hashes(each) == self.whole[each] for each in STAGES)
            tally.check(again.returncode == 0 and same, f"{stage}: {said[-300:]} ... {told} ... {last[-500:]}")
            status = self.start("dvc", "status").communicate(timeout=100)[0]
            tally.check("up to date" in status, f"{stage}: {status[-300:]}")
        return tally.row(
            "a disk that fills up at a random instant of `dvc repro`",
            "with room again, `plagal mend` and `dvc repro`: the same hashes",
            f"{refused} refused, DVC's notes mended {mended} times; all hashes the same",
            count,
        )  # fmt: skip
