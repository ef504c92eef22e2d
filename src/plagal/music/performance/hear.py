"""From notes in seconds to beats, bars and metre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plagal.music.performance.decode import METRES, Hints, Path, read_bars
from plagal.music.performance.features import FRAMES_PER_SECOND, features
from plagal.music.performance.metre import how_sure, in_metre, metre_chances, witnesses
from plagal.music.performance.net import Activations, activations
from plagal.music.performance.played import Floats, Played, Pulse
from plagal.music.score import ONSET, VELOCITY
from plagal.plumbing.errors import InputError

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
        raise InputError(f"{hints.bpm:g} beats a minute cannot be tapped; give 20 to 340")
    if hints.first_downbeat is not None and not 0 <= hints.first_downbeat <= played.seconds:
        raise InputError(
            f"a first downbeat at {hints.first_downbeat:g} s lies outside the music (0 to {played.seconds:.1f} s)"
        )


def _seconds(path: Path, heard: Activations, played: Played) -> Floats:
    """The beats as finer than frames as the notes allow: the mean of the strikes near each, louder ones weighing more;
    where there are none, the centre of the activations."""
    onsets, weights = played.notes[:, ONSET], played.notes[:, VELOCITY]
    count = np.concatenate([[0.0], np.cumsum(weights)])
    moment = np.concatenate([[0.0], np.cumsum(weights * onsets)])
    around = np.clip(path.frames[:, None] + np.array([-1, 0, 1]), 0, len(heard) - 1)
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
