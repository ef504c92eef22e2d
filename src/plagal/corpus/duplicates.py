"""Which pieces are the same notes, nearly the same piece, or settings of one tune; and which are trained on.

Three views of a piece, each blind to more than the one before:
- `notes_digest`: exactly the same notes;
- `texture`: n-grams over all notes, blind to key, speed and note values: the same piece transposed, slowed or renamed;
- `heard_melody`: the line that tops the texture as intervals, blind to key, rhythm and harmony: the same tune in
  another setting. Compared by n-grams, too, so that added fills, repeats and cuts only cost a share.

Candidate pairs come from MinHash (datasketch) with banding; each pair is then measured exactly on its n-grams.

Train, validation or test is decided by tune, never by file, so that no tune is both learned and tested:
- A tune's split is a hash of its melody. A new file moves its own tune at most.
- Pieces are one tune when the book says so, when their titles name the same tune of the book, or when their melodies
  share enough n-grams (`same_tune`).
- Stage 1 never looks at stage 2. A tune of stage 2 that stage 1 holds, too, takes its split from there; one that ties
  tunes of different splits together is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.score import DURATION, ONSET, PITCH, Score

Grams = npt.NDArray[np.uint32]
"""Shape (n-grams,); sorted hashes without repeats."""

Signature = npt.NDArray[np.uint32]
"""Shape (128,); MinHash values of a set of n-grams."""

MELODY_N = 7
"""Intervals in an n-gram of a melody."""
TEXTURE_N = 8
SAME_TUNE_SHARE = 0.3
"""Of the shorter melody's n-grams, how many the other must hold. Over 407 chorales, 354 fiddle tunes and 275 hymns this
finds the rhythmic and the even form of one chorale (0.31 and more); below 0.28 different chorales begin to chain."""
SAME_TUNE_AT_LEAST = 6
"""n-grams in common; fewer say nothing."""
SAME_PIECE_JACCARD = 0.85
MAX_MELODY_NOTES = 800

_PERMUTATIONS = 128
"""Two 32-bit values make a band of 64 bits."""
_SEED = 1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def notes_digest(score: Score) -> str:
    """Hex digest of onsets, pitches and durations."""
    columns = np.ascontiguousarray(score.notes[:, [ONSET, PITCH, DURATION]], dtype="<i4")
    return hashlib.sha256(columns.tobytes()).hexdigest()[:32]


def heard_melody(score: Score) -> list[int]:
    """Pitches of the top line: a note counts where nothing higher sounds at its onset, repeats of a pitch once."""
    notes = score.notes[:, :3].tolist()
    line: list[int] = []
    sounding: list[tuple[int, int]] = []
    position = 0
    while position < len(notes) and len(line) < MAX_MELODY_NOTES:
        onset, top = notes[position][0], -1
        fresh = []
        while position < len(notes) and notes[position][0] == onset:
            _, pitch, duration = notes[position]
            fresh.append((onset + duration, pitch))
            top = max(top, pitch)
            position += 1
        sounding = [(end, pitch) for end, pitch in sounding if end > onset]
        if all(pitch <= top for _, pitch in sounding) and (not line or line[-1] != top):
            line.append(top)
        sounding += fresh
    return line


def intervals(pitches: Sequence[int]) -> list[int]:
    """Semitones from each pitch to the next that differs."""
    steps = np.diff(np.asarray(pitches, dtype=np.int64))
    return [int(step) for step in steps if step]


def melody_grams(steps: Sequence[int]) -> Grams:
    """Hashed n-grams of a melody's intervals, octave leaps folded so that a line that changes octave still matches."""
    folded = [step if abs(step) <= 7 else (step % 12 if step > 0 else -(-step % 12)) for step in steps]
    return _grams(np.asarray([step for step in folded if step], dtype=np.int64), MELODY_N)


def texture_grams(score: Score) -> Grams:
    """Hashed n-grams over the pitches of all notes in order, relative to the first of each n-gram."""
    pitches = score.notes[:, PITCH].astype(np.int64)
    return _grams(np.diff(pitches), TEXTURE_N)


def _grams(symbols: npt.NDArray[np.int64], n: int) -> Grams:
    count = len(symbols) - n + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint32)
    state = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        state = (state ^ (symbols[place : place + count] + 128).astype(np.uint64)) * _MULTIPLIER
        state ^= state >> np.uint64(29)
    unique: Grams = np.unique((state >> np.uint64(16)).astype(np.uint32))
    return unique


@lru_cache(maxsize=1)
def _permutations() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=_SEED)


def _identity(value: Any) -> Any:
    return value


def signature(grams: Grams) -> Signature:
    """MinHash signature of a set of n-grams."""
    from datasketch import MinHash

    known = _permutations()
    sketch = MinHash(_PERMUTATIONS, _SEED, hashfunc=_identity, permutations=known.permutations, scheme=known.scheme)
    if len(grams):
        sketch.update_batch(grams.tolist())
    values: Signature = sketch.hashvalues.astype(np.uint32)
    return values


