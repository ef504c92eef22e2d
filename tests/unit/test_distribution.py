"""Where generated pieces lie among real ones."""

import numpy as np
import pytest

from plagal.evaluation.features import FEATURES
from plagal.evaluation.structure import distribution, frechet, real_against_real

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(80, len(FEATURES)))


def test_the_same_distribution_overlaps_almost_wholly() -> None:
    same = distribution(RNG.normal(size=(80, len(FEATURES))), REAL, seed=0)
    assert same is not None
    assert same.overlap > 0.85
    assert same.kl < 0.2


def test_moving_away_moves_every_figure() -> None:
    figures = [distribution(RNG.normal(shift, 1, size=(80, len(FEATURES))), REAL, seed=0) for shift in (0, 1, 3)]
    overlaps = [one.overlap for one in figures if one]
    assert overlaps == sorted(overlaps, reverse=True)
    for name in ("kl", "frechet"):
        values = [getattr(one, name) for one in figures]
        assert values == sorted(values)


def test_overlap_never_exceeds_one() -> None:
    narrow = distribution(REAL * 0.01, REAL, seed=0)
    assert narrow is not None
    assert all(0 <= overlap <= 1 for overlap in narrow.by_feature.values())


def test_frechet_of_shifted_gaussians_is_the_squared_shift_in_deviations() -> None:
    # One standard deviation off in each of n features: n, as the spreads are the same.
    assert frechet(REAL + REAL.std(axis=0), REAL) == pytest.approx(len(FEATURES), rel=0.02)
    assert frechet(REAL, REAL) == pytest.approx(0, abs=1e-6)


def test_too_few_pieces_give_no_figure() -> None:
    assert distribution(REAL[:3], REAL, seed=0) is None
    assert real_against_real(REAL[:6], seed=0) is None


def test_unknown_features_are_left_out() -> None:
    holes = REAL.copy()
    holes[:, 0] = np.nan
    found = distribution(holes, REAL, seed=0)
    assert found is not None
    assert FEATURES[0] not in found.by_feature
    assert np.isfinite(found.frechet)


def test_the_floor_is_the_same_for_the_same_seed() -> None:
    assert real_against_real(REAL, seed=4) == real_against_real(REAL, seed=4)
