"""A score from what was played and the pulse under it: lengths, tempo curve, metres, pedal, and what that bends."""

from __future__ import annotations

import numpy as np

from plagal.music.grid import FASTEST, SLOWEST, regular
from plagal.music.performance.played import Floats, Ints, Played, Pulse, pedal_ends, seconds_at
from plagal.music.performance.positions import GRACE_TICKS, Placed, grid_of, place_notes
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Metre, Pedal, Score, Tempo
from plagal.music.tempo import nearest_tempo

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
    off = _onsets_off(played, placed, score)
    losses = {
        "played_onsets_ms": round(1000 * float(np.quantile(off, 0.9)), 1),
        "played_graces": float(placed.graces.sum()),
    }
    losses = {name: value for name, value in losses.items() if value}
    return regular(Score(notes, score.metres, tempos, (), tuple(pedal), (), played.title, losses))


def _onsets_off(played: Played, placed: Placed, score: Score) -> Floats:
    """How far each onset of the score lies from the played one [s], when it is played by its own tempos."""
    sounding = seconds_at(score, placed.ticks)
    off = sounding - played.notes[:, ONSET]
    return np.abs(off - np.median(off))


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
        metre = Metre(int(ticks[lead + place]), 3 * beats if compound else beats, 8 if compound else 4)
        if not metres:
            metre = Metre(0, metre.numerator, metre.denominator)
        elif (metre.numerator, metre.denominator) == (metres[-1].numerator, metres[-1].denominator):
            continue
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
        strays = np.abs(
            now + (ticks[place + 1 : reached + 1] - ticks[place]) * per_tick - seconds[place + 1 : reached + 1]
        )
        far = np.flatnonzero(strays > 1.4 * _DRIFT)
        if len(far):
            reached = place + max(1, int(far[0]))
        now += (ticks[reached] - ticks[place]) * per_tick
        place, before = reached, tempo
    return tuple(tempos)
