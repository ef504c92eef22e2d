"""Two hands: which plays which note, and what they can reach: at most five notes and a tenth at once, no key held by
two fingers.

A wider chord is rolled: struck from below, `ROLL_TICKS` apart, while the pedal holds the keys that the hand has left.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from heapq import nsmallest
from importlib.resources import files
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

import numpy as np

from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    TICKS_PER_QUARTER,
    Hands,
    Notes,
    Pedal,
    Score,
)

LARGEST_SPAN, MOST_NOTES = 16, 5
"""Semitones that a hand takes at once (a major tenth), and keys."""

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
            goes_on_above = 0 < onset - note[0] <= ROLL_TICKS and note[1] < group[0][1]  # one roll
            if note[0] + note[2] <= onset or goes_on_above:
                done.append(note)
            elif note[1] in again or room <= 0 or max(high, note[1]) - min(low, note[1]) > span:
                done.append((note[0], note[1], onset - note[0], note[3]))
            else:
                still.append(note)
                low, high = min(low, note[1]), max(high, note[1])
                room -= 1
        held = still + group
    return sorted(done + held)


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
    done: list[HandNote] = []
    for note in sorted((*left, *right), key=lambda note: (note[1], note[0])):
        onset, pitch, ticks, velocity = note
        if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH or ticks <= 0:
            continue
        last = done[-1] if done and done[-1][1] == pitch else (-1, pitch, 0, 0)
        if last[0] == onset:
            done[-1] = (onset, pitch, max(last[2], ticks), max(last[3], velocity))
            continue
        if last[0] + last[2] > onset:
            done[-1] = (last[0], pitch, onset - last[0], last[3])
        done.append(note)
    return sorted(done)


def unplayable(notes: Notes, pedals: Sequence[Pedal] = ()) -> list[int]:
    """Onsets [ticks] at which no split of the keys held gives each hand at most five notes within a tenth. A key of a
    rolled chord need not be held on where the pedal is down for as long as it sounds."""
    problems = []
    rows: list[HandNote] = [(int(a), int(b), int(c), int(d)) for a, b, c, d in notes]
    held: list[tuple[int, int]] = []
    sounding = zip(rows, let_go(rows, pedals), strict=True)
    for onset, struck in groupby(sounding, key=lambda note: note[0][0]):
        held = [(pitch, end) for pitch, end in held if end > onset] + [(row[1], end) for row, end in struck]
        keys = sorted(pitch for pitch, _ in held)
        if not any(in_one_hand(keys[:cut]) and in_one_hand(keys[cut:]) for cut in range(len(keys) + 1)):
            problems.append(onset)
    return problems


def let_go(rows: Sequence[HandNote], pedals: Sequence[Pedal]) -> list[int]:
    """When the hand may leave each key: at its end, or where a roll goes on above it and the pedal holds it."""
    struck = {onset: [note[1] for note in chord] for onset, chord in groupby(rows, key=lambda note: note[0])}
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


def in_one_hand(keys: Sequence[int]) -> bool:
    return not keys or (len(keys) <= MOST_NOTES and keys[-1] - keys[0] <= LARGEST_SPAN)


_PARTING_KEY = 60
"""Middle C: where the hands part in a reduction."""


def reduced(score: Score) -> Score:
    """The score in two hands that can play it: the left keeps the bass and what lies near it, the right the top line
    and what lies near that. How many notes went is counted in `losses` as `notes_reduced`."""
    notes = [(int(a), int(b), int(c), int(d)) for a, b, c, d in score.notes]
    right = reachable(note for note in notes if note[1] >= _PARTING_KEY)
    left = reachable((note for note in notes if note[1] < _PARTING_KEY), left=True)
    kept = together(left, right)
    array = np.array(kept, dtype=np.int32).reshape(-1, 4)
    hands: Hands = (array[:, 1] >= _PARTING_KEY).astype(np.int8)
    losses = score.losses | {"notes_reduced": len(notes) - len(kept)}
    return Score(array, score.metres, score.tempos, score.keys, (), score.markers, score.title, losses, hands)


# --- which hand plays which note

_STEPS = (-12, -7, -4, -2, -1, 0, 1, 2, 3, 5, 8, 13)
"""Semitones that part the classes of a movement, outwards from the body's middle."""
_AGES = (4, 8, 16, 32)
"""Ticks since a hand's last chord."""
_LENGTHS = (4, 7, 13, 19, 25, 49, 97)
"""Ticks of a note."""
_AROUND, _FAR_AROUND = 48, 192
"""Ticks before and after a note that say where the hands lie."""
_MIDDLE, _LOCAL = 64, 0.42
"""Where the registers part, and how far that follows what lies around."""
_CENTRE_KEPT = 0.75
"""Of where a hand has lain, when it strikes again: a stride bass leaps, its hand's place stays."""
_JUST_NOW = 12
"""Ticks within which hands that cross are in each other's way."""

