"""The language model: the only package that imports MLX.

On Linux a fast BLAS is put in place before anything here imports `mlx.core`.
"""

from plagal.model.cpu.blas import load_fast_blas

load_fast_blas()
