"""Do generated pieces lie where real ones lie?

- `overlap`, `kl`: mgeval's (Yang and Lerch 2020), per feature: distances between generated and real pieces against
  distances among the real ones. mgeval integrates each density over its own range, which can exceed 1, and measures KL
  on two different grids; here both densities stand on one grid and sum to one, and no piece is compared with itself.
- `frechet`: between Gaussians fitted to the feature vectors, each feature in units of the real pieces' deviation, the
  covariances shrunk (Ledoit and Wolf 2004) because there are few pieces for so many features.

Each has a floor beside it: one half of the real pieces against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from plagal.evaluation.features import FEATURES, bars_of, spread
from plagal.music.chords import QUALITIES, Chord
from plagal.music.harmony import hear_chords
from plagal.music.score import DURATION, ONSET, Score

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


def compare(generated: Floats, real: Floats, seed: int) -> Distribution | None:
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
    return compare(real[order[: len(real) // 2]], real[order[len(real) // 2 :]], seed)


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
    steps = QUALITIES[chord.quality]
    return bool({10, 11} & set(steps)) or chord.quality == "dim7"


def has_ninth(chord: Chord) -> bool:
    """A second beside a third, or beside a fourth and a seventh; b9 and #9 over a dominant."""
    steps = set(QUALITIES[chord.quality])
    third = bool({3, 4} & steps)
    return (2 in steps and (third or 10 in steps)) or (10 in steps and (1 in steps or {3, 4} <= steps))


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
    return shares | {"passing": _passing([chord for _, chord in chords], lengths.tolist(), half_bar)}


def _passing(chords: Sequence[Chord], lengths: Sequence[float], half_bar: float) -> float:
    steps = [_is_step(one.bass, after.bass) for one, after in pairwise(chords)]
    passing = [lengths[place] <= half_bar and steps[place - 1] and steps[place] for place in range(1, len(chords) - 1)]
    return sum(passing) / len(chords)


def _is_step(one: int, other: int) -> bool:
    return 1 <= min((one - other) % 12, (other - one) % 12) <= 2


def mean_signs(scores: Sequence[Score]) -> dict[str, float | None]:
    """Over pieces; None where there are none."""
    found = [gospel_signs(score) for score in scores]
    return {name: float(np.mean([one[name] for one in found])) if found else None for name in SIGNS}
