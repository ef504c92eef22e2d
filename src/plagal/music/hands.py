"""Two hands: which plays which note, and what they can reach: at most five notes and a tenth at once, no key held by
two fingers.

A wider chord is rolled: struck from below, `ROLL_TICKS` apart, while the pedal holds the keys that the hand has left.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import nsmallest
from typing import NamedTuple

import numpy as np

from plagal.music.arranger.voicing import LARGEST_SPAN, MOST_NOTES
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    Hands,
    Notes,
    Pedal,
    Score,
)

ROLL_TICKS = 1
"""From one note of a rolled chord to the next, as the word ARPEGGIO has it: 36 ms at 70 quarters a minute."""

LONGEST_ROLL = ROLL_TICKS * (MOST_NOTES - 1)
"""Ticks."""

HandNote = tuple[int, int, int, int]
"""Onset, pitch, duration [ticks], velocity."""

Struck = tuple[int, int]
"""Onset [ticks] and pitch: no two notes of a score share both."""


def reachable(
    notes: Iterable[HandNote], span: int = LARGEST_SPAN, most: int = MOST_NOTES, *, left: bool = False
) -> list[HandNote]:
    """One hand's notes as it can play them: keys still held are let go where the next ones are out of reach, a key is
    let go before it is struck again, and of more than `most` keys struck at once the inner ones are left out. Of what
    is too wide the top stays, of the `left` hand's the bass."""
    if left:
        return sorted(_mirrored(reachable(_mirrored(notes), span, most)))
    struck: dict[int, dict[int, HandNote]] = {}
    for note in notes:
        keys = struck.setdefault(note[0], {})
        old = keys.get(note[1])
        if old is None or note[2] > old[2]:
            keys[note[1]] = note
    done: list[HandNote] = []
    held: list[HandNote] = []
    for onset in sorted(struck):
        group = _within_reach(sorted(struck[onset].values(), key=lambda note: note[1]), span, most)
        low, high = group[0][1], group[-1][1]
        again = {note[1] for note in group}
        still = []
        room = most - len(group)
        for note in sorted(held, key=lambda note: note[1]):
            if note[0] + note[2] <= onset or _is_rolled(note, onset, group[0][1]):
                done.append(note)
            elif note[1] in again or room <= 0 or max(high, note[1]) - min(low, note[1]) > span:
                done.append((note[0], note[1], onset - note[0], note[3]))
            else:
                still.append(note)
                low, high = min(low, note[1]), max(high, note[1])
                room -= 1
        held = still + group
    return sorted(done + held)


def _is_rolled(note: HandNote, onset: int, pitch: int) -> bool:
    """Whether the note is followed in one roll by the `pitch` struck at `onset`."""
    return 0 < onset - note[0] <= ROLL_TICKS and note[1] < pitch


def _mirrored(notes: Iterable[HandNote]) -> list[HandNote]:
    return [(onset, 127 - pitch, ticks, velocity) for onset, pitch, ticks, velocity in notes]


def _within_reach(group: list[HandNote], span: int, most: int) -> list[HandNote]:
    while len(group) > most:
        del group[-2]
    while group[-1][1] - group[0][1] > span:
        del group[0]
    return group


def together(left: Sequence[HandNote], right: Sequence[HandNote]) -> list[HandNote]:
    """Both hands as one part: a key that both want goes to the one that strikes it later; struck by both at once, to
    the longer note."""
    by_key: dict[int, list[HandNote]] = {}
    for note in sorted((*left, *right)):
        if LOWEST_PITCH <= note[1] <= HIGHEST_PITCH and note[2] > 0:
            by_key.setdefault(note[1], []).append(note)
    done: list[HandNote] = []
    for notes in by_key.values():
        kept: list[HandNote] = []
        for note in notes:
            if kept and kept[-1][0] == note[0]:
                last = kept[-1]
                kept[-1] = (last[0], last[1], max(last[2], note[2]), max(last[3], note[3]))
                continue
            if kept and kept[-1][0] + kept[-1][2] > note[0]:
                last = kept[-1]
                kept[-1] = (last[0], last[1], note[0] - last[0], last[3])
            kept.append(note)
        done.extend(kept)
    return sorted(done)


def unplayable(notes: Notes, pedals: Sequence[Pedal] = ()) -> list[int]:
    """Onsets [ticks] at which no split of the keys held gives each hand at most five notes within a tenth. A key of a
    rolled chord need not be held on where the pedal is down for as long as it sounds."""
    problems = []
    rows: list[HandNote] = [(int(a), int(b), int(c), int(d)) for a, b, c, d in notes]
    ends = let_go(rows, pedals)
    held: list[tuple[int, int]] = []
    index = 0
    while index < len(rows):
        onset = rows[index][0]
        held = [(pitch, end) for pitch, end in held if end > onset]
        while index < len(rows) and rows[index][0] == onset:
            held.append((rows[index][1], ends[index]))
            index += 1
        if not _splits(sorted(pitch for pitch, _ in held)):
            problems.append(onset)
    return problems


