"""Bring a score into its regular form, and count what that bends or leaves out.

A regular score is what words can say: notes on the piano's keys, one of a pitch at a time; metres that begin at bar
lines, with bars of at most `LONGEST_BAR` ticks; each event once. `regular(regular(x))` equals `regular(x)`.

Rules, each counted under the name in brackets:
- notes outside the 88 keys or without velocity are left out [notes_out_of_range, notes_silent];
- one pitch struck twice at one tick is one note, the longest and the loudest [notes_unison_merged];
- a note that still sounds when its pitch is struck again ends there [notes_cut_at_restrike];
- a tempo outside 20 to 300 becomes the nearest of these [tempos_clamped];
- a metre that no word can say (n/64 of an odd n, 0/4) is left out [metres_unwritable];
- a metre change inside a bar shortens this bar to end there [metres_in_mid_bar]; where the rest is not a whole number
  of 32nds, the change waits for the next bar line [metres_moved];
- a bar longer than twelve quarters becomes several, as equal as its beats allow, the longer first [bars_split];
- sections and repeats move to their bar line, and repeats that are not balanced are left out
  [markers_moved, markers_left_out].
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from operator import ne
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from plagal.music.chords import parse_chord
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    TICKS_PER_QUARTER,
    VELOCITY,
    Key,
    Marker,
    Metre,
    Notes,
    Pedal,
    Score,
    Tempo,
)
from plagal.plumbing.errors import ChordError, MidiError

Ints = npt.NDArray[np.int64]

LONGEST_BAR = 12 * TICKS_PER_QUARTER
"""[ticks]"""

SLOWEST, FASTEST = 20.0, 300.0
"""[quarters a minute]"""

LATEST_TICK = 1 << 22
"""Nothing may happen later (29 hours at 100 quarters a minute): bounds the memory that a hostile file can ask for."""

PEDAL_STATES = ("off", "half", "on")

SECTIONS = ("INTRO", "VERSE", "CHORUS", "BRIDGE", "OUTRO")

_THIRTYSECOND = TICKS_PER_QUARTER // 8
_DENOMINATORS = (1, 2, 4, 8, 16, 32)


def regular(score: Score) -> Score:
    """The score in its regular form, with what that lost added to its `losses`. Raises MidiError where it holds
    something before tick 0 or later than `LATEST_TICK`, or a velocity, key or pedal that MIDI does not have."""
    _check(score)
    losses: Counter[str] = Counter()
    notes = regular_notes(score.notes, losses)
    pedals = _regular_pedals(score.pedals, losses)
    tempos = _regular_tempos(score.tempos, losses)
    keys = _changes(score.keys, lambda key: (key.fifths, key.minor))
    last = last_event(Score(notes, score.metres, tempos, keys, pedals, score.markers))
    if last > LATEST_TICK:
        most = f"at most {LATEST_TICK // TICKS_PER_QUARTER} can be read: cut it into shorter pieces"
        raise MidiError(f"something happens {last // TICKS_PER_QUARTER} quarters after the start; {most}")
    metres = _regular_metres(score.metres, last, losses)
    markers = _regular_markers(score.markers, metres, last, losses) if score.markers else ()
    merged = score.losses | {name: score.losses.get(name, 0) + count for name, count in sorted(losses.items()) if count}
    hands = score.hands if score.hands is not None and np.array_equal(notes, score.notes) else None
    return Score(notes, metres, tempos, keys, pedals, markers, score.title, merged, hands)


def _check(score: Score) -> None:
    notes = np.asarray(score.notes).reshape(-1, 4)
    onsets = [event.onset for events in _events(score) for event in events]
    if len(notes) and (notes[:, ONSET].min() < 0 or notes[:, VELOCITY].max() > 127):
        raise MidiError("the score's notes must begin at tick 0 or later, with velocities up to 127")
    if min(onsets, default=0) < 0:
        raise MidiError("nothing in a score may happen before tick 0")
    if any(abs(key.fifths) > 7 for key in score.keys) or any(pedal.state not in PEDAL_STATES for pedal in score.pedals):
        raise MidiError(f"a score's keys have up to seven accidentals, its pedals are {', '.join(PEDAL_STATES)}")


def _events(score: Score) -> tuple[tuple[Metre | Tempo | Key | Pedal | Marker, ...], ...]:
    return score.metres, score.tempos, score.keys, score.pedals, score.markers


def last_event(score: Score) -> int:
    """The tick of the last thing that the score says; the bar that holds it is the last one. The end of a repeat
    belongs to the bar before."""
    last = int(score.notes[-1, ONSET]) if len(score.notes) else 0
    for events in (score.metres, score.tempos, score.keys, score.pedals):
        last = max(last, max((event.onset for event in events), default=0))
    return max(last, max((marker.onset - (_rank(marker) == _REPEAT_END) for marker in score.markers), default=0))


def bar_lines(metres: tuple[Metre, ...], last_tick: int) -> tuple[Ints, Ints]:
    """First ticks and lengths [ticks] of all bars, from tick 0 to the bar that holds `last_tick` and the last metre.
    Shapes (bars,). The metres must be regular."""
    ends = [*(metre.onset for metre in metres[1:]), max(last_tick, metres[-1].onset) + 1]
    segments = [np.arange(metre.onset, end, metre.bar_ticks) for metre, end in zip(metres, ends, strict=True)]
    lengths = [np.full(len(segment), metre.bar_ticks) for segment, metre in zip(segments, metres, strict=True)]
    return np.concatenate(segments), np.concatenate(lengths)


def regular_notes(notes: Notes, losses: Counter[str]) -> Notes:
    """Notes in range, one of a pitch at a time, sorted by (onset, pitch)."""
    columns = np.array(np.asarray(notes).reshape(-1, 4).T, dtype=np.int64, order="C")
    in_range = (columns[PITCH] >= LOWEST_PITCH) & (columns[PITCH] <= HIGHEST_PITCH)
    kept = in_range & (columns[VELOCITY] > 0)
    if not kept.all():
        losses["notes_out_of_range"] += int(np.count_nonzero(~in_range))
        losses["notes_silent"] += int(np.count_nonzero(in_range & ~kept))
        columns = columns[:, kept]
    place = columns[ONSET] * 128 + columns[PITCH]
    if not (place[1:] > place[:-1]).all():
        order = np.argsort(place, kind="stable")
        columns, place = columns[:, order], place[order]
        first = np.flatnonzero(np.concatenate([[True], place[1:] > place[:-1]]))
        if len(first) < len(place):
            losses["notes_unison_merged"] += len(place) - len(first)
            columns = np.maximum.reduceat(columns, first, axis=1)
    onset, pitch, duration, _ = columns
    ends = np.minimum(onset + np.maximum(duration, 1), LATEST_TICK + LONGEST_BAR)
    by_key = np.argsort(pitch.astype(np.int8), kind="stable")  # of so small numbers NumPy sorts without comparing
    here, following = by_key[:-1], by_key[1:]
    cut = (pitch[here] == pitch[following]) & (ends[here] > onset[following])
    if cut.any():
        losses["notes_cut_at_restrike"] += int(np.count_nonzero(cut))
        ends[here[cut]] = onset[following[cut]]
    columns[DURATION] = ends - onset
    return np.ascontiguousarray(columns.T, dtype=np.int32)


Event = TypeVar("Event", Key, Tempo)


def _changes(events: Iterable[Event], value: Callable[[Event], object]) -> tuple[Event, ...]:
    """Sorted, the last one of a tick, without those that change nothing."""
    kept: list[Event] = []
    for event in {event.onset: event for event in sorted(events, key=lambda event: event.onset)}.values():
        if not kept or value(kept[-1]) != value(event):
            kept.append(event)
    return tuple(kept)


def _regular_tempos(tempos: Iterable[Tempo], losses: Counter[str]) -> tuple[Tempo, ...]:
    raw = list(tempos)
    usable = [Tempo(tempo.onset, min(max(tempo.quarters_per_minute, SLOWEST), FASTEST)) for tempo in raw]
    losses["tempos_clamped"] += sum(map(ne, usable, raw))
    if all(tempo.onset > 0 for tempo in usable):
        usable.insert(0, Tempo(0, 120.0))
    return _changes(usable, lambda tempo: tempo.quarters_per_minute)


def _regular_pedals(pedals: Iterable[Pedal], losses: Counter[str]) -> tuple[Pedal, ...]:
    """At one tick the last state holds; a pedal lifted and pressed again within a tick keeps its lift."""
    kept, state = list[Pedal](), "off"
    ordered = sorted(pedals, key=lambda pedal: pedal.onset)
    for onset, moves in groupby(ordered, key=lambda pedal: pedal.onset):
        states = [pedal.state for pedal in moves]
        for target in ("off", states[-1]) if "off" in states and states[-1] != "off" else states[-1:]:
            if target != state:
                kept.append(Pedal(onset, target))
                state = target
    losses["pedals_merged"] += len(ordered) - len(kept)
    return tuple(kept)


def _regular_metres(metres: tuple[Metre, ...], last_tick: int, losses: Counter[str]) -> tuple[Metre, ...]:
    kept = _at_bar_lines(metres, losses)
    return tuple(_split(kept, last_tick, losses) if any(metre.bar_ticks > LONGEST_BAR for metre in kept) else kept)


def _at_bar_lines(metres: Iterable[Metre], losses: Counter[str]) -> list[Metre]:
    kept = [Metre(0, 4, 4)]
    for raw in sorted(metres, key=lambda metre: metre.onset):
        metre = _writable(raw)
        if metre is None:
            losses["metres_unwritable"] += 1
            continue
        if metre.onset <= kept[-1].onset:
            # The last one of a tick holds, and the last one of those that wait for a bar line.
            kept[-1] = replace(metre, onset=kept[-1].onset)
        elif metre != replace(kept[-1], onset=metre.onset) or (metre.onset - kept[-1].onset) % metre.bar_ticks:
            over = (metre.onset - kept[-1].onset) % kept[-1].bar_ticks
            if over and over % _THIRTYSECOND == 0:
                losses["metres_in_mid_bar"] += 1
                kept.append(bar_of(metre.onset - over, over, kept[-1].denominator))
                if kept[-2].onset == kept[-1].onset:
                    del kept[-2]
            elif over:
                losses["metres_moved"] += 1
                metre = replace(metre, onset=metre.onset - over + kept[-1].bar_ticks)
            kept.append(metre)
    return [metre for place, metre in enumerate(kept) if not place or not _same(metre, kept[place - 1])]


def _same(one: Metre, other: Metre) -> bool:
    return (one.numerator, one.denominator) == (other.numerator, other.denominator)


def _writable(metre: Metre) -> Metre | None:
    """The metre with a denominator up to 32, or None where there is none."""
    numerator, denominator = metre.numerator, metre.denominator
    while denominator > 32 and numerator % 2 == denominator % 2 == 0:
        numerator, denominator = numerator // 2, denominator // 2
    if numerator <= 0 or denominator not in _DENOMINATORS:
        return None
    return Metre(metre.onset, numerator, denominator)


def bar_of(onset: int, ticks: int, denominator: int) -> Metre:
    """A metre whose bar is `ticks` long, in the given denominator where it can be."""
    for unit in (denominator, *_DENOMINATORS):
        if ticks * unit % (4 * TICKS_PER_QUARTER) == 0:
            return Metre(onset, ticks * unit // (4 * TICKS_PER_QUARTER), unit)
    raise ValueError(ticks)


def _split(metres: list[Metre], last_tick: int, losses: Counter[str]) -> list[Metre]:
    kept: list[Metre] = []
    for number, metre in enumerate(metres):
        end = metres[number + 1].onset if number + 1 < len(metres) else last_tick + 1
        longest = LONGEST_BAR * metre.denominator // (4 * TICKS_PER_QUARTER)
        parts = -(-metre.numerator // longest)
        beats = [metre.numerator // parts + (part < metre.numerator % parts) for part in range(parts)]
        onset = metre.onset
        for bar in range(metre.onset, max(end, metre.onset + 1), metre.bar_ticks):
            losses["bars_split"] += parts > 1
            for numerator in beats:
                piece = Metre(onset, numerator, metre.denominator)
                if (not kept or not _same(kept[-1], piece)) and (piece.onset < end or onset == bar):
                    kept.append(piece)
                onset += piece.bar_ticks
            if len(set(beats)) == 1:
                losses["bars_split"] += (parts > 1) * (len(range(bar, end, metre.bar_ticks)) - 1)
                break
    return kept


_REPEAT_END, _REPEAT_START, _SECTION, _CHORD, _UNKNOWN = range(5)
"""The order of markers at one tick."""


def _rank(marker: Marker) -> int:
    if marker.kind == "section":
        return _SECTION if marker.text in SECTIONS else _UNKNOWN
    ranks = {"repeat": {"END": _REPEAT_END, "START": _REPEAT_START}, "chord": {marker.text: _CHORD}}
    return ranks.get(marker.kind, {}).get(marker.text, _UNKNOWN)


def _regular_markers(
    markers: Iterable[Marker], metres: tuple[Metre, ...], last_tick: int, losses: Counter[str]
) -> tuple[Marker, ...]:
    starts, lengths = bar_lines(metres, last_tick)
    placed: dict[tuple[int, int], Marker] = {}
    ordered = sorted(markers, key=lambda marker: marker.onset)
    for marker in ordered:
        bar = int(np.searchsorted(starts, marker.onset, side="right")) - 1
        start, end = int(starts[bar]), int(starts[bar] + lengths[bar])
        rank, onset, text = _rank(marker), marker.onset, marker.text
        if rank == _CHORD:
            try:
                text = parse_chord(text).symbol
            except ChordError:
                rank = _UNKNOWN
        elif onset != start:
            onset = end if rank == _REPEAT_END else start
        if rank != _UNKNOWN:
            losses["markers_moved"] += onset != marker.onset
            placed[onset, rank] = Marker(onset, marker.kind, text)
    kept = _balanced([placed[place] for place in sorted(placed)])
    losses["markers_left_out"] += len(ordered) - len(kept)
    return tuple(kept)


def _balanced(markers: list[Marker]) -> list[Marker]:
    """Without the repeats that begin within a repeat, end outside of one, or never end."""
    kept: list[Marker] = []
    opened: Marker | None = None
    for marker in markers:
        if marker.kind == "repeat":
            if (marker.text == "START") == (opened is not None):
                continue
            opened = marker if marker.text == "START" else None
        kept.append(marker)
    return [marker for marker in kept if marker is not opened]


def _tempo_steps() -> tuple[float, ...]:
    """Steps that double where the tempo has doubled, so that their ratio stays under 1.02."""
    steps = [SLOWEST]
    for last, step in ((25.5, 0.25), (51, 0.5), (102, 1), (204, 2), (FASTEST, 4)):
        while steps[-1] < last:
            steps.append(steps[-1] + step)
    return tuple(steps)


TEMPOS = _tempo_steps()
"""[quarters a minute], rising, each less than 2 % above the one before: the nearest is within 1 %."""


def nearest_tempo(quarters_per_minute: float) -> float:
    """The tempo with a word whose ratio to the given one is nearest to 1; 20 and 300 beyond the ends."""
    above = min(max(bisect_left(TEMPOS, quarters_per_minute), 1), len(TEMPOS) - 1)
    low, high = TEMPOS[above - 1], TEMPOS[above]
    return low if quarters_per_minute**2 < low * high else high
