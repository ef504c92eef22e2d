"""The second judge: does a piece come back to what it played, as real music does?

Nothing here selects or steers what is written, and no network learned it: coherence is one program's opinion, and a
writer that is chosen by it can learn to please it. Every figure stands beside the same of held-out real music and of
the arranger's pieces, in windows as long as the generated ones; near them is good, above them no better than below.

Metrics
- `returns_N`: likeness of bars N apart, N of LAGS: what two bars have in common (tick from the bar line, pitch) over
  what either has (Jaccard's index), its mean over the pairs of a piece, then over pieces.
- `compression`: how many times smaller the piece's words get when a general compressor (raw deflate) has seen the piece
  itself. Each note is one word of six bytes: ticks and semitones since the note before, and its length; so it is the
  same in any key, and repeats a step higher count as repeats.
- `distance`: Fréchet distance to held-out real music over UNTOUCHED features, in real deviations.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, islice

import numpy as np
import numpy.typing as npt

from plagal.evaluation.distribution import frechet
from plagal.evaluation.features import FEATURES, bar_contents, bars_of, cut, features
from plagal.music.score import DURATION, ONSET, PITCH, Score

LAGS = (2, 4, 8)
"""Bars: half a phrase, a phrase, a period."""

UNTOUCHED = (
    "density_variation", "groove_consistency", "ioi_entropy", "duration_entropy", "mean_duration", "on_beat_share",
    "downbeat_weight", "held_over_bar", "melody_leaps", "melody_interval", "bars_repeated", "distinct_bars",
    "content_likeness", *(f"groove_likeness_{lag}" for lag in (1, 2, 4)),
    *(f"content_likeness_{lag}" for lag in (1, 2, 4)),
)  # fmt: skip
"""Rhythm, melody's shape and form. Steering decides scale, chords, bass and voicing (plagal.compose.steering), so what
follows from those (keys, chroma, polyphony, clashes, range) tells of the masks and not of the model."""
_COLUMNS = [FEATURES.index(name) for name in UNTOUCHED]
_LEAST_PIECES = 4


def returns(score: Score, lag: int) -> float | None:
    """Mean likeness 0-1 of bars `lag` apart; None where there are no two such bars, or all of them are silent."""
    contents = bar_contents(score.notes, bars_of(score)) if len(score.notes) else []
    pairs = [(one, other) for one, other in zip(contents, contents[lag:], strict=False) if one or other]
    return float(np.mean([len(one & other) / len(one | other) for one, other in pairs])) if pairs else None


def compression(score: Score) -> float | None:
    """Bytes of the notes over bytes of them compressed, at least about 1; None for fewer than two notes."""
    codes = steps(score).astype("<u8")
    if not len(codes):
        return None
    # What `steps` packs into one number, apart again: ticks between, semitones, length.
    words = np.stack([codes >> 20 & 0xFFFF, codes >> 12 & 0xFF, codes & 0xFFF], axis=1)
    raw = words.astype("<u2").tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(raw) / len(packer.compress(raw) + packer.flush())


def rows_of(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """Features of the pieces that have any, shape (pieces, len(FEATURES))."""
    rows = [features(score) for score in scores if len(score.notes) >= 2]
    return np.stack(rows) if rows else np.zeros((0, len(FEATURES)))


def structure(scores: Sequence[Score], real: Sequence[Score] | None) -> dict[str, float | None]:
    """Means over `scores`, None where no piece has the figure. `real`: held-out music to measure the distance from."""
    figures: dict[str, float | None] = {}
    for name, measure in (*((f"returns_{lag}", lag) for lag in LAGS), ("compression", 0)):
        values = [returns(score, measure) if measure else compression(score) for score in scores]
        known = [value for value in values if value is not None]
        figures[name] = float(np.mean(known)) if known else None
    if real is not None:
        ours, theirs = rows_of(scores)[:, _COLUMNS], rows_of(real)[:, _COLUMNS]
        enough = min(len(ours), len(theirs)) >= _LEAST_PIECES
        figures["distance"] = frechet(ours, theirs) if enough else None
    return figures


# --- Is a piece its own, or was it learned by heart? ---
#
# Transposed copies count as copies. `longest_run`: the most notes in a row that stand so in one training piece, by the
# time since the note before, the interval to it, and duration. `bars_seen`: the share of bars (of four notes or more)
# that occur in training, note for note.

Codes = npt.NDArray[np.uint64]

LENGTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_LEAST_NOTES = 4
_MOST_PAIRS = 5000
_MULTIPLIER = 0x9E3779B97F4A7C15
_PIECE_END = (1 << 40) + 1


@dataclass(frozen=True)
class Copying:
    """Means over pieces: notes, and a share 0-1 (None where no piece has a bar of four notes)."""

    longest_run: float
    bars_seen: float | None
    runs: tuple[int, ...]
    """Of each piece."""


class TrainingMusic:
    """The notes of training pieces, made ready to look runs and bars up in."""

    def __init__(self, pieces: Sequence[Score]):
        parts = []
        for piece in pieces:
            parts += [steps(piece), np.array([_PIECE_END], dtype=np.uint64)]
        self.notes: Codes = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        self.bars = {content for piece in pieces for content in bar_shapes(piece)}
        self._index: dict[int, tuple[Codes, npt.NDArray[np.int64]]] = {}

    def measure(self, pieces: Sequence[Score]) -> Copying | None:
        """None where there are no pieces."""
        if not pieces:
            return None
        runs = tuple(self.longest_run(piece) for piece in pieces)
        shapes = [bar_shapes(piece) for piece in pieces]
        shares = [float(np.mean([bar in self.bars for bar in some])) for some in shapes if some]
        return Copying(float(np.mean(runs)), float(np.mean(shares)) if shares else None, runs)

    def longest_run(self, piece: Score) -> int:
        """Notes in the longest run of the piece that some training piece holds; 0 for fewer than four."""
        own, best = steps(piece), 0
        starts = np.arange(len(own))
        for length in LENGTHS:
            starts = starts[starts + length - 1 <= len(own)]
            found = self._places(own, starts, length)
            seen = np.array([len(places) > 0 for places in found], dtype=bool)
            if not seen.any():
                break
            starts = starts[seen]
            pairs = (
                (start, place) for start, places in zip(starts, compress(found, seen), strict=True) for place in places
            )
            best = max(self._extended(own, int(start), int(place)) for start, place in islice(pairs, _MOST_PAIRS))
        return best

    def _places(self, own: Codes, starts: npt.NDArray[np.int64], length: int) -> list[npt.NDArray[np.int64]]:
        """Where in training the runs of `length` notes (one step fewer) from each start occur."""
        if length not in self._index:
            hashes = window_hashes(self.notes, length - 1)
            order = np.argsort(hashes, kind="stable")
            self._index[length] = hashes[order], order
        hashes, order = self._index[length]
        wanted = window_hashes(own, length - 1)[starts] if len(starts) else np.zeros(0, dtype=np.uint64)
        low, high = (np.searchsorted(hashes, wanted, side) for side in ("left", "right"))
        return [order[first:last] for first, last in zip(low, high, strict=True)]

    def _extended(self, own: Codes, start: int, place: int) -> int:
        """How many notes the run that begins at both places really has."""
        most = min(len(own) - start, len(self.notes) - place)
        same = own[start : start + most] == self.notes[place : place + most]
        return int(most if same.all() else same.argmin()) + 1


def steps(piece: Score) -> Codes:
    """From each note to the next, as one number: time between, interval, duration of the first. Shape (notes - 1,)."""
    notes = piece.notes.astype(np.int64)
    if len(notes) < 2:
        return np.zeros(0, dtype=np.uint64)
    between = np.diff(notes[:, ONSET])
    interval = np.diff(notes[:, PITCH]) + 128
    codes = (between * 256 + interval) * 4096 + np.minimum(notes[:-1, DURATION], 4095)
    return np.asarray(codes, dtype=np.uint64)


def window_hashes(codes: Codes, length: int) -> Codes:
    """A rolling hash of each `length` codes in a row, modulo 2^64. Shape (codes - length + 1,)."""
    if len(codes) < length:
        return np.zeros(0, dtype=np.uint64)
    mixed = _mixed(codes)
    result = np.zeros(len(codes) - length + 1, dtype=np.uint64)
    multiplier = np.uint64(_MULTIPLIER)
    for place in range(length):
        result = result * multiplier + mixed[place : place + len(result)]
    return _mixed(result)


def _mixed(values: Codes) -> Codes:
    """Splitmix64's finisher: spreads neighbouring numbers apart."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Codes = values ^ (values >> np.uint64(31))
    return mixed


def bar_shapes(piece: Score) -> list[bytes]:
    """Content of each bar of at least four notes: ticks from the bar line, pitches above the lowest, durations."""
    shapes = []
    for bar in bars_of(piece):
        notes = cut(piece.notes, bar.begin, bar.end)
        if len(notes) >= _LEAST_NOTES:
            shape = notes[:, [ONSET, PITCH, DURATION]].astype(np.int32)
            shape[:, 1] -= shape[:, 1].min()
            shapes.append(shape.tobytes())
    return shapes
