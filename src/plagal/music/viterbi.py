"""The likeliest way through states, step by step (Viterbi 1967)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def best_path(
    worth: Sequence[npt.NDArray[Any]] | npt.NDArray[Any], moving: Callable[[int], npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.int64], float]:
    """The state of each step on the path of most worth, and that worth; of equal ones the first. `worth`: of each state
    of a step, shapes (states,). `moving(step)`: of going there from each state of the step before, shape (states
    before, states)."""
    reached, came = worth[0], []
    for step in range(1, len(worth)):
        ways = reached[:, None] + moving(step)
        came.append(ways.argmax(axis=0))
        reached = ways.max(axis=0) + worth[step]
    path = [int(reached.argmax())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return np.array(path[::-1]), float(reached.max())
