"""One step's gradient, computed in lanes side by side.

MLX's CPU backend runs one operation at a time on one core, but each CPU stream has a thread of its own. So a batch is
dealt out to LANES streams, each with a single BLAS thread: nearly twice as fast on two cores, never waiting in BLAS's
barriers on a busy machine, and the bits depend on the number of lanes, not of cores. Sums over lanes are
taken in order, so LANES processes with a lane each (mlx.launch) give the same bits as one process. A GPU takes one
lane.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from plagal.model.cpu.kernels import fused, on_cpu
from plagal.model.loss import Batch, LossSum, Window, batch_arrays, collate

CPU_LANES = 2


def lane_count() -> int:
    return CPU_LANES if on_cpu() else 1


_of_thread = threading.local()


def _streams() -> list[Any]:
    """The lanes' streams, each thread's own; the first is its default one."""
    if not hasattr(_of_thread, "streams"):
        device = mx.default_device()
        _of_thread.streams = [mx.default_stream(device)] + [mx.new_stream(device) for _ in range(lane_count() - 1)]
    streams: list[Any] = _of_thread.streams
    return streams


def leave_thread() -> None:
    """Give back the calling thread's streams. The last thing that a thread other than the main one does with MLX: a
    process with streams of ended threads aborts when it exits."""
    mx.synchronize()
    mx.clear_streams()
    if hasattr(_of_thread, "streams"):
        del _of_thread.streams


def on_lanes(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Build each task's graph on a lane of its own; evaluating the results together runs the lanes side by side."""
    made = []
    for number, task in enumerate(tasks):
        with mx.stream(_streams()[number % lane_count()]):
            made.append(task())
    return made


def deal(windows: Sequence[Window], lanes: int) -> list[list[Window]]:
    """Hand the windows out by length, so that each lane has about as much to do."""
    hands: list[list[Window]] = [[] for _ in range(lanes)]
    for number, window in enumerate(sorted(windows, key=lambda w: -len(w.ids))):
        round_, seat = divmod(number, lanes)
        hands[seat if round_ % 2 == 0 else lanes - 1 - seat].append(window)
    return hands


class Gradients:
    """Summed loss and gradient over windows, compiled: one graph for each lane and shape.

    `loss` as in plagal.model.loss; `group`: mlx's group of processes, if any.
    """

    def __init__(self, model: Any, loss: LossSum, pad_id: int, group: Any = None):
        self._model, self._pad_id = model, pad_id
        self._group = group if group is not None and group.size() > 1 else None
        processes = self._group.size() if self._group else 1
        self._lanes = max(lane_count() // processes, 1)

        def of_weights(weights: Any, arrays: Any) -> Any:
            model.update(weights)
            return loss(model, arrays)

        self._differentiate = [compiled(mx.value_and_grad(of_weights)) for _ in range(self._lanes)]
        self._loss = [compiled(of_weights) for _ in range(self._lanes)]

    def __call__(self, windows: Sequence[Window], seed: tuple[int, ...] = (0,)) -> tuple[Any, Any, int, int]:
        """-> summed loss, summed gradients, targets, notes. `seed` decides what dropout drops, lane by lane."""
        parts = []
        for lane, batch in self._batches(windows):
            number = self._lanes * (self._group.rank() if self._group else 0) + lane
            mx.random.seed(int(np.random.SeedSequence([*seed, number]).generate_state(1, np.uint64)[0]))
            parts.append(self._on_lane(self._differentiate, lane, batch))
        if not parts:
            parts.append((mx.array(0.0), tree_map(mx.zeros_like, self._model.trainable_parameters())))
        loss, grads = parts[0]
        for other_loss, other in parts[1:]:
            loss, grads = loss + other_loss, tree_map(lambda a, b: a + b, grads, other)
        return self._over_processes(loss), tree_map(self._over_processes, grads), *_counts(windows)

    def loss_only(self, windows: Sequence[Window]) -> tuple[Any, int, int]:
        """-> summed loss, targets, notes."""
        parts = [self._on_lane(self._loss, lane, batch) for lane, batch in self._batches(windows)]
        return self._over_processes(sum(parts, mx.array(0.0))), *_counts(windows)

    def _batches(self, windows: Sequence[Window]) -> list[tuple[int, Batch]]:
        """This process's lanes that have something to do."""
        processes, rank = (self._group.size(), self._group.rank()) if self._group else (1, 0)
        hands = deal(windows, self._lanes * processes)[rank * self._lanes : (rank + 1) * self._lanes]
        return [(lane, batch) for lane, hand in enumerate(hands) if (batch := collate(hand, self._pad_id))]

    def _on_lane(self, functions: Sequence[Any], lane: int, batch: Batch) -> Any:
        weights = self._model.trainable_parameters()
        try:
            with mx.stream(_streams()[lane]):
                return functions[lane](weights, batch_arrays(batch))
        finally:
            self._model.update(weights)  # tracing leaves its own placeholders in the model

    def _over_processes(self, value: Any) -> Any:
        return value if self._group is None else mx.distributed.all_sum(value, group=self._group)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled where that fuses anything, with MLX's random state among its inputs."""
    if not fused():
        return function
    return mx.compile(function, inputs=mx.random.state, outputs=mx.random.state)


def _counts(windows: Sequence[Window]) -> tuple[int, int]:
    return sum(len(w.ids) - w.first for w in windows), sum(w.notes for w in windows)


def keep_little() -> None:
    """Give freed buffers back, for a process that lives for months: MLX keeps one for each size that it has ever
    needed, and pieces of other lengths need other sizes. 8 MiB are enough for what one step gives to the next."""
    mx.set_cache_limit(8 << 20)
