"""What people said: ratings from 1 to 10, and which of two pieces they liked better, blind.

The page writes one object a line:
`{"kind": "rating", "rater": "...", "piece": "...", "system": "...", "rating": 1-10}` and
`{"kind": "ab", "rater": "...", "a": SYSTEM, "b": SYSTEM, "choice": "a" | "b" | "tie"}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plagal.evaluation.likelihood import ratio_interval
from plagal.plumbing.errors import InputError, RecordError
from plagal.plumbing.files import read_jsonl

_ROUNDS = 500
_PRIOR = 0.5
"""Half a win each way between any two that were compared: keeps a system that always won finite."""


@dataclass(frozen=True)
class Ratings:
    """`mean` of 1-10 with its 95 % interval by rater (None for a single rater); strengths by Bradley-Terry, in
    logits over the mean of the systems."""

    mean: float | None
    interval: tuple[float, float] | None
    raters: int
    strengths: dict[str, float]


def read_ratings(path: str | Path) -> list[dict[str, Any]]:
    """Checked rows; none where there is no file. Raises RecordError that names the line."""
    if not Path(path).exists():
        return []
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        if not _sound(row):
            raise RecordError(
                f"{path}:{number} is neither a rating of 1 to 10 nor a choice of a, b or tie; remove the line"
            )
        rows.append(row)
    return rows


def _sound(row: dict[str, Any]) -> bool:
    if not isinstance(row.get("rater"), str):
        return False
    if row.get("kind") == "rating":
        rating = row.get("rating")
        return isinstance(rating, int | float) and not isinstance(rating, bool) and 1 <= rating <= 10
    names = [row.get("a"), row.get("b")]
    return (
        row.get("kind") == "ab"
        and all(isinstance(name, str) for name in names)
        and row.get("choice") in ("a", "b", "tie")
    )


def summarise_ratings(rows: Sequence[dict[str, Any]], seed: int, system: str | None = None) -> Ratings | None:
    """Ratings (of one system, or of all) and the strengths of all that were compared. None where nobody has said
    anything yet, never a number."""
    rated = [row for row in rows if row["kind"] == "rating" and system in (None, row.get("system"))]
    compared = [row for row in rows if row["kind"] == "ab"]
    if not rated and not compared:
        return None
    values = np.array([float(row["rating"]) for row in rated])
    raters = [row["rater"] for row in rated]
    return Ratings(
        mean=float(values.mean()) if rated else None,
        interval=ratio_interval(values, np.ones(len(values)), raters, seed) if rated else None,
        raters=len({row["rater"] for row in [*rated, *compared]}),
        strengths=bradley_terry([(row["a"], row["b"], row["choice"]) for row in compared]),
    )


def bradley_terry(choices: Sequence[tuple[str, str, str]]) -> dict[str, float]:
    """Strength of each system from (a, b, "a" | "b" | "tie"), by Hunter's (2004) iteration; a tie is half a win each.
    Of two systems of strengths x and y, x is chosen with probability 1 / (1 + exp(y - x))."""
    names = sorted({name for a, b, _ in choices for name in (a, b)})
    place = {name: index for index, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for a, b, choice in choices:
        if a == b:
            continue
        wins[place[a], place[b]] += {"a": 1.0, "b": 0.0, "tie": 0.5}[choice]
        wins[place[b], place[a]] += {"a": 0.0, "b": 1.0, "tie": 0.5}[choice]
    wins += _PRIOR * ((wins + wins.T) > 0)
    games = wins + wins.T
    strength = np.ones(len(names))
    for _ in range(_ROUNDS):
        weight = (games / np.maximum(strength[:, None] + strength[None, :], 1e-12)).sum(axis=1)
        strength = np.divide(wins.sum(axis=1), weight, out=np.ones_like(strength), where=weight > 0)
        strength /= np.exp(np.log(strength).mean()) if len(names) else 1.0
    return {name: float(np.log(value)) for name, value in zip(names, strength, strict=True)}


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
        found = summarise_ratings(rated, seed=0)
        if found is not None:
            interval = "" if found.interval is None else " ({:.2f} to {:.2f})".format(*found.interval)
            yield f"{system}: {found.mean:.2f} of 10{interval}, ratings: {len(rated)}, raters: {found.raters}"
    compared = summarise_ratings(rows, seed=0)
    for system, strength in (compared.strengths if compared is not None else {}).items():
        yield f"{system}: strength {strength:+.2f} in blind pairs"
