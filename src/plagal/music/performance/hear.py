"""From notes in seconds to beats, bars and metre.

Beats and bars are read from the net's activations by a bar-pointer model. A state is a place in a bar of two, three or
four beats and the interval to the beat before; all metres run side by side and may change at bar lines. It is the model
of Whiteley, Cemgil and Godsill ("Bayesian modelling of temporal structure in musical audio", ISMIR 2006) and of Böck's
trackers, taken from beat to beat in place of frame to frame (a semi-Markov form, equal because the tempo changes at
beats alone), which costs a tenth.

From beat to beat bars of two and of four, or a shuffle and 12/8, look alike; over a piece they do not. So beats are
decoded first, what speaks for each metre is summed over all of them, and six logistic curves weigh it. Their weights
lie beside the net's: `tools/train_tracker.py` fits them to performances by that net.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from plagal.music.performance.net import FRAMES_PER_SECOND, Activations, activations, features, load_weights, strikes
from plagal.music.performance.played import Floats, Ints, Played, Pulse
from plagal.music.performance.written import SIMPLE, place_notes
from plagal.music.score import ONSET, VELOCITY
from plagal.music.viterbi import best_path
from plagal.plumbing.errors import InputError

Costs = npt.NDArray[np.float32]

BAR_LENGTHS = (2, 3, 4)
METRES = {
    "2/4": (2, False), "3/4": (3, False), "4/4": (4, False), "6/8": (2, True), "9/8": (3, True), "12/8": (4, True),
}  # fmt: skip
"""Name -> beats in a bar, and whether they divide in three."""
SHORTEST, LONGEST = 9, 130
"""Frames from beat to beat: 0.18 to 2.6 s, the fastest scherzo and the slowest adagio among annotated performances."""

_RATIO_COST = 9.0
"""Of a change of the beat's length by a factor e. Human beats differ by some 5 to 10 % from one to the next."""
METRE_CHANGE = 7.0
_AROUND_USUAL = 0.35
"""Standard deviation of the logarithm of a beat against the piece's usual one, once that is known."""
_OF_TWO = 0.1
"""Cost of a beat in a bar of two. At 0 a third of the made validation pieces in four were heard in two; at 0.2 nearly
all that are in two were heard in four."""
RARE = 0.01
"""Activations below say no more than this."""
_IMPOSSIBLE = np.float32(-1e9)

STATES = tuple((length, place) for length in BAR_LENGTHS for place in range(length))


def _usual(length: int, place: int) -> float:
    """How frequent such a place is: a downbeat in every second beat is not a surprise, one in every fourth is."""
    return 1.0 / length if place == 0 else 1.0 - 1.0 / length


@dataclass(frozen=True, slots=True)
class Hints:
    """What somebody who knows says, and what then holds whatever is heard."""

    bpm: float | None = None
    """Counted beats a minute."""
    metre: str | None = None
    """As "3/4" or "12/8"."""
    first_downbeat: float | None = None
    """[s]"""


@dataclass(frozen=True, eq=False)
class Path:
    """The best reading: frames of the beats, their places in bars and the bars' lengths, all (beats,), and its score a
    beat."""

    frames: Ints
    in_bar: Ints
    length: Ints
    score: float


def intervals() -> Ints:
    """Frames from beat to beat that are tried: each up to 32, then in steps of 4 %: a frame beside the place is as good
    as on it (`_widened`), so these leave no gap."""
    steps = list(range(SHORTEST, 33))
    while steps[-1] < LONGEST:
        steps.append(max(steps[-1] + 2, round(steps[-1] * 1.04)))
    return np.array(steps)


def read_bars(
    heard: Activations, first: int, last: int, hints: Hints, progress: Callable[[int], object] | None = None
) -> Path:
    """The beats by `decode`; twice where the first reading leaves its tempo for long: a stretch in which the net is
    unsure of weak beats is read bar by bar, at a third of the tempo, and a cost of the leap alone does not prevent it.
    What does is holding each beat against the piece's usual one. (Seen in a picture of a hymn played by hand.)"""
    path = decode(heard, first, last, hints, progress)
    steps = np.diff(path.frames)
    if hints.bpm is not None or len(steps) < 8:
        return path
    usual = float(np.median(steps))
    if np.mean(np.abs(np.log(steps / usual)) > 0.5) < 0.03:
        return path
    return decode(heard, first, last, hints, progress, usual)


