"""The small net and what it is shown, on NumPy: from notes to chances of beat and downbeat, frame by frame.

It sees 20 ms frames of what was struck, how low, how loud, how long, and where the harmony turns. No pitch stands in
them as such, so a transposed performance looks the same but for its registers. The net is dilated convolutions with
skips, as in Davies and Böck, "Temporal convolutional networks for musical audio beat tracking" (EUSIPCO 2019), over
what was struck in place of a spectrogram. `tools/train_tracker.py` trains it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plagal.music.performance.played import Floats, Ints, Played, pedal_ends
from plagal.music.score import DURATION, ONSET, PITCH, VELOCITY
from plagal.plumbing.errors import InputError

FRAMES_PER_SECOND = 50
INPUTS = 22

_TOGETHER = 0.035
"""Notes that follow each other faster [s] are one strike; a trill's are further apart."""
_LONGEST = 4.0
"""Gaps and lengths are cut here [s]: longer ones say no more about the beat."""
_REGISTERS = (48, 60, 72)
_TURNS = (0.35, 0.9, 2.0)
"""Seconds before and after a moment between which the harmony is compared."""


def strikes(onsets: Floats) -> Ints:
    """The number of each note's strike: notes less than 35 ms after the one before belong to the same, up to 70 ms in
    all. `onsets` sorted; shape (notes,)."""
    numbers, begin = [0], float(onsets[0])
    for before, onset in pairwise(onsets.tolist()):
        apart = onset - before > _TOGETHER or onset - begin > 2 * _TOGETHER
        begin = onset if apart else begin
        numbers.append(numbers[-1] + apart)
    return np.array(numbers)


def features(played: Played) -> npt.NDArray[np.float32]:
    """Shape (frames, INPUTS), from second 0 to two seconds after the last onset."""
    notes = played.notes
    onset, pitch, loud = notes[:, ONSET], notes[:, PITCH], notes[:, VELOCITY]
    frames = int((onset[-1] + 2.0) * FRAMES_PER_SECOND) + 1
    out = np.zeros((frames, INPUTS), dtype=np.float32)
    ends = pedal_ends(played)

    def put(column: int, times: Floats, amounts: Floats) -> None:
        # Between two frames the amount is shared, so that 5 ms are not lost to the raster.
        at = np.clip(times * FRAMES_PER_SECOND, 0, frames - 2)
        low = at.astype(np.int64)
        part = at - low
        out[:, column] += np.bincount(low, amounts * (1 - part), frames)[:frames].astype(np.float32)
        out[:, column] += np.bincount(low + 1, amounts * part, frames)[:frames].astype(np.float32)

    def put_gaps(column: int, times: Floats) -> None:
        """How long it is to the next, and how long it was since the one before."""
        gaps = np.concatenate([[_LONGEST], np.diff(times), [_LONGEST]])
        put(column, times, _scaled(gaps[1:]))
        put(column + 1, times, _scaled(gaps[:-1]))

    # Struck: how much in all, and in each register.
    put(0, onset, loud / 64.0)
    put(1, onset, np.ones(len(onset)))
    register = np.digitize(pitch, _REGISTERS)
    for number in range(4):
        put(2 + number, onset[register == number], loud[register == number] / 64.0)
    out[:, :6] = np.log1p(out[:, :6])

    # Strikes: what each is against its surroundings.
    strike = strikes(onset)
    firsts = np.flatnonzero(np.diff(strike, prepend=-1))
    counts = np.diff(np.append(firsts, len(onset)))
    time = np.add.reduceat(onset, firsts) / counts
    lowest = np.minimum.reduceat(pitch, firsts)
    highest = np.maximum.reduceat(pitch, firsts)
    loudest = np.maximum.reduceat(loud, firsts)
    put(6, time, (_around(lowest) - lowest) / 12.0)
    put(7, time, (loudest - _around(loudest)) / 16.0)
    put(8, time, _scaled(np.maximum.reduceat(notes[:, DURATION], firsts)))
    put(9, time, _scaled(np.maximum.reduceat(ends - onset, firsts)))
    put_gaps(10, time)

    # The bass and the top by themselves: long and new notes there mark beats.
    bass, top = lowest <= np.minimum(_around(lowest), 55), highest >= _around(highest) - 5
    for column, moments, tones in ((12, time[bass], lowest[bass]), (15, time[top], highest[top])):
        put_gaps(column, moments)
        put(column + 2, moments, (np.diff(tones % 12, prepend=-1) != 0).astype(np.float64))

    # Harmony: how unlike the pitch classes just before and just after are.
    chroma = np.zeros((frames + 1, 12))
    at = np.clip((onset * FRAMES_PER_SECOND).astype(np.int64), 0, frames - 1)
    np.add.at(chroma, (at + 1, pitch.astype(np.int64) % 12), np.minimum(notes[:, DURATION], 1.0) + 0.1)
    summed = np.cumsum(chroma, axis=0)
    places = np.arange(frames)
    for column, seconds in zip((18, 19, 20), _TURNS, strict=True):
        reach = int(seconds * FRAMES_PER_SECOND)
        before = summed[np.maximum(places - 1, 0)] - summed[np.maximum(places - reach, 0)]
        after = summed[np.minimum(places + reach, frames)] - summed[np.maximum(places - 1, 0)]
        sizes = np.sqrt((before**2).sum(axis=1) * (after**2).sum(axis=1))
        out[:, column] = np.where(sizes > 0, 1.0 - (before * after).sum(axis=1) / np.maximum(sizes, 1e-9), 0.5)
    if len(played.pedal):
        put(21, played.pedal[:, 0], np.where(played.pedal[:, 1] > 0, 1.0, -1.0))
    return out


def _around(values: Floats) -> Floats:
    """The mean over the eight strikes on either side."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - 8, 0), np.minimum(places + 9, len(values))
    return np.asarray((summed[high] - summed[low]) / (high - low))


def _scaled(seconds: Floats) -> Floats:
    """Lengths on a scale that sets 0.1 s and 0.2 s as far apart as 1 s and 2 s: 0 to 2."""
    return np.asarray(np.log2(1.0 + 10.0 * np.clip(seconds, 0.0, _LONGEST)) / 2.7)


Activations = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights.safetensors"
OUTPUTS = 6
"""Chances of a beat, of a downbeat, of a beat that divides in three, and of a bar of two, three and four beats."""
WITNESSES = 22
FITTED = {"metre.weight": (WITNESSES, 6), "sure.weight": (5,)}
"""Name -> size of what `metre_chances` and `how_sure` weigh with; it lies beside the net."""
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
