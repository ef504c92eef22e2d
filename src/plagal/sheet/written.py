"""From what sounds to what is written: notes on a staff, at the nearest values that a reader can count, in voices.

What is bent is only the picture: each written note knows where it is written and where it sounds, and MusicXML says
both (`attack` and `release`). Rolled chords stand at one place, a pair of swung eighths is written straight, a chord
let go a little early fills its value, what rings on under the pedal ends where its voice strikes again.

How long a note may be written in one piece, where it must be split and tied, and where triplets stand is told in ticks
from the bar line. A span that begins and ends on 32nds is written plainly; one that does not is part of a triplet,
which fills a beat, half a beat or two beats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, pairwise, zip_longest

import numpy as np

from plagal.music.grid import bar_lines, last_event
from plagal.music.hands import LONGEST_ROLL, ROLL_TICKS
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Hands, Metre, Score

_NAMES = {192: "breve", 96: "whole", 48: "half", 24: "quarter", 12: "eighth", 6: "16th", 3: "32nd"}
_PLAIN = {
    ticks + (ticks // 2 if dots else 0): (name, dots)
    for ticks, name in _NAMES.items()
    for dots in (0, 1)
    if not (dots and ticks == 3)
}
"""Ticks -> name and dots."""
_SHORTEST = 3
_BAR_LINE, _HALF_BAR, _BEAT, _EIGHTH, _SIXTEENTH, _FINER = 5, 4, 3, 2, 1, 0
"""How strong a place in the bar is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One note head's worth: when it begins, what it lasts [ticks], how it is drawn."""

    start: int
    ticks: int
    value: str
    dots: int
    triplet: tuple[int, int] | None = None
    """First and last tick of the triplet that it is part of."""

    @property
    def end(self) -> int:
        return self.start + self.ticks


@lru_cache(maxsize=64)
def groups(numerator: int, denominator: int) -> tuple[int, ...]:
    """Where the beats of a bar begin, and where it ends [ticks]: quarters, dotted quarters in 6/8, 2 + 2 + 3 in 7/8."""
    unit = 4 * TICKS_PER_QUARTER // denominator
    bar = numerator * unit
    if denominator >= 8 and numerator % 3 == 0 and numerator > 3:
        return tuple(range(0, bar + 1, 3 * unit))
    if denominator >= 8 and unit * numerator % TICKS_PER_QUARTER:
        pair = 2 * unit
        whole = (numerator - 3) // 2 if numerator > 3 else 0
        return (*(pair * number for number in range(whole + 1)), bar) if numerator > 3 else (0, bar)
    step = TICKS_PER_QUARTER if bar % TICKS_PER_QUARTER == 0 else unit
    return tuple(range(0, bar + 1, step))