def candidate_pairs(sets: Sequence[Grams]) -> Iterator[tuple[int, int]]:
    """Pairs (lower, higher) of sets that agree in a band of their signatures, each pair once. Sets that overlap by a
    Jaccard index of 0.2 are found with a probability of 0.93, of 0.3 with 0.998. Keeps 0.5 kB a set, however many
    pairs there are."""
    # datasketch's MinHashLSH(params=(64, 2)) was tried on 1,000 and 4,000 sets: 19 kB a set, and 2.5 times as long. A
    # collector of 10,000 files may take 1.2 times the memory of one of 1,000 (docs/scale.md); it would take twice.
    filled = [index for index, grams in enumerate(sets) if len(grams)]
    if len(filled) < 2:
        return
    bands = np.stack([signature(sets[index]).view(np.uint64) for index in filled])
    for number in range(bands.shape[1]):
        order = np.argsort(bands[:, number], kind="stable")
        edges = np.flatnonzero(np.diff(bands[order, number], prepend=~bands[order[0], number])).tolist()
        for start, end in zip(edges, [*edges[1:], len(order)], strict=True):
            bucket = order[start:end]
            for place in range(end - start - 1):
                first, others = bucket[place], bucket[place + 1 :]
                # A pair that agreed in an earlier band was given there.
                fresh = ~(bands[others, :number] == bands[first, :number]).any(axis=1)
                for second in others[fresh].tolist():
                    yield filled[int(first)], filled[second]


def shared(first: Grams, second: Grams) -> int:
    """How many n-grams two sets have in common."""
    return len(np.intersect1d(first, second, assume_unique=True))


def same_tune(first: Grams, second: Grams) -> bool:
    """Whether two melodies' n-grams say that they are one tune."""
    fewest = min(len(first), len(second))
    common = shared(first, second)
    return common >= max(SAME_TUNE_AT_LEAST, SAME_TUNE_SHARE * fewest)


class SimilarPieces:
    """Remembers pieces, some 3 kB each, and says of a new one whether it was there before, exactly or nearly."""

    _ROWS = 8
    """A band: a Jaccard index of 0.85 agrees in at least one of 16 with a probability of 0.99. Bands of our own, as in
    `candidate_pairs` and for its reason: a set for each band of each piece is what MinHashLSH costs."""

    def __init__(self) -> None:
        self._digests: dict[bytes, int] = {}
        self._bands: dict[int, int | list[int]] = {}
        self._signatures: list[Signature] = []
        self._names: list[str] = []

    def twin_of(self, digest: str, mine: Signature, name: str) -> tuple[str, str] | None:
        """("duplicate" or "near-duplicate", name of the earlier piece); None, and the piece is remembered, where it is
        new. `mine` is the signature of its texture."""
        exact = bytes.fromhex(digest)
        if exact in self._digests:
            return "duplicate", self._names[self._digests[exact]]
        keys = self._keys(mine)
        for place in self._places(keys):
            # The share of equal values estimates the Jaccard index, give or take 0.03.
            if np.count_nonzero(mine == self._signatures[place]) >= SAME_PIECE_JACCARD * len(mine):
                return "near-duplicate", self._names[place]
        self._remember(exact, keys, mine, name)
        return None

    def _places(self, keys: list[int]) -> list[int]:
        found: set[int] = set()
        for key in keys:
            there = self._bands.get(key, ())
            found.update((there,) if isinstance(there, int) else there)
        return sorted(found)

    def _remember(self, exact: bytes, keys: list[int], mine: Signature, name: str) -> None:
        number = len(self._names)
        for key in keys:
            there = self._bands.setdefault(key, number)
            if isinstance(there, list):
                there.append(number)
            elif there != number:
                self._bands[key] = [there, number]
        self._digests[exact] = number
        self._signatures.append(mine)
        self._names.append(name)

    def _keys(self, values: Signature) -> list[int]:
        """A 64-bit hash of each band of a signature."""
        bands = values.reshape(-1, self._ROWS)
        digests = (hashlib.blake2b(bytes([n]) + band.tobytes(), digest_size=8) for n, band in enumerate(bands))
        return [int.from_bytes(digest.digest(), "little") for digest in digests]


class Groups:
    """Disjoint sets over 0..count-1."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, first: int, second: int) -> None:
        """The lower root stays, so that the outcome doesn't depend on the order of joins."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low

    def labels(self) -> list[int]:
        return [self.find(item) for item in range(len(self._parent))]


def melody_text(steps: Iterable[int]) -> str:
    """Intervals as manifests keep them: "+2 -2 +5"."""
    return " ".join(f"{step:+d}" for step in steps)


def melody_steps(text: str) -> list[int]:
    """The other way round."""
    return [int(step) for step in text.split()]


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
