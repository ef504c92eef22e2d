"""`plagal mend`: DVC's own notes made whole again, and what has rotted in its cache thrown out. DVC writes its notes
in place, so a kill while it does leaves them cut off, and then every `dvc` command ends with an error until somebody
deletes them; its cache it hands out unlooked at.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from plagal.plumbing.dvc_cache import CACHE, is_damaged, md5_of, outputs
from plagal.plumbing.errors import InputError
from plagal.plumbing.files import write_text

LOCK_FILE = Path("dvc.lock")
LOCKS_OF_PATHS = Path(".dvc") / "tmp" / "rwlock"
_WRITING_SECONDS = 2.0
"""A living DVC has written its few lines by then."""
_STAGE = re.compile(r"^  \S+:$", re.MULTILINE)
_NO_STAGE = "schema: '2.0'\nstages: {}\n"


def mend(folder: Path = Path()) -> Iterator[str]:
    """Mend what is cut off under `folder`, and yield what was done, a line each. A stage whose entry is lost is in
    DVC's run cache: the next `dvc repro` finds it there."""
    locks = folder / LOCKS_OF_PATHS
    if _is_cut_off(locks):
        locks.unlink(missing_ok=True)
        yield f"{LOCKS_OF_PATHS} was cut off by a kill; removed, DVC makes it anew"
    lock = folder / LOCK_FILE
    if lock.exists() and (whole := whole_entries(lock.read_text(encoding="utf-8", errors="replace"))) is not None:
        write_text(lock, whole)
        yield f"{LOCK_FILE} was cut off by a kill; its last entry is gone, and comes back from DVC's run cache"
    yield from _throw_out_damaged(folder)


def _throw_out_damaged(folder: Path) -> Iterator[str]:
    """Remove cache entries that are not what their names say. Where an output is not what dvc.lock says, only its time
    is changed, for it may be somebody's work: then DVC looks at it again, instead of remembering what it was."""
    from tqdm import tqdm

    entries = sorted((folder / CACHE).glob("??/*"))
    for entry in tqdm(entries, desc="check DVC's cache", unit="file", delay=2, disable=None, leave=False):
        if is_damaged(entry):
            entry.unlink()
            yield f"{entry} was damaged; removed, `dvc repro` makes it anew (or `dvc pull`, where there is a remote)"
    for path, md5 in outputs(folder).items():
        output = folder / path
        if output.exists() and md5_of(output) != md5:
            for file in [output, *output.rglob("*")] if output.is_dir() else [output]:
                os.utime(file)
            yield f"{path} is not what dvc.lock says; `dvc repro` makes it anew, `dvc commit` keeps what you changed"


def _is_cut_off(locks: Path) -> bool:
    end = time.monotonic() + _WRITING_SECONDS
    while time.monotonic() < end:
        try:
            json.loads(locks.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            time.sleep(0.1)
        else:
            return False
    return True


def whole_entries(text: str) -> str | None:
    """A dvc.lock without the entry in which it was cut off; None where it is whole. Raises InputError for one that a
    merge left with its conflict marks: which side counts, only people know."""
    if re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE):
        raise InputError(f"{LOCK_FILE} holds both sides of a merge; choose one: `git checkout --theirs {LOCK_FILE}`")
    if text.endswith("\n") and _reads(text):
        return None
    starts = [match.start() for match in _STAGE.finditer(text)]
    while starts:
        text = text[: starts.pop()]
        if starts and _reads(text):
            return text
    return _NO_STAGE


def _reads(text: str) -> bool:
    """Whether DVC would take it: each path of each stage with the hash that its kind names."""
    import yaml

    try:
        stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506
        entries = [entry for stage in stages.values() for kind in ("deps", "outs") for entry in stage.get(kind, [])]
        return all(len(str(entry[entry.get("hash", "md5")])) >= 32 and entry["path"] for entry in entries) and all(
            stage["cmd"] and stage["outs"] for stage in stages.values()
        )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
