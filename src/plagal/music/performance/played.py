"""Music in seconds: notes as fingers struck them, and the pulse that a listener taps to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.midi import FIRST_EFFECT_PROGRAM, PEDAL_CONTROLLER, file_bytes, parse, piano_tracks, whole_offset
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    TICKS_PER_QUARTER,
    VELOCITY,
    Metre,
    Score,
)
from plagal.plumbing.errors import InputError, MidiError
from plagal.plumbing.files import atomic_path

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PEDAL_DOWN = 64
"""Controller values from here on hold the strings."""


@dataclass(frozen=True, eq=False)
class Played:
    """Notes in seconds, sorted by (onset, pitch): shape (notes, 4), with the columns of a score's notes (`ONSET`,
    `PITCH`, `DURATION`, `VELOCITY`). `pedal`, shape (moves, 2): seconds, and 1 where it goes down, 0 where it lifts."""

    notes: Floats
    pedal: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    title: str = ""

    def __post_init__(self) -> None:
        if not len(self.notes):
            raise InputError("nothing was played: there is no note to hear a beat in")

    @property
    def seconds(self) -> float:
        """When the last key is let go."""
        return float((self.notes[:, ONSET] + self.notes[:, DURATION]).max())


@dataclass(frozen=True, eq=False)
class Pulse:
    """Beats as a musician counts them: a dotted quarter in 6/8, 9/8 and 12/8. All shapes (beats,)."""

    seconds: Floats
    in_bar: Ints
    """0 at a downbeat, then counting."""
    length: Ints
    """Beats in the bar that holds this beat."""
    compound: npt.NDArray[np.bool_]
    """Whether the beat divides in three."""

    @property
    def downbeats(self) -> Floats:
        return np.asarray(self.seconds[self.in_bar == 0])

    @property
    def metre(self) -> str:
        """The metre that holds longest, as "4/4" or "12/8"."""
        names, counts = np.unique(self.length * 2 + self.compound, return_counts=True)
        longest = int(names[np.argmax(counts)])
        return f"{longest // 2 * 3}/8" if longest % 2 else f"{longest // 2}/4"

    @property
    def bpm(self) -> float:
        """Beats a minute, by the median beat."""
        return float(60.0 / np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else 60.0


def beat_ticks(metre: Metre) -> int:
    """Ticks from one counted beat to the next: three units where the numerator is 6, 9 or 12, else one."""
    unit = 4 * TICKS_PER_QUARTER // metre.denominator
    return 3 * unit if metre.numerator in (6, 9, 12) else unit


def pedal_ends(played: Played) -> Floats:
    """When each note falls silent [s], the pedal counted: shape (notes,)."""
    ends = played.notes[:, ONSET] + played.notes[:, DURATION]
    if not len(played.pedal):
        return ends
    times, down = played.pedal[:, 0], played.pedal[:, 1] > 0
    place = np.searchsorted(times, ends, side="right") - 1
    held = (place >= 0) & down[np.maximum(place, 0)]
    # The next lift after each move; the last pedal is never longer than the music.
    lifts = np.where(down, np.inf, times)
    following = np.minimum.accumulate(lifts[::-1])[::-1]
    until = np.minimum(following[np.maximum(place, 0)], ends.max())
    return np.asarray(np.where(held, np.maximum(until, ends), ends))


def seconds_at(score: Score, ticks: npt.NDArray[Any]) -> Floats:
    """When each tick of the score is played by its tempos [s]."""
    onsets = np.array([tempo.onset for tempo in score.tempos], dtype=np.float64)
    per_tick = np.array([60.0 / tempo.quarters_per_minute / TICKS_PER_QUARTER for tempo in score.tempos])
    begins = np.concatenate([[0.0], np.cumsum(np.diff(onsets) * per_tick[:-1])])
    place = np.maximum(np.searchsorted(onsets, ticks, side="right") - 1, 0)
    return np.asarray(begins[place] + (np.asarray(ticks) - onsets[place]) * per_tick[place], dtype=np.float64)


def raw_onsets(source: str | Path | bytes) -> tuple[Ints, int]:
    """The onsets of a MIDI file in its own ticks, sorted, what they have in common off its grid taken away; and its
    ticks to the quarter. Raises as `read_played`."""
    file = _parsed(source)
    onsets = np.sort(np.concatenate([track.notes.numpy()["time"].astype(np.int64) for track in _pitched(file)]))
    return onsets - whole_offset(onsets, file.ticks_per_quarter), int(file.ticks_per_quarter)


def _parsed(source: str | Path | bytes) -> Any:
    file = parse(source if isinstance(source, bytes) else file_bytes(Path(source)))
    if not any(len(track.notes) for track in _pitched(file)):
        name = "MIDI bytes" if isinstance(source, bytes) else str(source)
        raise MidiError(f"{name}: holds no notes to play on a piano")
    return file


def _pitched(file: Any) -> list[Any]:
    """The piano's tracks, as `load` chooses them."""
    pitched = [track for track in file.tracks if not track.is_drum and track.program < FIRST_EFFECT_PROGRAM]
    return piano_tracks(pitched, Counter())


