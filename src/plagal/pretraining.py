"""The embedded base's own pipeline (pretrain/dvc.yaml): `python -m plagal.pretraining gather`, `words`, `pretrain`.

What it makes is committed as base/, and the seven stages begin there: a base that has heard music, as a large model
has, and not one that learns its first chord from a few hundred pieces. Nothing that the seven stages validate or test
on is in what it hears, and no piece that shares a tune with the folders in `held_out`: told by ear, counted in
heard.json. The tune book's own tunes are heard though a hymnal held out may have them, too: stage 2 learns them
anyway, and benchmarks/real_gospel.py leaves them out of what it asks.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from plagal.asking.wording import facts_of, training_prompt
from plagal.corpus.collect import collect, read_pieces
from plagal.corpus.duplicates import Melodies, Tunes, heard_melody, intervals, melodies_of, melody_text
from plagal.corpus.formats import training_row
from plagal.corpus.prepare import rows_of, splits_of
from plagal.corpus.reading import bar_count, book_melodies, level_loudness
from plagal.corpus.sources import MIDI_SUFFIXES
from plagal.music.arranger.arrange import arrange
from plagal.music.grid import regular
from plagal.music.harmony import hear_chords, is_one_voice
from plagal.music.keys import key_of
from plagal.music.load import load
from plagal.music.score import Marker, Score
from plagal.plumbing import errors
from plagal.plumbing.errors import InputError, PlagalError
from plagal.plumbing.files import atomic_path, parse_yaml, read_json, read_jsonl, write_json, write_text
from plagal.plumbing.params import (
    CollectSettings,
    ConvertSettings,
    Count,
    EmbeddedShape,
    Positive,
    Settings,
    Share,
    TextSettings,
    TrainSettings,
    load_params,
)
from plagal.plumbing.workers import Workers

FOLDER = Path("pretrain")
DATA = FOLDER / "data"
BASE = Path("base")
CHECKPOINTS = Path(".checkpoints") / "pretrain"


class ArrangedSettings(Settings):
    pieces: Positive
    styles: dict[str, Positive]
    """Style -> its share of them."""
    book_share: Share
    """Of arrangements on tunes of the book; the rest are on melodies among what was gathered."""
    short_share: Share
    """Of arrangements asked for in so many bars, with a beginning and an end of their own."""
    short_bars: tuple[Positive, ...] = Field(min_length=1, strict=False)
    melody_styles: tuple[str, ...] = Field(min_length=1, strict=False)


class PretrainParams(Settings):
    seed: Count
    begin_with: Literal["random", "base"]
    """Random weights, or ../base: another round, on arrangements of another seed."""
    held_out: tuple[str, ...] = Field(strict=False)
    """Folders whose tunes must not be heard; one that is not there is said."""
    gather: CollectSettings
    words: TextSettings
    arranged: ArrangedSettings
    model: EmbeddedShape
    train: TrainSettings


def gather(params: PretrainParams) -> None:
    """Collect what can be read: sources.yaml's."""
    collect("pretrain", params.gather, DATA / "gathered", params.seed)


def words(params: PretrainParams) -> None:
    """Leave out what is held out, and write the rest and new arrangements as training text."""
    convert = load_params().convert
    of_stages, of_folders, counts = _held_out(params, convert)
    held = [*of_stages, *of_folders]
    gathered = list(read_pieces(DATA / "gathered"))
    tunes = Tunes([*held, *(melodies_of(row["metadata"]) for row in gathered)])
    forbidden = set(tunes.label[: len(held)])
    kept = [row for row, label in zip(gathered, tunes.label[len(held) :], strict=True) if label not in forbidden]
    book = _book_tunes(of_stages)
    counts |= {
        "gathered": len(gathered),
        "gathered_left_out_by_ear": len(gathered) - len(kept),
        "book_tunes": len(book),
    }
    wanted = params.arranged
    melodies = [row for row in kept if row["metadata"]["style"] in wanted.melody_styles]
    with atomic_path(DATA / "text") as temporary, Workers() as pool:
        temporary.mkdir()
        with (temporary / "train.jsonl").open("w", encoding="utf-8") as out:
            calls = ((row, "train", convert.chords, params.words, params.seed) for row in kept)
            for _, lines in pool.map(rows_of, calls, len(kept), "gathered"):
                out.writelines(lines)
                counts["rows_of_gathered"] = counts.get("rows_of_gathered", 0) + len(lines)
            asked = list(_arrangements(wanted, book, melodies, params.seed))
            made: Counter[str] = Counter()
            for style, line in pool.map(partial(_arranged_line, wanted, convert.chords), asked, len(asked), "arranged"):
                made[style if line else "could not be arranged"] += 1
                out.write(line)
        counts["arranged"] = dict(sorted(made.items()))
        write_json(temporary / "heard.json", counts | {"sources": _sources_of(kept)})


