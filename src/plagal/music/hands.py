"""Two hands and what they can reach: at most five notes and a tenth at once, no key held by two fingers.

A wider chord is rolled: struck from below, `ROLL_TICKS` apart, while the pedal holds the keys that the hand has left.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from plagal.music.arranger.voicing import LARGEST_SPAN, MOST_NOTES
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, Notes, Pedal

ROLL_TICKS = 1
"""From one note of a rolled chord to the next, as the word ARPEGGIO has it: 36 ms at 70 quarters a minute."""

LONGEST_ROLL = ROLL_TICKS * (MOST_NOTES - 1)
"""Ticks."""

HandNote = tuple[int, int, int, int]
"""Onset, pitch, duration [ticks], velocity."""


def reachable(notes: Iterable[HandNote]) -> list[HandNote]:
    """One hand's notes as it can play them: keys still held are let go where the next ones are out of reach, a key is
    let go before it is struck again, and of more than five keys struck at once the inner ones are left out."""
    struck: dict[int, dict[int, HandNote]] = {}
    for note in notes:
        keys = struck.setdefault(note[0], {})
        old = keys.get(note[1])
        if old is None or note[2] > old[2]:
            keys[note[1]] = note
    done: list[HandNote] = []
    held: list[HandNote] = []
    for onset in sorted(struck):
        group = _within_reach(sorted(struck[onset].values(), key=lambda note: note[1]))
        low, high = group[0][1], group[-1][1]
        again = {note[1] for note in group}
        still = []
        room = MOST_NOTES - len(group)
        for note in sorted(held, key=lambda note: note[1]):
            if note[0] + note[2] <= onset or _is_rolled(note, onset, group[0][1]):
                done.append(note)
            elif note[1] in again or room <= 0 or max(high, note[1]) - min(low, note[1]) > LARGEST_SPAN:
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


def _within_reach(group: list[HandNote]) -> list[HandNote]:
    while len(group) > MOST_NOTES:
        del group[-2]
    while group[-1][1] - group[0][1] > LARGEST_SPAN:
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
    ends = _held_until(rows, pedals)
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


def _held_until(rows: Sequence[HandNote], pedals: Sequence[Pedal]) -> list[int]:
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