def decode(
    heard: Activations,
    first: int,
    last: int,
    hints: Hints,
    progress: Callable[[int], object] | None = None,
    usual: float | None = None,
) -> Path:
    """The beats between frame `first` (of the first onset) and `last` (of the last). `heard` has shape (frames, 3).
    `progress` is told the frames done. `usual`: frames of the piece's usual beat, where it is known."""
    steps = intervals()
    gains = _gains(heard, hints)
    frames = len(gains)
    turn = _turns(steps)
    favour = _favour(steps, hints, usual)
    lengths = BAR_LENGTHS if hints.metre is None else (METRES[hints.metre][0],)
    open_states = np.array([length in lengths for length, _ in STATES])
    candidates = _candidates(heard[:, 0], hints)

    # carried[t mod ring, s, j]: the best score of a beat at t in state s, once its next interval is to be j.
    ring = int(steps[-1]) + 1
    carried = np.full((ring, len(STATES), len(steps)), _IMPOSSIBLE, dtype=np.float32)
    came_by = np.zeros((frames, len(STATES), len(steps)), dtype=np.uint8)
    came_from = np.zeros((frames, len(BAR_LENGTHS), len(steps)), dtype=np.uint8)
    began = np.zeros((min(frames, first + LONGEST + 1), len(STATES), len(steps)), dtype=bool)
    best: tuple[float, int, int, int] = (float(_IMPOSSIBLE), first, 0, 0)
    before = np.arange(len(STATES)) - 1
    downbeats = np.flatnonzero([place == 0 for _, place in STATES])
    bar_ends = np.flatnonzero([place == length - 1 for length, place in STATES])
    change = np.where(np.eye(len(BAR_LENGTHS), dtype=bool), 0.0, -METRE_CHANGE).astype(np.float32)
    opening = np.where(open_states, np.float32(0), _IMPOSSIBLE)
    j_all = np.arange(len(steps))

    for begin in range(0, frames, SHORTEST):
        block = np.arange(begin, min(begin + SHORTEST, frames))
        chosen = block[candidates[block]]
        carried[block % ring] = _IMPOSSIBLE
        if progress and begin % (SHORTEST * 500) == 0:
            progress(begin)
        if not len(chosen):
            continue
        source = carried[(chosen[:, None] - steps[None, :]) % ring, :, j_all].transpose(0, 2, 1)
        source = np.where((chosen[:, None] >= steps[None, :])[:, None, :], source, _IMPOSSIBLE)
        value = source[:, before, :]
        ends = source[:, bar_ends, :]
        turns = ends[:, None, :, :] + change[None, :, :, None]
        came_from[chosen] = turns.argmax(axis=2)
        value[:, downbeats, :] = turns.max(axis=2)
        value = value + favour
        starts = (chosen >= first - 3) & (chosen <= first + LONGEST)
        entry = np.where(starts[:, None], opening[None, :], _IMPOSSIBLE)[:, :, None] + favour
        early = chosen < len(began)
        began[chosen[early]] = (entry > value)[early]
        value = np.maximum(value, entry) + gains[chosen][:, :, None] + opening[None, :, None]
        late = np.flatnonzero(chosen >= last - LONGEST)
        for place in late[chosen[late] <= last + 3]:
            s, j = np.unravel_index(int(value[place].argmax()), value[place].shape)
            if value[place, s, j] > best[0]:
                best = (float(value[place, s, j]), int(chosen[place]), int(s), int(j))
        ahead = value[:, :, None, :] + turn
        way = ahead.argmax(axis=3)
        came_by[chosen] = way
        carried[chosen % ring] = np.take_along_axis(ahead, way[:, :, :, None], axis=3)[:, :, :, 0]

    score, frame, state, step = best
    path: list[tuple[int, int]] = []
    while True:
        path.append((frame, state))
        if (frame < len(began) and began[frame, state, step]) or frame < steps[step]:
            break
        length, place = STATES[state]
        earlier = bar_ends[came_from[frame, BAR_LENGTHS.index(length), step]] if place == 0 else state - 1
        frame -= int(steps[step])
        step, state = int(came_by[frame, earlier, step]), int(earlier)
    frames_of_beats, states = np.array(path[::-1]).T
    length, in_bar = np.array(STATES)[states].T
    return Path(frames_of_beats, in_bar, length, score / max(1, len(path)))


