"""Each of the seven stages killed at random instants, in five ways; then `dvc repro`, as if nothing had happened.

A try starts from the project as it stood before its stage, starts `dvc repro STAGE`, kills at an instant drawn evenly
over the command's life (of the stage's own life where only the stage is killed), at once starts `dvc repro STAGE`
again, and compares the whole folder, DVC's cache included, with that of a run that nobody disturbed.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from faults.campaign import Row
from faults.terminal import Command, Terminal, contents, differences, scratch
from pipeline.project import tiny_project

STAGES = ("collect_stage1", "collect_stage2", "convert", "train_stage1", "train_stage2", "fuse", "evaluate")
PROMISE = (
    "the next `dvc repro` needs no help: the same files by hash as an undisturbed run, no lock, no temporary file, "
    "no orphan"
)
_POLL_SECONDS = 0.005
_REDRAWS = 20
"""Commands that end before their kill are tried again, at most so often."""


def _stage_dies(command: Command, stage: str) -> None:
    if (process := command.child(f"plagal.stages.{stage}")) is not None:
        process.kill()


def _dvc_dies(command: Command, stage: str) -> None:
    command.signal(signal.SIGKILL)


def _group_dies(command: Command, stage: str) -> None:
    command.signal_group(signal.SIGKILL)


def _dvc_is_told(command: Command, stage: str) -> None:
    command.signal(signal.SIGTERM)


def _group_is_told(command: Command, stage: str) -> None:
    command.signal_group(signal.SIGTERM)


def _ctrl_c(command: Command, stage: str) -> None:
    command.signal_group(signal.SIGINT)


Kill = Callable[[Command, str], None]
KINDS: dict[str, tuple[Kill, ...]] = {
    "kill -9 of the stage": (_stage_dies,),
    "kill -9 of dvc alone": (_dvc_dies,),
    "kill -9 of the whole group": (_group_dies,),
    "SIGTERM, to dvc alone and to the group in turn": (_dvc_is_told, _group_is_told),
    "Ctrl-C": (_ctrl_c,),
}


@dataclass
class Try:
    stage: str
    after_seconds: float
    orphaned: bool
    """The stage outlived dvc."""
    broken: list[str] = field(default_factory=list)
    """What the promise forbids and was found."""


@dataclass
class Reference:
    """An undisturbed run: the project before each stage and after it, and how long the command took."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    after: dict[str, dict[str, str]] = field(default_factory=dict)

    def before(self, stage: str) -> Path:
        return self.folder / stage


def reference_run(terminal: Terminal, folder: Path, stages: tuple[str, ...]) -> Reference:
    """Run stage by stage up to the last of `stages`, keeping what stands before each that will be killed."""
    made = Reference(folder)
    for stage in STAGES[: 1 + max(map(STAGES.index, stages))]:
        if stage in stages:
            terminal.keep(made.before(stage))
        began = time.monotonic()
        terminal.run("dvc", "repro", stage)
        made.seconds[stage] = time.monotonic() - began
        made.after[stage] = contents(terminal.root)
    return made


def kill_once(terminal: Terminal, reference: Reference, stage: str, kill: Kill, draw: random.Random) -> Try:
    """One kill, one more `dvc repro`, and all that is wrong then."""
    for _ in range(_REDRAWS):
        terminal.put_back(reference.before(stage))
        command = terminal.start("dvc", "repro", stage)
        if kill is _stage_dies:
            while command.child(f"plagal.stages.{stage}") is None and command.alive():
                time.sleep(_POLL_SECONDS)
        moment = draw.uniform(0.0, reference.seconds[stage])
        time.sleep(max(0.0, moment - (0.0 if kill is _stage_dies else time.monotonic() - command.began)))
        hit = command.child(f"plagal.stages.{stage}") is not None if kill is _stage_dies else command.alive()
        if hit:
            return _killed(terminal, reference, stage, kill, command)
        command.wait()
    raise AssertionError(f"{stage} always ended before its kill")


def _killed(terminal: Terminal, reference: Reference, stage: str, kill: Kill, command: Command) -> Try:
    after = time.monotonic() - command.began
    kill(command, stage)
    first = command.wait()
    orphans = terminal.living()
    tried = Try(stage, after, orphaned=bool(orphans))
    again = terminal.run("dvc", "repro", stage, check=False)
    if again.code:
        tried.broken.append(f"the next repro ended with {again.code}: {again.said[-2000:]}\nthe first: {first.said}")
    alive = terminal.living()
    tried.broken += [f"{' '.join(process.cmdline())} still runs" for process in alive]
    found = contents(terminal.root)
    tried.broken += differences(reference.after[stage], found)
    if alive:
        terminal.end_all()
        tried.broken += [f"{line} (an orphan wrote it)" for line in differences(found, contents(terminal.root))]
    return tried


def rows(short: bool, seed: int) -> Iterator[Row]:
    """A row for each way to kill: 20 or 21 tries each, three a stage; short: one each on two stages."""
    stages = ("collect_stage1", "train_stage1") if short else STAGES
    tries = 1 if short else 3
    draw = random.Random(seed)
    with scratch() as folder:
        terminal = Terminal(tiny_project(folder / "project").root)
        reference = reference_run(terminal, folder / "states", stages)
        for kind, kills in KINDS.items():
            cells = [(stage, kills[number % len(kills)]) for number in range(tries) for stage in stages]
            made = [
                kill_once(terminal, reference, stage, kill, draw)
                for stage, kill in tqdm(cells, desc=kind, disable=None)
            ]
            yield _row(kind, made)


def _row(kind: str, made: list[Try]) -> Row:
    broken = [tried for tried in made if tried.broken]
    for tried in broken:
        tqdm.write(f"{kind}, {tried.stage}, after {tried.after_seconds:.2f} s:\n  " + "\n  ".join(tried.broken))
    happened = f"{len(made) - len(broken)} of {len(made)} as promised"
    return Row(kind, len(made), PROMISE, happened, len(broken))
