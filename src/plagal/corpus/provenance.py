"""What a model learned from, and under which licences: counted where the training text is made, told in model cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from plagal.plumbing.files import read_json, write_json

PROVENANCE = "provenance.json"
"""Beside a stage's text. Only of what is trained on, so that a piece more to test on changes nothing here."""

STAGES = ("stage1", "stage2")

LIMITS = """## Limits

- Synthetic pieces come from a rule-based arranger. What the model knows of gospel piano beyond hymns is mostly from it.
- Coherence is a program's score. Where no ratings stand, nobody has yet listened and said what they think.
- It writes for one piano. It knows no lyrics and no performer's timing.
- Made for teaching and practice. A piece that is close to a known tune may be one.
"""

_CARD = """# Plagal gospel piano

Writes two-handed gospel piano as words (one event a word), from a prompt that names a style, key, tempo, metre, length
or chords. Trained in two stages: general music, then gospel. An ordinary MLX model folder: `mlx_lm.generate` and
`plagal generate` read it as it is. What was measured stands in metrics/model_card.md of the project that made it, and
what fusing cost in fuse.json beside this file.

"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Pieces of one kind: all that a card says of them."""

    genre: str
    synthetic: bool
    licence: str
    commercial: bool
    """Whether the licence allows commercial use, as far as it says."""
    attribution: str

    @staticmethod
    def of(metadata: dict[str, Any]) -> Origin:
        """Of a row of pieces.jsonl."""
        return Origin(**{name: metadata[name] for name in Origin.__slots__})


Origins = dict[Origin, int]
"""Origin -> how many pieces."""


def write_provenance(folder: Path, origins: Counter[Origin]) -> None:
    """Into `folder`/provenance.json, in the order of their fields."""
    rows = [asdict(origin) | {"pieces": origins[origin]} for origin in sorted(origins, key=astuple)]
    write_json(folder / PROVENANCE, rows)


def read_provenance(text: Path) -> dict[str, Origins]:
    """Of both stages' text under `text`. Raises InputError where a file is missing."""
    return {stage: _read(text / stage / PROVENANCE) for stage in STAGES}


def _read(path: Path) -> Origins:
    return {Origin.of(row): int(row["pieces"]) for row in read_json(path)}


def fused_card(text: Path) -> str:
    """The card that lies in the model's own folder, in Markdown: what it is, data, licences, limits."""
    return _CARD + provenance_tables(read_provenance(text)) + "\n" + LIMITS


def provenance_tables(provenance: dict[str, Origins]) -> str:
    """Markdown: pieces by stage and genre, then the licences with whom to name."""
    lines = ["## Data", "", "| stage | genre | real | synthetic |", "|---|---|---:|---:|"]
    for number, stage in enumerate(STAGES, 1):
        genres: Counter[tuple[str, bool]] = Counter()
        for origin, pieces in provenance[stage].items():
            genres[origin.genre, origin.synthetic] += pieces
        for genre in sorted({genre for genre, _ in genres}):
            counts = f"{genres[genre, False]} | {genres[genre, True]}"
            lines.append(f"| {number} | {genre.replace('_', ' ')} | {counts} |")
    lines += ["", "## Licences of the training pieces", ""]
    lines += ["| licence | commercial use | pieces | by |", "|---|---|---:|---|"]
    for (licence, commercial), (pieces, names) in sorted(_licences(provenance.values()).items()):
        cells = (licence, "yes" if commercial else "no", str(pieces), "; ".join(sorted(names)))
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _licences(stages: Iterable[Origins]) -> dict[tuple[str, bool], tuple[int, set[str]]]:
    found: dict[tuple[str, bool], tuple[int, set[str]]] = {}
    for origins in stages:
        for origin, pieces in origins.items():
            before, names = found.get((origin.licence, origin.commercial), (0, set()))
            found[origin.licence, origin.commercial] = (before + pieces, names | {origin.attribution})
    return found