def _gains(heard: Activations, hints: Hints) -> Costs:
    """What a beat at each frame in each state is worth over none: shape (frames, states)."""
    beat = np.clip(heard[:, 0], RARE, 0.99).astype(np.float64)
    likely = np.clip(_widened(heard[:, 0]) - np.where(_widened(heard[:, 0]) > heard[:, 0], 0.02, 0.0), RARE, 0.99)
    silent = np.log(1.0 - beat)
    around = silent + np.append(silent[1:], 0.0) + np.append(0.0, silent[:-1])
    worth = np.log(likely) - around
    share = np.clip(_widened(heard[:, 1]) / np.maximum(_widened(heard[:, 0]), RARE), 0.04, 0.96)
    gains = np.empty((len(heard), len(STATES)), dtype=np.float32)
    for state, (length, place) in enumerate(STATES):
        gains[:, state] = worth + np.log(share if place == 0 else 1.0 - share) - np.log(_usual(length, place))
        gains[:, state] -= _OF_TWO * (length == 2)
    if hints.first_downbeat is not None:
        gains[_frame(hints.first_downbeat, len(gains))] = [200.0 if place == 0 else -200.0 for _, place in STATES]
    return gains


def _frame(second: float, frames: int) -> int:
    return min(max(round(second * FRAMES_PER_SECOND), 0), frames - 1)


