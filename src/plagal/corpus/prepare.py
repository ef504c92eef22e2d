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
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from plagal.asking.prompt import read_prompt
from plagal.asking.wording import facts_of, held_out_prompt, training_prompt, with_words, words_of
from plagal.corpus.collect import read_pieces
from plagal.corpus.duplicates import SPLITS, Tunes, melodies_of, split_after, split_alone, split_counts
from plagal.corpus.formats import Origin, training_row, write_provenance
from plagal.corpus.reading import bar_count, level_loudness
from plagal.music.arranger.arrange import arrange
from plagal.music.edits import bar_edges, change_tempo, excerpt, shifts_that_fit, transpose
from plagal.music.grid import regular
from plagal.music.keys import key_of
from plagal.music.score import DURATION, ONSET, PITCH, Notes, Score
from plagal.plumbing.errors import CorpusError
from plagal.plumbing.files import atomic_path, write_json
from plagal.plumbing.params import ConvertSettings, TextSettings
from plagal.plumbing.workers import Workers

_LIVE_TICKS = (0.4, 0.8, 1.2)
"""How far from the beat a piece is played, as a standard deviation: at 100 quarters a minute a tick is 25 ms."""


def revoice(score: Score, rng: random.Random) -> Score:
    """Inner notes of chords moved by an octave (opened or closed, by phrases of two bars), melody and bass untouched.
    No note moves onto a key that is sounding, so the number of notes stays."""
    notes = score.notes.copy()
    lines = bar_edges(score)
    starts = np.searchsorted(notes[:, ONSET], lines)
    for first in range(0, len(lines) - 1, 2):
        last = min(first + 2, len(lines) - 1)
        step = rng.choice((-12, 0, 12))
        if step:
            _move_inner(notes, int(starts[first]), int(starts[last]), step)
    order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
    return replace(score, notes=notes[order])


def _move_inner(notes: Notes, start: int, stop: int, step: int) -> None:
    """Move one inner note of each chord in rows [start, stop): the highest down or the lowest up, where it fits."""
    begins = start + np.flatnonzero(np.diff(notes[start:stop, ONSET], prepend=-1))
    for first, end in pairwise([*begins.tolist(), stop]):
        if end - first >= 4:
            row = end - 2 if step < 0 else first + 1
            pitch = int(notes[row, PITCH]) + step
            if notes[first, PITCH] < pitch < _lowest_top(notes, row) and _is_free(notes, row, pitch):
                notes[row, PITCH] = pitch


def _lowest_top(notes: Notes, row: int) -> int:
    """The lowest of the tops of all chords struck while this note sounds: above it, it would be heard as the melody."""
    onset, end = notes[row, ONSET], notes[row, ONSET] + notes[row, DURATION]
    struck = notes[(notes[:, ONSET] >= onset) & (notes[:, ONSET] < end)]
    # Sorted by onset, then pitch: the last row of each onset is its top.
    tops = np.append(np.flatnonzero(np.diff(struck[:, ONSET])), len(struck) - 1)
    return int(struck[tops, PITCH].min())


def _is_free(notes: Notes, row: int, pitch: int) -> bool:
    onset, end = notes[row, ONSET], notes[row, ONSET] + notes[row, DURATION]
    same = notes[notes[:, PITCH] == pitch]
    return not bool(((same[:, ONSET] < end) & (same[:, ONSET] + same[:, DURATION] > onset)).any())


def play_live(score: Score, rng: random.Random) -> Score:
    """As hands play it: struck up to a tick or two before or after the beat, chords not quite together. Real files are
    often played in and not written; a model that knows only the grid finds each of their notes impossible."""
    notes = score.notes.copy()
    draw = np.random.default_rng(rng.getrandbits(64))
    spread = rng.choice(_LIVE_TICKS)
    _, groups = np.unique(notes[:, ONSET], return_inverse=True)
    together = draw.normal(0.0, spread, int(groups.max()) + 1)[groups]
    ends = notes[:, ONSET] + notes[:, DURATION] + np.rint(draw.normal(-spread, 2 * spread, len(notes))).astype(np.int32)
    struck = notes[:, ONSET] + np.rint(together + draw.normal(0.0, spread / 2, len(notes))).astype(np.int32)
    notes[:, ONSET] = np.clip(struck, 0, bar_edges(score)[-1] - 1)  # a late last note begins no bar of its own
    notes[:, DURATION] = np.maximum(1, ends - notes[:, ONSET])
    order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
    return regular(replace(score, notes=notes[order]))


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
    earlier = Tunes(melodies_of(row["metadata"]) for row in read_pieces(stage1))
    later = Tunes(melodies_of(row["metadata"]) for row in read_pieces(stage2))
    first = split_alone(earlier, *percents)
    return {"stage1": first, "stage2": split_after(later, earlier, first, *percents)}


def _write_stage(
    folder: Path, out: Path, splits: Sequence[str], settings: ConvertSettings, text: TextSettings, seed: int,
    pool: Workers,
) -> None:  # fmt: skip
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
    score: Score, metadata: dict[str, Any], chords: bool, rng: random.Random, held_out: bool = False
) -> dict[str, Any]:
    from plagal.tokens.codec import encode

    words = encode(score, chords=chords)
    facts = facts_of(words, metadata["genre"], metadata["style"])
    if held_out:  # as a model is given it: behind the prose, in words, what is read from it
        prose = held_out_prompt(facts, rng)
        heard = read_prompt(prose)
        said = {name for name in words_of(facts) if getattr(heard, name, None) is not None}
        said -= {"tempo"} if heard.tempo_named else set()  # "slow" names no tempo that could be this piece's own
        prompt = with_words(prose, [word for name, word in words_of(facts).items() if name in said])
    else:
        prompt = training_prompt(facts, rng)
    kept = {name: metadata[name] for name in KEPT_METADATA}
    kept |= {name: getattr(facts, name) for name in ("key", "metre", "tempo", "bars")} | {"notes": len(score.notes)}
    return training_row(prompt, words, kept | {"excerpt": metadata.get("excerpt", False)})
