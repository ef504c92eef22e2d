"""Two at once, at offsets drawn at random: repros, stages by hand, evaluation while training writes, servers, readers
while a folder is made anew."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from faults.campaign import Row
from faults.killed import Reference, reference_run
from faults.terminal import Command, Ended, Terminal, contents, differences, scratch, tiny_terminal

_STAGE_TAKEN = r"error: {stage} is being run by process (\d+); wait for it, or end it with `kill \1`"
_REPRO_TAKEN = r"is busy, it is being blocked by:|Unable to acquire lock|is being run by process \d+"
_FEWEST_READS = 300
_READER = """
import hashlib, sys, time
from pathlib import Path
file, end = Path(sys.argv[1]), Path(sys.argv[2])
seen, reads = set(), 0
while not end.exists():
    try:
        seen.add(hashlib.sha256(file.read_bytes()).hexdigest())
    except OSError as error:
        seen.add(str(error))
    reads += 1
    time.sleep(0.001)
print(reads, *sorted(seen), sep="\\n")
"""


@dataclass
class Tally:
    """Tries of one kind: what was broken in each, and how often what happened."""

    fault: str
    promised: str
    tried: int = 0
    broken: list[str] = field(default_factory=list)
    happened: dict[str, int] = field(default_factory=dict)

    def try_once(self, attempt: Callable[[], tuple[str, list[str]]]) -> None:
        """`attempt` -> what happened, and what was broken."""
        self.tried += 1
        what, wrong = attempt()
        if wrong:
            self.broken.append("; ".join(wrong))
            tqdm.write(f"{self.fault}: {self.broken[-1]}")
        else:
            self.happened[what] = self.happened.get(what, 0) + 1

    def row(self) -> Row:
        told = "; ".join(f"{count} x {what}" for what, count in sorted(self.happened.items(), key=lambda x: -x[1]))
        return Row(self.fault, self.tried, self.promised, told or "all broken", len(self.broken))


def _pair(terminal: Terminal, draw: random.Random, within_seconds: float, one: tuple[str, ...], other: tuple[str, ...],
          wait_for: str = "") -> tuple[Ended, Ended]:  # fmt: skip
    """Start `one`, and `other` at a random instant of `within_seconds` from when `one` said `wait_for`."""
    first = terminal.start(*one)
    while wait_for not in first.said() and first.alive():
        time.sleep(0.01)
    time.sleep(draw.uniform(0.0, within_seconds))
    second = terminal.start(*other)
    return first.wait(), second.wait()


def _unlike(terminal: Terminal, wanted: dict[str, str]) -> list[str]:
    return differences(wanted, contents(terminal.root))[:8]


def two_repros(terminal: Terminal, reference: Reference, draw: random.Random, stage: str) -> tuple[str, list[str]]:
    """Whoever gives way says so; a repro afterwards has the files of an undisturbed run."""
    terminal.put_back(reference.before(stage))
    command = ("dvc", "repro", stage)
    ends = _pair(terminal, draw, 0.4 * reference.seconds[stage], command, command)
    wrong = [f"ended with {end.code} and said {end.said[-600:]!r}" for end in ends
             if end.code and (not re.search(_REPRO_TAKEN, end.said) or "Traceback" in end.said)]  # fmt: skip
    through = sum(not end.code for end in ends)
    last = terminal.run(*command, check=False)
    if last.code:
        wrong.append(f"the repro after both ended with {last.code}: {last.said[-600:]}")
    what = {0: "both gave way, the next went through", 1: "one went through, one gave way", 2: "both went through"}
    return what[through], wrong + _unlike(terminal, reference.after[stage])


def two_by_hand(terminal: Terminal, reference: Reference, draw: random.Random, stage: str) -> tuple[str, list[str]]:
    """Without DVC between them: the stage's own lock."""
    terminal.put_back(reference.before(stage))
    command = ("python", "-m", "plagal.stages", stage)
    ends = _pair(terminal, draw, reference.seconds[stage] / 4, command, command)
    wrong = []
    taken = re.compile(_STAGE_TAKEN.format(stage=stage))
    for end in ends:
        if end.code and not taken.search(end.said.strip().splitlines()[-1]):
            wrong.append(f"ended with {end.code} and said {end.said[-600:]!r}")
    through = sum(not end.code for end in ends)
    if not through:
        wrong.append("none went through")
    folder = terminal.root / "models"
    made = {name: sha for name, sha in contents(terminal.root).items() if name.startswith(("data/", "models/"))}
    wanted = {name: sha for name, sha in reference.after[stage].items() if name.startswith(("data/", "models/"))}
    return (
        "one went through, the other named its process" if through == 1 else "one after the other went through",
        wrong + differences(wanted, made)[:8] + [f"{left} left" for left in folder.glob(".*.part")],
    )


