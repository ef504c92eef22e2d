"""The fused model as a folder of its own for mlx-lm and transformers: nothing in it refers to this project's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from plagal.export.report import GRAMMAR_UNTOLD, Export, ids_to_compare
from plagal.plumbing.files import atomic_path


def to_mlx(fused: Path, out: Path) -> Export:
    """Copy the folder, links followed, and compare what stock mlx-lm loads. Raises ModelError where it is none."""
    from plagal.model.base import find_folder, load, load_stock
    from plagal.model.exchange import logits_of

    folder = find_folder(fused)
    with atomic_path(out) as temporary:
        shutil.copytree(folder, temporary)
        lm = load(fused)
        ids = ids_to_compare(lm)
        ours, theirs = logits_of(lm.model, ids), logits_of(load_stock(temporary), ids)
        size = sum(file.stat().st_size for file in temporary.iterdir())
    return Export(out, size, float(np.abs(ours - theirs).max()), float(np.abs(ours).max()), (GRAMMAR_UNTOLD,))
