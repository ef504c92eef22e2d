"""A score by its beats: what sounds in each, how low, and what is struck or held where it begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Metre, Score

Ints = npt.NDArray[np.int64]

LONGEST_NOTE = 16 * TICKS_PER_QUARTER
"""Ticks of a note that count: bounds the work for absurd notes."""

SILENT = 128
"""Above every pitch."""


def beat_ticks(metre: Metre) -> int:
    """The beat in which chords change: a quarter, a dotted note in compound metres, an eighth in odd ones."""
    unit = 4 * TICKS_PER_QUARTER // metre.denominator
    if metre.denominator >= 8:
        return 3 * unit if metre.numerator % 3 == 0 and metre.numerator > 3 else max(unit, TICKS_PER_QUARTER // 2)
    return TICKS_PER_QUARTER


SHARE = 72
"""Of a beat of 12, 24 or 36 ticks, a whole number to the tick."""

ANTICIPATION = TICKS_PER_QUARTER // 2
"""Ticks before a beat from which on a note that sounds into it is pushed: it is heard as struck there."""
_REMNANT = 4
"""What rings into a beat for less than this part of it is not a note of it."""


@dataclass(frozen=True)
class Beats:
    """The beats of the bars in which something sounds; silent bars are left out, however many there are."""

    starts: Ints
    """Ticks, rising."""
    ends: Ints
    begins_bar: npt.NDArray[np.bool_]
    chroma: Ints
    """(beats, 12): how long each pitch class sounds, in `SHARE`ths of the beat; its octaves add up."""
    lowest: Ints
    """The lowest pitch that sounds, `SILENT` where none does."""
    struck: Ints
    """The lowest pitch struck where the beat begins, or pushed before it; `SILENT` where none is."""
    held: Ints
    """How many keys are held over from before, pushed ones left out."""


def held_until(score: Score) -> Ints:
    """When each note ends for the ear [ticks]: where the key is let go or, under the pedal, where that is lifted or the
    key is struck again."""
    onsets = score.notes[:, ONSET].astype(np.int64)
    ends = onsets + score.notes[:, DURATION]
    if not score.pedals:
        return ends
    changes = np.array([pedal.onset for pedal in score.pedals], dtype=np.int64)
    down = np.array([pedal.state == "on" for pedal in score.pedals])
    # At one tick the last state holds; a pedal lifted and pressed again in one tick lifts what sounded before.
    lifts = changes[~down]
    place = np.searchsorted(changes, ends, side="left") - 1
    under = (place >= 0) & down[place]
    after = np.append(lifts, ends.max())[np.searchsorted(lifts, ends, side="left")]
    until = np.where(under, np.maximum(after, ends), ends)
    order = np.lexsort((onsets, score.notes[:, PITCH]))
    same = score.notes[order[:-1], PITCH] == score.notes[order[1:], PITCH]
    again = np.where(same, onsets[order[1:]], until[order[:-1]])
    until[order[:-1]] = np.minimum(until[order[:-1]], np.maximum(again, ends[order[:-1]]))
    return until


def beats_of(score: Score) -> Beats:
    """The score by beats; it must have a note. Whole numbers throughout, so that every machine hears the same."""
    notes = score.notes
    onsets = notes[:, ONSET].astype(np.int64)
    ends = np.minimum(held_until(score), onsets + LONGEST_NOTE)
    pitches = notes[:, PITCH].astype(np.int64)
    starts, until, begins_bar = _grid(score.metres or (Metre(0, 4, 4),), onsets, ends)
    count = len(starts)
    following = np.searchsorted(starts, onsets, side="left")
    beat = np.append(starts, np.iinfo(np.int64).max)[following]
    # A push belongs to the beat that it runs into; a note let go right after the beat is none, but a plain off-beat.
    there = (beat - onsets <= ANTICIPATION) & ((beat == onsets) | (ends - beat >= beat - onsets))
    onsets = np.where(there, beat, onsets)
    first = np.searchsorted(starts, onsets, side="right") - 1
    last = np.searchsorted(starts, ends, side="left") - 1
    which, frame = spread(first, last)
    overlap = np.minimum(ends[which], until[frame]) - np.maximum(onsets[which], starts[frame])
    share = np.maximum(overlap, 0) * SHARE // (until - starts)[frame]
    # Sums of small whole numbers are exact in the floating point that bincount adds in.
    chroma = np.bincount(frame * 12 + pitches[which] % 12, weights=share, minlength=count * 12).astype(np.int64)
    # What a late foot or finger lets ring into a beat is not a bass of it.
    here = (share * _REMNANT >= SHARE) | (frame == first[which])
    lowest = np.full(count, SILENT, dtype=np.int64)
    np.minimum.at(lowest, frame[here], pitches[which[here]])
    struck = np.full(count, SILENT, dtype=np.int64)
    np.minimum.at(struck, first[there], pitches[there])
    after = first + 1
    last = np.searchsorted(starts, ends - TICKS_PER_QUARTER // _REMNANT, side="left") - 1
    steps = np.bincount(after, minlength=count + 1) - np.bincount(np.maximum(last + 1, after), minlength=count + 1)
    held = np.cumsum(steps)[:count]
    return Beats(starts, until, begins_bar, chroma.reshape(-1, 12), lowest, struck, held)


def spread(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Each index repeated for all that lies from its first to its last, and those."""
    counts = np.maximum(last - first + 1, 1)
    which = np.repeat(np.arange(len(first)), counts)
    inside = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, first[which] + inside


def _grid(metres: tuple[Metre, ...], onsets: Ints, ends: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Starts and ends of the beats in bars where a note sounds, and which of them begin a bar."""
    starts, untils, firsts = [], [], []
    for number, metre in enumerate(metres):
        begin = metre.onset if number else min(0, metre.onset)
        until = metres[number + 1].onset if number + 1 < len(metres) else int(ends.max())
        inside = (onsets < until) & (ends > begin)
        if until <= begin or not inside.any():
            continue
        bar, beat = max(1, metre.bar_ticks), beat_ticks(metre)
        first = (np.maximum(onsets[inside], begin) - begin) // bar
        last = (np.minimum(ends[inside], until) - 1 - begin) // bar
        lines = begin + np.unique(spread(first, last)[1]) * bar
        in_bar = np.arange(0, bar, beat)
        grid = (lines[:, None] + in_bar).ravel()
        stops = np.minimum((lines[:, None] + np.minimum(in_bar + beat, bar)).ravel(), until)
        kept = grid < until
        starts.append(grid[kept])
        untils.append(stops[kept])
        firsts.append(np.tile(in_bar == 0, len(lines))[kept])
    return np.concatenate(starts), np.concatenate(untils), np.concatenate(firsts)
