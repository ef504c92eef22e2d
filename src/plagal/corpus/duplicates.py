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
from dataclasses import dataclass
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
    return np.asarray(np.unique((state >> np.uint64(16)).astype(np.uint32)))


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
    return np.asarray(sketch.hashvalues.astype(np.uint32))


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
        bands = [bytes([number]) + band.tobytes() for number, band in enumerate(mine.reshape(-1, self._ROWS))]
        keys = [int.from_bytes(hashlib.blake2b(band, digest_size=8).digest(), "little") for band in bands]
        met: set[int] = set()
        for key in keys:
            there = self._bands.get(key, ())
            met.update((there,) if isinstance(there, int) else there)
        for place in sorted(met):
            # The share of equal values estimates the Jaccard index, give or take 0.03.
            if np.count_nonzero(mine == self._signatures[place]) >= SAME_PIECE_JACCARD * len(mine):
                return "near-duplicate", self._names[place]
        self._digests[exact] = number = len(self._names)
        self._signatures.append(mine)
        self._names.append(name)
        for key in keys:
            there = self._bands.setdefault(key, number)
            if isinstance(there, list):
                there.append(number)
            elif there != number:
                self._bands[key] = [there, number]
        return None


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
    line heard. Both as `melody_text` writes them."""

    tune: str
    """Name in the tune book, or empty."""
    melody: str
    heard: str
    synthetic: bool


def melodies_of(metadata: dict[str, Any]) -> Melodies:
    """What the split needs of a row's metadata."""
    return Melodies(metadata["tune"], metadata["melody"], metadata["heard"], metadata["synthetic"])


class Tunes:
    """Pieces grouped by tune: `label[i]` is the group of piece i, `key[label]` the hash its split hangs on. Keeps the
    distinct melodies as n-grams, and which piece each belongs to, but no text: a million pieces must fit."""

    def __init__(self, pieces: Iterable[Melodies]) -> None:
        self.owner: list[int] = []
        self.grams: list[Grams] = []
        self.known: list[bool] = []
        """Whether the tune behind a melody is known without listening."""
        parent: list[int] = []
        ranks: list[tuple[bool, str]] = []
        first_of: dict[bytes, int] = {}

        def root(piece: int) -> int:
            while parent[piece] != piece:
                parent[piece] = piece = parent[parent[piece]]
            return piece

        def join(first: int, second: int) -> None:
            low, high = sorted((root(first), root(second)))
            parent[high] = low  # whatever the order of joins, a group's label is its first piece

        def is_new(name: str, number: int) -> bool:
            """Whether `name` is new; where it isn't, this piece belongs with the one that had it first."""
            first = first_of.setdefault(hashlib.blake2b(name.encode(), digest_size=12).digest(), number)
            join(first, number)
            return first == number

        for number, piece in enumerate(pieces):
            parent.append(number)
            ranks.append((not piece.synthetic, melody_key(piece.melody)))
            if piece.tune:
                is_new(f"tune {piece.tune}", number)
            for text, known in {piece.melody: bool(piece.tune), piece.heard: piece.synthetic}.items():
                if text and is_new(text, number):
                    self.owner.append(number)
                    self.grams.append(melody_grams(melody_steps(text)))
                    self.known.append(known)
        for one, other in candidate_pairs(self.grams):
            # Two pieces whose tunes are both known need no ear; what arrangements have in common besides is style.
            if not (self.known[one] and self.known[other]) and same_tune(self.grams[one], self.grams[other]):
                join(self.owner[one], self.owner[other])
        self.label = [root(piece) for piece in range(len(parent))]
        # A group's key is its smallest melody hash, among the tunes from the book where it holds any: so it is the
        # same whichever arrangements are there.
        best: dict[int, tuple[bool, str]] = {}
        for rank, label in zip(ranks, self.label, strict=True):
            best[label] = min(best.get(label, rank), rank)
        self.key = {label: key for label, (_, key) in best.items()}


def melody_key(melody: str) -> str:
    """The hash on which a tune's split hangs."""
    return hashlib.sha256(f"{_SALT} {melody}".encode()).hexdigest()


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
    inherited: dict[int, set[str]] = {label: set() for label in tunes.key}
    split_of_key = {earlier.key[label]: split for label, split in zip(earlier.label, earlier_splits, strict=True)}
    for label, key in tunes.key.items():
        inherited[label] |= {split_of_key[key]} if key in split_of_key else set()
    border = len(tunes.grams)
    for first, second in candidate_pairs([*tunes.grams, *earlier.grams]):
        other = second - border
        if not first < border <= second or (tunes.known[first] and earlier.known[other]):
            continue
        if same_tune(tunes.grams[first], earlier.grams[other]):
            inherited[tunes.label[tunes.owner[first]]].add(earlier_splits[earlier.owner[other]])
    by_label: dict[int, str] = {}
    for label, key in tunes.key.items():
        own = split_of(key, valid_percent, test_percent)
        by_label[label] = LEFT_OUT if len(inherited[label]) > 1 else next(iter(inherited[label]), own)
    return [by_label[label] for label in tunes.label]


def split_counts(splits: Sequence[str]) -> dict[str, int]:
    """Pieces by split, every split named."""
    counted = Counter(splits)
    return {name: counted[name] for name in (*SPLITS, LEFT_OUT)}
