"""Do generated pieces lie where real ones lie?

- `overlap`, `kl`: mgeval's (Yang and Lerch 2020), per feature: distances between generated and real pieces against
  distances among the real ones. mgeval integrates each density over its own range, which can exceed 1, and measures KL
  on two different grids; here both densities stand on one grid and sum to one, and no piece is compared with itself.
- `frechet`: between Gaussians fitted to the feature vectors, each feature in units of the real pieces' deviation, the
  covariances shrunk (Ledoit and Wolf 2004) because there are few pieces for so many features.

Each has a floor beside it: one half of the real pieces against the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.evaluation.features import FEATURES, spread

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
