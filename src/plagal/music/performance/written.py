"""A score from what was played and the pulse under it: places, lengths, tempos, metres, pedal, and what that bends.

Notes struck as one (chords, rolled ones too) get one place in the bar. Each beat is divided in one way (eighths,
triplets, sixteenths ...), chosen over the whole piece by dynamic programming: what fits the strikes, is plain, and goes
on as before. A swung pair comes out as the triplet that it is nearest to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plagal.music.grid import FASTEST, SLOWEST, nearest_tempo, regular
from plagal.music.performance.played import Floats, Ints, Played, Pulse, pedal_ends, seconds_at
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Metre, Pedal, Score, Tempo
from plagal.music.viterbi import best_path

_CHORD, _ROLL, _LONGEST_ROLL = 0.035, 0.08, 0.3
"""Seconds between the notes of a strike: of a chord, of a roll that the fingers hold, and of a roll in all."""
_GRACE = 0.12
"""A note shorter than this [s] that leads by a step into the next strike is a grace note."""
GRACE_TICKS = 3
"""How long before its note a grace note is written: a 32nd."""

SIMPLE, COMPOUND = TICKS_PER_QUARTER, TICKS_PER_QUARTER * 3 // 2
"""Ticks of a beat."""

_DIVISIONS = {
    SIMPLE: ((24, 0.0), (12, 0.6), (6, 2.2), (8, 2.0), (4, 5.0), (3, 6.0)),
    COMPOUND: ((36, 0.0), (12, 0.4), (6, 2.2), (18, 4.0), (4, 6.0), (3, 7.0)),
}
"""Beat -> smallest unit [ticks] and what it costs in plainness, in nats."""
_CHANGE = 1.4
"""What it costs to turn from halves to thirds or back from one beat to the next."""
_COLLISION = 4.0
"""What it costs to write two strikes as one."""
_SPREAD, _SPREAD_SHARE = 0.014, 0.025
"""Standard deviation of a strike around its place: seconds, and a share of the beat."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Onset ticks of each note, the grid under them, and which notes are graces: shapes (notes,), (beats,)."""

    ticks: Ints
    beat_seconds: Floats
    beat_ticks: Ints
    units: Ints
    """The smallest unit [ticks] of each beat."""
    graces: npt.NDArray[np.bool_]


def group_strikes(notes: Floats) -> Ints:
    """The strike of each note, counted from 0: chords, and rolls whose keys are held until the last is struck."""
    numbers = np.zeros(len(notes), dtype=np.int64)
    onsets, ends = notes[:, ONSET].tolist(), (notes[:, ONSET] + notes[:, DURATION]).tolist()
    pitches = notes[:, PITCH].tolist()
    begin, number, released = 0, 0, ends[0]
    for place in range(1, len(onsets)):
        gap, whole = onsets[place] - onsets[place - 1], onsets[place] - onsets[begin]
        chord = gap <= _CHORD and whole <= 2 * _CHORD
        upward = pitches[place] > pitches[place - 1] + 2 and released > onsets[place]
        if chord or (gap <= _ROLL and whole <= _LONGEST_ROLL and upward):
            released = min(released, ends[place])
        else:
            number, begin, released = number + 1, place, ends[place]
        numbers[place] = number
    return numbers


def grid_of(pulse: Pulse, first: float, last: float) -> tuple[Floats, Ints, int]:
    """The beats from a bar line at or before second `first` to a bar line after `last`: seconds and ticks of each, and
    how many stand before the pulse's own first. Beyond the pulse they go on as its outermost bar does."""
    steps = np.diff(pulse.seconds)
    before, after = float(np.median(steps[:4])), float(np.median(steps[-4:]))
    lead = int(pulse.in_bar[0])
    while pulse.seconds[0] - lead * before > first + 0.3 * before:
        lead += int(pulse.length[0])
    tail = int(pulse.length[-1] - pulse.in_bar[-1])
    while pulse.seconds[-1] + tail * after < last + 0.5 * after:
        tail += int(pulse.length[-1])
    ahead, behind = before * np.arange(lead, 0, -1), after * np.arange(1, tail + 1)
    seconds = np.concatenate([pulse.seconds[0] - ahead, pulse.seconds, pulse.seconds[-1] + behind])
    kinds = np.pad(pulse.compound, (lead, tail), mode="edge")
    ticks = np.concatenate([[0], np.cumsum(np.where(kinds[:-1], COMPOUND, SIMPLE))])
    return seconds, ticks, lead


