"""metrics/report.html, by jinja2 from `report.html.jinja`; its charts, and the same data as CSV for `dvc plots`."""

from __future__ import annotations

import base64
import csv
import io
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from plagal.evaluation.coherence import shipped
from plagal.evaluation.report import COHERENCE_ROWS, HEADINGS, MODELS, SPLITS, TARGETS, Tree, get, table_rows
from plagal.evaluation.samples import Sample
from plagal.model.trainer import conditions
from plagal.music.piano import rendered, to_mp3
from plagal.plumbing.files import atomic_path, write_text
from plagal.sheet import to_png_pages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DECIDING = ("src", "params.yaml", "sources", "base", "requirements.lock")
"""Tracked files that decide the figures; a run itself changes dvc.lock and metrics/."""


def write_page(
    tree: Tree, samples: Sequence[Sample], answers: Sequence[Sample | None], pictures: Sequence[Path],
    curves: dict[str, Path], made: str, path: Path,
) -> None:  # fmt: skip
    """For each of `samples` the arranger's answer to its prompt, where there is one, and a picture of its piano roll;
    `curves`: stage -> CSV of the trainer; `made`: by which code and where."""
    # What is shown was typed by people (prompts) or read from files: everything is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    template = files("plagal.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    rows = table_rows(tree)
    page = environment.from_string(template).render(
        headings=HEADINGS,
        met=get(tree, "targets.met") or 0,
        missed=get(tree, "targets.missed") or 0,
        made=made,
        not_measured=not_measured(tree),
        targets=sorted((row for row in rows if row.target), key=lambda row: row.verdict != "FAIL"),
        others=[row for row in rows if not row.target],
        nats=nats_chart(tree),
        splits=[split_chart(tree, split) for split in tree.get("nats_split", {})],
        learning=curves_chart(curves),
        coherence=coherence_chart(tree, shipped().calibration),
        overlap=overlap_chart(tree),
        samples=[
            {
                "prompt": sample.asked.prompt, "name": picture.stem, "midi": sample.midi, "sound": _mp3(sample),
                "answer": answer and _mp3(answer), "problems": sample.validity.problems,
                "sheet": to_png_pages(sample.score)[0] if len(sample.score.notes) else None,
                "picture": picture.read_bytes(),
            }
            for sample, answer, picture in zip(samples, answers, pictures, strict=True)
        ],
    )  # fmt: skip
    write_text(path, page)


def not_measured(tree: Tree) -> list[str]:
    """What a reader might take these figures to say, and they do not; a sentence each."""
    said = ["Nobody has listened: every figure is a program's. `plagal metrics ratings` shows what people said to you."]
    if get(tree, "held_out.gospel_real.pieces") is None:
        said.append("No gospel by people is among the held-out pieces: where rows say gospel, it is the arranger's.")
    missing = [target.meaning for target in TARGETS if get(tree, target.path) is None]
    return said + ([f"These targets have no figure: {'; '.join(missing)}."] if missing else [])


def made_by() -> str:
    """The commit, whether what decides the figures differs from it, and the machine."""
    asked = ("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno", "--", *_DECIDING)
    commit, changes = (
        subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip() for words in asked
    )
    machine = ", ".join(f"{name} {value}" for name, value in conditions().items())
    return f"{f'commit {commit}' if commit else 'no commit'}{', with changes' if changes else ''}; {machine}"


def _mp3(sample: Sample) -> bytes | None:
    return to_mp3(rendered(sample.score)) if len(sample.score.notes) else None


# --- Charts, and the same data as CSV for DVC's plots ---

COLOURS = {
    "base": "#b9b4aa", "stage1": "#7fa8c4", "stage2": "#1f5f8b", "fused": "#123a57", "ngram": "#c0562f",
    "xz": "#e0b49a",
}  # fmt: skip
_DPI = 110


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def spoken(name: str) -> str:
    return name.replace("_", " ").replace("stage1", "stage 1").replace("stage2", "stage 2").replace("ngram", "n-gram")


