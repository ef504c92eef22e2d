"""What a reviewer asks: which figures changed between two commits, for better or worse, and what listeners said."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plagal.evaluation.ratings import read_ratings, summarise
from plagal.evaluation.report import metrics_diff
from plagal.plumbing.errors import InputError
from plagal.plumbing.files import read_json

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


def ratings_lines(file: Path) -> Iterator[str]:
    """What people said, for a terminal: by system the mean of 1-10 with its 95 % interval by rater, and the strengths
    that blind pairs showed [logits]. Raises InputError where nobody has said anything."""
    rows = read_ratings(file)
    if not rows:
        raise InputError(f"{file}: nobody has rated anything yet; `plagal serve` writes there what listeners say")
    by_system: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "rating":
            by_system.setdefault(str(row.get("system", "unnamed")), []).append(row)
    for system, rated in sorted(by_system.items()):
        found = summarise(rated, seed=0)
        if found is not None:
            interval = "" if found.interval is None else " ({:.2f} to {:.2f})".format(*found.interval)
            yield f"{system}: {found.mean:.2f} of 10{interval}, ratings: {len(rated)}, raters: {found.raters}"
    compared = summarise(rows, seed=0)
    for system, strength in (compared.strengths if compared is not None else {}).items():
        yield f"{system}: strength {strength:+.2f} in blind pairs"
