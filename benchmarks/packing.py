"""How much of a training step is padding, on the pipeline's own texts.

    python benchmarks/packing.py [--text data/text] [--json]

Packing several windows into one row saves the padding, and costs Metal's attention its causal path: a mask that keeps
windows apart is an array, for which the backward pass builds the whole score matrix. So windows are sorted by length
within a pool of batches and padded at their ends to a multiple of 32 tokens. Rows: the share of real tokens among those
computed, as the trainer deals them out, for the default (2 x 512) and for a Mac's window (1 x 832); the peer is what it
would be unsorted. What is missing to 1 is all that packing could gain.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plagal.model.base import load, make_embedded
from plagal.model.loss import Window, collate, make_windows, plan_epoch
from plagal.plumbing.files import read_jsonl
from plagal.plumbing.params import EmbeddedShape
from shared.rows import Row, finish, parser, row

SETTINGS = ((2, 512), (1, 832))


def real_share(windows: Sequence[Window], batches: Sequence[Sequence[int]]) -> float:
    real = computed = 0
    for batch in batches:
        chosen = [windows[i] for i in batch]
        made = collate(chosen, 0)
        assert made is not None
        real += sum(len(window.ids) - 1 for window in chosen)
        computed += made.ids[:, 1:].size
    return real / computed


def measure(text: Path) -> Iterator[Row]:
    shape = EmbeddedShape(hidden_size=8, layers=1, heads=1, kv_heads=1, intermediate_size=8)
    with tempfile.TemporaryDirectory() as scratch:
        lm = load(make_embedded(Path(scratch) / "base", shape, 1))
        texts = [row["text"] for stage in ("stage1", "stage2") for row in read_jsonl(text / stage / "train.jsonl")]
        for batch, length in SETTINGS:
            windows = make_windows(lm, texts, length)
            order = np.random.default_rng(0).permutation(len(windows)).tolist()
            unsorted = [order[i : i + batch] for i in range(0, len(order), batch)]
            yield row(f"real_tokens_{batch}x{length}", real_share(windows, plan_epoch(windows, batch, 0, 0)),
                      real_share(windows, unsorted), f"share of tokens, {len(windows)} windows", against="unsorted",
                      at_least=0.9, judge="ours")  # fmt: skip


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--text", type=Path, default=Path("data/text"))
    options = wishes.parse_args()
    finish("packing", measure(options.text), options.json)


if __name__ == "__main__":
    main()
