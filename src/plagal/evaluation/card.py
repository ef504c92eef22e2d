"""A model card in Markdown: what the model is, what it learned from, what was measured, what it is not for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from plagal.evaluation.heldout import Piece, first_copies
from plagal.evaluation.report import Tree, markdown_table

_HEAD = """# Model card: Plagal gospel piano

Writes two-handed gospel piano as words (one event a word), from a prompt that names a style, key, tempo, metre, length
or chords. Trained by the pipeline of this repository: general music first, then gospel with LoRA, fused into one
ordinary MLX model folder.
"""

_LIMITS = """## Limits

- Synthetic pieces come from a rule-based arranger. What the model knows of gospel piano beyond hymns is mostly from it.
- Coherence is a program's score. Where no ratings stand, nobody has yet listened and said what they think.
- It writes for one piano. It knows no lyrics and no performer's timing.
- Made for teaching and practice. A piece that is close to a known tune may be one: see the rows under `copying`.
"""


def model_card(tree: Tree, stage1: Sequence[Piece], stage2: Sequence[Piece]) -> str:
    """Markdown. `stage1` and `stage2`: the training pieces, augmented copies and all."""
    parts = [_HEAD, "## Data\n", _data_table(stage1, stage2), "\n## Licences of the training pieces\n"]
    parts += [_licence_table([*stage1, *stage2]), "\n## Figures\n"]
    parts += ["What each means, and how it was measured, stands in docs/evaluation.md.\n", markdown_table(tree), ""]
    return "\n".join([*parts, _LIMITS])


def _data_table(stage1: Sequence[Piece], stage2: Sequence[Piece]) -> str:
    rows = ["| stage | genre | real | synthetic |", "|---|---|---:|---:|"]
    for name, pieces in (("1", first_copies(stage1)), ("2", first_copies(stage2))):
        counts = Counter((piece.genre, piece.synthetic) for piece in pieces)
        for genre in sorted({genre for genre, _ in counts}):
            rows.append(f"| {name} | {genre.replace('_', ' ')} | {counts[genre, False]} | {counts[genre, True]} |")
    return "\n".join(rows)


def _licence_table(pieces: Sequence[Piece]) -> str:
    counts = Counter(str(piece.metadata.get("licence") or "not stated") for piece in first_copies(pieces))
    rows = ["| licence | pieces |", "|---|---:|"]
    return "\n".join([*rows, *(f"| {licence} | {count} |" for licence, count in sorted(counts.items()))])