@lru_cache(maxsize=64)
def _strengths(numerator: int, denominator: int) -> tuple[int, ...]:
    """How strong each tick of a bar is."""
    beats = groups(numerator, denominator)
    bar = beats[-1]
    strengths = [_FINER] * (bar + 1)
    for begin, end in pairwise(beats):
        for tick in range(begin, end):
            inside = tick - begin
            strengths[tick] = _EIGHTH if inside % 12 == 0 else _SIXTEENTH if inside % 6 == 0 else _FINER
    for beat in beats:
        strengths[beat] = _BEAT
    count = len(beats) - 1
    if (count % 2 == 0 and count > 2) or (count == 2 and beats[1] == 36):
        strengths[beats[count // 2]] = _HALF_BAR
    strengths[0] = strengths[bar] = _BAR_LINE
    return tuple(strengths)


def triplets(edges: Iterable[int], metre: Metre) -> list[tuple[int, int]]:
    """The triplets that a voice needs in a bar, where its notes and rests begin and end at `edges`."""
    marks = sorted(set(edges))
    beats = groups(metre.numerator, metre.denominator)
    spans: list[tuple[int, int]] = []
    taken = 0
    for number, begin in enumerate(beats[:-1]):
        end = beats[number + 1]
        odd = [mark for mark in marks if begin < mark < end and mark % _SHORTEST]
        if not odd or begin < taken:
            continue
        after = beats[number + 2] if number % 2 == 0 and number + 2 < len(beats) else end
        if after - begin == 48 and [mark - begin for mark in marks if begin < mark < after] == [16, 32]:
            spans.append((begin, after))  # three quarters over two beats
            taken = after
            continue
        size = 24 if end - begin == 24 and begin + 12 not in marks else 12
        for low in range(begin, end, size):
            if any(low < mark < low + size for mark in odd):
                spans.append((low, low + size))
    return spans


def pieces(
    start: int, end: int, metre: Metre, spans: Sequence[tuple[int, int]] = (), rest: bool = False
) -> list[Piece]:
    """A note or rest from `start` to `end` within one bar, as it is written: split at the strongest place inside that
    it may not hide. `spans`: the triplets of its voice."""
    for low, high in spans:
        if start < high and end > low and not (start <= low and end >= high):
            inner = [
                Piece(a, b - a, *_PLAIN[(b - a) * 3 // 2], (low, high))
                for a, b in _cut(max(start, low), min(end, high))
            ]
            before = pieces(start, low, metre, spans, rest) if start < low else []
            after = pieces(high, end, metre, spans, rest) if end > high else []
            return before + inner + after
    strengths = _strengths(metre.numerator, metre.denominator)
    ticks = end - start
    inside = range(start + 1, end)
    strongest = max(inside, key=lambda tick: (strengths[tick], tick), default=start)
    compound = metre.denominator >= 8
    hides = strengths[strongest] > strengths[start] and not (
        not rest and not compound and _is_syncope(start, strongest, end, strengths)
    )
    if rest and strengths[strongest] >= _BEAT and not compound and metre.numerator == 3:
        hides = ticks < metre.bar_ticks
    if rest and compound and strengths[strongest] >= _BEAT and strengths[start] < _HALF_BAR:
        hides = True
    if compound and ticks == 18 and start % 36 in (0, 18):
        hides = False
    if ticks in _PLAIN and (not hides or ticks == _SHORTEST):
        return [Piece(start, ticks, *_PLAIN[ticks])]
    if ticks <= _SHORTEST:
        return [Piece(start, ticks, "32nd", 0)]
    first = strongest
    if not hides:  # not one value: the longest that fits before a place of the greatest strength
        first = next(
            (tick for tick in sorted(inside, key=lambda tick: (-strengths[tick], -tick)) if tick - start in _PLAIN),
            strongest,
        )
    return pieces(start, first, metre, spans, rest) + pieces(first, end, metre, spans, rest)


def _is_syncope(start: int, middle: int, end: int, strengths: Sequence[int]) -> bool:
    """Quarter-half-quarter and eighth-quarter-eighth are read at a glance, and written so."""
    return middle - start == end - middle and (end - start, strengths[middle]) in (
        (24, _BEAT), (48, _HALF_BAR), (48, _BEAT),
    )  # fmt: skip


def _cut(start: int, end: int) -> list[tuple[int, int]]:
    """A span within a triplet as values that have a name there."""
    cuts = []
    while start < end:
        ticks = max((t for t in (32, 24, 16, 12, 8, 4, 2) if t <= end - start and t * 3 // 2 in _PLAIN), default=2)
        cuts.append((start, start + ticks))
        start += ticks
    return cuts


SWING_SHARE = 0.8
"""So many of the second eighths must lie near the last third of their beat before a piece is said to swing."""
_SWUNG = (14, 15, 16, 17)
"""Ticks of a quarter at which a swung second eighth sounds."""
_FEWEST_SWUNG = 8

_GRIDS = {24: ((24, 0.0), (12, 0.5), (6, 1.5), (8, 1.8), (3, 4.0), (4, 4.2)),
          36: ((36, 0.0), (12, 0.5), (18, 1.5), (6, 1.5), (3, 4.0), (4, 4.5)),
          12: ((12, 0.0), (6, 1.0), (3, 3.0), (4, 3.5))}  # fmt: skip
"""Length of a beat [ticks] -> steps that divide it and what each costs: what is plain is read first."""
_ERROR, _COLLAPSED, _CLASH = 0.35, 3.0, 30.0
"""What a tick's distance, squared, costs; what it costs that two onsets, or two strikes of one key, become one."""
_TOGETHER = 2
"""Onsets so near [ticks] are one chord."""
_LONGEST_GRACE = 4
"""Ticks of a crushed note: the arranger's are a 32nd."""
_SMALLEST_REST = 12
"""Shorter silences are a matter of touch, not of rhythm."""


@dataclass(slots=True)
class Chord:
    """Notes of one voice that are struck together: where they are written, from `start` to `end` [ticks]."""

    start: int
    end: int
    notes: list[int]
    """Rows of the score's notes, rising in pitch."""
    rolled: bool = False
    graces: list[int] = field(default_factory=list)
    """Rows of notes crushed in before it."""


Staff = tuple[list[Chord], list[Chord]]
"""What one hand plays: its voices, the upper one first."""


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of the page."""

    starts: tuple[int, ...]
    """First ticks; the first is later than 0 where the piece begins with an upbeat."""
    ends: tuple[int, ...]
    metres: tuple[Metre, ...]
    upbeat: bool


def written(score: Score, hands: Hands, swings: bool) -> list[Staff]:
    """Both staves, the right hand's first."""
    beats = _beats(score)
    return [_staff(score, np.flatnonzero(np.equal(hands, hand)).tolist(), beats, swings) for hand in (1, 0)]


def swings(score: Score) -> bool:
    """Whether the eighths of a piece in quarters are swung throughout, in one ratio."""
    if any(metre.is_compound for metre in score.metres):
        return False
    inside = score.notes[:, ONSET] % TICKS_PER_QUARTER
    offbeat = inside[(inside >= 9) & (inside <= 19)]
    late = np.isin(offbeat, _SWUNG)
    thirds = int(np.count_nonzero(inside == 8))  # the middle of a triplet says that there are triplets
    return bool(late.sum() >= _FEWEST_SWUNG and late.mean() >= SWING_SHARE and thirds * 4 < late.sum())


def page_bars(score: Score, staves: Sequence[Staff]) -> Bars:
    """Bars up to the last note's end; the first is short where the piece begins with an upbeat."""
    chords = [chord for staff in staves for voice in staff for chord in voice]
    last = max([last_event(score), *(chord.end - 1 for chord in chords)])
    lines, lengths = bar_lines(score.metres, last)
    starts, ends = lines.tolist(), (lines + lengths).tolist()
    metres = [next(metre for metre in reversed(score.metres) if metre.onset <= start) for start in starts]
    first = min((chord.start for chord in chords), default=0)
    if len(starts) > 1 and 0 < first < ends[0] and 2 * first >= ends[0] and metres[0].bar_ticks == ends[0]:
        unit = 4 * TICKS_PER_QUARTER // metres[0].denominator
        starts[0] = first - first % min(unit, 12)
    return Bars(tuple(starts), tuple(ends), tuple(metres), starts[0] > 0)


def _beats(score: Score) -> list[tuple[int, int]]:
    """Begin and end of each beat up to the last note's end [ticks]."""
    last = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max(initial=1))
    lines, _ = bar_lines(score.metres, max(last, last_event(score)))
    beats = []
    for line in lines.tolist():
        metre = next((metre for metre in reversed(score.metres) if metre.onset <= line), score.metres[0])
        beats += [(line + low, line + high) for low, high in pairwise(groups(metre.numerator, metre.denominator))]
    return beats


def _staff(score: Score, rows: list[int], beats: Sequence[tuple[int, int]], swung: bool) -> Staff:
    notes = score.notes
    graces = _graces(score, rows)
    rows = [row for row in rows if row not in graces]
    places, rolled = _struck_together(score, rows)
    grids = _grids([(places[row], int(notes[row, PITCH])) for row in rows], beats, swung)
    chords: dict[int, list[int]] = {}
    for row in rows:
        chords.setdefault(_snapped(places[row], grids), []).append(row)
    starts = sorted(chords)
    ends = (notes[:, ONSET] + notes[:, DURATION]).tolist()
    finished: list[_Struck] = [
        (start, [(row, _end(start, ends[row], after, grids)) for row in chords[start]])
        for start, after in zip_longest(starts, starts[1:])
    ]
    staff = _voices(finished, notes[:, PITCH].tolist())
    for chord in chain(*staff):
        chord.rolled = sum(row in rolled for row in chord.notes) > 2
        chord.graces = [row for row, before in graces.items() if before in chord.notes]
    return staff


def _graces(score: Score, rows: Sequence[int]) -> dict[int, int]:
    """Notes crushed in before another of their hand, a semitone or two away, and that other."""
    notes = score.notes[rows].tolist()
    graces: dict[int, int] = {}
    for place, (onset, pitch, ticks, _) in enumerate(notes):
        if ticks > _LONGEST_GRACE:
            continue
        near = [
            other for other in range(place + 1, min(place + 8, len(rows)))
            if 1 < notes[other][0] - onset <= _LONGEST_GRACE and notes[other][2] > _LONGEST_GRACE
            and 0 < abs(notes[other][1] - pitch) <= 2
        ]  # fmt: skip
        if near and notes[near[0]][0] >= onset + ticks - 1:
            graces[rows[place]] = rows[near[-1]]
    return graces


def _struck_together(score: Score, rows: Sequence[int]) -> tuple[dict[int, int], set[int]]:
    """Where each note is taken to be struck [ticks], and the notes of rolled chords, which all begin with the first."""
    together: list[list[tuple[int, int, int]]] = []
    for row, (onset, pitch) in zip(rows, score.notes[rows][:, [ONSET, PITCH]].tolist(), strict=True):
        group = together[-1] if together else [(row, onset - 2 * LONGEST_ROLL, pitch)]
        keys, since = [key for _, _, key in group], onset - group[0][1]
        goes_on = onset - group[-1][1] == ROLL_TICKS and pitch > max(keys) and since <= LONGEST_ROLL
        if pitch in keys or not (since < _TOGETHER or goes_on):
            together.append([])
        together[-1].append((row, onset, pitch))
    places: dict[int, int] = {}
    rolled: set[int] = set()
    for group in together:
        struck, onsets = [row for row, _, _ in group], [onset for _, onset, _ in group]
        # A chord is heard where most of it is; a roll where it begins.
        is_roll = len(group) > 2 and bool((np.diff(onsets) == ROLL_TICKS).all())
        places |= dict.fromkeys(struck, onsets[0] if is_roll else sorted(onsets)[len(onsets) // 2])
        rolled.update(struck if is_roll else ())
    return places, rolled


_Grid = tuple[int, int, int, bool]
"""Of a beat: begin, end, step [ticks], whether its second eighth is swung."""


def _grids(struck: Sequence[tuple[int, int]], beats: Sequence[tuple[int, int]], swung: bool) -> dict[int, _Grid]:
    """The grid of each beat, by eighths: key is onset // 12."""
    grids: dict[int, _Grid] = {}
    place = 0
    for begin, end in beats:
        inside = []
        while place < len(struck) and struck[place][0] < end:
            inside.append((struck[place][0] - begin, struck[place][1]))
            place += 1
        size = end - begin
        is_swung = swung and size == 24 and any(_SWUNG[0] <= onset <= _SWUNG[-1] for onset, _ in inside)
        is_swung = is_swung and not any(6 < onset < 10 for onset, _ in inside)
        if is_swung:
            inside = [(_straight(onset), pitch) for onset, pitch in inside]
        steps = _GRIDS.get(size, _GRIDS[12] if size % 12 == 0 else ((3, 0.0),))
        step = min(steps, key=lambda pair: _cost(inside, size, pair[0]) + (pair[1] if inside else 0))[0]
        for eighth in range(begin // 3, end // 3):
            grids[eighth] = (begin, end, step, is_swung)
    return grids


def _straight(onset: int) -> int:
    """A place in a swung beat [ticks] where straight eighths have it."""
    return round(onset * 12 / 16) if onset <= 16 else round(12 + (onset - 16) * 12 / 8)


def _cost(inside: Sequence[tuple[int, int]], size: int, step: int) -> float:
    cost = 0.0
    taken: dict[int, int] = {}
    keys: set[tuple[int, int]] = set()
    for onset, pitch in inside:
        near = min(round(onset / step) * step, size)
        cost += _ERROR * (onset - near) ** 2
        if near in taken and taken[near] != onset:
            cost += _COLLAPSED
        if (near, pitch) in keys:
            cost += _CLASH
        taken[near] = onset
        keys.add((near, pitch))
    return cost


def _snapped(tick: int, grids: dict[int, _Grid]) -> int:
    begin, end, step, swung = grids.get(tick // 3, (tick - tick % 24, tick - tick % 24 + 24, 12, False))
    inside = _straight(tick - begin) if swung else tick - begin
    return begin + min(round(inside / step) * step, end - begin)


def _end(start: int, end: int, after: int | None, grids: dict[int, _Grid]) -> int:
    """Where a note is written to end: at the next chord of its hand where it ends near it, else where a plain value
    does."""
    if after is not None:
        apart = after - start
        if end <= after and (after - end < _SMALLEST_REST or 2 * (end - start) >= apart) and after - end < 24:
            return after
        if after < end <= after + max(3, apart // 3) and end - after < 9:
            return after
    begin, until, step, _ = grids.get(end // 3, (end - end % 24, end - end % 24 + 24, 12, False))
    coarse = max(step, 12 if (until - begin) % 12 == 0 else 3) if step != 8 else 8
    near = begin + round((end - begin) / coarse) * coarse
    if near <= start:
        near = start + _value_after(start, grids)
    if after is not None and start < after < near <= after + 3:
        near = after
    return min(near, after) if after is not None and end <= after else near


def _value_after(start: int, grids: dict[int, _Grid]) -> int:
    """The shortest value to write at a place: up to the next eighth, or the next step of its grid."""
    begin, _, step, _ = grids.get(start // 3, (start, start, 12, False))
    return 12 - (start - begin) % 12 if step not in (4, 8) else step


# --- voices


_Struck = tuple[int, list[tuple[int, int]]]
"""Where notes are struck together, and each row with where it ends."""


def _voices(struck: Sequence[_Struck], pitches: Sequence[int]) -> Staff:
    """Two voices from (start, notes with their ends): as few second voices as the music allows. A voice that must
    strike again ends what it held; that rings on, unwritten."""
    upper: list[Chord] = []
    lower: list[Chord] = []
    for (start, held), after in zip_longest(struck, struck[1:]):
        for chord, voice in _shared(start, held, after, upper, lower, pitches):
            if voice and voice[-1].end > chord.start:
                voice[-1].end = chord.start
            voice.append(chord)
    return upper, lower


def _shared(
    start: int, held: list[tuple[int, int]], after: _Struck | None, upper: list[Chord], lower: list[Chord],
    pitches: Sequence[int],
) -> list[tuple[Chord, list[Chord]]]:  # fmt: skip
    """The chords that become of what is struck together, each with its voice. Where both voices are free, what rings on
    under or over what moves has one of its own."""
    held = sorted(held, key=lambda note: pitches[note[0]])
    rows = [row for row, _ in held]
    low, high = pitches[rows[0]], pitches[rows[-1]]
    if busy := [voice for voice in (upper, lower) if voice and voice[-1].end > start]:
        until = max(end for _, end in held)
        chord = Chord(start, until if after is None else min(until, after[0]), rows)
        if busy[-1] is lower:
            return [(chord, upper if high > pitches[busy[0][-1].notes[0]] else lower)]
        return [(chord, lower if low < pitches[upper[-1].notes[-1]] else upper)]
    rings = [after is not None and end - after[0] >= _SMALLEST_REST for _, end in held]
    if after is None or not any(rings):
        ends = [end if after is None else min(end, after[0]) for _, end in held]
        return [(Chord(start, _common_end(ends), rows), upper)]
    ring = _common_end([end for (_, end), on in zip(held, rings, strict=True) if on])
    if all(rings):
        # Notes that come above it make it the lower voice.
        above = any(pitches[row] > high for row, _ in after[1])
        below = any(pitches[row] < low for row, _ in after[1])
        return [(Chord(start, ring, rows), lower if above and not below else upper)]
    cut = len(rows)
    while cut and rings[cut - 1] == rings[-1]:
        cut -= 1
    over, under = (ring, after[0]) if rings[-1] else (after[0], ring)
    return [(Chord(start, over, rows[cut:]), upper), (Chord(start, under, rows[:cut]), lower)]


def _common_end(ends: Sequence[int]) -> int:
    """Notes of one chord end together on paper: where most do, the later of two."""
    return max(sorted(set(ends)), key=lambda end: (sum(other == end for other in ends), end))
