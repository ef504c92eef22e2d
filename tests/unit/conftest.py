"""Test files import mlx.core in whatever order; the fast BLAS must be there first."""

from hypothesis import HealthCheck, settings

import plagal.model  # noqa: F401

# No test times the machine: an example that takes 0.2 s on busy cores is not a failure.
settings.register_profile("plagal", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plagal")
