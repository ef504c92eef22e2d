"""Test files import mlx.core in whatever order; the fast BLAS must be there first."""

import plagal.model  # noqa: F401
