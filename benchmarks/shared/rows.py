"""A benchmark's rows: both sides, their ratio, its spread over the repetitions, the target, and whether it is met."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]
Side = float | Sequence[float]
DIGITS = 4
"""Significant ones that are kept."""


def row(
    what: str,
    ours: Side,
    peer: Side | None = None,
    unit: str = "",
    *,
    against: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    judge: str = "",
    **more: Any,
) -> Row:
    """A side is a figure, or one for each repetition: then its median counts. `against`: who the peer is; `judge`: what
    is held to the target, "ratio" (with a peer, if nothing is said) or "ours".

    `ratio` is ours over the peer's, the median over the repetitions, which were measured in turn; `spread` is the
    lowest and the highest of what is judged, None where nothing was repeated; `ok` is None where there is no target.
    """
    mine, theirs = _repeated(ours), None if peer is None else _repeated(peer)
    ratios = _ratios(mine, theirs)
    judge = judge or ("ratio" if theirs is not None else "ours")
    judged = ratios if judge == "ratio" else mine
    spread = [_rounded(min(judged)), _rounded(max(judged))] if len(judged) > 1 else None
    target, sense = (at_least, "at least") if at_least is not None else (at_most, "at most")
    return {
        "what": what,
        "ours": _rounded(statistics.median(mine)) if mine else None,
        "peer": _rounded(statistics.median(theirs)) if theirs else None,
        "against": against,
        "unit": unit,
        "ratio": _rounded(statistics.median(ratios)) if ratios else None,
        "spread": spread,
        "repetitions": max(len(judged), 1),
        "judge": judge,
        "target": target,
        "sense": sense if target is not None else None,
        "ok": _meets(judged, target, sense),
        **more,
    }


def _meets(judged: list[float], target: float | None, sense: str) -> bool | None:
    if target is None or not judged:
        return None
    middle = statistics.median(judged)
    return bool(middle >= target if sense == "at least" else middle <= target)


def _repeated(side: Side | None) -> list[float]:
    if side is None:
        return []
    return [float(side)] if isinstance(side, int | float) else [float(value) for value in side]


def _ratios(mine: list[float], theirs: list[float] | None) -> list[float]:
    if not theirs or not all(theirs):
        return []
    if len(mine) == len(theirs):
        return [one / other for one, other in zip(mine, theirs, strict=True)]
    return [statistics.median(mine) / statistics.median(theirs)]


def _rounded(value: float) -> float:
    whole = round(value)
    return whole if value == whole or abs(value) >= 10**DIGITS else float(f"{value:.{DIGITS}g}")


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON object last")
    return made


def finish(name: str, rows: Iterable[Row], as_json: bool, **more: Any) -> None:
    """Print each row as soon as it is known, and all in one object at the end if asked for. `more` is kept beside the
    rows; what is callable is called when all rows are there."""
    kept = []
    for found in rows:
        kept.append(found)
        print(line(found), flush=True)
    if as_json:
        told = {key: value() if callable(value) else value for key, value in more.items()}
        print(json.dumps({"name": name, "rows": kept, **told}), flush=True)


def line(found: Row) -> str:
    peer = f", {found['against'] or 'peer'} {found['peer']}" if found["peer"] is not None else ""
    ratio = f", ratio {found['ratio']}" if found["ratio"] is not None else ""
    spread = f" ({found['spread'][0]} to {found['spread'][1]})" if found["spread"] else ""
    verdict = {None: "", True: ": ok", False: ": MISSED"}[found["ok"]]
    target = f"; {found['judge']} {found['sense']} {found['target']}{verdict}" if found["target"] is not None else ""
    return f"{found['what']}: ours {found['ours']}{peer} {found['unit']}{ratio}{spread}{target}"
