"""Train, validation or test: decided by tune, never by file, so that no tune is both learned and tested.

- A tune's split is a hash of its melody. A new file moves its own tune at most.
- Pieces are one tune when the book says so, when their titles name the same tune of the book, or when their melodies
  share enough n-grams (`duplicates.same_tune`).
- Stage 1 never looks at stage 2. A tune of stage 2 that stage 1 holds, too, takes its split from there; one that ties
  tunes of different splits together is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from plagal.corpus.duplicates import Grams, Groups, candidate_pairs, melody_grams, melody_steps, same_tune

SPLITS = ("train", "valid", "test")
LEFT_OUT = "left out"
_SALT = "plagal-split-24"
"""Part of every hash; changing it deals all tunes anew. The number is the first under which the tune book's few tunes
come out as 56 to train on, 8 to validate and 11 to test; it was chosen by counting, not by any model's figures."""


@dataclass(frozen=True, slots=True)
class Melodies:
    """What the split knows of a piece. `melody` is the tune's own where it is known, else the line heard; `heard` the
    line heard. Both as `duplicates.melody_text` writes them."""

    tune: str
    """Name in the tune book, or empty."""
    melody: str
    heard: str
    synthetic: bool


def melodies_of(metadata: dict[str, Any]) -> Melodies:
    """What the split needs of a row's metadata."""
    return Melodies(metadata["tune"], metadata["melody"], metadata["heard"], metadata["synthetic"])


@dataclass
class Tunes:
    """Pieces grouped by tune: `label[i]` is the group of piece i, `key[label]` the hash its split hangs on."""

    label: list[int]
    key: dict[int, str]
    _index: _Index = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.key)


class _Index:
    """The distinct melodies of a set of pieces as n-grams, and which piece each belongs to. Holds no text: a million
    pieces must fit."""

    def __init__(self, pieces: Iterable[Melodies]) -> None:
        self.owner: list[int] = []
        self.grams: list[Grams] = []
        self.known: list[bool] = []
        """Whether the tune behind a melody is known without listening."""
        self.same: list[tuple[int, int]] = []
        self.ranks: list[tuple[bool, str]] = []
        """Of each piece, what its group's key is the smallest of."""
        first_of: dict[bytes, int] = {}
        for number, piece in enumerate(pieces):
            self.ranks.append((not piece.synthetic, melody_key(piece.melody)))
            if piece.tune:
                self._join(first_of, f"tune {piece.tune}", number)
            for text, known in {piece.melody: bool(piece.tune), piece.heard: piece.synthetic}.items():
                if text and self._join(first_of, text, number):
                    self.owner.append(number)
                    self.grams.append(melody_grams(melody_steps(text)))
                    self.known.append(known)

    def _join(self, first_of: dict[bytes, int], name: str, number: int) -> bool:
        """Whether `name` is new; where it isn't, this piece belongs with the one that had it first."""
        digest = hashlib.blake2b(name.encode(), digest_size=12).digest()
        if digest in first_of:
            self.same.append((first_of[digest], number))
            return False
        first_of[digest] = number
        return True


def melody_key(melody: str) -> str:
    """The hash on which a tune's split hangs."""
    return hashlib.sha256(f"{_SALT} {melody}".encode()).hexdigest()


def tune_groups(pieces: Iterable[Melodies]) -> Tunes:
    """Group pieces by tune."""
    index = _Index(pieces)
    groups = Groups(len(index.ranks))
    for first, second in index.same:
        groups.join(first, second)
    for first, second in candidate_pairs(index.grams):
        # Two pieces whose tunes are both known need no ear; what arrangements have in common besides is their style.
        if index.known[first] and index.known[second]:
            continue
        if same_tune(index.grams[first], index.grams[second]):
            groups.join(index.owner[first], index.owner[second])
    labels = groups.labels()
    return Tunes(labels, _group_keys(index.ranks, labels), index)


def _group_keys(ranks: Sequence[tuple[bool, str]], labels: Sequence[int]) -> dict[int, str]:
    """A group's key is its smallest melody hash, among the tunes from the book where it holds any: so it is the same
    whichever arrangements are there."""
    best: dict[int, tuple[bool, str]] = {}
    for rank, label in zip(ranks, labels, strict=True):
        best[label] = min(best.get(label, rank), rank)
    return {label: key for label, (_, key) in best.items()}


def split_of(key: str, valid_percent: int, test_percent: int) -> str:
    """The split of a tune from its key: a percentile of the hash."""
    percentile = int(key[:12], 16) % 10_000 / 100
    if percentile < test_percent:
        return "test"
    return "valid" if percentile < test_percent + valid_percent else "train"


def split_alone(tunes: Tunes, valid_percent: int, test_percent: int) -> list[str]:
    """The split of each piece of stage 1."""
    by_label = {label: split_of(key, valid_percent, test_percent) for label, key in tunes.key.items()}
    return [by_label[label] for label in tunes.label]


def split_after(
    tunes: Tunes, earlier: Tunes, earlier_splits: Sequence[str], valid_percent: int, test_percent: int
) -> list[str]:
    """The split of each piece of stage 2, given stage 1's tunes and splits; LEFT_OUT where it ties different ones."""
    inherited = _inherited(tunes, earlier, earlier_splits)
    by_label: dict[int, str] = {}
    for label, key in tunes.key.items():
        found = inherited.get(label, set())
        if len(found) > 1:
            by_label[label] = LEFT_OUT
        else:
            by_label[label] = next(iter(found), split_of(key, valid_percent, test_percent))
    return [by_label[label] for label in tunes.label]


def _inherited(tunes: Tunes, earlier: Tunes, earlier_splits: Sequence[str]) -> dict[int, set[str]]:
    """Label of a later group -> the splits of all earlier pieces that share its tune."""
    found: dict[int, set[str]] = {}
    split_of_key = {earlier.key[label]: split for label, split in zip(earlier.label, earlier_splits, strict=True)}
    for label, key in tunes.key.items():
        if key in split_of_key:
            found.setdefault(label, set()).add(split_of_key[key])
    mine, theirs = tunes._index, earlier._index
    border = len(mine.grams)
    for first, second in candidate_pairs([*mine.grams, *theirs.grams]):
        if not first < border <= second:
            continue
        other = second - border
        if mine.known[first] and theirs.known[other]:
            continue
        if same_tune(mine.grams[first], theirs.grams[other]):
            label = tunes.label[mine.owner[first]]
            found.setdefault(label, set()).add(earlier_splits[theirs.owner[other]])
    return found


def split_counts(splits: Sequence[str]) -> dict[str, int]:
    """Pieces by split, every split named."""
    counted = Counter(splits)
    return {name: counted.get(name, 0) for name in (*SPLITS, LEFT_OUT)}
