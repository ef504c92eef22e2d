"""What a fault's row is, where rows are kept, and the table that they make."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from plagal.plumbing.files import write_json, write_text

RESULTS = Path(__file__).with_name("results")
REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: make faults -->", "<!-- end of table -->"


@dataclass(frozen=True)
class Row:
    """`fault`: what was done; `tried`: how often; `promised`, `happened`: in words; `lost`: tries in which the promise
    was not kept (work lost, something unexplained left, no clear answer)."""

    fault: str
    tried: int
    promised: str
    happened: str
    lost: int


def keep(name: str, seconds: float, rows: Iterable[Row]) -> None:
    """Write a kind's rows where the report is made from."""
    write_json(RESULTS / f"{name}.json", {"seconds": round(seconds), "rows": [asdict(row) for row in rows]})


def kept(names: Iterable[str]) -> dict[str, tuple[int, list[Row]]]:
    """By kind, in the order of `names`: seconds that it took, and its rows."""
    found = {}
    for name in names:
        path = RESULTS / f"{name}.json"
        if path.exists():
            told = json.loads(path.read_text(encoding="utf-8"))
            found[name] = (told["seconds"], [Row(**row) for row in told["rows"]])
    return found


def table(results: dict[str, tuple[int, list[Row]]]) -> str:
    """Markdown; a section a kind."""
    rows = [row for _, kind in results.values() for row in kind]
    lines = [f"{sum(row.tried for row in rows):,} faults tried, {sum(row.lost for row in rows)} promises broken.", ""]
    for name, (seconds, kind) in results.items():
        lines += [
            f"**{name}** (`python tests/faults/run.py {name}`, {seconds // 60} min {seconds % 60} s)",
            "",
            "| fault | tried | promised | happened | broken |",
            "|---|---|---|---|---|",
            *(f"| {row.fault} | {row.tried:,} | {row.promised} | {row.happened} | {row.lost} |" for row in kind),
            "",
        ]
    return "\n".join(lines)


def write_report(results: dict[str, tuple[int, list[Row]]]) -> None:
    """Put the table between its marks in docs/reliability.md; the words around it are people's."""
    before, _, rest = REPORT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(REPORT, f"{before}{BEGIN}\n\n{table(results)}\n{END}{after}")
