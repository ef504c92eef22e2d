"""How difficult a piece is to play: four levels, as limits that can be measured; a piece made as easy as one of them.

Melody, bass and harmony stay: a hand that may hold fewer keys lets the inner ones go, what moves too fast is left to
the notes on the beats, what lies too far away comes an octave nearer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from plagal.music.arranger.voicing import by_importance
from plagal.music.chords import Chord, parse_chord
from plagal.music.edits import bar_edges, change_tempo
from plagal.music.hands import (
    LARGEST_SPAN,
    LONGEST_ROLL,
    MOST_NOTES,
    HandNote,
    in_two_hands,
    let_go,
    reachable,
    together,
    unplayable,
)
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    TICKS_PER_QUARTER,
    Metre,
    Score,
)
from plagal.plumbing.errors import ChordError, InputError


@dataclass(frozen=True, slots=True)
class Level:
    """What a hand and an eye must do at most."""

    span: int
    """Semitones between the keys that a hand holds."""
    keys: int
    """That a hand holds."""
    position: int | None
    """Semitones between the lowest and the highest key that a hand strikes in a bar."""
    places: tuple[int, ...] | None
    """Ticks of a quarter at which notes begin and end, counted from the bar line; None for any."""
    in_eighths: tuple[int, ...] | None
    """The same in metres of eighths or less, whose beat is not a quarter."""
    fastest: float
    """Beats a minute."""

    def places_in(self, metre: Metre) -> tuple[int, ...] | None:
        return self.in_eighths if metre.denominator >= 8 else self.places


_SIXTEENTHS = (0, 6, 8, 12, 16, 18)
LEVELS: Mapping[str, Level] = {
    # Five fingers over five keys, a hand that stays within its octave, quarters and longer: the first year's books.
    "beginner": Level(7, 2, 12, (0,), (0, 12), 92),
    # A hand that opens to a sixth, triads, eighths straight or swung (the last third of a triplet).
    "easy": Level(9, 3, 16, (0, 12, 16), (0, 12), 112),
    # The octave, seventh chords, sixteenths and triplets; the left hand leaps as a stride bass does, by two octaves.
    "intermediate": Level(12, 4, 24, _SIXTEENTHS, _SIXTEENTHS, 152),
    # What two hands can play at all.
    "advanced": Level(LARGEST_SPAN, MOST_NOTES, None, None, None, 300),
}

_LEFT, _RIGHT = 0, 1
_HANDS = ("left", "right")
_EARLY = 2
"""Ticks before a place within which a played note is meant to fall there."""


def beyond(score: Score, name: str) -> list[str]:
    """What of a piece goes beyond a level, as "bar 3: the right hand holds 4 keys"; empty where it keeps it."""
    level, score = LEVELS[name], in_hands(score, name)
    lines, places = bar_edges(score), _places(score, level)
    found: dict[tuple[int, str], None] = {}

    def tell(onset: int, what: str) -> None:
        found[max(0, bisect_left(lines, onset + 1) - 1), what] = None

    if level.position is None:
        for onset in unplayable(score.notes, score.pedals):
            tell(onset, "no two hands reach all keys")
    for hand in (_LEFT, _RIGHT) if level.position is not None else ():
        rows, called = _rows(score, hand), f"the {_HANDS[hand]} hand"
        ends = let_go(rows, score.pedals)
        held: list[tuple[int, int]] = []
        struck: dict[int, list[int]] = {}
        for (onset, pitch, ticks, _), end in zip(rows, ends, strict=True):
            held = [*((key, until) for key, until in held if until > onset and key != pitch), (pitch, end)]
            keys = [key for key, _ in held]
            struck.setdefault(bisect_left(lines, onset + 1) - 1, []).append(pitch)
            if len(keys) > level.keys:
                tell(onset, f"{called} holds {len(keys)} keys")
            if max(keys) - min(keys) > level.span:
                tell(onset, f"{called} spans {max(keys) - min(keys)} semitones")
            if places is not None and not {onset, onset + ticks} <= places:
                tell(onset, f"{called} has quicker notes")
        for bar, keys in struck.items():
            if max(keys) - min(keys) > (level.position or HIGHEST_PITCH):
                tell(lines[bar], f"{called} moves over {max(keys) - min(keys)} semitones")
    fastest = _beats_a_minute(score)
    if fastest > level.fastest + 0.5:
        tell(0, f"{fastest:.0f} beats a minute")
    return [f"bar {bar + 1}: {what}" for bar, what in sorted(found)]


def in_hands(score: Score, name: str | None) -> Score:
    """The score with a hand for every note: what its source says stays; the rest as `plagal.music.hands` judges it or,
    for a level whose hands keep a position, parted in each bar at the key where both keep the level."""
    judged = in_two_hands(score)
    level = LEVELS[name or "advanced"]
    if level.position is None or judged is score:
        return judged
    hands = np.array(judged.hands)
    rows, lines = [tuple(map(int, row)) for row in score.notes], bar_edges(score)
    first, over = 0, list[tuple[int, int, int]]()
    for line in lines[1:]:
        last = bisect_left(rows, (line,))
        bar = [(row[ONSET], row[PITCH], row[ONSET] + row[DURATION]) for row in rows[first:last]]
        before = hands[first:last]

        def cost(cut: int) -> tuple[int, int]:
            at = np.array([key >= cut for _, key, _ in bar])  # noqa: B023  # called at once
            faults = sum(_faults(level, over, bar, hand, cut) for hand in (_LEFT, _RIGHT))  # noqa: B023
            return faults, int((at != before).sum())  # noqa: B023

        if bar:
            cut = min((*sorted({key for _, key, _ in bar}), HIGHEST_PITCH + 1), key=cost)
            hands[first:last] = [key >= cut for _, key, _ in bar]
        over = [note for note in (*over, *bar) if note[2] > line]
        first = last
    return replace(judged, hands=hands)


def _faults(
    level: Level, over: Sequence[tuple[int, int, int]], bar: Sequence[tuple[int, int, int]], hand: int, cut: int
) -> int:
    """Strikes of a bar that go beyond the level in one of two hands that part at `cut`; notes are onset, key, end."""
    down, struck, faults = [note for note in over if (note[1] >= cut) == hand], set[int](), 0
    for onset, key, end in bar:
        if (key >= cut) == hand:
            down = [*(note for note in down if note[2] > onset), (onset, key, end)]
            keys = [note[1] for note in down]
            struck.add(key)
            faults += len(keys) > level.keys or max(keys) - min(keys) > level.span
    return faults + bool(struck and level.position is not None and max(struck) - min(struck) > level.position)


class Reach:
    """The keys that two hands of a level can strike while a bar is written: both keep the level with at least one key
    at which they part throughout the bar."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._bar: set[int] = set()
        self._cuts: list[int] = list(_CUTS)

    def begin_bar(self) -> None:
        self._bar, self._cuts = set(), list(_CUTS)

    def strike(self, key: int, down: Iterable[int]) -> None:
        """`down`: keys held, with this one."""
        self._bar.add(key)
        self._cuts = [cut for cut in self._cuts if self._sides(cut, {*down, key})] or self._cuts

    def keys(self, down: Iterable[int]) -> int:
        """As bits (bit 60 is middle C), besides the keys that are down."""
        found, held = 0, set(down)
        for cut in self._cuts:
            for low, high in self._sides(cut, held):
                found |= (1 << high + 1) - (1 << low) if low <= high else 0
        return found

    def _sides(self, cut: int, down: set[int]) -> list[tuple[int, int]]:
        """What the left and the right hand can strike, lowest and highest key; empty where one is beyond the level."""
        sides = []
        for ends in ((LOWEST_PITCH, cut - 1), (cut, HIGHEST_PITCH)):
            held, bar = ([key for key in keys if ends[0] <= key <= ends[1]] for keys in (down, self._bar))
            lowest, highest = ends
            for keys, widest in ((held, self._level.span), (bar, self._level.position or HIGHEST_PITCH)):
                if keys:
                    lowest, highest = max(lowest, max(keys) - widest), min(highest, min(keys) + widest)
            if len(held) > self._level.keys or any(not lowest <= key <= highest for key in held + bar):
                return []
            sides.append((lowest, highest) if len(held) < self._level.keys else (1, 0))
        return sides