_SIZES = {
    "register": 30, "octave": 30, "far": 30, "within": 18, "length": 16, "share": 36, "gap": 9, "span": 36,
    "outer": 130, "inner": 130, "place": 30, "joins": 16, "out_of_reach": 1, "too_many": 1, "uneven": 2,
    "size": 25, "crossing": 7, "idle": 4,
}  # fmt: skip
"""What is looked at, and into how many cases it falls: each case of it costs something, in no unit."""
_FIRST = dict(zip(_SIZES, accumulate(_SIZES.values(), initial=0), strict=False))
COSTS = sum(_SIZES.values())
"""How many costs there are. `tools/learn_hands.py` learns them and writes hands.json."""

_KEPT = 8
"""States that a step keeps: twice as many change no note in a hundred."""
_LONG_AGO = 1 << 20


class _Hand(NamedTuple):
    """A hand after its last chord: that chord's lowest and highest key, when it was struck, until when it sounds, what
    is still down, how many keys it had, and where the hand has lain of late."""

    low: int
    high: int
    onset: int
    end: int
    held: tuple[tuple[int, int], ...]
    """Keys and when they end [ticks]."""
    size: int
    centre: float


class Strike(NamedTuple):
    """What is struck at once, from below."""

    onset: int
    keys: list[int]
    ends: list[int]
    notes: list[tuple[list[int], list[int]]]
    """For each key the cases that it is with the left, and with the right hand."""


class _Path(NamedTuple):
    """How the chords so far were shared: of this one's notes the left hand has the lowest `cut`."""

    before: _Path | None
    cut: int


