"""What it costs to collect and prepare a file, and how much memory it takes, for 1,000 and for 10,000 files.

    python benchmarks/corpus.py [--json] [--files 10000]

Every file is another MIDI hymn of twelve bars (a random melody over random chords), written once to a temporary folder.
Each size runs in a process of its own, with one worker, so that all its work and all its memory are that process's:
read, judge, write as words, compare, group by tune, split, augment, write as text. Imports are done before the clock
starts. CPU seconds, because other work on the machine shall not count. The peer is the tenth of the files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from plagal.corpus.collect import collect
from plagal.corpus.prepare import prepare
from plagal.music.midi import write_midi
from plagal.music.score import Key, Metre, Score, Tempo
from plagal.plumbing.params import CollectSettings, load_params
from plagal.plumbing.workers import Workers
from shared.places import ROOT
from shared.rows import Row, finish, parser, row

SCALE = (0, 2, 4, 5, 7, 9, 11)
BARS = 12
WARM_UP = 200
FOLDER_FILES = 100


def hymn(seed: int) -> Score:
    rng = random.Random(f"corpus {seed}")
    rows, degree, now = [], rng.randrange(7), 0
    while now < BARS * 96:
        duration = min(rng.choice((12, 12, 24, 24, 24, 36)), BARS * 96 - now)
        degree = min(12, max(-2, degree + rng.choice((-3, -2, -1, -1, 1, 1, 2, 3, 4))))
        rows.append((now, 72 + 12 * (degree // 7) + SCALE[degree % 7], duration, 80))
        now += duration
    for half in range(BARS * 2):
        root = rng.choice((36, 38, 40, 41, 43, 45))
        rows += [(half * 48, pitch, 48, 65) for pitch in (root, root + (16 if root in (36, 41, 43) else 15), root + 19)]
    notes = np.array(sorted(rows), dtype=np.int32)
    return Score(notes, (Metre(0, 4, 4),), (Tempo(0, float(rng.randrange(60, 140))),), (Key(0, 0),))


def settings_for(folder: Path, first: int, files: int) -> CollectSettings:
    """Sources that offer `files` files: folders of a hundred from number `first` on."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    chosen = names[first : first + files // FOLDER_FILES]
    sources = folder / f"sources-{first}-{files}.yaml"
    rights = "licence: none, attribution: none"
    entries = "".join(
        f"  - {{kind: folder, name: s{name}, path: {str(folder / name)!r}, genre: jazz, {rights}}}\n" for name in chosen
    )
    sources.write_text(f"sources:\n{entries}", encoding="utf-8")
    base = load_params(ROOT / "params.yaml").collect_stage1
    changes = {"sources": str(sources), "target_files": files, "quotas": {"jazz": files}, "fill_from_arranger": {}}
    return base.model_copy(update=changes)


def run_once(folder: Path, files: int) -> dict[str, float]:
    """Collect and prepare `files` files in this process, half of them for each stage."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (the tables of the stages)
    convert = load_params(ROOT / "params.yaml").convert
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        collect("stage1", settings_for(folder, 0, WARM_UP), out / "warm", 1, Workers(1))
        prepare(out / "warm", out / "warm", out / "text", convert, 1, Workers(1))
        started, half = time.process_time(), files // 2
        reports = [
            collect(stage, settings_for(folder, first, half), out / stage, 1, Workers(1))
            for stage, first in (("stage1", 0), ("stage2", half // FOLDER_FILES))
        ]
        collected = time.process_time()
        prepare(out / "stage1", out / "stage2", out / "text", convert, 1, Workers(1))
        done = time.process_time()
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    seconds = {"collect": (collected - started) / files, "prepare": (done - collected) / files}
    return seconds | {"found": sum(report["found"] for report in reports), "peak_mb": peak}


def write_hymns(folder: Path, count: int) -> None:
    """As MIDI, a hundred to a folder."""
    for number in tqdm(range(count), desc="write MIDI", disable=None, leave=False):
        target = folder / f"{number // FOLDER_FILES:06d}"
        target.mkdir(exist_ok=True)
        write_midi(hymn(number), target / f"{number}.mid")


def in_process(folder: Path, files: int) -> dict[str, float]:
    """`run_once` in a process of its own."""
    command = [sys.executable, __file__, "--run", str(folder), "--files", str(files)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if found["found"] != files:
        raise SystemExit(f"only {found['found']} of {files} files were kept: the figures would not compare")
    return found


def measure(most: int, repeats: int) -> Iterator[Row]:
    few = most // 10
    runs: dict[int, list[dict[str, float]]] = {few: [], most: []}
    with tempfile.TemporaryDirectory() as name:
        write_hymns(Path(name), most)
        for files in tqdm([few, most] * repeats, desc="measure", disable=None, leave=False):
            runs[files].append(in_process(Path(name), files))
    yield from rows_of(runs[few], runs[most])


def rows_of(few: list[dict[str, float]], most: list[dict[str, float]]) -> Iterator[Row]:
    def of(what: str, unit: str, target: float | None, scale: float, *names: str) -> Row:
        ours, peer = ([sum(run[name] for name in names) * scale for run in runs] for runs in (most, few))
        return row(what, ours, peer, unit, against="a tenth of the files", at_most=target)

    yield of("cost_per_file", "CPU ms/file", 1.1, 1000, "collect", "prepare")
    yield of("peak_memory", "MB", 1.2, 1, "peak_mb")
    yield of("collect_per_file", "CPU ms/file", None, 1000, "collect")
    yield of("prepare_per_file", "CPU ms/file", None, 1000, "prepare")


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--files", type=int, default=10_000, help="the larger number of files; the smaller is a tenth")
    wishes.add_argument("--repeats", type=int, default=3)
    wishes.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = wishes.parse_args()
    if options.run:
        print(json.dumps(run_once(options.run, options.files)), file=sys.__stdout__)
        return
    finish("corpus", measure(options.files, options.repeats), options.json)


if __name__ == "__main__":
    main()
