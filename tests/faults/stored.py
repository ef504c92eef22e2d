"""Outputs and DVC's cache that rot: named before anybody goes on from them, and made anew."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from faults.campaign import Row
from faults.checkpoints import damage
from faults.tally import Tally
from pipeline.project import Project
from plagal.plumbing.dvc_cache import cache_folder, is_damaged, md5_of, outputs

_READERS = {
    "data/stage1/pieces.jsonl": "convert",
    "data/text/stage1/train.jsonl": "train_stage1",
    "models/base/model.safetensors": "evaluate",
    "models/stage1/model.safetensors": "train_stage2",
    "models/stage1/config.json": "train_stage2",
    "models/stage1/tokenizer.json": "train_stage2",
    "models/stage2/adapters.safetensors": "fuse",
    "models/stage2/adapter_config.json": "fuse",
    "models/fused/model.safetensors": "evaluate",
}
"""Outputs, and a stage that reads each."""


def _stage(project: Project, name: str, under_dvc: bool) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project.root / "src"), "OMP_NUM_THREADS": "1"}
    if under_dvc:
        environment["DVC_STAGE"] = name
    return subprocess.run(
        [sys.executable, "-m", "plagal.stages", name], cwd=project.root, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip


def damaged_outputs(project: Project, most: int, count: int, seed: int) -> Iterator[Row]:
    """What a stage wrote, cut or emptied: by hand the next stage names it. With any bit flipped: under DVC it does.
    `most`: so many of the outputs."""
    draw, known = random.Random(seed), outputs(project.root)
    by_hand, by_dvc = Tally(), Tally()
    for path, reader in tqdm(list(_READERS.items())[:most], desc="damaged outputs", disable=None):
        file = project.root / path
        whole = file.read_bytes()
        for kind in [draw.choice(("truncated", "of zero length")) for _ in range(count)]:
            damage(file, kind, draw)
            done = _stage(project, reader, under_dvc=False)
            named = _one_line(done, reader) and (
                Path(path).name in done.stderr or Path(path).parent.name in done.stderr
            )
            told = f"{path} {kind}, {reader} ended with {done.returncode}: {done.stderr[-400:]}"
            by_hand.check(named, told)
            file.write_bytes(whole)
        for _ in range(count if known else 0):
            damage(file, draw.choice(("flipped", "truncated", "of zero length")), draw)
            done = _stage(project, reader, under_dvc=True)
            named = _one_line(done, reader) and "differs from what the stage before wrote" in done.stderr
            by_dvc.check(named, f"{path}, {reader} ended with {done.returncode}: {done.stderr[-400:]}")
            file.write_bytes(whole)
    yield by_hand.row("outputs cut or emptied, then a stage that reads them, by hand",
                      "one line that names what is damaged", "named by all")  # fmt: skip
    if known:
        yield by_dvc.row("outputs with a bit flipped, cut or emptied, then a stage that reads them, under DVC",
                         "one line that names what is damaged, and the way out", "named by all")  # fmt: skip


def _one_line(done: subprocess.CompletedProcess[str], stage: str) -> bool:
    told = re.findall(rf"{stage}: error: [^\n]*", done.stderr)  # a bar of progress may stand before it
    return done.returncode == 1 and len(told) == 1 and "Traceback" not in done.stderr


def damaged_cache(project: Project, count: int, seed: int) -> Row:
    """Entries of outputs in DVC's cache flipped, cut, emptied or gone; the output is there, or to come from it."""
    draw, tally, thrown_out = random.Random(seed), Tally(), 0
    root = project.root
    known = outputs(root)
    for _ in tqdm(range(count), desc="damaged cache", disable=None):
        path = draw.choice([path for path in known if path.startswith(("data/", "models/"))])
        entry = _entry_of(root, path, draw)
        kind = draw.choice(("flipped", "truncated", "of zero length", "gone"))
        damage(entry, kind, draw)
        if kind != "gone":
            entry.chmod(0o444)
        if draw.random() < 0.6:
            shutil.rmtree(root / path)
            project.run("dvc", "checkout", path, check=False)  # hands out what has rotted, without a word
        mended = project.run("plagal", "mend").stdout
        thrown_out += str(entry.name) in mended
        tally.check(kind == "gone" or entry.name in mended, f"{path} {kind}: mend said {mended!r}")
        done = project.run("dvc", "repro", check=False)
        now = {each: md5_of(root / each) for each in known if (root / each).exists()}
        tally.check(done.returncode == 0 and now == known, f"{path} {kind}: {done.stdout[-300:]} {done.stderr[-300:]}")
        rotten = [each for each in cache_folder(root).glob("??/*") if is_damaged(each)]
        tally.check(not rotten, f"{path} {kind}: still damaged {rotten}")
        project.run("git", "checkout", "-q", "--", ".")
    return tally.row(
        "entries of DVC's cache flipped, cut, emptied or gone, the output there or to come from it",
        "`plagal mend` names it, `dvc repro` ends with the same hashes",
        f"{thrown_out} thrown out; all the same afterwards",
        count,
    )  # fmt: skip


def _entry_of(root: Path, path: str, draw: random.Random) -> Path:
    """A file of the output in the cache: one of its own, or now and then its list of files."""
    files = sorted(file for file in (root / path).rglob("*") if file.is_file())
    md5 = md5_of(root / path) if draw.random() < 0.2 else md5_of(draw.choice(files))
    return cache_folder(root) / md5[:2] / md5[2:]
