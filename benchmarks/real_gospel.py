"""How well the pipeline's models predict real gospel that none has seen, compared with the n-gram of the same run.

    python benchmarks/real_gospel.py [FOLDER] [--json] [--pieces N] [--data data] [--models models]

FOLDER holds MIDI (folders in it too); without one, the Open Hymnal where it stands (PLAGAL_OPENHYMNAL, or
../shared/corpus/openhymnal). A piece whose tune is also in the models' training data, told by ear as the split tells
it, is left out and counted. Nats per note, all words of a piece counted; ratios with 95 % intervals, drawn by tune.
Stage 2 against stage 1 says what gospel training gave; against the n-gram (the best over orders and training sets on
these very pieces), whether the network is worth more than counting.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from plagal.asking.wording import facts_of, held_out_prompt
from plagal.corpus.collect import read_pieces
from plagal.corpus.duplicates import Melodies, Tunes, melodies_of
from plagal.corpus.reading import Discard, Limits, read_candidate
from plagal.corpus.sources import FolderSource, folder_candidates
from plagal.evaluation.likelihood import (
    PieceLikelihood,
    TextPiece,
    Texts,
    choose,
    compare,
    floors,
    make_scorer,
    read_texts,
    score_model,
    summarise,
)
from plagal.model.adapters import load_stage, trained_window
from plagal.plumbing.errors import InputError
from plagal.plumbing.params import Params, load_params
from plagal.tokens.vocabulary import TRAINING_TEMPLATE, WORD_OF
from shared.places import HYMNAL, ROOT
from shared.rows import Row, finish, parser, row

STYLE = "traditional_gospel"
TARGET = 0.90
LEAST_TUNES = 20


def read_folder(folder: Path, params: Params) -> tuple[list[TextPiece], list[Melodies], int]:
    """Pieces as held-out texts, read as the collecting stage reads a user's folder; the melodies heard in them; and how
    many files it would discard."""
    settings = params.collect_stage2
    limits = Limits(settings.min_notes, settings.max_notes, settings.min_bars, settings.max_bars)
    source = FolderSource(
        kind="folder",
        name="real gospel",
        path=str(folder),
        genre=STYLE,
        style=STYLE,
        licence="as the folder says",
        attribution="the folder",
    )
    pieces, melodies, unusable = [], [], 0
    for candidate in tqdm(list(folder_candidates(source, folder)), desc="read"):
        read = read_candidate(candidate, limits)
        if isinstance(read, Discard):
            unusable += 1
            continue
        words, metadata = [WORD_OF[number] for number in read.row["tokens"]], read.row["metadata"]
        prompt = held_out_prompt(facts_of(words, STYLE, STYLE), random.Random(f"{params.seed}:{metadata['id']}"))
        text = TRAINING_TEMPLATE.format(prompt=prompt, words=" ".join(words))
        pieces.append(TextPiece(text, metadata))
        melodies.append(melodies_of(metadata))
    return pieces, melodies, unusable


def unseen(
    pieces: Sequence[TextPiece], melodies: Sequence[Melodies], data: Path, trained_on: set[str]
) -> list[TextPiece]:
    """The pieces whose tune no piece of training has; each named by its tune."""
    rows = [row["metadata"] for stage in ("stage1", "stage2") for row in read_pieces(data / stage)]
    known = [melodies_of(metadata) for metadata in rows if str(metadata["id"]) in trained_on]
    labels = Tunes([*known, *melodies]).label
    taken = set(labels[: len(known)])
    return [
        TextPiece(piece.text, {**piece.metadata, "tune_group": str(label)})
        for piece, label in zip(pieces, labels[len(known) :], strict=True)
        if label not in taken
    ]


def compared(what: str, ours: list[PieceLikelihood], peer: list[PieceLikelihood], against: str, seed: int) -> Row:
    """Its spread is the ratio's 95 % interval by tune, not one over repetitions: there is nothing random to repeat."""
    mine, other, found = summarise(ours, seed), summarise(peer, seed), compare(ours, peer, seed)
    assert mine is not None
    assert other is not None
    assert found is not None
    ratio, interval = found
    told = row(what, mine.nats_per_note, other.nats_per_note, "nats/note; 95 % by tune", against=against,
               at_most=TARGET)  # fmt: skip
    told |= {"ratio": round(ratio, 4), "spread": interval and [round(end, 4) for end in interval]}
    return told | {"ok": ratio <= TARGET and mine.tunes >= LEAST_TUNES}


def measure(folder: Path, data: Path, models: Path, most: int) -> Iterator[Row]:
    params = load_params(ROOT / "params.yaml")
    seed = params.seed
    found, melodies, unusable = read_folder(folder, params)
    train = [read_texts(data / "text" / stage / "train.jsonl") for stage in ("stage1", "stage2")]
    fresh = unseen(found, melodies, data, {str(piece.metadata["id"]) for texts in train for piece in texts})
    pieces = choose(fresh, most, seed)
    if not pieces:
        raise InputError(f"{folder} holds no piece whose tune is not in the training data; name another folder")
    scorer, window = make_scorer(), trained_window(models / "fused")
    scored = {
        name: score_model(load_stage(models, name), pieces, scorer, window, progress=True)
        for name in ("stage1", "stage2")
    }
    floor, ngrams, _ = floors(Texts(train[0], train[1], {}), {"real": pieces}, scorer, params.evaluate.ngram_orders)
    sys.stderr.write(f"n-gram: order {ngrams['real'].order}\n")
    by_facet = summarise(scored["stage2"], seed)
    assert by_facet is not None
    shown = ", ".join(f"{facet} {nats:.2f}" for facet, nats in by_facet.nats_split.items())
    sys.stderr.write(f"stage 2's nats per note: {shown}\n")
    yield compared("stage2_vs_ngram", scored["stage2"], floor["real"], "n-gram", seed)
    yield compared("stage2_vs_stage1", scored["stage2"], scored["stage1"], "stage 1", seed)
    yield row("tunes", len({piece.tune for piece in pieces}), unit="tunes", at_least=LEAST_TUNES)
    yield row("left_out_tune_in_training", len(found) - len(fresh), unit="pieces")
    yield row("left_out_unusable", unusable, unit="pieces")


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("folder", type=Path, nargs="?", default=HYMNAL)
    wishes.add_argument("--pieces", type=int, default=100, help="at most so many, spread over tunes")
    wishes.add_argument("--data", type=Path, default=ROOT / "data")
    wishes.add_argument("--models", type=Path, default=ROOT / "models")
    options = wishes.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"{options.folder} is not a folder: name one with real gospel as MIDI, or set PLAGAL_OPENHYMNAL")
    finish("real_gospel", measure(options.folder, options.data, options.models, options.pieces), options.json)


if __name__ == "__main__":
    main()