def read_played(source: str | Path | bytes) -> Played:
    """The notes of a MIDI file in seconds, by its own tempo map; drums and sound effects are left out, as `read_midi`
    leaves them out. Raises MidiError for bytes that are no MIDI, InputError for a missing file or one without notes."""
    file = _parsed(source).to("second")
    rows, moves = [], []
    for track in _pitched(file):
        columns = track.notes.numpy()
        names = ("time", "pitch", "duration", "velocity")
        rows.append(np.stack([columns[name].astype(np.float64) for name in names], axis=1))
        controls = track.controls.numpy()
        chosen = controls["number"] == PEDAL_CONTROLLER
        down = (controls["value"][chosen] >= PEDAL_DOWN).astype(np.float64)
        moves.append(np.stack([controls["time"][chosen].astype(np.float64), down], axis=1))
    notes = np.concatenate(rows)
    notes = notes[(notes[:, VELOCITY] > 0) & (notes[:, PITCH] >= LOWEST_PITCH) & (notes[:, PITCH] <= HIGHEST_PITCH)]
    if not len(notes):
        raise MidiError("holds no notes on a piano's 88 keys")
    pedal = np.concatenate(moves)
    pedal = pedal[np.argsort(pedal[:, 0], kind="stable")]
    pedal = pedal[np.flatnonzero(np.diff(pedal[:, 1], prepend=0.0))]
    title = next((track.name for track in file.tracks if track.name), "")
    return Played(notes[np.lexsort((notes[:, PITCH], notes[:, ONSET]))], pedal, title)


_TICKS_A_SECOND = 960
"""Of the click's file: at 120 quarters a minute and 480 ticks to the quarter a tick is about a millisecond."""
_HIGH_CLICK, _LOW_CLICK = 76, 77
"""General MIDI's wood blocks: downbeat and beat."""


def write_click(played: Played, pulse: Pulse, path: str | Path) -> None:
    """Write a MIDI file of the playing as it was, and a wood block on channel 10 at each beat, higher at downbeats."""
    import symusic

    file = symusic.Score(480)
    file.tempos.append(symusic.Tempo(0, 120.0))
    piano = symusic.Track(name=played.title.encode("utf-8", "replace").decode(), program=0, is_drum=False)
    for onset, pitch, duration, velocity in played.notes.tolist():
        begin = round(onset * _TICKS_A_SECOND)
        ticks = max(1, round(duration * _TICKS_A_SECOND))
        piano.notes.append(symusic.Note(begin, ticks, int(pitch), int(velocity)))
    for second, down in played.pedal.tolist():
        piano.controls.append(symusic.ControlChange(round(second * _TICKS_A_SECOND), 64, 127 if down else 0))
    click = symusic.Track(name="click", program=0, is_drum=True)
    for second, place in zip(pulse.seconds.tolist(), pulse.in_bar.tolist(), strict=True):
        pitch = _LOW_CLICK if place else _HIGH_CLICK
        click.notes.append(symusic.Note(round(max(second, 0.0) * _TICKS_A_SECOND), 48, pitch, 80 if place else 110))
    file.tracks.append(piano)
    file.tracks.append(click)
    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes(file.dumps_midi()))
