"""How much gospel is in a score: devices, dominants, foreign notes, the ending, the pedal, the hands, what comes back.

Conventions. Chords are the score's own markers, where it has any, else those heard in its notes; keys are its own, else
the one heard. Rates are per 16 bars of the piece; shares lie between 0 and 1. A figure that a piece cannot have (swing
in a piece of no off-beats) is None and counts nowhere.

    devices          chords from outside the key that lead where they should, and progressions of the grammar
    dominants, diminished, suspended    chord changes of the family
    foreign_notes    share of notes outside the scale of the key in force
    ended            1 where the last chord is the tonic and is held for half a bar at least
    pedal_over_changes    changes of root or bass while one pedal stays down, in the piece
    unplayable       onsets that no two hands of five fingers and a tenth can hold, in the piece
    melody_returns   share of the melody's bars whose rhythm and intervals an earlier bar had
    swing            share of the second eighths that come late (a triplet's place, or near it)
    silent_quarters  share of the quarters, from the first note to the last, in which no key is struck
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from plagal.music.arranger.harmony_grammar import devices_in, family, scale
from plagal.music.chords import Chord, parse_chord
from plagal.music.hands import unplayable
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import key_tonic
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Metre, Score

MEASURES = (
    "devices", "dominants", "diminished", "suspended", "foreign_notes", "ended", "pedal_over_changes", "unplayable",
    "melody_returns", "swing", "silent_quarters",
)  # fmt: skip

_BARS = 16
_FEWEST_IN_MOTIF = 3
"""Notes of a bar that say something when they come back: two notes always do."""
_LATE = (14, 19)
"""Ticks after the beat between which a second eighth is swung; straight it is 12."""

Figures = dict[str, float | None]


def gospel_figures(score: Score, style: str = "gospel") -> Figures:
    """Every measure of one score; all None where it has no note. `style` says whose grammar names the devices."""
    if not len(score.notes):
        return dict.fromkeys(MEASURES)
    notes = score.notes
    end = int((notes[:, ONSET] + notes[:, DURATION]).max())
    metres = score.metres or (Metre(0, 4, 4),)
    begins = [metre.onset for metre in metres]
    lengths = np.diff([*begins, max(end, begins[-1] + 1)])
    bars = sum(int(ticks) / metre.bar_ticks for ticks, metre in zip(lengths, metres, strict=True))
    keys = score.keys or (hear_key(score),)
    named = [(marker.onset, parse_chord(marker.text)) for marker in score.markers if marker.kind == "chord"]
    chords = named or hear_chords(score)
    per_16 = _BARS / max(bars, 1.0)
    kinds = [family(chord.quality) for _, chord in chords]
    return {
        "devices": per_16
        * sum(
            len(devices_in([chord for onset, chord in chords if begin <= onset < until], key, style))
            for key, begin, until in _spans(keys)
        ),
        "dominants": per_16 * kinds.count("dominant"),
        "diminished": per_16 * (kinds.count("diminished") + kinds.count("half")),
        "suspended": per_16 * kinds.count("suspended"),
        "foreign_notes": _foreign(score, keys),
        "ended": float(_ended(score, chords, keys[-1], end)),
        "pedal_over_changes": float(_pedal_over_changes(score, chords)),
        "unplayable": float(len(unplayable(notes, score.pedals))),
        "melody_returns": _melody_returns(score),
        "swing": _swing(score),
        "silent_quarters": _silent_quarters(score, end),
    }


def mean_figures(scores: Iterable[tuple[Score, str]]) -> Figures:
    """The mean of every measure over (score, style) pairs, each over the scores that have it."""
    rows = [gospel_figures(score, style) for score, style in scores]
    found: Figures = {}
    for name in MEASURES:
        values = [value for row in rows if (value := row[name]) is not None]
        found[name] = sum(values) / len(values) if values else None
    return found


def _spans(keys: Sequence[Key]) -> list[tuple[Key, float, float]]:
    """Each key with the ticks from which and until which it holds; the first from the start."""
    begins = [0, *(key.onset for key in keys[1:]), math.inf]
    return list(zip(keys, begins[:-1], begins[1:], strict=True))


def _foreign(score: Score, keys: Sequence[Key]) -> float:
    foreign = 0
    onsets, classes = score.notes[:, ONSET], score.notes[:, PITCH] % 12
    for key, begin, until in _spans(keys):
        at_home = np.isin(classes, list(scale(key_tonic(key), key.minor)))
        foreign += int(np.count_nonzero((onsets >= begin) & (onsets < until) & ~at_home))
    return foreign / len(score.notes)


def _ended(score: Score, chords: Sequence[tuple[int, Chord]], key: Key, end: int) -> bool:
    if not chords or chords[-1][1].root != key_tonic(key):
        return False
    notes, half_bar = score.notes, (score.metres or (Metre(0, 4, 4),))[-1].bar_ticks // 2
    longest = int(notes[notes[:, ONSET] + notes[:, DURATION] >= end - TICKS_PER_QUARTER // 2, DURATION].max())
    return longest >= half_bar


def _pedal_over_changes(score: Score, chords: Sequence[tuple[int, Chord]]) -> int:
    changes = [
        onset
        for (_, before), (onset, chord) in pairwise(chords)
        if (before.root, before.bass) != (chord.root, chord.bass)
    ]
    count, down = 0, None
    for pedal in sorted(score.pedals, key=lambda pedal: pedal.onset):
        if pedal.state == "off" and down is not None:
            count += sum(down < onset < pedal.onset for onset in changes)
            down = None
        elif pedal.state == "on" and down is None:
            down = pedal.onset
    return count + (sum(down < onset for onset in changes) if down is not None else 0)


def _melody_returns(score: Score) -> float | None:
    """The melody is the highest note struck at each onset, from middle C up."""
    bar = (score.metres or (Metre(0, 4, 4),))[0].bar_ticks
    tops: dict[int, int] = {}
    for onset, pitch in score.notes[:, [ONSET, PITCH]].tolist():
        if pitch >= 60:
            tops[onset] = max(pitch, tops.get(onset, 0))
    bars: dict[int, list[tuple[int, int]]] = {}
    for onset, pitch in sorted(tops.items()):
        bars.setdefault(onset // bar, []).append((onset % bar, pitch))
    seen: set[tuple[tuple[int, int], ...]] = set()
    said = again = 0
    for _, row in sorted(bars.items()):
        if len(row) < _FEWEST_IN_MOTIF:
            continue
        shape = tuple((place, pitch - row[0][1]) for place, pitch in row)
        said += 1
        again += shape in seen
        seen.add(shape)
    return again / said if said else None


def _swing(score: Score) -> float | None:
    """Only where the beat is a quarter: in compound metres every beat has its third third."""
    if any(metre.denominator >= 8 for metre in score.metres):
        return None
    inside = score.notes[:, ONSET] % TICKS_PER_QUARTER
    late = int(np.count_nonzero((inside >= _LATE[0]) & (inside <= _LATE[1])))
    straight = int(np.count_nonzero(inside == TICKS_PER_QUARTER // 2))
    return late / (late + straight) if late + straight else None


def _silent_quarters(score: Score, end: int) -> float:
    first = int(score.notes[0, ONSET]) // TICKS_PER_QUARTER
    last = -(-end // TICKS_PER_QUARTER)
    struck = len(set((score.notes[:, ONSET] // TICKS_PER_QUARTER).tolist()))
    return 1 - struck / max(1, last - first)
