"""Whole runs of the pipeline, from nothing, compared file by file.

    python tests/faults/run.py determinism                       # tiny runs in unlike surroundings
    python tests/faults/determinism.py [--keep] FOLDER FOLDER     # two projects whose pipelines have run

The second form is for the real pipeline, hours a run: clone twice, `dvc repro` in each, compare. `--keep` writes its
row among the results, where the first form leaves it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tqdm import tqdm

from faults.campaign import RESULTS, Row, keep, kept, write_report
from faults.terminal import Terminal, contents, differences, scratch
from pipeline.project import tiny_project
from plagal.plumbing.files import read_json, write_json

OUTPUTS = ("data/", "models/", "metrics/", "dvc.lock")
PROMISE = "the same sha256 of every output; only logs/, where times go, may differ"
_REAL = RESULTS / "real_runs.json"
_USUAL = {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
SURROUNDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "another folder, with a space in its name": ("another place", _USUAL),
    "another hash seed of Python": ("hash", _USUAL | {"PYTHONHASHSEED": "4242"}),
    "another time zone and locale": ("zone", _USUAL | {"TZ": "Pacific/Auckland", "LC_ALL": "tr_TR.UTF-8"}),
    "files that only their owner may read (umask 077)": ("umask", _USUAL),
}
"""What is unlike the first run -> the folder's name and the variables of the second."""


def outputs(root: Path) -> dict[str, str]:
    """Path -> sha256 of what the pipeline wrote into a project; nobody's own music."""
    return {
        name: sha for name, sha in contents(root).items()
        if name.startswith(OUTPUTS) and not name.startswith("data/midi_sources") and sha
    }  # fmt: skip


def compare(one: dict[str, str], other: dict[str, str], fault: str) -> Row:
    unlike = differences(one, other)
    for line in unlike:
        tqdm.write(f"{fault}: {line}")
    happened = f"{len(unlike)} of {len(one)} files differ" if unlike else f"{len(one)} files, all the same"
    return Row(fault, 1, PROMISE, happened, int(bool(unlike) or not one))


def run_in(project: Path, name: str, variables: dict[str, str], stages: tuple[str, ...]) -> dict[str, str]:
    """One run of a copy from nothing: its own repository, cache and home. -> its outputs."""
    place = project.parents[1] / name
    (place / "home").mkdir(parents=True)
    shutil.copytree(project, place / "project", symlinks=True)
    terminal = Terminal(place / "project", **variables)
    command = ("sh", "-c", 'umask 077; exec dvc repro "$@"', "sh") if name == "umask" else ("dvc", "repro")
    terminal.run(*command, *stages)
    return outputs(terminal.root)


def rows(short: bool, seed: int) -> Iterator[Row]:
    """A row for each kind of surroundings; short: two at once, and only what is collected and converted."""
    with scratch() as folder:
        (folder / "origin").mkdir()
        project = tiny_project(folder / "origin" / "project").root
        if short:
            first = run_in(project, "first", _USUAL, ("convert",))
            unlike = _USUAL | {"PYTHONHASHSEED": "4242", "TZ": "Pacific/Auckland"}
            second = run_in(project, "another place", unlike, ("convert",))
            yield compare(first, second, "collected and converted twice, in unlike surroundings")
            return
        first = run_in(project, "first", _USUAL, ())
        for what, (name, variables) in tqdm(SURROUNDINGS.items(), desc="determinism", disable=None):
            yield compare(first, run_in(project, name, variables, ()), f"two whole runs, tiny: {what}")
    if _REAL.exists():
        yield Row(**read_json(_REAL))


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the outputs of two projects whose pipelines have run.")
    parser.add_argument("folders", nargs=2, type=Path, metavar="FOLDER")
    parser.add_argument("--keep", action="store_true", help="write the row among the results and into the report")
    options = parser.parse_args()
    one, other = (outputs(folder.resolve()) for folder in options.folders)
    row = compare(one, other, "two whole runs of the real pipeline, each from nothing")
    print(json.dumps(asdict(row), indent=2))
    if options.keep:
        from faults.run import KINDS

        write_json(_REAL, asdict(row))
        seconds, before = kept(["determinism"]).get("determinism", (0, []))
        keep("determinism", seconds, [*(old for old in before if old.fault != row.fault), row])
        write_report(kept(KINDS))
    return row.lost


if __name__ == "__main__":
    sys.exit(main())