_CUTS = range(LOWEST_PITCH, HIGHEST_PITCH + 2)


def check_level(name: str) -> None:
    """Raises InputError for a name that is not a level's."""
    if name not in LEVELS:
        raise InputError(f"level {name} is not known; choose one of {', '.join(LEVELS)}")


def in_rhythm(score: Score, name: str) -> Score:
    """A single line of notes in a level's rhythm."""
    places = _places(score, LEVELS[name])
    if places is None:
        return score
    rows = [(int(a), int(b), int(c), int(d)) for a, b, c, d in score.notes]
    notes = [note for group in _placed(rows, sorted(places)).values() for note in group]
    return replace(score, notes=np.array(notes, dtype=np.int32).reshape(-1, 4), hands=None)


def simplified(score: Score, name: str) -> Score:
    """The piece as easy as a level; what keeps the level already stays as it is."""
    level, score = LEVELS[name], in_hands(score, name)
    score = change_tempo(score, min(1.0, level.fastest / _beats_a_minute(score)))
    if not beyond(score, name):
        return score
    lines, places = bar_edges(score), _places(score, level)
    at = None if places is None else sorted(places)
    chords = _chords(score)
    onsets = [onset for onset, _ in chords]
    hands: list[list[HandNote]] = []
    for hand in (_LEFT, _RIGHT):
        notes: list[HandNote] = []
        for onset, rows in _placed(_rows(score, hand), at).items():
            now = bisect_left(onsets, onset + 1) - 1
            notes += _thinned(rows, hand, level, chords[now][1] if now >= 0 else None)
        if level.position is not None:
            bars = groupby(notes, key=lambda note: bisect_left(lines, note[0] + 1))
            notes = [note for _, bar in bars for note in _in_position(list(bar), hand, level.position)]
        if level.span < 12:  # a hand that does not reach an octave holds nothing while it strikes
            starts = [*sorted({note[0] for note in notes}), lines[-1]]
            notes = [
                (on, key, min(ticks, starts[bisect_left(starts, on) + 1] - on), loud) for on, key, ticks, loud in notes
            ]
        hands.append(reachable(notes, level.span, level.keys, left=hand == _LEFT))
    left, right = hands
    both = np.array(together(left, right), dtype=np.int32).reshape(-1, 4)
    rights = {(note[0], note[1]) for note in right}
    of_hand = np.array([(onset, pitch) in rights for onset, pitch, _, _ in both.tolist()], dtype=np.int8)
    return replace(score, notes=both, hands=of_hand)


