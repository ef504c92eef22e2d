"""Pieces beside real music: do they come back to what they played, lie where real ones lie, and are they their own?

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
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.evaluation.features import FEATURES, bar_contents, bars_of, cut, features, spread
from plagal.music.chords import QUALITIES, Chord
from plagal.music.harmony import hear_chords
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
# that occur in training, note for note; `inner_bars_seen`: of those before the last, which in many pieces is the same
# held chord.

Codes = npt.NDArray[np.uint64]

_LEAST_NOTES = 4
_MULTIPLIER = 0x9E3779B97F4A7C15
_PIECE_END = (1 << 40) + 1


@dataclass(frozen=True)
class Copying:
    """Means over pieces: notes, and a share 0-1 (None where no piece has a bar of four notes)."""

    longest_run: float
    bars_seen: float | None
    inner_bars_seen: float | None
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
        self._hashes: dict[int, Codes] = {}

    def measure(self, pieces: Sequence[Score]) -> Copying | None:
        """None where there are no pieces."""
        if not pieces:
            return None
        runs = tuple(self.longest_run(piece) for piece in pieces)
        shapes = [bar_shapes(piece) for piece in pieces]
        inner = [self._share_seen(some[:-1]) for some in shapes if some[:-1]]
        shares = [self._share_seen(some) for some in shapes if some]
        every, before_last = (float(np.mean(each)) if each else None for each in (shares, inner))
        return Copying(float(np.mean(runs)), every, before_last, runs)

    def _share_seen(self, shapes: Sequence[bytes]) -> float:
        return float(np.mean([bar in self.bars for bar in shapes]))

    def longest_run(self, piece: Score) -> int:
        """Notes in the longest run of the piece that some training piece holds; 0 for fewer than four."""
        own = steps(piece)

        def is_new(length: int) -> bool:
            """Whether no run of so many steps stands in training."""
            wanted = window_hashes(own, length)
            if length not in self._hashes:
                self._hashes[length] = np.unique(window_hashes(self.notes, length))
            known = self._hashes[length]
            places = np.searchsorted(known, wanted).clip(max=len(known) - 1)
            return not len(known) or not (known[places] == wanted).any()

        least, most = _LEAST_NOTES - 1, _LEAST_NOTES - 1
        while most <= len(own) and not is_new(most):
            most *= 2
        held = bisect_left(range(least, min(most, len(own) + 1)), True, key=is_new)
        return least + held if held else 0


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
    """A hash of each `length` codes in a row: their sum, each times a power of an odd number by its place, modulo 2^64.
    From one running sum, whatever the length. Shape (codes - length + 1,)."""
    if len(codes) < length:
        return np.zeros(0, dtype=np.uint64)
    weights, back = _powers(_MULTIPLIER, len(codes) + 1), _powers(pow(_MULTIPLIER, -1, 1 << 64), len(codes) + 1)
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(_mixed(codes) * weights[:-1], out=sums[1:])
    return _mixed((sums[length:] - sums[:-length]) * back[: len(sums) - length])


def _powers(number: int, count: int) -> Codes:
    """number^0, number^1, ..., modulo 2^64."""
    factors = np.full(count, number, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mixed(values: Codes) -> Codes:
    """Splitmix64's finisher: spreads neighbouring numbers apart."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


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


# --- Do generated pieces lie where real ones lie? ---
#
# `overlap`, `kl`: mgeval's (Yang and Lerch 2020), per feature: distances between generated and real pieces against
# distances among the real ones. mgeval integrates each density over its own range, which can exceed 1, and measures KL
# on two different grids; here both densities stand on one grid and sum to one, and no piece is compared with itself.
# `frechet`: between Gaussians fitted to the feature vectors, each feature in units of the real pieces' deviation, the
# covariances shrunk (Ledoit and Wolf 2004) because there are few pieces for so many features. Each has a floor beside
# it: one half of the real pieces against the other.

Floats = npt.NDArray[np.float64]

_GRID = 256
_MOST_DISTANCES = 4000
_LEAST = 1e-6


@dataclass(frozen=True)
class Distribution:
    """`overlap` 0-1 and `kl` in nats are means over features; `by_feature` has the overlap of each."""

    overlap: float
    kl: float
    frechet: float
    by_feature: dict[str, float]


def distribution(generated: Floats, real: Floats, seed: int) -> Distribution | None:
    """Feature rows, shapes (pieces, len(FEATURES)). None where either side has fewer than four pieces."""
    if len(generated) < 4 or len(real) < 4:
        return None
    rng = np.random.default_rng(seed)
    overlaps, divergences = {}, []
    for column, name in enumerate(FEATURES):
        ours, theirs = (side[np.isfinite(side[:, column]), column] for side in (generated, real))
        if len(ours) < 4 or len(theirs) < 4 or np.ptp(np.concatenate([ours, theirs])) == 0:
            continue
        among = _distances(theirs, theirs, rng)
        between = _distances(ours, theirs, rng)
        overlap, divergence = _overlap_and_kl(between, among)
        overlaps[name] = overlap
        divergences.append(divergence)
    if not overlaps:
        return None
    return Distribution(
        float(np.mean(list(overlaps.values()))), float(np.mean(divergences)), frechet(generated, real), overlaps
    )


