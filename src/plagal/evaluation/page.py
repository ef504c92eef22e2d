"""metrics/report.html: all that a reviewer needs, in one file that asks nothing of the network."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from plagal.evaluation import charts
from plagal.evaluation.coherence import shipped
from plagal.evaluation.report import Row, Tree, get, table_rows
from plagal.evaluation.samples import Sample
from plagal.plumbing.files import write_text

_STYLE = """
:root { color-scheme: light; --ink: #22262b; --soft: #6d6a63; --line: #ddd8ce; --paper: #fffdf8; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { margin-top: 2.4rem; font-size: 1.15rem; }
p, figcaption { color: var(--soft); max-width: 46rem; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.path { font-family: ui-monospace, monospace; font-size: .85rem; }
.pass { color: #2d6a3e; font-weight: 600; } .FAIL { color: #a8321f; font-weight: 600; } .none { color: var(--soft); }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; }
details summary { cursor: pointer; margin: .8rem 0; }
"""

_COHERENCE_NOTE = (
    "A program's score, not a person's: a small network that learned to tell whole pieces from damaged ones. Left, "
    "what it gave held-out music when it was made (the middle half of the windows, and their median); right, this run."
)


def write_page(tree: Tree, samples: list[Sample], pictures: list[Path], curves: dict[str, Path], path: Path) -> None:
    """`pictures`: a piano roll for each of `samples`; `curves`: stage -> CSV of the trainer."""
    met, missed = get(tree, "targets.met") or 0, get(tree, "targets.missed") or 0
    rows = table_rows(tree)
    others = _table([row for row in rows if not row.target])
    body = [
        "<h1>Evaluation</h1>",
        f"<p>{met:g} targets met, {missed:g} missed; the others have no figure yet. What each figure means stands in "
        "docs/evaluation.md.</p>",
        _table([row for row in rows if row.target]),
        f"<details><summary>All other figures</summary>{others}</details>",
        "<h2>How well held-out notes are foretold</h2>",
        _image(
            charts.nats_chart(tree), "Lines are 95 % intervals by tune. The n-gram is the floor: counting, no network."
        ),
        *(_image(charts.split_chart(tree, split), "") for split in tree.get("nats_split", {})),
    ]
    learning = charts.curves_chart(curves)
    if learning is not None:
        body += ["<h2>Learning</h2>", _image(learning, "Stage 2 goes on where stage 1 ends.")]
    body += ["<h2>Coherence</h2>", _image(charts.coherence_chart(tree, shipped().calibration), _COHERENCE_NOTE)]
    body += ["<h2>Where generated pieces lie among real ones</h2>", _image(charts.overlap_chart(tree), "")]
    body += ["<h2>Samples</h2>", *(_sample(one, picture) for one, picture in zip(samples, pictures, strict=True))]
    write_text(path, _document("\n".join(body)))


def _document(body: str) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Plagal: evaluation</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _table(rows: list[Row]) -> str:
    headings = "".join(
        f"<th>{name}</th>" for name in ("figure", "value", "95 % interval", "target", "", "what it says")
    )
    return f"<table><thead><tr>{headings}</tr></thead><tbody>{''.join(map(_row, rows))}</tbody></table>"


def _row(row: Row) -> str:
    kind = row.verdict if row.verdict in ("pass", "FAIL") else "none"
    return (
        f'<tr><td class="path">{escape(row.path)}</td><td class="number">{escape(row.value)}</td>'
        f'<td class="number">{escape(row.interval)}</td><td class="number">{escape(row.target)}</td>'
        f'<td class="{kind}">{escape(row.verdict)}</td><td>{escape(row.meaning)}</td></tr>'
    )


def _image(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    text = escape(caption)
    image = f'<img alt="{text or "chart"}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _sample(sample: Sample, picture: Path) -> str:
    midi = base64.b64encode(sample.midi).decode("ascii")
    link = f'<a download="{picture.stem}.mid" href="data:audio/midi;base64,{midi}">{picture.stem}.mid</a>'
    said = "valid MIDI" if sample.validity.valid else "; ".join(sample.validity.problems[:2])
    image = _image(picture.read_bytes(), "")
    return f"<p>“{escape(sample.asked.prompt)}” · {link} · {escape(said)}</p>{image}"
