"""The report of a collected stage as a table for people."""

from __future__ import annotations

from typing import Any

_COLUMNS = ("genre", "wanted", "real", "synthetic", "surplus", "found", "played", "short", "left out, and why")


def corpus_table(report: dict[str, Any]) -> str:
    """A line for each genre, one for the total, one for each loss in reading what was taken; ends in a newline."""
    rows = [_row(name, genre) for name, genre in report["genres"].items()]
    totals = [sum(int(row[column]) for row in rows) for column in range(1, 8)]
    rows.append(("total", *(str(total) for total in totals), _why(report["discarded"], 4)))
    widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(len(_COLUMNS))]
    lines = [_line(_COLUMNS, widths), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths) for row in rows]
    found, target, tunes = report["found"], report["target"], report["tunes"]
    lines.append(f"{report['stage']}: {found} of {target} pieces, {tunes} tunes")
    if losses := report["losses"]:
        wide = max(len(name) for name in losses)
        lines.append("left out or bent in reading, among the pieces taken:")
        lines += [f"  {name.ljust(wide)}  {loss['files']:>5} files  {loss['count']:g}" for name, loss in losses.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, genre: dict[str, Any]) -> tuple[str, ...]:
    found = genre["real"] + genre["synthetic"] + genre["surplus"]
    wanted, real, synthetic, surplus = (genre[name] for name in ("wanted", "real", "synthetic", "surplus"))
    counts = (wanted, real, synthetic, surplus, found, genre["played"], genre["short"])
    return (name, *(str(count) for count in counts), _why(genre["discarded"], 4))


def _why(discarded: dict[str, int], most: int) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in list(discarded.items())[:most])


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
    return "  ".join([*cells, row[-1]]).rstrip()