def place_notes(played: Played, pulse: Pulse) -> Placed:
    """Ticks for every onset, counted from the bar line before the first."""
    notes = played.notes
    strike = group_strikes(notes)
    firsts = np.flatnonzero(np.diff(strike, prepend=-1))
    sizes = np.diff(np.append(firsts, len(notes)))
    moment = np.add.reduceat(notes[:, ONSET], firsts) / sizes
    seconds, ticks, _ = grid_of(pulse, float(notes[0, ONSET]), float(notes[-1, ONSET]))
    lengths = np.diff(ticks)
    # A roll begins on the beat or ends there: its place is that of the end that is nearer to one.
    ends = np.stack([notes[firsts, ONSET], notes[firsts + sizes - 1, ONSET]], axis=1)
    off = np.abs(ends - seconds[np.searchsorted((seconds[1:] + seconds[:-1]) / 2, ends)])
    nearer = ends[np.arange(len(ends)), off.argmin(axis=1)]
    moment = np.where(np.ptp(ends, axis=1) > 2 * _CHORD, nearer, moment)
    grace = _graces(notes, firsts, sizes, moment)
    real = np.flatnonzero(~grace)
    beat = np.clip(np.searchsorted(seconds, moment, side="right") - 1, 0, len(lengths) - 1)
    part = (moment - seconds[beat]) / np.maximum(np.diff(seconds)[beat], 1e-6)

    # Each beat in each of its divisions: the cost of writing its strikes so, and where they would stand.
    per_beat = [real[beat[real] == number] for number in range(len(lengths))]
    cost = np.zeros((len(lengths), len(_DIVISIONS[SIMPLE])))
    where: dict[tuple[int, int], Ints] = {}
    for number, (inside, size, span) in enumerate(zip(per_beat, lengths.tolist(), np.diff(seconds), strict=True)):
        spread, parts = _SPREAD + _SPREAD_SHARE * span, part[inside]
        for choice, (unit, plainness) in enumerate(_DIVISIONS[size]):
            at = np.rint(parts * size / unit).astype(np.int64) * unit
            off = (parts - at / size) * span / spread
            cost[number, choice] = plainness + 0.5 * np.minimum(off**2, 12.0).sum()
            cost[number, choice] += _COLLISION * (len(at) - len(np.unique(at)))
            where[number, choice] = ticks[number] + at
    thirds = np.array([[unit in (4, 8) for unit, _ in _DIVISIONS[int(size)]] for size in lengths])
    plain = np.array([[unit == size for unit, _ in _DIVISIONS[int(size)]] for size in lengths])
    chosen_ways = _cheapest(cost, thirds, plain)

    at_strike = np.zeros(len(moment), dtype=np.int64)
    for number, inside in enumerate(per_beat):
        at_strike[inside] = where[number, int(chosen_ways[number])]
    # What begins a little before the first bar line begins on it.
    at_strike[real] = np.maximum(np.maximum.accumulate(at_strike[real]), 0)
    for place in np.flatnonzero(grace)[::-1]:
        after = at_strike[place + 1]
        earlier = at_strike[:place][~grace[:place]]
        floor = int(earlier[-1]) if len(earlier) else 0
        at_strike[place] = max(after - GRACE_TICKS, min(floor + 1, int(after)), 0)
    units = np.array([_DIVISIONS[int(size)][chosen][0] for size, chosen in zip(lengths, chosen_ways, strict=True)])
    return Placed(at_strike[strike], seconds, ticks, units, grace[strike])


