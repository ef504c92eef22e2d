"""The small net, run on NumPy: frames in, chances of beat and downbeat out, and whether the beat divides in three.

Dilated convolutions with skips, as in Davies and Böck, "Temporal convolutional networks for musical audio beat
tracking" (EUSIPCO 2019), over what was struck in place of a spectrogram. `tools/train_tracker.py` trains it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.performance.features import INPUTS
from plagal.plumbing.errors import InputError

Activations = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights.safetensors"
OUTPUTS = 6
"""Chances of a beat, of a downbeat, of a beat that divides in three, and of a bar of two, three and four beats."""
WITNESSES = 22
FITTED = {"metre.weight": (WITNESSES, 6), "sure.weight": (5,)}
"""Name -> size of what `metre` weighs with; it lies beside the net."""
_CHUNK = 8_192
"""Steps at a time, eleven minutes: an hour of music takes no more memory than this."""


@dataclass(frozen=True)
class Shape:
    channels: int = 64
    kernel: int = 5
    gaps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Steps between a layer's taps: together they see 40 s to either side."""
    pack: int = 4
    """Frames side by side in one step: four make a net three times as quick, and lose nothing that was measured."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def reach(self) -> int:
        """Steps to either side that an output depends on."""
        return sum(gap * (self.kernel // 2) for gap in self.gaps)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name -> size of every array."""
        width = self.channels
        sizes: dict[str, tuple[int, ...]] = {"in.weight": (self.pack * INPUTS, width), "in.bias": (width,)}
        for layer in range(len(self.gaps)):
            sizes[f"{layer}.taps.weight"] = (self.kernel * width, width)
            sizes[f"{layer}.taps.bias"] = (width,)
            sizes[f"{layer}.out.weight"] = (width, width)
            sizes[f"{layer}.out.bias"] = (width,)
        return sizes | {"head.weight": (width, self.pack * OUTPUTS), "head.bias": (self.pack * OUTPUTS,)}


@cache
def load_weights(path: Path = WEIGHTS) -> tuple[Shape, dict[str, npt.NDArray[np.float32]]]:
    """Raises InputError where the file is missing or holds another net's arrays."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            raw = json.loads(file.metadata()["shape"])
            shape = Shape(raw["channels"], raw["kernel"], tuple(raw["gaps"]), raw["pack"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except OSError as error:
        raise InputError(f"{path}: the tracker's weights cannot be read ({error}); install plagal again") from None
    if {name: array.shape for name, array in arrays.items()} != shape.parameters() | FITTED:
        raise InputError(f"{path}: holds arrays of another net; install plagal again")
    return shape, arrays


def activations(inputs: npt.NDArray[np.float32]) -> Activations:
    """Chances (frames, OUTPUTS). Rounded to three digits: what is decided on them must not hang on the order in which a
    processor adds."""
    return run(*load_weights(), inputs)


def run(shape: Shape, arrays: dict[str, npt.NDArray[np.float32]], inputs: npt.NDArray[np.float32]) -> Activations:
    """What a net of these weights hears."""
    count = -(-len(inputs) // shape.pack)
    steps = np.zeros((count * shape.pack, INPUTS), dtype=np.float32)
    steps[: len(inputs)] = inputs
    steps = steps.reshape(count, -1)
    out = np.empty((count, shape.pack * OUTPUTS), dtype=np.float32)
    for begin in range(0, count, _CHUNK):
        low, high = max(0, begin - shape.reach), min(count, begin + _CHUNK + shape.reach)
        logits = _logits(shape, arrays, steps[low:high])
        end = min(begin + _CHUNK, count)
        out[begin:end] = logits[begin - low : end - low]
    return np.round(1.0 / (1.0 + np.exp(-out.reshape(-1, OUTPUTS)[: len(inputs)])), 3)


def _logits(shape: Shape, arrays: dict[str, npt.NDArray[np.float32]], inputs: npt.NDArray[np.float32]) -> Activations:
    hidden = _elu(inputs @ arrays["in.weight"] + arrays["in.bias"])
    count, width = hidden.shape
    for layer, gap in enumerate(shape.gaps):
        reach = gap * (shape.kernel // 2)
        padded = np.zeros((count + 2 * reach, width), dtype=np.float32)
        padded[reach : reach + count] = hidden
        taps = arrays[f"{layer}.taps.weight"].reshape(shape.kernel, width, width)
        inner = arrays[f"{layer}.taps.bias"] + padded[:count] @ taps[0]
        for tap in range(1, shape.kernel):
            inner += padded[tap * gap : tap * gap + count] @ taps[tap]
        hidden = hidden + _elu(inner) @ arrays[f"{layer}.out.weight"] + arrays[f"{layer}.out.bias"]
    return np.asarray(_elu(hidden) @ arrays["head.weight"] + arrays["head.bias"])


def _elu(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.where(values > 0, values, np.expm1(np.minimum(values, 0)))