def evaluation_in_training(terminal: Terminal, finished: Path, draw: random.Random) -> tuple[str, list[str]]:
    """Through DVC: whoever comes second is told which folder is busy, and by whom."""
    terminal.put_back(finished)
    wanted = contents(terminal.root)
    train, evaluate = (("dvc", "repro", "-f", "-s", stage) for stage in ("train_stage2", "evaluate"))
    first, second = _pair(terminal, draw, 1.0, train, evaluate, "plagal.stages train_stage2")
    wrong = [f"training ended with {first.code}: {first.said[-600:]}"] if first.code else []
    if second.code and not re.search(_REPRO_TAKEN, second.said):
        wrong.append(f"evaluation ended with {second.code}: {second.said[-600:]}")
    terminal.run("dvc", "repro")
    what = "evaluation was told who trains; training went through" if second.code else "it came after training's end"
    # Nothing later ran, so nothing has yet cleared the finished run's checkpoints away.
    unlike = [line for line in differences(wanted, contents(terminal.root)) if ".checkpoints" not in line]
    return what, wrong + unlike[:8]


def models_replaced_under_evaluation(terminal: Terminal, finished: Path, draw: random.Random) -> tuple[str, list[str]]:
    """Stages by hand: training writes models/stage2 anew while evaluation loads it."""
    terminal.put_back(finished)
    wanted = {name: sha for name, sha in contents(terminal.root).items() if name.startswith("metrics/")}
    evaluate, train = (("python", "-m", "plagal.stages", stage) for stage in ("evaluate", "train_stage2"))
    ends = _pair(terminal, draw, 2.0, evaluate, train)
    wrong = [f"ended with {end.code}: {end.said[-600:]}" for end in ends if end.code]
    made = {name: sha for name, sha in contents(terminal.root).items() if name.startswith("metrics/")}
    return "both went through, the same figures", wrong + differences(wanted, made)[:8]


def read_while_converted(terminal: Terminal, reference: Reference, times: int) -> tuple[str, list[str]]:
    """A reader in a loop while convert makes its folders anew."""
    terminal.put_back(reference.before("train_stage1"))
    name = "data/text/stage1/train.jsonl"
    end = terminal.root.parent / "end"
    end.unlink(missing_ok=True)
    reader = terminal.start("python", "-c", _READER, name, str(end))
    for _ in range(times):
        terminal.run("python", "-m", "plagal.stages", "convert")
    end.touch()
    reads, *seen = reader.wait().said.split("\n")
    wanted = reference.after["convert"][name]
    wrong = [f"a reader found {what}" for what in seen if what and what != wanted]
    if int(reads) < _FEWEST_READS:
        wrong.append(f"only {reads} reads")
    return f"more than {_FEWEST_READS} reads, the whole file each time", wrong


def two_pieces_in_one_file(terminal: Terminal, finished: Path, draw: random.Random) -> tuple[str, list[str]]:
    """`plagal generate` twice into the same file."""
    terminal.put_back(finished)
    made = []
    for seed in ("1", "2"):
        terminal.run("plagal", "generate", "x", "--bars", "2", "--seed", seed, "-o", f"{seed}.mid")
        made.append((terminal.root / f"{seed}.mid").read_bytes())
    one, other = (("plagal", "generate", "x", "--bars", "2", "--seed", seed, "-o", "both.mid") for seed in ("1", "2"))
    ends = _pair(terminal, draw, 0.3, one, other)
    wrong = [f"ended with {end.code}: {end.said[-400:]}" for end in ends if end.code]
    if (terminal.root / "both.mid").read_bytes() not in made:
        wrong.append("both.mid is neither piece")
    wrong += [f"{left.name} left" for left in terminal.root.glob(".*.part")]
    return "the file is one of the two, whole", wrong


class _Server:
    def __init__(self, terminal: Terminal, port: int = 0):
        self.command: Command = terminal.start("plagal", "serve", "--port", str(port))
        self.address = ""

    def wait_for_address(self) -> str:
        while self.command.alive() and not self.address:
            if found := re.search(r"plagal serves .* at (http://\S+)", self.command.said()):
                self.address = found[1]
            time.sleep(0.02)
        assert self.address, self.command.said()
        return self.address

    def stop(self) -> Ended:
        if self.command.alive():
            self.command.signal(signal.SIGTERM)
        return self.command.wait(60)