def real_against_real(real: Floats, seed: int) -> Distribution | None:
    """The floor: a random half against the other."""
    order = np.random.default_rng(seed).permutation(len(real))
    return distribution(real[order[: len(real) // 2]], real[order[len(real) // 2 :]], seed)


def _distances(ours: Floats, theirs: Floats, rng: np.random.Generator) -> Floats:
    table = np.abs(ours[:, None] - theirs[None, :])
    flat = table[~np.eye(len(ours), dtype=bool)] if ours is theirs else table.ravel()
    return flat if len(flat) <= _MOST_DISTANCES else rng.choice(flat, _MOST_DISTANCES, replace=False)


def _overlap_and_kl(one: Floats, other: Floats) -> tuple[float, float]:
    """Area under both densities, and KL(one || other)."""
    top = max(one.max(), other.max())
    grid = np.linspace(0, top if top > 0 else 1.0, _GRID)
    densities = [_density(values, grid) for values in (one, other)]
    smooth = [(density + _LEAST) / (density + _LEAST).sum() for density in densities]
    kl = float((smooth[0] * np.log(smooth[0] / smooth[1])).sum())
    return float(np.minimum(*densities).sum()), kl


def _density(values: Floats, grid: Floats) -> Floats:
    """Gaussian kernels of Scott's width, reflected at zero (distances have no mass below it); sums to one."""
    width = max(values.std() * len(values) ** -0.2, (grid[1] - grid[0]))
    counts = np.histogram(values, bins=np.append(grid - (grid[1] - grid[0]) / 2, np.inf))[0].astype(float)
    apart = grid[:, None] - grid[None, :]
    mirrored = grid[:, None] + grid[None, :]
    kernel = np.exp(-0.5 * (apart / width) ** 2) + np.exp(-0.5 * (mirrored / width) ** 2)
    density = kernel @ counts
    return np.asarray(density / density.sum())


def frechet(ours: Floats, theirs: Floats) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) over the features that both sides have (Heusel et al. 2017)."""
    from sklearn.covariance import LedoitWolf

    known = (np.isfinite(ours).mean(axis=0) > 0.5) & (np.isfinite(theirs).mean(axis=0) > 0.5)
    mean, deviation = spread(theirs[:, known])
    sides = [
        np.nan_to_num((side[:, known] - mean) / np.maximum(deviation, 1e-3)).clip(-8, 8) for side in (ours, theirs)
    ]
    means = [side.mean(axis=0) for side in sides]
    spreads = [LedoitWolf().fit(side).covariance_ for side in sides]
    values, vectors = np.linalg.eigh(spreads[1])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ spreads[0] @ root), 0)).sum()
    distance = ((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * cross
    return float(max(distance, 0.0))


# --- Gospel's signs ---
# Shares of the time that chords sound: `sevenths` (a seventh above the root), `ninths` (a ninth, natural or altered),
# `sus` (a fourth or second in place of the third); and `passing`, the share of chords of half a bar at most whose bass
# comes and goes by a half or whole step.

SIGNS = ("sevenths", "ninths", "sus", "passing")


def has_seventh(chord: Chord) -> bool:
    return bool({10, 11} & set(QUALITIES[chord.quality])) or chord.quality == "dim7"


def has_ninth(chord: Chord) -> bool:
    """A second beside a third, or beside a fourth and a seventh; b9 and #9 over a dominant."""
    steps = set(QUALITIES[chord.quality])
    return (2 in steps and bool({3, 4, 10} & steps)) or (10 in steps and (1 in steps or {3, 4} <= steps))


def is_sus(chord: Chord) -> bool:
    steps = set(QUALITIES[chord.quality])
    return not {3, 4} & steps and bool({2, 5} & steps)


def gospel_signs(score: Score) -> dict[str, float]:
    """The share 0-1 of each of SIGNS; all 0 where no chord is heard."""
    chords = hear_chords(score) if len(score.notes) else []
    if not chords:
        return dict.fromkeys(SIGNS, 0.0)
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    lengths = np.diff([*(onset for onset, _ in chords), end]).clip(0).astype(float)
    total = max(lengths.sum(), 1.0)
    tests = {"sevenths": has_seventh, "ninths": has_ninth, "sus": is_sus}
    shares = {name: float(lengths[[test(chord) for _, chord in chords]].sum() / total) for name, test in tests.items()}
    half_bar = min(bar.end - bar.begin for bar in bars_of(score)) / 2
    bass = np.array([chord.bass for _, chord in chords])
    steps = np.isin(np.diff(bass) % 12, (1, 2, 10, 11))
    passing = (lengths[1:-1] <= half_bar) & steps[:-1] & steps[1:]
    return shares | {"passing": int(passing.sum()) / len(chords)}


def mean_signs(scores: Sequence[Score]) -> dict[str, float | None]:
    """Over pieces; None where there are none."""
    found = [gospel_signs(score) for score in scores]
    return {name: float(np.mean([one[name] for one in found])) if found else None for name in SIGNS}