def nats_chart(tree: Tree) -> bytes:
    """Nats per note of each model and floor on each split, with intervals; PNG."""
    figure, axes = _figure(9, 3.4)
    shown = [
        split for split in SPLITS if any(get(tree, f"nats_per_note.{split}.{name}") is not None for name in MODELS)
    ]
    for place, name in enumerate(MODELS):
        for column, split in enumerate(shown):
            path = f"nats_per_note.{split}.{name}"
            value = get(tree, path)
            if value is None:
                continue
            spot = column + (place - (len(MODELS) - 1) / 2) * 0.14
            axes.bar(spot, value, 0.13, color=COLOURS[name], label=spoken(name) if column == 0 else None)
            axes.annotate(f"{value:.2f}", (spot, value), (0, 2), textcoords="offset points", ha="center", fontsize=7)
            low, high = get(tree, f"interval.{path}.low"), get(tree, f"interval.{path}.high")
            if low is not None and high is not None:
                axes.plot([spot, spot], [low, high], color="#22262b", linewidth=1)
    axes.set_xticks(range(len(shown)), [spoken(split) for split in shown])
    axes.set_ylabel("nats per note (less is better)")
    axes.legend(ncols=len(MODELS), fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    return _png(figure)


def split_chart(tree: Tree, split: str) -> bytes:
    """What the nats of each model are spent on; PNG."""
    figure, axes = _figure(9, 2.6)
    rows = {name: tree.get("nats_split", {}).get(split, {}).get(name) for name in MODELS}
    rows = {name: facets for name, facets in rows.items() if facets and name != "base"}
    palette = ("#1f5f8b", "#c0562f", "#7c9a5c", "#9a8fb8", "#d9a441")
    for row, facets in enumerate(rows.values()):
        left = 0.0
        for colour, (facet, value) in zip(palette, facets.items(), strict=False):
            axes.barh(row, value, left=left, color=colour, label=facet if row == 0 else None)
            left += value
    axes.set_yticks(range(len(rows)), [spoken(name) for name in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"nats per note, {spoken(split)}")
    if rows:
        axes.legend(ncols=5, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return _png(figure)


def coherence_chart(tree: Tree, calibration: dict[str, Any]) -> bytes:
    """Left, what held-out windows got when the ear was made (middle half and median); right, this evaluation; PNG."""
    figure, axes = _figure(9, 3.0)
    kinds = list(next(iter(calibration.values()), {}))
    longest = calibration[max(calibration, key=int)] if calibration else {}
    for place, kind in enumerate(kinds):
        measured = longest[kind]
        axes.bar(place, measured["high"] - measured["low"], 0.5, bottom=measured["low"], color="#cfd8df")
        axes.plot([place - 0.25, place + 0.25], [measured["median"]] * 2, color="#1f5f8b", linewidth=2)
    rows = [(name, value) for name in COHERENCE_ROWS if (value := get(tree, f"coherence.{name}")) is not None]
    for place, (name, value) in enumerate(rows, len(kinds) + 1):
        axes.bar(place, value, 0.5, color="#c0562f" if name == "model" else "#7fa8c4")
        axes.annotate(f"{value:.1f}", (place, value), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    labels = [spoken(kind) for kind in kinds] + ["", *(spoken(name) for name, _ in rows)]
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    axes.set(ylim=(0, 10.5), ylabel="coherence of 10")
    return _png(figure)


def overlap_chart(tree: Tree) -> bytes:
    """Overlap of generated with real pieces, feature by feature, the worst first; PNG."""
    overlaps: dict[str, float] = tree.get("distribution_overlap") or {}
    figure, axes = _figure(9, 0.6 + 0.17 * max(len(overlaps), 4))
    names = sorted(overlaps, key=lambda name: overlaps[name])
    axes.barh(range(len(names)), [overlaps[name] for name in names], color="#1f5f8b")
    floor = get(tree, "distribution.overlap_real")
    if floor is not None:
        axes.axvline(floor, color="#c0562f", linewidth=1.2, label="real against real, on average")
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set_yticks(range(len(names)), [spoken(name) for name in names], fontsize=7)
    axes.invert_yaxis()  # the worst on top
    axes.set(xlim=(0, 1), xlabel="overlap with held-out pieces")
    return _png(figure)


def curves_chart(curves: dict[str, Path]) -> bytes | None:
    """Training and validation loss by step; None where no curve is there. `curves`: name -> CSV of the trainer."""
    found = {
        name: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for name, path in curves.items()
        if path.exists()
    }
    if not found:
        return None
    figure, axes = _figure(9, 2.8)
    start = 0.0
    for colour, (name, rows) in zip(("#7fa8c4", "#1f5f8b"), found.items(), strict=False):
        for column, style in (("train_loss", ":"), ("valid_loss", "-")):
            points = [(float(row["step"]) + start, float(row[column])) for row in rows if row.get(column)]
            axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{spoken(name)}, {spoken(column)}")
        start += max((float(row["step"]) for row in rows), default=0.0)
    axes.set(xlabel="step", ylabel="nats per token")
    axes.legend(fontsize=8, frameon=False)
    return _png(figure)


def write_plots(tree: Tree, folder: Path) -> None:
    """CSV files for `dvc plots`: nats_per_note.csv, coherence.csv, overlap.csv; the folder is replaced as a whole."""
    nats = [
        (split, name, value)
        for split in SPLITS
        for name in MODELS
        if (value := get(tree, f"nats_per_note.{split}.{name}")) is not None
    ]
    heard = [(name, value) for name in COHERENCE_ROWS if (value := get(tree, f"coherence.{name}")) is not None]
    overlaps = list((tree.get("distribution_overlap") or {}).items())
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _write_csv(temporary / "nats_per_note.csv", ("split", "model", "nats_per_note"), nats)
        _write_csv(temporary / "coherence.csv", ("music", "coherence"), heard)
        _write_csv(temporary / "overlap.csv", ("feature", "overlap"), overlaps)


def _write_csv(path: Path, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(rows)
