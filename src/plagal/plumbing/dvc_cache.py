"""What DVC keeps, held against its hashes. DVC itself trusts its cache: a file that has rotted there is handed out as
it is, and a stage would go on from it without a word.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import InputError
from plagal.plumbing.files import parse_yaml

LOCK_FILE, PIPELINE_FILE = Path("dvc.lock"), Path("dvc.yaml")
CACHE = Path(".dvc") / "cache" / "files" / "md5"


def md5_of(path: Path) -> str:
    """As dvc.lock writes it, of a file or a folder. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    rows = [{"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    told = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
    return f"{hashlib.md5(told.encode(), usedforsecurity=False).hexdigest()}.dir"


def check_inputs(stage: str, folder: Path = Path()) -> None:
    """Raises InputError where something that `stage` depends on is another than the stage before wrote, as dvc.lock has
    it. What is no stage's output, or not in dvc.lock, is nobody's promise."""
    needs = _stages(folder / PIPELINE_FILE).get(stage, {}).get("deps", [])
    written = outputs(folder)
    for path in sorted({path for path in written for need in needs if f"{need}/".startswith(f"{path}/")}):
        if (folder / path).exists() and md5_of(folder / path) != written[path]:
            raise InputError(
                f"{path} is not what the stage before wrote (dvc.lock: {written[path]}); `plagal mend` removes what is"
                f" damaged, then run `dvc repro` again; `dvc commit` keeps what you changed yourself"
            )


def outputs(folder: Path = Path()) -> dict[str, str]:
    """Path -> md5 of all that stages wrote, by dvc.lock."""
    stages = _stages(folder / LOCK_FILE).values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}


def _stages(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict((parse_yaml(text, str(file), InputError) or {}).get("stages") or {})


def is_damaged(entry: Path) -> bool:
    """Whether a file of DVC's cache holds something else than its name says."""
    named = f"{entry.parent.name}{entry.name}".removesuffix(".dir")
    return re.fullmatch(r"[0-9a-f]{32}", named) is not None and md5_of(entry) != named
