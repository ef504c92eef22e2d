"""A model card in Markdown: what the model is, what it learned from, what was measured, what it is not for."""

from __future__ import annotations

from pathlib import Path

from plagal.corpus.provenance import LIMITS, provenance_tables, read_provenance
from plagal.evaluation.report import Tree, markdown_table

_HEAD = """# Model card: Plagal gospel piano

Writes two-handed gospel piano as words (one event a word), from a prompt that names a style, key, tempo, metre, length
or chords. Trained by the pipeline of this repository: general music first, then gospel, fused into one ordinary MLX
model folder, `models/fused`, whose own README.md says the same of data, licences and limits.
"""


def model_card(tree: Tree, text: Path) -> str:
    """Markdown. `text`: the folder of both stages' training text. Raises InputError where it lacks provenance.json."""
    parts = [_HEAD, provenance_tables(read_provenance(text)), "## Figures\n"]
    parts += ["What each means, and how it was measured, stands in docs/evaluation.md.\n", markdown_table(tree), ""]
    return "\n".join([*parts, LIMITS])