def _cheapest(cost: Floats, thirds: npt.NDArray[np.bool_], plain: npt.NDArray[np.bool_]) -> Ints:
    """The choices (beats,) of least cost in all. A beat that is not divided carries no opinion on thirds."""

    def moving(beat: int) -> Floats:
        differs = thirds[beat - 1][:, None] != thirds[beat]
        return np.asarray(-_CHANGE * (differs & ~plain[beat - 1][:, None] & ~plain[beat]))

    return best_path(-cost, moving)[0]


def _graces(notes: Floats, firsts: Ints, sizes: Ints, moment: Floats) -> npt.NDArray[np.bool_]:
    """Which strikes are grace notes: single, short, and a step away from a note of the next strike, which follows at
    once, while what came before was longer ago."""
    grace = np.zeros(len(firsts), dtype=bool)
    for place in range(len(firsts) - 1):
        if sizes[place] > 1 or moment[place + 1] - moment[place] > _GRACE:
            continue
        first = firsts[place]
        following = notes[firsts[place + 1] : firsts[place + 1] + sizes[place + 1]]
        gap = following[0, ONSET] - notes[first, ONSET]
        steps = np.abs(following[:, PITCH] - notes[first, PITCH])
        rested = place == 0 or moment[place] - moment[place - 1] > 1.5 * gap
        longer = following[:, DURATION].max() > 2 * gap
        grace[place] = bool(
            notes[first, DURATION] < gap + 0.08 and ((steps > 0) & (steps <= 2)).any() and rested and longer
        )
    return grace


_DRIFT = 0.025
"""Seconds by which a beat of the score may stray from the played one before the tempo follows."""
_LEAST_CHANGE = 1.04
_HANDS_PART = 60
_HELD_FOR_IT = 0.4
"""A key held for this share of the time to its hand's next strike is meant to last until then."""
_MEANT_TO_LAST = TICKS_PER_QUARTER * 3 // 2
"""Ticks: a longer wait for the next strike is a rest, unless most of it is held."""


def write_down(played: Played, pulse: Pulse) -> Score:
    """The regular score of a performance. Its tick 0 is the bar line at or before the first note; the silence before
    is dropped. `losses`: `played_onsets_ms` is how far from its played onset a note of the score sounds at the 90th
    percentile, `played_graces` the grace notes written as 32nds, `played_chords_joined` the notes that a chord or a
    roll drew together."""
    placed = place_notes(played, pulse)
    lengths = _lengths(played, placed)
    notes = np.stack([placed.ticks, played.notes[:, PITCH], lengths, played.notes[:, VELOCITY]], axis=1)
    notes = np.rint(notes).astype(np.int32)
    tempos = _tempos(placed)
    pedal = [
        Pedal(int(tick), "on" if down else "off")
        for tick, down in zip(_ticks_at(placed, played.pedal[:, 0]), played.pedal[:, 1] > 0, strict=True)
    ]
    score = Score(notes, _metres(pulse, played), tempos, (), tuple(pedal), (), played.title)
    # How far each onset of the score lies from the played one [s], when it is played by its own tempos.
    off = seconds_at(score, placed.ticks) - played.notes[:, ONSET]
    off = np.abs(off - np.median(off))
    onsets_ms, graces = round(1000 * float(np.quantile(off, 0.9)), 1), float(placed.graces.sum())
    losses = {name: value for name, value in (("played_onsets_ms", onsets_ms), ("played_graces", graces)) if value}
    return regular(replace(score, losses=losses))


def _ticks_at(placed: Placed, seconds: Floats) -> Floats:
    """Ticks, with fractions, of moments: by the beats around them, and their outermost beyond."""
    at = np.interp(seconds, placed.beat_seconds, placed.beat_ticks.astype(np.float64))
    return np.maximum(at, 0.0)


