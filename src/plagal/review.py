"""What a reviewer asks of two commits: which figures changed, and for the better or the worse."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from plagal.errors import InputError
from plagal.evaluation.report import metrics_diff
from plagal.files import read_json

METRICS = Path("metrics/metrics.json")


def metrics_at(revision: str) -> dict[str, Any]:
    """metrics.json of a commit. Raises InputError where git knows no such commit or the commit no metrics."""
    if revision.startswith("-"):
        raise InputError(f"{revision!r} is no name of a commit")
    show = ["git", "show", f"{revision}:./{METRICS.as_posix()}"]
    done = subprocess.run(show, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"no {METRICS} at {revision}: {done.stderr.strip().splitlines()[0]}")
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


def diff_against(revision: str) -> str:
    """A Markdown table of the figures that differ from those of a commit."""
    return metrics_diff(metrics_at(revision), read_json(METRICS))
