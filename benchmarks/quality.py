"""The model compared with the arranger and the n-gram: nats a note on held-out gospel, coherence, and what
people preferred.

    python benchmarks/quality.py [--json] [--models models] [--data data] [--pieces 40] [--ratings out/ratings.jsonl]

- nats_per_note: the fused model's on held-out gospel (synthetic where there is no real one), against the best n-gram
  over orders and training sets on the same pieces; the brackets are the ratio's 95 % interval by tune.
- coherence_*: a program's score from 0 to 10 (docs/evaluation.md) of as many pieces from each, of the same bars: the
  model asked as in `evaluate`, the arranger in the same styles, the n-gram under the grammar, and held-out music.
- preferred_to_arranger: the share of blind pairs in which people chose the model (a tie is half); null until somebody
  has listened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plagal.evaluation.coherence import shipped
from plagal.evaluation.likelihood import compare, floors, load_texts, make_scorer, score_model, summarise
from plagal.evaluation.ngram import head_of, write_with_ngram
from plagal.evaluation.report import read_ratings
from plagal.evaluation.run import excerpts
from plagal.evaluation.samples import asked_for, write_samples
from plagal.model.adapters import load_stage, trained_window
from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.score import Score
from plagal.plumbing.params import load_params
from shared.places import ROOT
from shared.rows import Row, finish, parser, row

MODEL, ARRANGER = "model", "arranger"


def preferred(path: Path) -> float | None:
    """Share of the blind pairs of model and arranger in which the model was chosen."""
    won = []
    for said in read_ratings(path):
        if said["kind"] == "ab" and {said["a"], said["b"]} == {MODEL, ARRANGER}:
            won.append(0.5 if said["choice"] == "tie" else float(said[said["choice"]] == MODEL))
    return sum(won) / len(won) if won else None


def coherences(scores: Sequence[Score]) -> list[float]:
    """A piece without music scores 0."""
    ear = shipped()
    return [ear.score(score) or 0.0 for score in scores]


def measure(models: Path, data: Path, most: int, ratings: Path) -> Iterator[Row]:
    params = load_params(ROOT / "params.yaml")
    settings, seed = params.evaluate, params.seed
    texts = load_texts(data / "text", most, seed)
    pieces, scorer, fused = texts.gospel, make_scorer(), load_stage(models, "fused")
    scored = score_model(fused, pieces, scorer, trained_window(models / "fused"), progress=True)
    floor, ngrams, _ = floors(texts, {"gospel": pieces}, scorer, settings.ngram_orders)
    mine, theirs, found = (
        summarise(scored, seed),
        summarise(floor["gospel"], seed),
        compare(scored, floor["gospel"], seed),
    )
    assert mine is not None
    assert theirs is not None
    assert found is not None
    unit = f"nats/note, {mine.tunes} tunes, {mine.pieces} pieces; 95 % by tune"
    told = row("nats_per_note", mine.nats_per_note, theirs.nats_per_note, unit, against="n-gram", at_most=0.9)
    yield told | {"spread": found[1] and [round(end, 4) for end in found[1]]}

    asked = [asked_for(pieces[n % len(pieces)], settings.bars, seed, n) for n in range(most)]
    written = [sample.read_back for sample in write_samples(fused, asked, settings, seed)]
    styles = [one.style if one.style in STYLES else list(STYLES)[n % len(STYLES)] for n, one in enumerate(asked)]
    arranged = [arrange(None, style, seed=70_000 + n, bars=settings.bars) for n, style in enumerate(styles)]
    heads = [head_of(piece.words) for piece in pieces[:most]]
    by_ngram = write_with_ngram(ngrams["gospel"], heads, settings.bars, 150 * settings.bars, seed)
    mean = float(np.mean(coherences(written)))
    unit = f"of 10, {len(written)} pieces of {settings.bars} bars"
    for name, others in ((ARRANGER, arranged), ("n-gram", by_ngram), ("held-out", excerpts(pieces, settings.bars))):
        what = f"coherence_vs_{name.replace('-', '')}"
        yield row(what, mean, float(np.mean(coherences(others))), unit, against=name,
                  at_least=7.0 if name == ARRANGER else None, judge="ours")  # fmt: skip
    liked = preferred(ratings)
    yield row("preferred_to_arranger", [] if liked is None else liked, unit="share of blind pairs")


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--models", type=Path, default=ROOT / "models")
    wishes.add_argument("--data", type=Path, default=ROOT / "data")
    wishes.add_argument("--pieces", type=int, default=40)
    wishes.add_argument("--ratings", type=Path, default=ROOT / "out" / "ratings.jsonl")
    options = wishes.parse_args()
    finish("quality", measure(options.models, options.data, options.pieces, options.ratings), options.json)


if __name__ == "__main__":
    main()
