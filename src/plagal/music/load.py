"""A score from any file that is read: the one door for music on disk, and what a file's own beat is worth there.

A MIDI file whose onsets stand on its grid is left alone. One recorded to a click has the grid right and the fingers
beside it: its notes are placed in bars again, by its own beats. Of anything else the beats are heard.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from plagal.music.barlines import with_heard_bars
from plagal.music.grid import bar_lines, last_event, regular
from plagal.music.harmony import with_heard_keys
from plagal.music.midi import read_midi
from plagal.music.performance.hear import Hints, calibrated, hear, raw_of
from plagal.music.performance.played import Ints, Played, Pulse, beat_ticks, raw_onsets, read_played, seconds_at
from plagal.music.performance.written import write_down
from plagal.music.score import ONSET, TICKS_PER_QUARTER, Score

NOTATION = frozenset((".abc", ".musicxml", ".mxl", ".xml", ".krn", ".ly"))


def load(path: str | Path) -> Score:
    """A score from a file: MIDI (.mid, .midi, .kar; one that keeps no grid is heard as a performance), or notation
    (.abc, .musicxml, .mxl, .xml, .krn, .ly). Raises InputError or one of its kinds, naming the file."""
    path = Path(path)
    if path.suffix.lower() in NOTATION:
        from plagal.music.notation import load_notation  # its parsers take a while to import

        return load_notation(path)
    return as_played(path, read_midi(path, heard=True))


TO_CLICK, BY_EAR = "played_to_click", "played_by_ear"
"""Losses that say how a file without a grid of its own got one: 1 where it is so."""

_KEPT = 0.75
"""Share of onsets within an eighth of a tick of the grid from which on a file is taken as written; of onsets at random
a quarter lies there. All notation at hand has 0.9 or more."""
_PHASES = 24
_CLICK = 0.3
"""Length of the mean vector of the onsets' places in the beat, taken once, twice, three or four times round: 1 on the
grid, near 0 where playing and grid know nothing of each other. Fingers 15 ms beside sixteenths at 90 give 0.7."""
_EARLY = 0.06
"""A note so little [s] before a bar line belongs to it."""
_OF_TRACKS = frozenset({"notes_drums", "notes_effects", "notes_other_parts", "notes_out_of_range", "tracks_merged"})
"""What a plain reading tells that is true of a heard one, too."""
_FEWEST = 24
"""Onsets below which nothing can be said: such a file is taken as it is."""


def keeps_grid(onsets: Ints, per_quarter: int) -> bool:
    """Whether these onsets [file ticks] were written, not played: nearly all on the grid of 24 to the quarter, or on a
    few places of the beat that come again and again, as a sequencer's swing makes them."""
    if len(onsets) < _FEWEST:
        return True
    off = (onsets * TICKS_PER_QUARTER + per_quarter // 2) % per_quarter - per_quarter // 2
    if np.mean(np.abs(off) * 8 <= per_quarter) >= _KEPT:
        return True
    _, counts = np.unique(onsets % per_quarter, return_counts=True)
    return bool(per_quarter >= 4 * _PHASES and np.sort(counts)[-_PHASES:].sum() >= 0.9 * len(onsets))


def click_offset(onsets: Ints, per_quarter: int) -> float | None:
    """How late the onsets are against the file's beats [quarters], where they crowd around the beats and their parts,
    by the mean vector (Rayleigh's measure); None where they do not."""
    angles = 2j * np.pi * (onsets % per_quarter) / per_quarter
    means = [(np.exp(times * angles).mean(), times) for times in (1, 2, 3, 4)]
    clearest, times = max(means, key=lambda mean: abs(mean[0]))
    if abs(clearest) < _CLICK:
        return None
    return float(np.angle(clearest) / (2 * np.pi * times))


def as_played(source: str | Path | bytes, written: Score, hints: Hints | None = None) -> Score:
    """`written`, the plain reading of a MIDI file, where the file's notes keep its grid; else the score that a musician
    would write. `losses` then holds `TO_CLICK` or `BY_EAR`, `played_confidence`, and what `write_down`
    counts; what the file said of metres, keys and sections counts only where it was played to its click. Who gives
    `hints` says that the file's own beats are none: they are heard."""
    onsets, per_quarter = raw_onsets(source)
    if hints is None and keeps_grid(onsets, per_quarter):
        return written
    played = read_played(source)
    late = click_offset(onsets, per_quarter) if hints is None else None
    # The file's own bars, before any ear has moved them: its seconds are counted from there.
    plain = read_midi(source)
    kept = {name: count for name, count in written.losses.items() if name in _OF_TRACKS}
    if late is not None and (pulse := _own_pulse(plain, late)) is not None:
        score = write_down(played, pulse)
        losses = {**kept, **score.losses, TO_CLICK: 1.0, "played_confidence": 1.0}
        return with_heard_keys(
            regular(with_heard_bars(replace(plain, notes=score.notes, pedals=score.pedals, losses=losses)))
        )
    heard = hear(played, hints)
    score = write_down(played, heard.pulse)
    losses = {**score.losses, BY_EAR: 1.0, "played_confidence": round(heard.confidence, 3)}
    return with_heard_keys(regular(replace(score, title=written.title, losses={**kept, **losses})))


def surest_stretch(source: str | Path | bytes, sure: float, least_bars: int) -> Score | None:
    """The longest run of bars, `least_bars` or more, in which the ear is `sure` in the mean, as a score of its own;
    None where there is none. `losses` counts the notes left out [played_notes_unsure]."""
    played = read_played(source)
    heard = hear(played)
    pulse = heard.pulse
    lines = np.flatnonzero(pulse.in_bar == 0)
    if len(lines) <= least_bars:
        return None
    by_bar = np.add.reduceat(heard.by_beat, lines)[:-1] / np.diff(lines)
    # A run is sure where the sum over it of what each bar has beyond `sure` is no less than 0.
    beyond = np.concatenate([[0.0], np.cumsum(by_bar - raw_of(sure))])
    begins, ends = np.triu_indices(len(beyond), least_bars)
    good = beyond[ends] >= beyond[begins]
    if not good.any():
        return None
    longest = int(np.argmax(np.where(good, ends - begins, -1)))
    first, last = int(lines[begins[longest]]), int(lines[ends[longest]])
    chosen = slice(first, last)
    low, high = pulse.seconds[first] - _EARLY, pulse.seconds[last] - _EARLY
    inside = (played.notes[:, ONSET] >= low) & (played.notes[:, ONSET] < high)
    if not inside.any():
        return None
    pedal = played.pedal[(played.pedal[:, 0] >= low) & (played.pedal[:, 0] < high)]
    cut = Pulse(pulse.seconds[chosen], pulse.in_bar[chosen], pulse.length[chosen], pulse.compound[chosen])
    score = write_down(Played(played.notes[inside], pedal, played.title), cut)
    confidence = calibrated(float(heard.by_beat[chosen].mean()))
    losses = {
        BY_EAR: 1.0,
        "played_confidence": round(confidence, 3),
        "played_notes_unsure": float((~inside).sum()),
    }
    return regular(replace(score, losses={**score.losses, **losses}))


def _own_pulse(written: Score, late: float) -> Pulse | None:
    """The beats that the file itself counts, as seconds of its own tempos, `late` quarters later; None where a bar is
    no whole number of quarters or dotted quarters."""
    starts, lengths = bar_lines(written.metres, last_event(written))
    place = np.searchsorted([metre.onset for metre in written.metres], starts, side="right") - 1
    ticks, in_bar, count, compound = [], [], [], []
    for start, length, which in zip(starts.tolist(), lengths.tolist(), place.tolist(), strict=True):
        thirds = length % 36 == 0 and (length % 24 != 0 or beat_ticks(written.metres[which]) == 36)
        step = 36 if thirds else 24
        if length % step:
            return None
        inside = np.arange(0, length, step)
        ticks.append(start + inside)
        in_bar.append(np.arange(len(inside)))
        count.append(np.full(len(inside), len(inside)))
        compound.append(np.full(len(inside), thirds))
    offset = late + written.losses.get("offset_quarters", 0.0)
    seconds = seconds_at(written, np.concatenate(ticks) + offset * TICKS_PER_QUARTER)
    return Pulse(seconds, np.concatenate(in_bar), np.concatenate(count), np.concatenate(compound))