def _beats_a_minute(score: Score) -> float:
    """The fastest tempo, in the beats of the first metre."""
    beat = score.metres[0].tempo_beat_ticks
    return max(tempo.quarters_per_minute for tempo in score.tempos) * TICKS_PER_QUARTER / beat


def _rows(score: Score, hand: int) -> list[HandNote]:
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in score.notes[score.hands == hand]]


def _places(score: Score, level: Level) -> set[int] | None:
    """Every tick of the piece at which a level's notes may begin and end."""
    if level.places is None:
        return None
    lines = bar_edges(score)
    onsets = [metre.onset for metre in score.metres]
    found = {lines[-1]}
    for first, last in pairwise(lines):
        metre = score.metres[max(0, bisect_left(onsets, first + 1) - 1)]
        allowed = level.places_in(metre) or ()
        found |= {tick for tick in range(first, last) if (tick - first) % TICKS_PER_QUARTER in allowed}
    return found


def _chords(score: Score) -> list[tuple[int, Chord]]:
    found = []
    for marker in score.markers:
        if marker.kind == "chord":
            try:
                found.append((marker.onset, parse_chord(marker.text)))
            except ChordError:
                continue  # a marker of a file that we did not write: its inner notes go by distance
    return found


def _placed(rows: Sequence[HandNote], places: Sequence[int] | None) -> dict[int, list[HandNote]]:
    """A hand's chords at the places of a level. What is struck between two places goes to the later one where it
    sounds there (a push), else to the earlier one; where the hand has a chord there itself, it is left out."""
    groups = {onset: list(group) for onset, group in groupby(rows, key=lambda note: note[0])}
    if places is None:
        return groups
    done: dict[int, list[HandNote]] = {}
    between: list[tuple[int, int, list[HandNote]]] = []
    for onset, group in groups.items():
        after = bisect_left(places, onset)
        later = places[min(after, len(places) - 1)]
        earlier = places[max(0, after - (later != onset))]
        if later - onset <= _EARLY:
            done.setdefault(later, []).extend(group)
        elif onset - earlier <= LONGEST_ROLL:
            done.setdefault(earlier, []).extend(group)
        else:
            between.append((earlier, later, group))
    for earlier, later, group in between:
        pushed = max(onset + ticks for onset, _, ticks, _ in group) > later
        free = [place for place in (later, earlier)[not pushed :] if place not in done and place != places[-1]]
        if free:
            done[free[0]] = group
    return {place: list(_ending(done[place], place, places)) for place in sorted(done) if place < places[-1]}