def two_servers_one_port(terminal: Terminal) -> tuple[str, list[str]]:
    first = _Server(terminal)
    port = first.wait_for_address().rpartition(":")[2]
    second = _Server(terminal, int(port)).command.wait()
    lines = second.said.strip().splitlines()
    wrong = []
    if second.code != 1 or len(lines) != 1 or port not in lines[0] or "--port" not in lines[0]:
        wrong.append(f"the second ended with {second.code} and said {second.said[-600:]!r}")
    if httpx.get(f"{first.address}/api/health").status_code != 200:
        wrong.append("the first answers no more")
    first.stop()
    return "the second ends with one line that names the port and --port", wrong


def two_servers_one_folder(terminal: Terminal, ratings: int) -> tuple[str, list[str]]:
    """Two servers write down ratings in the same file, each from four clients at once."""
    servers = [_Server(terminal), _Server(terminal)]
    file = terminal.root / "out" / "ratings.jsonl"
    file.unlink(missing_ok=True)
    try:
        clients = [_raters(server.wait_for_address(), ratings) for server in servers]
        codes = [code for client in clients for code in client.communicate()[0].split()]
    finally:
        for server in servers:
            server.stop()
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    wrong = [] if set(codes) == {"201"} else [f"answers {sorted(set(codes))}"]
    if len(rows) != len(codes) or len({row["rater"] for row in rows}) != len(rows):
        wrong.append(f"{len(codes)} ratings were accepted, {len(rows)} lines stand in the file")
    return f"all {len(codes)} ratings stand in the file, whole", wrong


_RATER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import httpx
address, count = sys.argv[1], int(sys.argv[2])
with httpx.Client(base_url=address, timeout=300) as client:
    piece = client.post("/api/pieces", json={"prompt": "x", "bars": 1, "seed": 1}).json()["id"]
    client.get(f"/api/pieces/{piece}/events")
    rate = lambda n: client.post("/api/ratings", json={"rater": f"{address} {n}"[-40:], "piece": piece, "rating": 5})
    with ThreadPoolExecutor(4) as pool:
        print(*(answer.status_code for answer in pool.map(rate, range(count))))
"""


def _raters(address: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _RATER, address, str(count)], stdout=subprocess.PIPE, text=True)


def rows(short: bool, seed: int) -> Iterator[Row]:
    """Short: a pair of repros and a pair of stages by hand."""
    draw = random.Random(seed)
    with scratch() as folder:
        terminal = tiny_terminal(folder)
        stages = ("collect_stage1",) if short else ("collect_stage1", "train_stage1", "fuse")
        reference = reference_run(terminal, folder / "states", stages)
        for stage in stages[:2]:
            yield _rows_of(
                f"two `dvc repro {stage}` at once",
                "who gives way says for whom; the next repro has the files of an undisturbed run",
                1 if short else 5, lambda stage=stage: two_repros(terminal, reference, draw, stage),
            )  # fmt: skip
            yield _rows_of(
                f"two `python -m plagal.stages.{stage}` at once",
                "the second says which process is at it, in one line; the files are those of an undisturbed run",
                1 if short else 5, lambda stage=stage: two_by_hand(terminal, reference, draw, stage),
            )  # fmt: skip
        if not short:
            terminal.run("dvc", "repro")
            terminal.keep(folder / "finished")
            yield from _rows_with_models(terminal, reference, folder / "finished", draw)


def _rows_with_models(terminal: Terminal, reference: Reference, finished: Path, draw: random.Random) -> Iterator[Row]:
    yield _rows_of("evaluation through dvc while dvc trains", "told who trains; nothing is lost", 3,
                   lambda: evaluation_in_training(terminal, finished, draw))  # fmt: skip
    yield _rows_of("evaluation while training writes models/stage2 anew", "the figures of one whole model", 3,
                   lambda: models_replaced_under_evaluation(terminal, finished, draw))  # fmt: skip
    yield _rows_of("a reader while convert makes data/text anew, 3 times", "a whole file at every instant", 2,
                   lambda: read_while_converted(terminal, reference, 3))  # fmt: skip
    yield _rows_of("two `plagal generate` into one file", "one of the two pieces, whole", 3,
                   lambda: two_pieces_in_one_file(terminal, finished, draw))  # fmt: skip
    terminal.put_back(finished)
    yield _rows_of("two servers at one port", "the second says so in one line; the first serves on", 3,
                   lambda: two_servers_one_port(terminal))  # fmt: skip
    yield _rows_of("two servers with one --output", "every rating that was accepted is there, whole, once", 3,
                   lambda: two_servers_one_folder(terminal, 100))  # fmt: skip


def _rows_of(fault: str, promised: str, times: int, attempt: Callable[[], Any]) -> Row:
    tally = Tally(fault, promised)
    for _ in tqdm(range(times), desc=fault, disable=None):
        tally.try_once(attempt)
    return tally.row()
