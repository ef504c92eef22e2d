"""The texts of the stage `convert`: training pieces, and the held-out ones that every model is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plagal.evaluation.subwords import END
from plagal.music.score import Score
from plagal.plumbing.errors import RecordError
from plagal.plumbing.files import read_jsonl
from plagal.tokens.codec import decode

_FIRST = "SONG_START"


@dataclass(frozen=True)
class Piece:
    """One text: a prompt's frame, words, the end mark."""

    text: str
    metadata: dict[str, Any]

    @cached_property
    def words(self) -> tuple[str, ...]:
        begin, end = self.text.find(_FIRST), self.text.rfind(END)
        if begin < 0 or end < begin:
            raise RecordError(f"text {self.text[:40]!r} holds no whole piece; run the stage convert again")
        return tuple(self.text[begin:end].split())

    @cached_property
    def score(self) -> Score:
        return decode(self.words).score

    @property
    def tune(self) -> str:
        """Settings of one tune share it."""
        return str(self.metadata.get("tune_group") or self.metadata.get("tune") or self.metadata["id"])

    @property
    def synthetic(self) -> bool:
        return bool(self.metadata.get("synthetic"))

    @property
    def style(self) -> str:
        return str(self.metadata.get("style") or self.metadata.get("genre") or "")

    @property
    def genre(self) -> str:
        return str(self.metadata.get("genre") or "")


def read_texts(path: Path) -> list[Piece]:
    """Raises InputError and RecordError that name file and line."""
    pieces = []
    for number, row in enumerate(read_jsonl(path), 1):
        if not isinstance(row.get("text"), str) or not isinstance(row.get("metadata"), dict):
            raise RecordError(f"{path}:{number} has no text and metadata; run the stage convert again")
        pieces.append(Piece(row["text"], row["metadata"]))
    return pieces


def first_copies(pieces: Iterable[Piece]) -> list[Piece]:
    """Without the augmented copies: the first of each piece."""
    found: dict[str, Piece] = {}
    for piece in pieces:
        found.setdefault(str(piece.metadata.get("id", len(found))), piece)
    return list(found.values())


def choose(pieces: Sequence[Piece], most: int, seed: int) -> list[Piece]:
    """At most `most` of them, drawn by seed, from as many tunes as possible: one of each tune, then a second, ..."""
    order = np.random.default_rng(seed).permutation(len(pieces))
    drawn: dict[str, int] = {}
    rounds: list[tuple[int, int, int]] = []
    for place in order:
        tune = pieces[place].tune
        rounds.append((drawn.get(tune, 0), len(rounds), int(place)))
        drawn[tune] = drawn.get(tune, 0) + 1
    return [pieces[place] for place in sorted(place for _, _, place in sorted(rounds)[:most])]


@dataclass(frozen=True)
class Texts:
    """All that an evaluation reads. `held_out`: split of the report -> its pieces, chosen."""

    stage1_train: list[Piece]
    stage2_train: list[Piece]
    held_out: dict[str, list[Piece]]

    @property
    def gospel(self) -> list[Piece]:
        return self.held_out["gospel_real"] + self.held_out["gospel_synthetic"]


def load_texts(folder: Path, most: int, seed: int) -> Texts:
    """From the folder of the stage `convert`: stage1/ and stage2/ with train.jsonl and test.jsonl."""
    gospel = read_texts(folder / "stage2" / "test.jsonl")
    rest = read_texts(folder / "stage1" / "test.jsonl")
    splits = {
        "gospel_real": [piece for piece in gospel if not piece.synthetic],
        "gospel_synthetic": [piece for piece in gospel if piece.synthetic],
        "general": [piece for piece in rest if piece.metadata.get("domain", "general") == "general"],
    }
    return Texts(
        read_texts(folder / "stage1" / "train.jsonl"),
        read_texts(folder / "stage2" / "train.jsonl"),
        {name: choose(pieces, most, seed) for name, pieces in splits.items()},
    )