def let_go(rows: Sequence[HandNote], pedals: Sequence[Pedal]) -> list[int]:
    """When the hand may leave each key: at its end, or where a roll goes on above it and the pedal holds it."""
    struck: dict[int, list[int]] = {}
    for onset, pitch, _, _ in rows:
        struck.setdefault(onset, []).append(pitch)
    changes = [pedal.onset for pedal in pedals]
    ends = []
    for onset, pitch, ticks, _ in rows:
        after = onset + ROLL_TICKS
        place = bisect_right(changes, after) - 1
        down = place >= 0 and pedals[place].state == "on"
        lifted = changes[place + 1] if place + 1 < len(changes) else onset + ticks
        rolled = any(higher > pitch for higher in struck.get(after, ()))
        ends.append(after if rolled and down and lifted >= onset + ticks else onset + ticks)
    return ends


def _splits(keys: Sequence[int]) -> bool:
    return any(in_one_hand(keys[:cut]) and in_one_hand(keys[cut:]) for cut in range(len(keys) + 1))


def in_one_hand(keys: Sequence[int]) -> bool:
    return not keys or (len(keys) <= MOST_NOTES and keys[-1] - keys[0] <= LARGEST_SPAN)


# --- which hand plays which note

# What a hand's notes cost, in no unit. The numbers were found by random search on 55 two-track piano pieces and 20
# arrangements (some 200 notes of each), then on 110 and 25; benchmarks/hands.py judges the rest apart.
_SPAN, _WIDE, _TOO_WIDE = 0.005, 0.993, 22.0
"""A semitone of what a hand strikes at once; one beyond the octave; what no hand reaches."""
_LET_GO, _TOO_MANY = 1.1, 2.5
"""A held key out of reach, which must be let go; each key beyond five."""
_SHIFT, _COMFORTABLE, _MOVE, _EDGE = 0.693, 3.8, 0.077, 0.04
"""A semitone that the hand must shift, of those beyond what it covers; that its middle, and its outer key, move."""
_HASTE = 1.4
"""Ticks since its last chord after which moving costs half as much."""
_CROSS, _CROSS_HELD = 1.05, 0.11
"""Hands that lie over each other, and that hold keys so."""
_TOO_HIGH, _TOO_LOW, _MIDDLE, _LOCAL, _AROUND = 0.404, 0.095, 64.3, 0.423, 48
"""A semitone over the middle for the left hand, under it for the right; where that is, how far it follows what lies
within so many ticks."""
_UNEVEN, _GAP, _WIDEST_GAP, _IDLE = 0.1, 0.011, 14, 0.074
"""A note more in one hand than in the other; a semitone between the hands, up to so many; a note of a chord that one
hand takes alone."""

_KEPT = 16
"""States that a step keeps: twice as many change no note in a hundred."""


class _Hand(NamedTuple):
    """A hand after its last chord: that chord's lowest and highest key, when it was struck, and what is still down."""

    low: int
    high: int
    onset: int
    held: tuple[tuple[int, int], ...]
    """Keys and when they end [ticks]."""


class _Path(NamedTuple):
    """How the chords so far were shared: of this one's `of` notes the left hand has the lowest `cut`."""

    before: _Path | None
    cut: int
    of: int


_State = tuple[float, _Hand, _Hand, _Path | None]
"""What it has cost so far, the left hand, the right hand, the way there."""


def in_two_hands(score: Score) -> Score:
    """The score with a hand for every note: what its source or its arranger says stays, the rest is judged."""
    known = score.hands if score.hands is not None and score.hands.shape == score.notes.shape[:1] else None
    if known is not None and (known >= 0).all():
        return score
    judged = hands_for(score.notes)
    return replace(score, hands=judged if known is None else np.where(known >= 0, known, judged))


def hands_for(notes: Notes) -> Hands:
    """A hand for every note, 0 the left and 1 the right, also where no two hands could play all (`unplayable` tells
    where). Of what is struck together the left hand has the lower keys; hands may cross from one chord to the next.

    A dynamic programme over the chords: a state is where both hands lie and what they hold; it costs to reach wide,
    to move far in little time, to cross, to play in the other's register. States that cost much more are dropped."""
    if not len(notes):
        return np.zeros(0, dtype=np.int8)
    onsets, pitches, ends = notes[:, ONSET], notes[:, PITCH], notes[:, ONSET] + notes[:, DURATION]
    middles = _middles(notes)
    states: list[_State] = [(0.0, _Hand(45, 52, -_LONG_AGO, ()), _Hand(67, 74, -_LONG_AGO, ()), None)]
    firsts = np.flatnonzero(np.diff(onsets, prepend=-1))
    for first, last in zip(firsts.tolist(), [*firsts[1:].tolist(), len(notes)], strict=True):
        keys, until = pitches[first:last].tolist(), ends[first:last].tolist()
        states = _after(states, int(onsets[first]), keys, until, middles[first])
    path = min(states, key=lambda state: state[0])[3]
    shares: list[list[int]] = []
    while path is not None:
        shares.append([0] * path.cut + [1] * (path.of - path.cut))
        path = path.before
    return np.array([hand for share in reversed(shares) for hand in share], dtype=np.int8)