def _widened(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The largest of a frame and its neighbours."""
    padded = np.pad(values, 1)
    return np.maximum(np.maximum(padded[:-2], padded[2:]), values)


def _candidates(beat: npt.NDArray[np.float32], hints: Hints) -> npt.NDArray[np.bool_]:
    """Frames where a beat may be: those that the net thinks possible, and all where it is sure of none nearby."""
    reach = FRAMES_PER_SECOND // 4
    summed = np.concatenate([[0], np.cumsum(beat > 0.1)])
    places = np.arange(len(beat))
    near = summed[np.minimum(places + reach + 1, len(beat))] - summed[np.maximum(places - reach, 0)]
    chosen: npt.NDArray[np.bool_] = (_widened(beat) > 0.04) | (near == 0)
    if hints.first_downbeat is not None:
        chosen[_frame(hints.first_downbeat, len(beat))] = True
    return chosen


def _turns(steps: Ints) -> Costs:
    """Score of going from interval i to j: shape (j, i). Half a frame of either is the raster's, not the player's."""
    ratio = np.abs(np.log(steps[:, None] / steps[None, :]))
    ratio = np.maximum(0.0, ratio - 0.5 / np.maximum(steps[:, None], steps[None, :]))
    return (-_RATIO_COST * ratio).astype(np.float32)


def _favour(steps: Ints, hints: Hints, usual: float | None) -> Costs:
    """Score of each interval by itself: with a tempo given, near it; else slightly for what is usual, 0.6 s."""
    seconds = steps / FRAMES_PER_SECOND
    if hints.bpm is not None:
        around = (np.log(seconds * hints.bpm / 60.0) / 0.12) ** 2
    elif usual is not None:
        around = (np.log(steps / usual) / _AROUND_USUAL) ** 2
    else:
        around = np.log(seconds / 0.6) ** 2 * 0.3
    return np.asarray(-0.5 * around, dtype=np.float32)


_FAVOUR = 0.2
"""What a beat in a bar of the piece's own length is worth more: enough against single bars, too little against a
stretch that is clearly in another metre."""


def shares(path: Path, heard: Activations) -> Floats:
    """How much of each beat's chance is that of a downbeat: shape (beats,)."""
    beat, down = _around(path, heard)[:, :2].T
    return np.asarray(np.clip(down / np.maximum(beat, RARE), 0.04, 0.96))


def _around(path: Path, heard: Activations) -> Floats:
    """The largest activations of each beat's frame and its neighbours: shape (beats, outputs)."""
    return np.asarray(heard[_beside(path, heard)].max(axis=1), dtype=np.float64)


def _beside(path: Path, heard: Activations) -> Ints:
    """Each beat's frame and its neighbours: shape (beats, 3)."""
    return np.asarray(np.clip(path.frames[:, None] + np.array([-1, 0, 1]), 0, len(heard) - 1))


def read_places(share: Floats, favour: Floats) -> tuple[Ints, Ints, float]:
    """The best place in the bar of each beat, and its bar's length, shapes (beats,), and the score of a beat; `favour`,
    shape (lengths,), is what a beat in each length is worth by itself."""
    gains = np.empty((len(share), len(STATES)))
    for state, (length, place) in enumerate(STATES):
        gains[:, state] = np.log(share if place == 0 else 1.0 - share) - np.log(_usual(length, place))
        gains[:, state] += favour[BAR_LENGTHS.index(length)]
    # Row: from; column: to. Places follow each other, a bar's end leads to any downbeat: no bar is cut.
    ways = np.full((len(STATES), len(STATES)), -np.inf)
    for (row, (length, place)), (column, (after, there)) in product(enumerate(STATES), repeat=2):
        if place == length - 1 and there == 0:
            ways[row, column] = 0.0 if after == length else -METRE_CHANGE
        elif after == length and there == place + 1:
            ways[row, column] = 0.0
    chosen, worth = best_path(gains, lambda _: ways)
    lengths, places = np.array(STATES)[chosen].T
    return places, lengths, worth / len(share)


def witnesses(played: Played, pulse: Pulse, path: Path, heard: Activations) -> Floats:
    """What speaks for one metre or another, over the whole piece: shape (WITNESSES,)."""
    share, beats = shares(path, heard), len(path.frames)
    scores = [read_places(share, np.where(np.array(BAR_LENGTHS) == length, 0.0, -9.0))[2] for length in BAR_LENGTHS]
    onsets = np.unique(place_notes(played, pulse).ticks)
    beat, part = onsets // SIMPLE, onsets % SIMPLE
    divisions = ((8, 16), (8,), (16,), (12,), (6, 18), (4, 20))
    divided = [len(np.unique(beat[np.isin(part, division)])) / beats for division in divisions]
    chances = np.clip(np.median(heard[path.frames, 2:].astype(np.float64), axis=0), 0.01, 0.99)
    tempo = np.log(pulse.bpm / 80.0)
    struck = np.log(len(np.unique(strikes(played.notes[:, ONSET]))) / beats)
    lengths = [np.mean(path.length == length) for length in BAR_LENGTHS]
    crossed = [tempo * tempo, tempo * divided[0], tempo * (scores[2] - scores[0])]
    return np.array([1.0, *scores, *lengths, *divided, *_logit(chances), tempo, struck, *crossed])


def metre_chances(seen: Floats) -> Floats:
    """The chance of each of `METRES`, in their order, by what was witnessed."""
    logits = seen @ load_weights()[1]["metre.weight"].astype(np.float64)
    chances = np.exp(logits - logits.max())
    return np.asarray(chances / chances.sum())


def in_metre(path: Path, heard: Activations, chances: Floats, hints: Hints) -> tuple[Path, bool, float]:
    """The path with its bars read again in favour of the likeliest metre, or of the one that `hints` say; whether its
    beats divide in three; and the chance of bars of this length."""
    names = list(METRES)
    beats, compound = METRES[hints.metre or names[int(chances.argmax())]]
    if hints.metre is not None:
        return path, compound, 1.0
    share = shares(path, heard)
    if hints.first_downbeat is not None:
        share[np.abs(path.frames - hints.first_downbeat * FRAMES_PER_SECOND).argmin()] = 1.0 - 1e-15
    places, lengths, _ = read_places(share, _FAVOUR * (np.array(BAR_LENGTHS) == beats))
    of_length = sum(chance for chance, name in zip(chances.tolist(), names, strict=True) if METRES[name][0] == beats)
    return replace(path, in_bar=places, length=lengths), compound, of_length


def how_sure(path: Path, heard: Activations, of_length: float) -> Floats:
    """How sure each beat is: the logistic curve of the mean is the chance that the downbeats' F is over 0.8."""
    return sureness(path, heard, of_length) @ load_weights()[1]["sure.weight"].astype(np.float64)


def sureness(path: Path, heard: Activations, of_length: float) -> Floats:
    """What speaks for each beat's being read right: shape (beats, 5). How likely the net thinks the beat, and the place
    in the bar; how sure the length of the piece's bars is; and by how much all beats together prefer these bar lines to
    others as far apart, which may be clear where no single bar is."""
    around, down = _around(path, heard), shares(path, heard)
    right = np.where(path.in_bar == 0, down, 1.0 - down)
    of_length = float(_logit(np.clip(of_length, 0.02, 0.98)))
    moved = [
        np.sum(np.where((path.in_bar - shift) % path.length == 0, np.log(down), np.log(1.0 - down)))
        for shift in range(int(path.length.max()))
    ]
    ahead = np.log1p(max(0.0, moved[0] - max(moved[1:])))
    one = np.ones(len(right))
    return np.stack([one, around[:, 0], right, of_length * one, ahead * one], axis=1)


def _logit(chances: Floats) -> Floats:
    return np.asarray(np.log(chances / (1.0 - chances)))


_NEAR = 0.05
"""Seconds around a beat in which strikes are taken to be it: within, the beat is their mean."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A pulse, and how sure it is. `confidence`: the chance that the downbeats are right (their F over 0.8)."""

    pulse: Pulse
    confidence: float
    by_beat: Floats
    """What the confidence is made of: `calibrated` of its mean, shape (beats,)."""


def hear(played: Played, hints: Hints | None = None, progress: Callable[[float], object] | None = None) -> Heard:
    """Beats, bars and metre of what was played. Raises InputError where fewer than two beats fit in it, and for hints
    that no metre or tempo can have. `progress` is told the seconds heard so far."""
    hints = hints or Hints()
    check_hints(hints, played)
    heard = activations(features(played))
    path, pulse = beats_in(played, heard, hints, progress)
    chances = metre_chances(witnesses(played, pulse, path, heard))
    path, threes, of_length = in_metre(path, heard, chances, hints)
    by_beat = how_sure(path, heard, of_length)
    pulse = Pulse(pulse.seconds, path.in_bar, path.length, np.full(len(pulse.seconds), threes))
    return Heard(pulse, calibrated(float(by_beat.mean())), by_beat)


def beats_in(
    played: Played, heard: Activations, hints: Hints, progress: Callable[[float], object] | None = None
) -> tuple[Path, Pulse]:
    """The beats of what was played, each taken to divide in two: where the whole piece's metre is weighed from. Raises
    InputError where fewer than two fit in it."""
    first = int(played.notes[0, ONSET] * FRAMES_PER_SECOND)
    last = int(played.notes[-1, ONSET] * FRAMES_PER_SECOND)
    path = read_bars(heard, first, last, hints, progress and (lambda frame: progress(frame / FRAMES_PER_SECOND)))
    if len(path.frames) < 2:
        raise InputError("too short to hear a beat in: play at least two beats, or give --bpm and --metre")
    simple = np.zeros(len(path.frames), dtype=bool)
    return path, Pulse(_seconds(path, heard, played), path.in_bar, path.length, simple)


def check_hints(hints: Hints, played: Played) -> None:
    if hints.metre is not None and hints.metre not in METRES:
        raise InputError(f"metre {hints.metre!r} cannot be heard; give one of {', '.join(METRES)}")
    if hints.bpm is not None and not 20 <= hints.bpm <= 340:
        raise InputError(f"{hints.bpm:g} beats a minute is out of range; give 20 to 340")
    if hints.first_downbeat is not None and not 0 <= hints.first_downbeat <= played.seconds:
        outside = f"lies outside the music (0 to {played.seconds:.1f} s)"
        raise InputError(f"a first downbeat at {hints.first_downbeat:g} s {outside}")


def _seconds(path: Path, heard: Activations, played: Played) -> Floats:
    """The beats as finer than frames as the notes allow: the mean of the strikes near each, louder ones weighing more;
    where there are none, the centre of the activations."""
    onsets, weights = played.notes[:, ONSET], played.notes[:, VELOCITY]
    count = np.concatenate([[0.0], np.cumsum(weights)])
    moment = np.concatenate([[0.0], np.cumsum(weights * onsets)])
    around = _beside(path, heard)
    share = heard[around, 0].astype(np.float64) + 1e-6
    centre = (share * around).sum(axis=1) / share.sum(axis=1) / FRAMES_PER_SECOND
    low, high = np.searchsorted(onsets, centre - _NEAR), np.searchsorted(onsets, centre + _NEAR)
    struck = count[high] - count[low]
    seconds = np.where(struck > 0, (moment[high] - moment[low]) / np.maximum(struck, 1e-9), centre)
    # Never out of order, whatever the strikes between two near beats say.
    apart = 1e-4 * np.arange(len(seconds))
    return np.asarray(np.maximum.accumulate(seconds - apart) + apart)


def calibrated(raw: float) -> float:
    return float(1.0 / (1.0 + np.exp(-raw)))


def raw_of(confidence: float) -> float:
    """The mean over beats that `calibrated` maps to this confidence."""
    return float(np.log(confidence / (1.0 - confidence)))