def _held_out(
    params: PretrainParams, convert: ConvertSettings
) -> tuple[list[Melodies], list[Melodies], dict[str, Any]]:
    """Melodies of the pieces that the seven stages validate or test on, and of the folders in `held_out`; counts."""
    held: list[Melodies] = []
    for name, splits in splits_of(Path("data/stage1"), Path("data/stage2"), convert).items():
        rows = zip(read_pieces(Path("data") / name), splits, strict=True)
        held += [melodies_of(row["metadata"]) for row, split in rows if split != "train"]
    counts: dict[str, Any] = {"held_out_pieces_of_the_stages": len(held), "held_out_folders": {}}
    folders: list[Melodies] = []
    for folder in map(Path, params.held_out):
        walk = os.walk(folder, followlinks=True)
        files = sorted(Path(root, name) for root, _, names in walk for name in names if name.endswith(MIDI_SUFFIXES))
        melodies = [text for file in files if (text := _melody_in(file))]
        folders += [Melodies("", text, text, synthetic=False) for text in melodies]
        counts["held_out_folders"][folder.name] = len(melodies)
        if not melodies:
            sys.stderr.write(f"{folder} holds no music: nothing is held out for it\n")
    return held, folders, counts


def _melody_in(file: Path) -> str:
    try:
        return melody_text(intervals(heard_melody(load(file))))
    except PlagalError:
        return ""


def _book_tunes(held: list[Melodies]) -> list[str]:
    """The book's tunes that are not held out, under their own name or by ear."""
    melodies = book_melodies()
    named = {piece.tune for piece in held}
    mine = [Melodies(name, melody, melody, synthetic=False) for name, melody in sorted(melodies.items())]
    # By ear, a held-out piece must not carry the book's name: two names are two tunes.
    by_ear = Tunes([*(replace(piece, tune="") for piece in held if not piece.synthetic), *mine])
    border = len(by_ear.label) - len(mine)
    forbidden = set(by_ear.label[:border])
    labels = by_ear.label[border:]
    return [tune.tune for tune, label in zip(mine, labels, strict=True)
            if label not in forbidden and tune.tune not in named]  # fmt: skip


def _sources_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the card: source, licence, who made it, pieces."""
    names = ("source", "licence", "attribution")
    found = Counter(tuple(row["metadata"][name] for name in names) for row in rows)
    return [dict(zip(names, key, strict=True)) | {"pieces": count} for key, count in sorted(found.items())]


Call = tuple[str, str | list[int], str, int]
"""Name of the tune, the tune or a gathered piece's words, style, seed."""


def _arrangements(
    wanted: ArrangedSettings, book: list[str], melodies: list[dict[str, Any]], seed: int
) -> Iterator[Call]:
    rng = random.Random(f"{seed}:arranged")
    styles, weights = list(wanted.styles), list(wanted.styles.values())
    for _ in range(wanted.pieces):
        style, draw = rng.choices(styles, weights)[0], rng.getrandbits(31)
        if not melodies or rng.random() < wanted.book_share:
            name = rng.choice(book)
            yield name, name, style, draw
        else:
            row = rng.choice(melodies)
            yield row["metadata"]["id"], row["tokens"], style, draw


def _arranged_line(
    wanted: ArrangedSettings, chords: bool, name: str, source: str | list[int], style: str, seed: int
) -> tuple[str, str]:
    """Style, and the row of text as a line of JSON; an empty line where the tune cannot be arranged."""
    from plagal.tokens.codec import encode

    rng = random.Random(seed)
    bars = rng.choice(wanted.short_bars) if rng.random() < wanted.short_share else None
    try:
        tune = source if isinstance(source, str) else _tune_of(source)
        minor = (tune.keys[0].minor if tune.keys else False) if isinstance(tune, Score) else False
        key = key_of(rng.randrange(12), minor)
        score = level_loudness(regular(arrange(tune, style, key, seed=rng.getrandbits(31), bars=bars)))
    except PlagalError:
        return style, ""
    pieces = encode(score, chords=chords)
    genre = {"hymnal": "traditional_gospel", "shout": "gospel", "quartet": "gospel"}.get(style, style)
    prompt = training_prompt(facts_of(pieces, genre, style), rng)
    row = training_row(prompt, pieces, {"tune": name, "style": style, "bars": bar_count(score)})
    return style, json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _tune_of(ids: list[int]) -> Score:
    """A gathered piece as a tune: with the chords that are heard in it where it has more than one voice."""
    from plagal.tokens.codec import decode
    from plagal.tokens.vocabulary import WORD_OF

    score = decode([WORD_OF[number] for number in ids]).score
    markers = tuple(marker for marker in score.markers if marker.kind not in ("chord", "repeat"))
    if not is_one_voice(score):
        markers += tuple(Marker(onset, "chord", chord.symbol) for onset, chord in hear_chords(score))
    return replace(score, markers=tuple(sorted(markers, key=lambda marker: marker.onset)))


