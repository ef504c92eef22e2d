"""Pieces as training text: split by tune, augmented for training only, each with a prompt that tells the truth.

Training rows: each piece `copies` times, transposed, at another tempo and voiced anew (one of the arranger's, with
`arrange_anew`, is another arrangement of its tune each time); and `excerpts` of 4, 8 or 16 bars cut at bar lines, so
that "8 bars" is learned from pieces that end after eight. Validation and test rows: each
piece once, as it is, asked for in wordings that training never sees. Every row's metadata says where it came from.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from plagal.asking.prompt import read_prompt
from plagal.asking.wording import Facts, facts_of, held_out_prompt, training_prompt, with_words, words_of
from plagal.corpus.augment import play_live, revoice, shifts_that_fit
from plagal.corpus.collect import read_pieces
from plagal.corpus.formats import text_row
from plagal.corpus.parallel import Workers
from plagal.corpus.provenance import Origin, write_provenance
from plagal.corpus.reading import bar_count, level_loudness
from plagal.corpus.split import SPLITS, melodies_of, split_after, split_alone, split_counts, tune_groups
from plagal.music.arranger.arrange import arrange
from plagal.music.edits import change_tempo, excerpt, transpose
from plagal.music.grid import regular
from plagal.music.keys import key_of
from plagal.music.score import Score
from plagal.plumbing.errors import CorpusError
from plagal.plumbing.files import atomic_path, write_json
from plagal.plumbing.params import ConvertSettings, TextSettings

KEPT_METADATA = ("id", "genre", "style", "domain", "synthetic", "tune", "tune_group", "licence", "path")


def prepare(
    stage1: Path, stage2: Path, out: Path, settings: ConvertSettings, seed: int, workers: Workers | None = None
) -> dict[str, dict[str, int]]:
    """Write `out`/stage1 and `out`/stage2, each with train.jsonl, valid.jsonl, test.jsonl, report.json and
    provenance.json, from the collected folders. Stage 1's files depend on stage 1's pieces alone. Returns pieces by
    stage and split. Raises CorpusError where a split that training needs is empty."""
    splits = splits_of(stage1, stage2, settings)
    with workers or Workers() as pool:
        for folder, text, name in ((stage1, settings.stage1, "stage1"), (stage2, settings.stage2, "stage2")):
            _write_stage(folder, out / name, splits[name], settings, text, seed, pool)
    return {name: split_counts(found) for name, found in splits.items()}


def splits_of(stage1: Path, stage2: Path, settings: ConvertSettings) -> dict[str, list[str]]:
    """Stage -> the split of each of its collected pieces."""
    percents = (settings.split.valid_percent, settings.split.test_percent)
    earlier = tune_groups(melodies_of(row["metadata"]) for row in read_pieces(stage1))
    later = tune_groups(melodies_of(row["metadata"]) for row in read_pieces(stage2))
    first = split_alone(earlier, *percents)
    return {"stage1": first, "stage2": split_after(later, earlier, first, *percents)}


def _write_stage(
    folder: Path,
    out: Path,
    splits: Sequence[str],
    settings: ConvertSettings,
    text: TextSettings,
    seed: int,
    pool: Workers,
) -> None:
    counts = split_counts(splits)
    if not counts["train"] or not counts["valid"]:
        raise CorpusError(
            f"{folder}: {counts['train']} pieces to train on and {counts['valid']} to validate; both must be there: "
            "collect more tunes, or raise convert.split.valid_percent in params.yaml"
        )
    wanted = [split for split in splits if split in SPLITS]
    origins: Counter[Origin] = Counter()
    chosen = _chosen(folder, splits, origins)
    calls = ((row, split, settings.chords, text, seed) for row, split in chosen)
    rows: Counter[str] = Counter()
    tunes: dict[str, set[str]] = {split: set() for split in SPLITS}
    with atomic_path(out) as temporary, ExitStack() as stack:
        temporary.mkdir()
        files = {s: stack.enter_context((temporary / f"{s}.jsonl").open("w", encoding="utf-8")) for s in SPLITS}
        results = pool.map(rows_of, calls, len(wanted), f"text {folder.name}")
        for split, (group, lines) in zip(wanted, results, strict=True):
            files[split].writelines(lines)
            rows[split] += len(lines)
            tunes[split].add(group)
        counted = {"pieces": counts, "rows": {split: rows[split] for split in SPLITS}}
        write_json(temporary / "report.json", counted | {"tunes": {name: len(found) for name, found in tunes.items()}})
        write_provenance(temporary, origins)


def _chosen(folder: Path, splits: Sequence[str], origins: Counter[Origin]) -> Iterator[tuple[dict[str, Any], str]]:
    """The pieces that are in a split, with it; counts where those to train on come from."""
    for row, split in zip(read_pieces(folder), splits, strict=True):
        if split == "train":
            origins[Origin.of(row["metadata"])] += 1
        if split in SPLITS:
            yield row, split


def rows_of(row: dict[str, Any], split: str, chords: bool, text: TextSettings, seed: int) -> tuple[str, list[str]]:
    """The tune group of one piece and its text rows as lines of JSON. The same for the same piece, settings and seed,
    whatever else is in the corpus."""
    rows = _text_rows(row, split, chords, text, seed)
    lines = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) + "\n" for each in rows]
    return row["metadata"]["tune_group"], lines


def _text_rows(row: dict[str, Any], split: str, chords: bool, text: TextSettings, seed: int) -> list[dict[str, Any]]:
    from plagal.tokens.codec import decode
    from plagal.tokens.vocabulary import WORD_OF

    metadata = row["metadata"]
    score = decode([WORD_OF[number] for number in row["tokens"]]).score
    rng = random.Random(f"{seed}:{metadata['id']}")
    if split != "train":
        return [_text(score, metadata, chords, rng, held_out=True)]
    rows = []
    for copy in range(text.copies):
        piece = score if copy == 0 and text.keep_original else _played(_varied(score, metadata, text, rng), text, rng)
        rows.append(_text(piece, metadata, chords, rng))
    for _ in range(text.excerpts):
        if (cut := _excerpt(_varied(score, metadata, text, rng), text, rng)) is not None:
            # Cut first: where hands play before the beat, a bar line would cut off a quarter of the first downbeat.
            rows.append(_text(_played(cut, text, rng), metadata | {"excerpt": True}, chords, rng))
    return rows


def _varied(score: Score, metadata: dict[str, Any], text: TextSettings, rng: random.Random) -> Score:
    if not (text.arrange_anew and metadata["synthetic"] and metadata["tune"]):
        return _augmented(score, text, rng)
    # 7,000 arrangements of the training tunes taught as many tokens' worth of steps 2.59 nats a note where 373 pieces,
    # transposed again and again, taught 4.67.
    key = key_of(rng.randrange(12), minor=metadata["key"].endswith("minor"))
    return level_loudness(regular(arrange(metadata["tune"], metadata["style"], key, seed=rng.getrandbits(31))))


def _augmented(score: Score, text: TextSettings, rng: random.Random) -> Score:
    shift = rng.choice(shifts_that_fit(score, text.transpose_semitones))
    factor = 1 + rng.uniform(-text.tempo_percent, text.tempo_percent) / 100
    score = change_tempo(transpose(score, shift), factor)
    return revoice(score, rng) if rng.random() < text.revoice_share else score


def _played(score: Score, text: TextSettings, rng: random.Random) -> Score:
    return play_live(score, rng) if rng.random() < text.live_share else score


def _excerpt(score: Score, text: TextSettings, rng: random.Random) -> Score | None:
    bars = bar_count(score)
    lengths = [length for length in text.excerpt_bars if length < bars]
    if not lengths:
        return None
    length = rng.choice(lengths)
    cut = excerpt(score, rng.randrange(bars - length + 1), length)
    return cut if len(cut.notes) and bar_count(cut) == length else None


def _text(
    score: Score,
    metadata: dict[str, Any],
    chords: bool,
    rng: random.Random,
    held_out: bool = False,
) -> dict[str, Any]:
    from plagal.tokens.codec import encode

    words = encode(score, chords=chords)
    facts = facts_of(words, metadata["genre"], metadata["style"])
    prompt = _asked(held_out_prompt(facts, rng), facts) if held_out else training_prompt(facts, rng)
    kept = {name: metadata[name] for name in KEPT_METADATA}
    kept |= {
        "key": facts.key,
        "metre": facts.metre,
        "tempo": facts.tempo,
        "bars": facts.bars,
        "notes": len(score.notes),
    }
    return text_row(prompt, " ".join(words), kept | {"excerpt": metadata.get("excerpt", False)})


def _asked(prose: str, facts: Facts) -> str:
    """A prompt as a model is given it: behind it, in words, what is read from it."""
    heard = read_prompt(prose)
    said = {name for name in words_of(facts) if getattr(heard, name, None) is not None}
    said -= {"tempo"} if heard.tempo_named else set()  # "slow" names no tempo that could be this piece's own
    return with_words(prose, [word for name, word in words_of(facts).items() if name in said])
