"""Each of the seven stages killed at random instants, in five ways; then `dvc repro`, as if nothing had happened.

A try starts from the project as it stood before its stage, starts `dvc repro STAGE`, kills at an instant drawn evenly
over the command's life (of the stage's own life where only the stage is killed), at once runs what `make STAGE` runs,
and compares the whole folder, DVC's cache included, with that of a run that nobody disturbed.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tqdm import tqdm

from faults.campaign import Row
from faults.terminal import Command, Terminal, contents, differences, scratch, tiny_terminal
from plagal.plumbing.dvc_cache import mend

STAGES = ("collect_stage1", "collect_stage2", "convert", "train_stage1", "train_stage2", "fuse", "evaluate")
PROMISE = (
    "the next `make repro` needs no help: the same files by hash as an undisturbed run, no lock, no temporary file, "
    "no orphan at work"
)
_POLL_SECONDS = 0.005
_ENDING_SECONDS = 10.0
"""Workers of a killed stage have that long to see that it is gone."""
_REDRAWS = 20
"""Commands that end before their kill are tried again, at most so often."""


def _stage_dies(command: Command, stage: str) -> None:
    if (process := command.child(f"plagal.stages {stage}")) is not None:
        with suppress(psutil.NoSuchProcess):
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

OWN_NOTES = {
    "dvc.lock": "kill -9 of dvc while it writes dvc.lock",
    ".dvc/tmp/rwlock": "kill -9 of dvc while it writes its list of busy paths",
}


@dataclass
class Try:
    stage: str
    after_seconds: float
    orphaned: bool
    """The stage outlived dvc."""
    saving: bool
    """The stage was over, dvc was hashing and saving."""
    mended: bool = False
    """DVC's own notes were cut off."""
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
    """One kill, one more `make STAGE`, and all that is wrong then."""
    for _ in range(_REDRAWS):
        terminal.put_back(reference.before(stage))
        command = terminal.start("dvc", "repro", stage)
        if kill is _stage_dies:
            _wait_for_stage(command, stage)
        began = time.monotonic()
        moment = draw.uniform(0.0, reference.seconds[stage])
        if command.still_runs(moment) and (kill is not _stage_dies or _stage_of(command, stage)):
            return _killed(terminal, reference, stage, kill, command)
        command.wait()
        if kill is not _stage_dies:
            reference.seconds[stage] = time.monotonic() - began
    raise AssertionError(f"{stage} always ended before its kill")


def kill_while_writing(terminal: Terminal, reference: Reference, stage: str, file: str) -> Try | None:
    """kill -9 of dvc at the first sight of its own `file` cut short; None where it was never seen so."""
    terminal.put_back(reference.before(stage))
    path = terminal.root / file
    size = path.stat().st_size
    command = terminal.start("dvc", "repro", stage)
    while command.alive():
        if path.stat().st_size < size:
            return _killed(terminal, reference, stage, _dvc_dies, command)
    return None


def _stage_of(command: Command, stage: str) -> bool:
    return command.child(f"plagal.stages {stage}") is not None


def _wait_for_stage(command: Command, stage: str) -> None:
    while not _stage_of(command, stage) and command.alive():
        time.sleep(_POLL_SECONDS)


def _killed(terminal: Terminal, reference: Reference, stage: str, kill: Kill, command: Command) -> Try:
    after, running = time.monotonic() - command.began, _stage_of(command, stage)
    kill(command, stage)
    first = command.wait()
    saving = not running and f"plagal.stages {stage}" in first.said
    tried = Try(stage, after, orphaned=bool(terminal.living()), saving=saving)
    tried.mended = bool(list(mend(terminal.root)))
    again = terminal.run("dvc", "repro", stage, check=False)
    if again.code:
        tried.broken.append(f"the next repro ended with {again.code}: {again.said[-2000:]}\nthe first: {first.said}")
    alive = terminal.living(_ENDING_SECONDS)
    tried.broken += [f"{' '.join(process.cmdline())} still runs" for process in alive]
    found = contents(terminal.root)
    tried.broken += differences(reference.after[stage], found)
    if alive:
        terminal.end_all()
        tried.broken += [f"{line} (an orphan wrote it)" for line in differences(found, contents(terminal.root))]
    return tried


def rows(short: bool, seed: int) -> Iterator[Row]:
    """A row for each way to kill: 21 tries each, three a stage; short: one each, on stages in turn."""
    stages = ("collect_stage1", "train_stage1") if short else STAGES
    draw = random.Random(seed)
    with scratch() as folder:
        # dash is the shell that does not make way for what it starts: a DVC without SHELL, as in CI, takes it.
        terminal = tiny_terminal(folder, SHELL="/bin/sh")
        reference = reference_run(terminal, folder / "states", stages)
        for place, (kind, kills) in enumerate(KINDS.items()):
            cells = [(stage, kills[number % len(kills)]) for number in range(3) for stage in stages]
            if short:
                cells = [(stages[place % len(stages)], kills[0])]
            made = []
            for stage, kill in tqdm(cells, desc=kind, disable=None):
                made.append(kill_once(terminal, reference, stage, kill, draw))
                _tell(kind, made[-1])
            yield _row(kind, made)
        if not short:
            yield from _rows_of_own_notes(terminal, reference)


def _rows_of_own_notes(terminal: Terminal, reference: Reference) -> Iterator[Row]:
    for file, kind in OWN_NOTES.items():
        seen = [kill_while_writing(terminal, reference, "convert", file) for _ in tqdm(range(5), kind, disable=None)]
        made = [tried for tried in seen if tried is not None]
        for tried in made:
            _tell(kind, tried)
        yield _row(kind, made)


def _tell(kind: str, tried: Try) -> None:
    if tried.broken:
        tqdm.write(f"{kind}, {tried.stage}, after {tried.after_seconds:.2f} s:\n  " + "\n  ".join(tried.broken))


def _row(kind: str, made: list[Try]) -> Row:
    kept = sum(not tried.broken for tried in made)
    counts = {
        "hit dvc while it saved": sum(tried.saving for tried in made),
        "left processes, which ended by themselves": sum(tried.orphaned for tried in made),
        "cut off DVC's own notes, which were mended": sum(tried.mended for tried in made),
    }
    happened = "; ".join([f"{kept} as promised", *(f"{count} {what}" for what, count in counts.items() if count)])
    # Why the first was not, in the row itself: that is what CI shows.
    happened += "".join(f"; {tried.stage}: {tried.broken[0]}" for tried in [t for t in made if t.broken][:1])
    where = f", at random instants of each of {len({tried.stage for tried in made})} stages" if kind in KINDS else ""
    return Row(kind + where, len(made), PROMISE, happened, len(made) - kept)
