"""What MLX lacks on the CPU of Linux, and why it stands here. A Mac's GPU uses none of it.

Tokens/s of one full training step on two idle cores (192 hidden units, 4 layers, 4 windows of 512; docs/training.md):
2,350 with MLX as it is on OpenBLAS with two threads, 3,900 in two lanes, 5,200 with the kernels as well.

- `blas`: MLX's Linux wheel links the reference BLAS: 4 GFLOP/s, where OpenBLAS gives 180 on both cores. Loaded before
  MLX, it takes over by way of a bridge of a few hundred bytes: its wheel's names begin with `scipy_`, and no compiler
  may be asked for.
- `kernels`: MLX's CPU `exp` is scalar, 12 ns an element; softmax, SwiGLU and log-sum-exp took most of a training step.
  A polynomial that `mx.compile` fuses takes 2 ns, and softmax is kept for the backward pass, not made twice.
- `lanes`: MLX's CPU backend runs one operation at a time, on one core. A batch is dealt to two streams with a BLAS
  thread each; the bits depend on the number of lanes, not of cores, which lets a run resume exactly on another machine.
  Two BLAS threads in one stream instead wait in barriers: on busy cores a step took forty times as long.

They agree with stock mlx-lm's numbers to 1e-5 relative (tests/unit/test_loss.py); without g++ or OpenBLAS the same code
runs, slower, and `plagal doctor` says so.
"""
