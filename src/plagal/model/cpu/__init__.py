"""What MLX needs on a CPU: a fast BLAS, kernels of our own, lanes of threads."""