_LONG_AGO = 1 << 20


def _middles(notes: Notes) -> list[float]:
    """Where the registers of the hands part at each note: between middle C or so and the middle of what lies around."""
    onsets, pitches = notes[:, ONSET], notes[:, PITCH]
    begin = np.searchsorted(onsets, onsets - _AROUND).tolist()
    end = np.searchsorted(onsets, onsets + _AROUND, side="right").tolist()
    around = [int(pitches[a:b].max()) + int(pitches[a:b].min()) for a, b in zip(begin, end, strict=True)]
    return [(1 - _LOCAL) * _MIDDLE + _LOCAL * both / 2 for both in around]


def _after(
    states: Sequence[_State], onset: int, keys: Sequence[int], until: Sequence[int], middle: float
) -> list[_State]:
    """The best states once `keys` are struck, which end at `until`."""
    count = len(keys)
    best: dict[tuple[int, int, int, int, int, int], _State] = {}
    low = [max(0.0, key - middle) * _TOO_HIGH for key in keys]
    high = [max(0.0, middle - key) * _TOO_LOW for key in keys]
    for cut in range(count + 1):
        shared = sum(low[:cut]) + sum(high[cut:])
        if count > 1:
            shared += _UNEVEN * abs(2 * cut - count)
            if 0 < cut < count:
                shared -= _GAP * min(keys[cut] - keys[cut - 1], _WIDEST_GAP)
            else:
                shared += _IDLE * (count - 1)
        # States share hands: each is moved once.
        lefts: dict[int, tuple[float, _Hand]] = {}
        rights: dict[int, tuple[float, _Hand]] = {}
        for cost, left_before, right_before, path in states:
            total = cost + shared
            left, right = left_before, right_before
            if cut:
                if id(left) not in lefts:
                    lefts[id(left)] = _struck(left, onset, keys[:cut], until[:cut], left=True)
                more, left = lefts[id(left)]
                total += more
            if cut < count:
                if id(right) not in rights:
                    rights[id(right)] = _struck(right, onset, keys[cut:], until[cut:], left=False)
                more, right = rights[id(right)]
                total += more
            if left.high >= right.low:
                total += _crossing(left, right, onset)
            place = (left.low, left.high, left.onset, right.low, right.high, right.onset)
            before = best.get(place)
            if before is None or total < before[0]:
                best[place] = (total, left, right, _Path(path, cut, count))
    return nsmallest(_KEPT, best.values(), key=lambda state: state[0])


def _struck(hand: _Hand, onset: int, keys: Sequence[int], until: Sequence[int], *, left: bool) -> tuple[float, _Hand]:
    """What it costs the hand to strike the keys, and the hand after that."""
    low, high = keys[0], keys[-1]
    held = tuple(key for key in hand.held if key[1] > onset and key[0] not in keys)
    span = high - low
    cost = _SPAN * span + _WIDE * max(0, span - 12)
    if span > LARGEST_SPAN:
        cost += _TOO_WIDE + span - LARGEST_SPAN
    cost += _LET_GO * sum(max(high, key) - min(low, key) > LARGEST_SPAN for key, _ in held)
    cost += _TOO_MANY * max(0, len(keys) + len(held) - MOST_NOTES)
    shift = max(high - hand.low - _COMFORTABLE, hand.high - low - _COMFORTABLE, 0)
    edge = abs(low - hand.low) if left else abs(high - hand.high)
    moved = _SHIFT * shift + _MOVE * abs(low + high - hand.low - hand.high) / 2 + _EDGE * edge
    cost += moved * _HASTE / (_HASTE + onset - hand.onset)
    return cost, _Hand(low, high, onset, held + tuple(zip(keys, until, strict=True)))


def _crossing(left: _Hand, right: _Hand, onset: int) -> float:
    ago = onset - min(left.onset, right.onset)
    cost = _CROSS * (1 + 0.2 * (left.high - right.low)) * _HASTE / (_HASTE + ago)
    held = [key for key, end in left.held if end > onset], [key for key, end in right.held if end > onset]
    return cost + _CROSS_HELD * (bool(held[0] and held[1]) and max(held[0]) > min(held[1]))
