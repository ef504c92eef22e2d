"""How long `dvc repro` and `make repro` take with nothing to do, compared with plain DVC of the same size.

    python benchmarks/repro.py [--json] [--rounds 5]

Ours is a clone of this repository with what its stages made copied beside it, committed as it stands, so that every
stage is up to date. The peer is a fresh DVC project whose stages have the same number of dependencies and outputs, all
of them tiny, and do nothing: what DVC itself takes. `make repro` also looks at the environment and shows the metrics.
Seconds by the clock, in turn.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shared.places import ROOT
from shared.rows import Row, finish, parser, row

BIN = Path(sys.executable).parent
UP_TO_DATE = "Data and pipelines are up to date"


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def outputs(stage: dict[str, Any]) -> list[str]:
    """Of all kinds, in DVC's two ways of writing them."""
    listed = [each for kind in ("outs", "metrics", "plots") for each in stage.get(kind, [])]
    return [next(iter(each)) if isinstance(each, dict) else each for each in listed]


def ours(folder: Path, stages: dict[str, Any]) -> Path:
    run(folder.parent, "git", "clone", "--quiet", str(ROOT), str(folder))
    for name in {output for stage in stages.values() for output in outputs(stage)}:
        source, target = ROOT / name, folder / name
        if not source.exists():
            raise SystemExit(f"{name} is not there: run `make repro` first")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    (folder / ".venv").symlink_to(BIN.parent)
    run(folder, "dvc", "commit", "--force")
    return folder


def floor(folder: Path, stages: dict[str, Any]) -> Path:
    """As many stages, dependencies and outputs of a line each; every stage also depends on the one before."""
    folder.mkdir()
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")
    made, before = {}, []
    for name, stage in stages.items():
        deps = [f"{name}.dep{number}" for number in range(len(stage.get("deps", [])) - len(before))]
        outs = [f"{name}.out{number}" for number in range(len(outputs(stage)))]
        for path in deps:
            (folder / path).write_text(f"{path}\n", encoding="utf-8")
        made[name] = {"cmd": "; ".join(f"echo {out} > {out}" for out in outs), "deps": [*deps, *before], "outs": outs}
        before = outs[:1]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": made}), encoding="utf-8")
    run(folder, "dvc", "repro")
    return folder


def seconds(folder: Path, *command: str) -> float:
    began = time.perf_counter()
    told = run(folder, *command)
    took = time.perf_counter() - began
    if UP_TO_DATE not in told:
        raise SystemExit(f"{' '.join(command)} had something to do:\n{told[-2000:]}")
    return took


def measure(rounds: int) -> Iterator[Row]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    files = sum(len(stage.get("deps", [])) + len(outputs(stage)) for stage in stages.values())
    with tempfile.TemporaryDirectory() as scratch:
        mine, plain = ours(Path(scratch) / "ours", stages), floor(Path(scratch) / "floor", stages)
        # The environment is this one, whatever its stamp says.
        make = ("make", "--silent", "--old-file=.venv/.stamp", "repro")
        sides = ((mine, ("dvc", "repro")), (mine, make), (plain, ("dvc", "repro")))
        took: list[list[float]] = [[] for _ in sides]
        for number in range(rounds + 1):
            for side, (folder, command) in zip(took, sides, strict=True):
                found = seconds(folder, *command)
                if number:
                    side.append(found)
    against = f"plain DVC, {len(stages)} stages, {files} dependencies and outputs"
    yield row("dvc_repro_nothing_to_do", took[0], took[2], "s", against=against)
    yield row("make_repro_nothing_to_do", took[1], took[2], "s", against=against)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--rounds", type=int, default=5)
    options = wishes.parse_args()
    finish("repro", measure(options.rounds), options.json)


if __name__ == "__main__":
    main()
