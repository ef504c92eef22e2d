"""Which pieces are the same notes, nearly the same piece, or settings of one tune.

Three views of a piece, each blind to more than the one before:
- `notes_digest`: exactly the same notes;
- `texture`: n-grams over all notes, blind to key, speed and note values: the same piece transposed, slowed or renamed;
- `heard_melody`: the line that tops the texture as intervals, blind to key, rhythm and harmony: the same tune in
  another setting. Compared by n-grams, too, so that added fills, repeats and cuts only cost a share.

Candidate pairs come from MinHash (datasketch) with banding; each pair is then measured exactly on its n-grams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.score import DURATION, ONSET, PITCH, Score

Grams = npt.NDArray[np.uint32]
"""Shape (n-grams,); sorted hashes without repeats."""

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
_BAND_ROWS = 2
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


def signature(grams: Grams) -> npt.NDArray[np.uint32]:
    """MinHash signature of a set of n-grams, shape (128,)."""
    from datasketch import MinHash

    known = _permutations()
    sketch = MinHash(_PERMUTATIONS, _SEED, hashfunc=_identity, permutations=known.permutations, scheme=known.scheme)
    if len(grams):
        sketch.update_batch(grams.tolist())
    values: npt.NDArray[np.uint32] = sketch.hashvalues.astype(np.uint32)
    return values


def candidate_pairs(sets: Sequence[Grams]) -> Iterator[tuple[int, int]]:
    """Pairs (lower, higher) of sets that agree in a band of their signatures, each pair once. Sets that overlap by a
    Jaccard index of 0.2 are found with a probability of 0.93, of 0.3 with 0.998."""
    filled = [index for index, grams in enumerate(sets) if len(grams)]
    if len(filled) < 2:
        return
    signatures = np.stack([signature(sets[index]) for index in filled])
    seen: set[tuple[int, int]] = set()
    for start in range(0, _PERMUTATIONS, _BAND_ROWS):
        band = signatures[:, start].astype(np.uint64) << np.uint64(32) | signatures[:, start + 1].astype(np.uint64)
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        for bucket in np.split(order, edges):
            for place, first in enumerate(bucket[:-1].tolist()):
                for second in bucket[place + 1 :].tolist():
                    pair = (filled[first], filled[second])
                    if pair not in seen:
                        seen.add(pair)
                        yield pair


def shared(first: Grams, second: Grams) -> int:
    """How many n-grams two sets have in common."""
    return len(np.intersect1d(first, second, assume_unique=True))


def same_tune(first: Grams, second: Grams) -> bool:
    """Whether two melodies' n-grams say that they are one tune."""
    fewest = min(len(first), len(second))
    common = shared(first, second)
    return common >= max(SAME_TUNE_AT_LEAST, SAME_TUNE_SHARE * fewest)


def same_piece(first: Grams, second: Grams) -> bool:
    """Whether two textures' n-grams say that they are one piece."""
    common = shared(first, second)
    return common > 0 and common >= SAME_PIECE_JACCARD * (len(first) + len(second) - common)


class SimilarPieces:
    """Remembers pieces, and says of a new one whether it was there before, exactly or nearly."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._bands: dict[bytes, list[int]] = {}
        self._textures: list[Grams] = []
        self._names: list[str] = []

    def twin_of(self, digest: str, texture: Grams, name: str) -> tuple[str, str] | None:
        """("duplicate" or "near-duplicate", name of the earlier piece); None, and the piece is remembered, where it is
        new."""
        if digest in self._digests:
            return "duplicate", self._digests[digest]
        keys = self._keys(texture)
        for place in sorted({place for key in keys for place in self._bands.get(key, ())}):
            if same_piece(texture, self._textures[place]):
                return "near-duplicate", self._names[place]
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._textures))
        self._digests[digest] = name
        self._textures.append(texture)
        self._names.append(name)
        return None

    @staticmethod
    def _keys(texture: Grams) -> list[bytes]:
        """Bands of 8 rows: a Jaccard index of 0.85 agrees in one of 16 with a probability of 0.99."""
        if not len(texture):
            return []
        rows = 8
        values = signature(texture)
        bands = range(len(values) // rows)
        return [bytes([band]) + values[band * rows : (band + 1) * rows].tobytes() for band in bands]


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