def _lengths(played: Played, placed: Placed) -> Ints:
    """Written lengths [ticks]: to the hand's next strike where the key or the pedal lasts about so long, else what the
    key is held, on the beat's own grid."""
    notes, ticks = played.notes, placed.ticks
    held = _ticks_at(placed, notes[:, ONSET] + notes[:, DURATION]) - _ticks_at(placed, notes[:, ONSET])
    sounding = _ticks_at(placed, pedal_ends(played)) - _ticks_at(placed, notes[:, ONSET])
    beat = np.clip(np.searchsorted(placed.beat_ticks, ticks, side="right") - 1, 0, len(placed.units) - 1)
    # A key is not written shorter than a sixteenth or a third: finer is touch, not rhythm.
    unit = np.clip(placed.units[beat], 6, 12)
    lengths = np.maximum(np.rint(held / unit).astype(np.int64) * unit, unit)
    right = notes[:, PITCH] >= _HANDS_PART
    for hand in (right, ~right):
        own = np.unique(ticks[hand & ~placed.graces])
        if len(own) < 2:
            continue
        following = np.searchsorted(own, ticks[hand], side="right")
        gap = np.where(following < len(own), own[np.minimum(following, len(own) - 1)] - ticks[hand], 1 << 20)
        share, rings = held[hand] / gap, sounding[hand] / gap
        until = (share >= _HELD_FOR_IT) & (share <= 1.2) & ((gap <= _MEANT_TO_LAST) | (share >= 0.75))
        until |= (rings >= 0.9) & (share <= 1.2)
        lengths[hand] = np.where(until, gap, lengths[hand])
    return np.where(placed.graces, GRACE_TICKS, np.maximum(lengths, 1))


def _metres(pulse: Pulse, played: Played) -> tuple[Metre, ...]:
    _, ticks, lead = grid_of(pulse, float(played.notes[0, ONSET]), float(played.notes[-1, ONSET]))
    metres: list[Metre] = []
    for place in np.flatnonzero(pulse.in_bar == 0).tolist() or [0]:
        beats, compound = int(pulse.length[place]), bool(pulse.compound[place])
        onset = int(ticks[lead + place]) if metres else 0
        metre = Metre(onset, 3 * beats if compound else beats, 8 if compound else 4)
        if not metres or metre != replace(metres[-1], onset=onset):
            metres.append(metre)
    return tuple(metres)


def _tempos(placed: Placed) -> tuple[Tempo, ...]:
    """The fewest tempos that keep every beat of the score within `_DRIFT` of the played one, each more than 4 % from
    the one before: a funnel of slopes from where the last tempo ended."""
    seconds, ticks = placed.beat_seconds - placed.beat_seconds[0], placed.beat_ticks.astype(np.float64)
    tempos: list[Tempo] = []
    now, place, before = 0.0, 0, 0.0
    while place < len(ticks) - 1:
        low, high, reached = 0.0, np.inf, place
        for ahead in range(place + 1, len(ticks)):
            span = ticks[ahead] - ticks[place]
            least, most = (seconds[ahead] - _DRIFT - now) / span, (seconds[ahead] + _DRIFT - now) / span
            if max(low, least) > min(high, most):
                break
            low, high, reached = max(low, least), min(high, most), ahead
        # Seconds a tick. The middle of what fits; where even one beat fits no slope, the one that ends on it.
        slope = (low + high) / 2 if reached > place else (seconds[place + 1] - now) / (ticks[place + 1] - ticks[place])
        reached = max(reached, place + 1)
        wanted = 60.0 / TICKS_PER_QUARTER / max(slope, 1e-4)
        tempo = nearest_tempo(min(max(wanted, SLOWEST), FASTEST))
        if before and max(tempo / before, before / tempo) <= _LEAST_CHANGE:
            tempo = before
            # The old tempo goes on for a beat; by then the stray has grown enough to be followed.
            reached = place + 1
        elif tempo != before:
            tempos.append(Tempo(int(ticks[place]), tempo))
        # Words round tempos, by up to 1 %: a long stretch is cut where that has carried it too far.
        per_tick = 60.0 / tempo / TICKS_PER_QUARTER
        passed = slice(place + 1, reached + 1)
        far = np.flatnonzero(np.abs(now + (ticks[passed] - ticks[place]) * per_tick - seconds[passed]) > 1.4 * _DRIFT)
        if len(far):
            reached = place + max(1, int(far[0]))
        now += (ticks[reached] - ticks[place]) * per_tick
        place, before = reached, tempo
    return tuple(tempos)