def _ending(group: Iterable[HandNote], place: int, places: Sequence[int]) -> Iterator[HandNote]:
    """Notes that begin at a place and end at the place that is nearest to their end."""
    first = bisect_left(places, place) + 1
    for onset, pitch, ticks, loud in group:
        end = onset + ticks
        after = min(bisect_left(places, end), len(places) - 1)
        nearest = after if after and places[after] - end <= end - places[after - 1] else after - 1
        yield place, pitch, places[max(first, nearest)] - place, loud


def _thinned(group: Sequence[HandNote], hand: int, level: Level, chord: Chord | None) -> list[HandNote]:
    """The melody or the bass, and as many others as the hand may hold: those first that say most of the chord."""
    by_pitch = sorted({note[1]: note for note in group}.values(), key=lambda note: note[1], reverse=hand == _RIGHT)
    outer, *inner = by_pitch
    steps = by_importance(chord.quality) if chord is not None else ()

    def rank(note: HandNote) -> tuple[int, int]:
        step = (note[1] - chord.root) % 12 if chord is not None else -1
        return steps.index(step) if step in steps else len(steps), abs(note[1] - outer[1])

    kept = [outer]
    for note in sorted(inner, key=rank):
        keys = [note[1], *(other[1] for other in kept)]
        doubled = any((note[1] - other[1]) % 12 == 0 for other in kept) and level.keys < MOST_NOTES
        if len(keys) <= level.keys and max(keys) - min(keys) <= level.span and not doubled:
            kept.append(note)
    return sorted(kept)


def _in_position(notes: Sequence[HandNote], hand: int, position: int) -> list[HandNote]:
    """A bar's notes of a hand within its position: chords whose melody or bass lies outside come octaves nearer."""
    chords = {onset: list(chord) for onset, chord in groupby(notes, key=lambda note: note[0])}
    outer = {onset: (max if hand == _RIGHT else min)(note[1] for note in chord) for onset, chord in chords.items()}
    keys = [note[1] for note in notes]
    if max(keys) - min(keys) <= position:
        return list(notes)

    def moved(low: int) -> tuple[int, int]:
        outside = [key for key in outer.values() if not low <= key <= low + position]
        return len(outside), sum(not low <= key <= low + position for key in keys)

    low = min(range(min(keys), max(keys) - position + 1), key=moved)
    found = []
    for onset, chord in chords.items():
        by = 0
        while outer[onset] + by < low:
            by += 12
        while outer[onset] + by > low + position:
            by -= 12
        found += [(on, key + by, ticks, loud) for on, key, ticks, loud in chord if low <= key + by <= low + position]
    return found