def pretrain(params: PretrainParams) -> None:
    """Train on that text, from random weights or in a further round of base/, and write the best model to base/ in half
    precision."""
    from plagal.model.base import load as load_model
    from plagal.model.base import make_embedded
    from plagal.model.trainer import train

    further = params.begin_with == "base"
    lm = load_model(BASE if further else make_embedded(DATA / "random", params.model, params.seed))
    texts = [row["text"] for row in read_jsonl(DATA / "text" / "train.jsonl")]
    held = [read_jsonl(Path("data/text") / stage / "valid.jsonl") for stage in ("stage1", "stage2")]
    valid = [row["text"] for rows in held for row in list(rows)[::3]]  # it only picks the best checkpoint
    log = Path("logs") / "pretrain.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    report = train(lm, texts, valid, params.train, CHECKPOINTS, DATA / "model", seed=params.seed, log_path=log)
    publish(report.tokens, further)


def publish(tokens: int, further: bool) -> None:
    """base/: the weights in half precision, the tokenizer, and what it heard in this round and, where it is a `further`
    one, in those before."""
    from plagal.model.base import write_half

    heard = read_json(DATA / "text" / "heard.json") | {"tokens_trained_on": tokens}
    if further:
        heard["rounds_before"] = [*(before := read_json(BASE / "heard.json")).pop("rounds_before", []), before]
    with atomic_path(BASE) as temporary:
        parameters = write_half(DATA / "model", temporary)
        write_json(temporary / "heard.json", heard)
        write_text(temporary / "README.md", _card(heard, parameters))


def _card(heard: dict[str, Any], parameters: int) -> str:
    rounds = [*heard.get("rounds_before", []), heard]
    said = f" in {len(rounds)} rounds" if len(rounds) > 1 else ""
    tokens = sum(each["tokens_trained_on"] for each in rounds)
    arranged = sum(count for each in rounds for style, count in each["arranged"].items()
                   if style != "could not be arranged")  # fmt: skip
    # A round hears the pieces of the one before again; where its sources grew or shrank, the card has the larger count.
    most: dict[tuple[str, ...], int] = {}
    for row in (row for each in rounds for row in each["sources"]):
        key = (row["source"], row["licence"], row["attribution"])
        most[key] = max(most.get(key, 0), row["pieces"])
    rows = [f"| {source} | {pieces} | {licence} | {by} |" for (source, licence, by), pieces in sorted(most.items())]
    left_out, tested_on = heard["gathered_left_out_by_ear"], heard["held_out_pieces_of_the_stages"]
    held = ", ".join(f"{count} of {name}" for name, count in heard["held_out_folders"].items()) or "no folder"
    return f"""# Plagal's base

A Qwen2-shaped model of {parameters:,} parameters that has heard music as Plagal's words, one event a word:
{tokens:,} tokens{said}, {tokens / parameters:.1f} a parameter.
`make repro` begins here; stock `mlx_lm` loads it. Made by `pretrain/dvc.yaml` (`cd pretrain && dvc repro`).

## What it heard

{sum(most.values())} pieces of the sources below, transposed; {arranged:,} arrangements
by Plagal's own arranger (MIT), on {heard["book_tunes"]} public-domain tunes and on melodies among those pieces.

| source | pieces | licence | by |
|---|---:|---|---|
{chr(10).join(rows)}

## What it did not hear

{left_out} pieces of these sources were left out because they share a tune, told by ear, with
what the stages validate or test on ({tested_on} pieces) or with the held-out folders ({held}).
The public-domain tunes of Plagal's own book are heard, though a hymnal that is held out may have them, too.
"""


STAGES = {stage.__name__: stage for stage in (gather, words, pretrain)}


def run(name: str) -> None:
    """Run one stage. Raises InputError for a name that is none's."""
    if name not in STAGES:
        raise InputError(f"{name!r} is not a stage of the base; the three are {', '.join(STAGES)}")
    path = FOLDER / "params.yaml"
    STAGES[name](PretrainParams.model_validate(parse_yaml(path.read_text(encoding="utf-8"), str(path), InputError)))


if __name__ == "__main__":
    wanted = " ".join(sys.argv[1:])
    sys.exit(errors.run(lambda: run(wanted), "plagal.pretraining"))
