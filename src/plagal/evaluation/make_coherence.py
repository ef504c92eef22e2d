"""Make `coherence.json` anew: `python -m plagal.evaluation.make_coherence data/stage1 data/stage2`.

The arguments are folders with collected pieces (stages `collect_stage1`, `collect_stage2`). Whole pieces are real ones
and, because hardly any freely usable two-handed gospel exists, some by the arranger; each is cut into windows and
damaged in every way. A quarter of the tunes is kept apart for calibration. Run this when FEATURES or damages change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from tqdm import tqdm

from plagal.evaluation.bars import bars_of, windows
from plagal.evaluation.coherence import WINDOW_LENGTHS, fit
from plagal.evaluation.damage import DAMAGES
from plagal.evaluation.features import features
from plagal.evaluation.ngram import NGram
from plagal.evaluation.ngram_pieces import head_of, write_with_ngram
from plagal.evaluation.subwords import END
from plagal.plumbing.files import read_jsonl, write_text
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import MUSIC_WORDS, WORD_OF

SEED = 11
MOST_REAL, MOST_ARRANGED = 600, 300
_LEAST_NOTES, _LEAST_BARS = 12, 4
NGRAM_ORDER = 4
NGRAM_PIECES = 200

Rows = list[tuple[str, str, int, npt.NDArray[np.float64]]]
"""(tune, kind, bars of the window, features)."""


def examples(tune: str, words: Sequence[str], seed: int) -> Rows:
    """Windows of a piece, whole and damaged."""
    rng = np.random.default_rng(seed)
    rows: Rows = []
    score = decode(words).score
    for length in WINDOW_LENGTHS:
        for some in windows(score, length, 2):
            if len(some.notes) < _LEAST_NOTES or len(bars_of(some)) < _LEAST_BARS:
                continue
            rows.append((tune, "real", length, features(some)))
            rows += [(tune, kind, length, features(damage(some, rng))) for kind, damage in DAMAGES.items()]
    return rows


def counted_examples(pieces: Sequence[tuple[str, list[str]]], seed: int) -> Rows:
    """Windows that an n-gram of these pieces writes, each under the name of the tune whose head it goes on from."""
    model = NGram([words for _, words in pieces], (*MUSIC_WORDS, END), NGRAM_ORDER)
    chosen = pieces[:NGRAM_PIECES]
    rows: Rows = []
    for length in WINDOW_LENGTHS:
        written = write_with_ngram(model, [head_of(words) for _, words in chosen], length, 150 * length, seed + length)
        for (tune, _), score in zip(chosen, written, strict=True):
            rows += [
                (tune, "ngram", length, features(some)) for some in windows(score, length, 1) if len(some.notes) > 1
            ]
    return rows


def read_pieces(folders: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """(tune, words): every real piece up to a bound, and some arranged ones; drawn by seed."""
    rows = [row for folder in folders for row in read_jsonl(folder / "pieces.jsonl")]
    order = np.random.default_rng(SEED).permutation(len(rows))
    found: list[tuple[str, list[str]]] = []
    left = {False: MOST_REAL, True: MOST_ARRANGED}
    for place in order:
        metadata = rows[place]["metadata"]
        synthetic = bool(metadata["synthetic"])
        if left[synthetic]:
            left[synthetic] -= 1
            found.append((str(metadata["tune_group"]), [WORD_OF[one] for one in rows[place]["tokens"]]))
    return found


def main(folders: Sequence[str]) -> None:
    pieces = read_pieces([Path(folder) for folder in folders])
    done = Parallel(n_jobs=-1)(
        delayed(examples)(tune, words, SEED + number) for number, (tune, words) in enumerate(tqdm(pieces))
    )
    rows = [row for some in done for row in some] + counted_examples(pieces, SEED)
    tunes = sorted({tune for tune, *_ in rows})
    apart = {tune for place, tune in enumerate(np.random.default_rng(SEED).permutation(tunes)) if place % 4 == 0}
    model = fit(
        np.stack([row for *_, row in rows]), [kind for _, kind, _, _ in rows], [bars for _, _, bars, _ in rows],
        np.array([tune in apart for tune, *_ in rows]), SEED,
    )  # fmt: skip
    stored: dict[str, Any] = model.to_json()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in stored.items())
    write_text(Path(__file__).with_name("coherence.json"), f"{{\n{lines}\n}}\n")
    for length, kinds in stored["calibration"].items():
        sys.stdout.writelines(f"{length:>2s} bars {kind:18s} {measured}\n" for kind, measured in kinds.items())


if __name__ == "__main__":
    main(sys.argv[1:])