_State = tuple[float, _Hand, _Hand, _Path | None]
"""What it has cost so far, the left hand, the right hand, the way there."""
_AT_FIRST = (_Hand(45, 52, -_LONG_AGO, -_LONG_AGO, (), 1, 48.0), _Hand(67, 74, -_LONG_AGO, -_LONG_AGO, (), 1, 72.0))


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

    A dynamic programme over the chords: a state is where both hands lie and what they hold; what it costs to reach, to
    move, to cross, to play so high, low, long or often was learnt from music whose hands are known. States that cost
    much more are dropped."""
    chords = chords_of(notes)
    cuts = shared(chords, _learnt())
    shares = [[0] * cut + [1] * (len(chord.keys) - cut) for chord, cut in zip(chords, cuts, strict=True)]
    return np.array([hand for share in shares for hand in share], dtype=np.int8)


@cache
def _learnt() -> list[float]:
    tables = json.loads((files("plagal.music") / "hands.json").read_text(encoding="utf-8"))
    return [cost for name in _SIZES for cost in tables[name]]


def as_tables(costs: Sequence[float]) -> dict[str, list[float]]:
    """Costs by what they are of, as the package holds them."""
    return {
        name: [round(cost, 3) for cost in costs[_FIRST[name] : _FIRST[name] + size]] for name, size in _SIZES.items()
    }


def chords_of(notes: Notes) -> list[Strike]:
    """Notes by what is struck at once, with the cases that each note is."""
    if not len(notes):
        return []
    onsets, pitches, ends = notes[:, ONSET], notes[:, PITCH].tolist(), (notes[:, ONSET] + notes[:, DURATION]).tolist()
    windows = [
        zip(np.searchsorted(onsets, onsets - ticks).tolist(), np.searchsorted(onsets, onsets + ticks, "right").tolist(),
            strict=True)
        for ticks in (_AROUND, _FAR_AROUND)
    ]  # fmt: skip
    sums = [0, *accumulate(pitches)]
    cases = []
    for pitch, onset, end, (a, b), (c, d) in zip(pitches, onsets.tolist(), ends, *windows, strict=True):
        low, high = min(pitches[a:b]), max(pitches[a:b])
        middle = (1 - _LOCAL) * _MIDDLE + _LOCAL * (low + high) / 2
        length = bisect_right(_LENGTHS, end - onset)
        cases.append([
            [_FIRST["register"] + 15 * hand + _class_of(pitch - middle),
             _FIRST["octave"] + 15 * hand + (pitch - LOWEST_PITCH) // 6,
             _FIRST["far"] + 15 * hand + _class_of(pitch - (sums[d] - sums[c]) / (d - c)),
             _FIRST["within"] + 9 * hand + (pitch - low) * 8 // max(1, high - low),
             _FIRST["length"] + 8 * hand + length]
            for hand in (0, 1)
        ])  # fmt: skip
    firsts = np.flatnonzero(np.diff(onsets, prepend=-1)).tolist()
    return [
        Strike(int(onsets[a]), pitches[a:b], ends[a:b], [(left, right) for left, right in cases[a:b]])
        for a, b in pairwise([*firsts, len(notes)])
    ]


def _class_of(semitones: float) -> int:
    """One of 15, three semitones each."""
    return max(-7, min(7, int(semitones // 3))) + 7


def shared(
    chords: Sequence[Strike], costs: Sequence[float], extra: Sequence[Sequence[float]] | None = None
) -> list[int]:
    """How many of each chord's keys, from below, the left hand has where all costs least. `extra`: what each such
    number costs besides, for every chord (in learning)."""
    states: list[_State] = [(0.0, *_AT_FIRST, None)]
    for number, chord in enumerate(chords):
        best: dict[tuple[int, int, int, int, int, int], _State] = {}
        for cut in range(len(chord.keys) + 1):
            alike = sum(costs[case] for case in _of_sharing(chord, cut))
            if extra is not None:
                alike += extra[number][cut]
            # States share hands: each is moved once.
            moved: tuple[dict[int, tuple[float, _Hand]], ...] = ({}, {})
            for cost, *before, path in states:
                total = cost + alike
                hands = list[_Hand]()
                for side, hand in enumerate(before):
                    if id(hand) not in moved[side]:
                        cases, after = _of_striking(hand, chord, cut, side)
                        moved[side][id(hand)] = sum([costs[case] for case in cases]), after
                    more, after = moved[side][id(hand)]
                    total += more
                    hands.append(after)
                if hands[0].high >= hands[1].low:
                    total += sum([costs[case] for case in _of_crossing(hands[0], hands[1], chord.onset)])
                place = (*hands[0][:3], *hands[1][:3])
                rival = best.get(place)
                if rival is None or total < rival[0]:
                    best[place] = (total, hands[0], hands[1], _Path(path, cut))
        states = nsmallest(_KEPT, best.values(), key=lambda state: state[0])
    path, cuts = min(states, key=lambda state: state[0])[3], []
    while path is not None:
        cuts.append(path.cut)
        path = path.before
    return cuts[::-1]


def cases_of(chords: Sequence[Strike], cuts: Sequence[int]) -> list[int]:
    """Every case that costs something where the chords are so shared."""
    found, (left, right) = list[int](), _AT_FIRST
    for chord, cut in zip(chords, cuts, strict=True):
        (of_left, left), (of_right, right) = _of_striking(left, chord, cut, 0), _of_striking(right, chord, cut, 1)
        found += [*_of_sharing(chord, cut), *of_left, *of_right]
        if left.high >= right.low:
            found += _of_crossing(left, right, chord.onset)
    return found


def _of_sharing(chord: Strike, cut: int) -> list[int]:
    keys, count = chord.keys, len(chord.keys)
    cases = [case for number, note in enumerate(chord.notes) for case in note[number >= cut]]
    cases.append(_FIRST["share"] + 6 * min(cut, 5) + min(count - cut, 5))
    if 0 < cut < count:
        cases.append(_FIRST["gap"] + min(8, (keys[cut] - keys[cut - 1]) // 2))
    return cases


def _of_striking(hand: _Hand, chord: Strike, cut: int, side: int) -> tuple[list[int], _Hand]:
    """The cases that a hand (`side` 0 the left) meets where it strikes its part of a chord, and the hand after that."""
    keys, ends = (chord.keys[cut:], chord.ends[cut:]) if side else (chord.keys[:cut], chord.ends[:cut])
    onset = chord.onset
    if not keys:
        return [_FIRST["idle"] + 2 * side + (hand.end > onset)], hand
    low, high = keys[0], keys[-1]
    held = tuple(key for key in hand.held if key[1] > onset and key[0] not in keys)
    outer, inner = (high - hand.high, low - hand.low) if side else (hand.low - low, hand.high - high)
    age = bisect_right(_AGES, onset - hand.onset)
    rest = onset - hand.end
    joins = 0 if rest == 0 else 1 if rest < 0 else 2 if rest <= TICKS_PER_QUARTER else 3
    middle = (low + high) / 2
    cases = [
        _FIRST["span"] + 18 * side + min(high - low, 17),
        _FIRST["outer"] + 5 * (13 * side + bisect_right(_STEPS, outer)) + age,
        _FIRST["inner"] + 5 * (13 * side + bisect_right(_STEPS, inner)) + age,
        _FIRST["place"] + 15 * side + _class_of(middle - hand.centre),
        _FIRST["joins"] + 2 * (4 * side + joins) + (len(keys) > 1),
        _FIRST["size"] + 5 * min(hand.size, 4) + min(len(keys), 4),
    ]
    cases += [_FIRST["out_of_reach"] for key, _ in held if max(high, key) - min(low, key) > LARGEST_SPAN]
    cases += [_FIRST["too_many"]] * (len(keys) + len(held) - MOST_NOTES)
    if len(set(ends)) > 1:
        cases.append(_FIRST["uneven"] + side)
    centre = _CENTRE_KEPT * hand.centre + (1 - _CENTRE_KEPT) * middle
    down = held + tuple(zip(keys, ends, strict=True))
    return cases, _Hand(low, high, onset, max(ends), down, len(keys), centre)


def _of_crossing(left: _Hand, right: _Hand, onset: int) -> list[int]:
    over = left.high - right.low
    recent = onset - min(left.onset, right.onset) <= _JUST_NOW
    cases = [_FIRST["crossing"] + 2 * (0 if over < 1 else 1 if over < 4 else 2) + recent]
    held = [key for key, end in left.held if end > onset], [key for key, end in right.held if end > onset]
    if held[0] and held[1] and max(held[0]) > min(held[1]):
        cases.append(_FIRST["crossing"] + 6)
    return cases
