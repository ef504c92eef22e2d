"""A score played as hands play it, its beats known: the material that the listener learns from, and its test.

What is bent, and by how much, is drawn for each performance as a `Manner`. The ranges follow what is measured in piano
playing: chords within 30 ms, a melody that leads by up to 30 ms, swing between 1:1 and 2:1, phrases that end a tenth
to a third slower (Repp 1992, Goebl 2001, Friberg and Sundström 2002, as textbooks give them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.music.grid import bar_lines, last_event
from plagal.music.performance.played import (
    Floats,
    Ints,
    Played,
    Pulse,
    beat_ticks,
    pedal_ends,
    seconds_at,
)
from plagal.music.score import DURATION, HIGHEST_PITCH, LOWEST_PITCH, ONSET, PITCH, VELOCITY, Score

Draw = np.random.Generator


@dataclass(frozen=True, slots=True)
class Manner:
    """How one performance is played. Times in seconds, shares from 0 to 1."""

    pace: float
    """Factor on the score's tempo."""
    drift: float
    """Standard deviation of the beat's length from one beat to the next, as a share."""
    phrase_bars: int
    phrase_end: float
    """So much longer is the last beat of a phrase, as a share."""
    breath: float
    """Chance that a phrase ends with a pause of up to a beat."""
    last_slowing: float
    swing: float
    """Length of the first half of a beat over the second; 1 is straight."""
    together: float
    """Spread of the onsets of one chord."""
    steadiness: float
    """Spread of a whole chord around its place in the beat."""
    left_lead: float
    melody_lead: float
    rolled: float
    """Chance that a chord of three or more is rolled."""
    roll_step: float
    legato: float
    """Length of a key's hold over its written length."""
    pedal: str
    """"none", "bar", "beat" or "harmony"."""
    loud: float
    accent: float
    """Velocity that a downbeat has over the rest."""
    missing: float
    doubled: float
    wrong: float
    graced: float
    """Chance that a melody note gets a grace note before it."""
    trilled: float
    """Chance that a long melody note is trilled."""
    transcribed: bool
    """Whether a transcriber heard it: onsets within 30 ms, ends by the pedal, harmonics that nobody played."""


@dataclass(frozen=True, eq=False)
class Performance:
    """What was played, the pulse behind it, and where each note stands in the score [ticks]; -1 for notes that it does
    not hold."""

    played: Played
    pulse: Pulse
    ticks: Ints


def draw_manner(draw: Draw, transcribed: bool = False) -> Manner:
    """A manner of playing: from a metronome's to a romantic's, most of them between."""
    freedom = float(draw.beta(1.3, 2.0))
    return Manner(
        pace=float(np.exp(np.clip(draw.normal(0.0, 0.22), -0.5, 0.5))),
        drift=0.004 + 0.05 * freedom * float(draw.uniform(0.3, 1.0)),
        phrase_bars=int(draw.choice((2, 4, 4, 8))),
        phrase_end=0.45 * freedom * float(draw.uniform()),
        breath=0.4 * freedom * float(draw.uniform()),
        last_slowing=0.8 * freedom * float(draw.uniform()),
        swing=float(draw.uniform(1.3, 2.1)) if draw.uniform() < 0.25 else 1.0,
        together=float(draw.uniform(0.003, 0.014)),
        steadiness=float(draw.uniform(0.004, 0.02)),
        left_lead=float(draw.normal(0.0, 0.012)),
        melody_lead=float(draw.uniform(0.0, 0.03)) * (draw.uniform() < 0.6),
        rolled=float(draw.uniform(0.0, 0.25)) * (draw.uniform() < 0.6),
        roll_step=float(draw.uniform(0.018, 0.055)),
        legato=float(draw.uniform(0.45, 1.08)),
        pedal=str(draw.choice(("none", "bar", "beat", "harmony", "harmony"))),
        loud=float(draw.uniform(45, 90)),
        accent=float(draw.uniform(-1, 9)),
        missing=float(draw.uniform(0, 0.02)),
        doubled=float(draw.uniform(0, 0.01)),
        wrong=float(draw.uniform(0, 0.015)),
        graced=float(draw.uniform(0, 0.08)) * (draw.uniform() < 0.5),
        trilled=float(draw.uniform(0, 0.15)) * (draw.uniform() < 0.25),
        transcribed=transcribed,
    )


def perform(score: Score, seed: int, manner: Manner | None = None, transcribed: bool = False) -> Performance:
    """The score as played with this seed; the same arguments give the same performance. `manner` None draws one."""
    draw = np.random.default_rng(seed)
    how = manner or draw_manner(draw, transcribed)
    beats, in_bar, length, compound = _beats(score)
    clock = _beat_seconds(score, beats, in_bar, how, draw)
    notes = score.notes.astype(np.float64)
    written = score.notes[:, ONSET].astype(np.int64)
    where = _swung(notes[:, ONSET], beats, compound, how.swing)
    ends = _swung(notes[:, ONSET] + how.legato * notes[:, DURATION], beats, compound, how.swing)
    starts = np.interp(where, beats, clock)
    stops = np.interp(ends, beats, clock)
    top, bass = _outer_voices(score)

    # Hands: a chord early or late as a whole, its notes around it, the left hand and the melody ahead or behind.
    _, chord = np.unique(written, return_inverse=True)
    shift = draw.normal(0.0, how.steadiness, int(chord.max()) + 1)[chord] + draw.normal(0.0, how.together, len(notes))
    shift += how.left_lead * (notes[:, PITCH] < 56) - how.melody_lead * top
    shift += _rolls(chord, how, draw)
    starts, stops = starts + shift, stops + shift

    # Dynamics: phrases swell, the melody stands out, downbeats weigh more.
    on_downbeat = np.isin(written, beats[in_bar == 0])
    on_beat = np.isin(written, beats)
    swell = 8.0 * np.sin(np.pi * (written / (how.phrase_bars * 4 * 24)) % np.pi)
    loud = how.loud + swell + 9.0 * top + 3.0 * bass + how.accent * (on_downbeat + 0.4 * on_beat)
    loud += 0.25 * (notes[:, VELOCITY] - np.median(notes[:, VELOCITY])) + draw.normal(0.0, 5.0, len(notes))

    rows = np.stack([starts, notes[:, PITCH], np.maximum(stops - starts, 0.03), np.clip(loud, 12, 124)], axis=1)
    kept = draw.uniform(size=len(rows)) >= how.missing
    kept[0] = True
    rows, ticks, melody = rows[kept], written[kept], top[kept]
    extra = [_slips(rows, how, draw), _ornaments(rows, melody, how, draw)]
    pedal = _pedal(score, beats, in_bar, clock, how, draw)
    if how.transcribed:
        extra.append(_harmonics(rows, draw))
    rows = np.concatenate([rows, *extra])
    ticks = np.concatenate([ticks, *(np.full(len(more), -1) for more in extra)])

    # Silence before the first note, as recordings have it; nothing begins before 0.
    lead_in = float(draw.uniform(0.05, 2.0)) - min(0.0, float(rows[:, 0].min()))
    rows[:, 0] += lead_in
    pedal[:, 0] += lead_in
    clock = clock + lead_in
    if how.transcribed:
        rows, pedal = _as_transcribed(Played(rows, pedal), draw)
    rows[:, VELOCITY] = np.rint(np.clip(rows[:, VELOCITY], 1, 127))
    order = np.lexsort((rows[:, PITCH], rows[:, ONSET]))
    rows, ticks = rows[order], ticks[order]
    rows = _one_finger_a_key(rows)
    span = (beats >= min(written.min(), beats[-2])) & (beats <= max(written.max(), beats[1]))
    pulse = Pulse(clock[span], in_bar[span], length[span], compound[span])
    return Performance(Played(rows, pedal, score.title), pulse, ticks)


def _beats(score: Score) -> tuple[Floats, Ints, Ints, npt.NDArray[np.bool_]]:
    """Ticks of the beats to the end of the bar that holds the last note's end, and what `Pulse` says of each. An upbeat
    counts as the end of the bar that it lacks, so its first beat may lie before tick 0; two short bars that make a
    whole one are one, as where a repeat goes back to an upbeat."""
    ends = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    starts, lengths = bar_lines(score.metres, max(ends - 1, last_event(score)))
    steps = np.array([beat_ticks(metre) for metre in score.metres])
    steps = steps[np.searchsorted([metre.onset for metre in score.metres], starts, side="right") - 1]
    whole = int(np.bincount(lengths).argmax())
    step_of_whole = int(steps[np.argmax(lengths == whole)])
    bars: list[tuple[int, int, int]] = []
    for start, length, step in zip(starts.tolist(), lengths.tolist(), steps.tolist(), strict=True):
        if bars and bars[-1][1] < whole and bars[-1][1] + length == whole and bars[-1][0] + bars[-1][1] == start:
            bars[-1] = (bars[-1][0], whole, step_of_whole)
        elif not bars and length < whole and len(starts) > 1:
            bars.append((start + length - whole, whole, step_of_whole))
        else:
            bars.append((start, length, step))
    beats = [
        (start + at, place, -(-length // step), step in (18, 36, 72))
        for start, length, step in bars for place, at in enumerate(range(0, length, step))
    ]  # fmt: skip
    beats.append((bars[-1][0] + bars[-1][1], 0, *beats[-1][2:]))
    ticks, in_bar, counts, compound = map(np.array, zip(*beats, strict=True))
    return ticks.astype(np.float64), in_bar, counts, compound


def _beat_seconds(score: Score, beats: Floats, in_bar: Ints, how: Manner, draw: Draw) -> Floats:
    """When each beat comes [s]: the score's tempo, bent by phrases, pauses and a walk that returns to the tempo."""
    lengths = np.diff(seconds_at(score, beats)) / how.pace
    # No hand taps faster than five beats a second, and nobody feels a beat of two and a half seconds as one.
    lengths *= np.clip(np.median(lengths), 0.22, 2.2) / np.median(lengths)
    walk, state = np.zeros(len(lengths)), 0.0
    for place, step in enumerate(draw.normal(0.0, how.drift, len(lengths))):
        state = 0.85 * state + step
        walk[place] = state
    bar = np.cumsum(in_bar[:-1] == 0) - 1
    count = max(1, int(bar.max()) + 1)
    # Within a phrase the tempo is an arch: in, on, out (Todd's parabola), its end slowest.
    phrase = bar - bar % how.phrase_bars
    begins, ends = np.searchsorted(bar, phrase), np.searchsorted(bar, phrase + how.phrase_bars)
    through = (np.arange(len(lengths)) - begins) / np.maximum(1, ends - begins)
    depth = how.phrase_end * draw.uniform(0.3, 1.0, count)[phrase]
    arch = depth * (1.6 * (through - 0.45) ** 2 + 0.5 * np.maximum(0.0, through - 0.8) / 0.2 - 0.1)
    slowing = np.zeros(len(lengths))
    tail = min(len(lengths), int(draw.integers(2, 9)))
    slowing[-tail:] = how.last_slowing * np.linspace(0, 1, tail) ** 2
    lengths = lengths * np.exp(walk) * (1 + arch) * (1 + slowing)
    ending = np.flatnonzero(np.diff(bar, append=bar[-1]) & ((bar + 1) % how.phrase_bars == 0))
    pausing = ending[draw.uniform(size=len(ending)) < how.breath]
    lengths[pausing] *= 1 + draw.uniform(0.1, 0.9, len(pausing))
    return np.concatenate([[0.0], np.cumsum(lengths)])


def _swung(ticks: Floats, beats: Floats, compound: npt.NDArray[np.bool_], swing: float) -> Floats:
    """Ticks with the second half of each simple beat late; beats that are played in triplets already stay."""
    if swing <= 1.0:
        return ticks
    place = np.clip(np.searchsorted(beats, ticks, side="right") - 1, 0, len(beats) - 2)
    step = np.diff(beats)[place]
    part = (ticks - beats[place]) / step
    thirds = np.zeros(len(beats), dtype=bool)
    thirds[place[(np.abs(part - 1 / 3) < 0.02) | (np.abs(part - 2 / 3) < 0.02)]] = True
    late = swing / (1.0 + swing)
    bent = np.where(part < 0.5, part * 2 * late, late + (part - 0.5) * 2 * (1 - late))
    swings = ~compound[place] & ~thirds[place]
    return np.where(swings, beats[place] + bent * step, ticks)


def _outer_voices(score: Score) -> tuple[Floats, Floats]:
    """1 for the highest and for the lowest note of each onset, where it lies on its side of middle C."""
    onset, pitch = score.notes[:, ONSET], score.notes[:, PITCH]
    first = np.flatnonzero(np.diff(onset, prepend=-1))
    last = np.append(first[1:], len(onset)) - 1
    top, bass = np.zeros(len(onset)), np.zeros(len(onset))
    top[last], bass[first] = 1.0, 1.0
    return top * (pitch >= 60), bass * (pitch < 60)


def _rolls(chord: Ints, how: Manner, draw: Draw) -> Floats:
    """Delays within rolled chords, from below: ending on the beat as often as beginning there."""
    count = int(chord.max()) + 1
    sizes = np.bincount(chord, minlength=count)
    rolled = (sizes >= 3) & (draw.uniform(size=count) < how.rolled)
    before = draw.uniform(size=count) < 0.5
    firsts = np.cumsum(sizes) - sizes
    rank = np.arange(len(chord)) - firsts[chord]
    delay = how.roll_step * (rank - before[chord] * (sizes[chord] - 1))
    return np.where(rolled[chord], delay, 0.0)


def _slips(rows: Floats, how: Manner, draw: Draw) -> Floats:
    """Neighbouring keys brushed, and keys struck twice."""
    brushed = rows[draw.uniform(size=len(rows)) < how.wrong].copy()
    beside = brushed[:, PITCH] + draw.choice((-2, -1, 1, 2), len(brushed))
    brushed[:, PITCH] = np.clip(beside, LOWEST_PITCH, HIGHEST_PITCH)
    brushed[:, ONSET] += draw.normal(0.0, 0.02, len(brushed))
    again = rows[(draw.uniform(size=len(rows)) < how.doubled) & (rows[:, DURATION] > 0.2)].copy()
    again[:, ONSET] += again[:, DURATION] * draw.uniform(0.3, 0.7, len(again))
    more = np.concatenate([brushed, again])
    more[:, DURATION] = np.minimum(more[:, DURATION], draw.uniform(0.04, 0.15, len(more)))
    more[:, VELOCITY] *= 0.6
    return more


def _ornaments(rows: Floats, melody: Floats, how: Manner, draw: Draw) -> Floats:
    """Grace notes a step below or above, just before their note, and trills on long notes."""
    graced = rows[(melody > 0) & (draw.uniform(size=len(rows)) < how.graced)].copy()
    early = draw.uniform(0.05, 0.1, len(graced))
    graced[:, ONSET] -= early
    graced[:, DURATION] = early
    graced[:, PITCH] += draw.choice((-2, -1, 1, 2), len(graced))
    trills = [graced]
    for row in rows[(melody > 0) & (rows[:, DURATION] > 0.5) & (draw.uniform(size=len(rows)) < how.trilled)]:
        step = float(draw.uniform(0.07, 0.11))
        turns = np.arange(1, int(row[DURATION] / step))
        trill = np.tile(row, (len(turns), 1))
        trill[:, ONSET] += turns * step
        trill[:, PITCH] += (turns % 2) * 2
        trill[:, DURATION] = step
        trills.append(trill)
    added = np.concatenate(trills)
    added[:, PITCH] = np.clip(added[:, PITCH], LOWEST_PITCH, HIGHEST_PITCH)
    return added


def _pedal(score: Score, beats: Floats, in_bar: Ints, clock: Floats, how: Manner, draw: Draw) -> Floats:
    """Where the foot moves [s]: down just after the strike, up at the next change."""
    if how.pedal == "none":
        return np.zeros((0, 2))
    places = beats[in_bar == 0] if how.pedal == "bar" else beats
    if how.pedal == "harmony":
        written = sorted({mark.onset for mark in score.markers if mark.kind == "chord"})
        places = np.array(written, dtype=np.float64) if written else beats[in_bar % 2 == 0]
    down = np.interp(places, beats, clock) + draw.uniform(0.03, 0.16, len(places))
    up = np.append(np.interp(places[1:], beats, clock) + draw.normal(0.02, 0.02, len(places) - 1), clock[-1])
    kept = up > down + 0.05
    down, up = down[kept], up[kept]
    down[1:] = np.maximum(down[1:], up[:-1] + 0.02)
    return np.stack([down, np.ones_like(down), up, np.zeros_like(up)], axis=1).reshape(-1, 2)


def _harmonics(rows: Floats, draw: Draw) -> Floats:
    """Partials that a transcriber takes for notes: an octave, a twelfth or two octaves up, soft."""
    ghosts = rows[draw.uniform(size=len(rows)) < draw.uniform(0.005, 0.04)].copy()
    ghosts[:, PITCH] += draw.choice((12, 19, 24), len(ghosts))
    ghosts[:, VELOCITY] *= 0.5
    ghosts[:, DURATION] *= draw.uniform(0.2, 0.8, len(ghosts))
    ghosts[:, ONSET] += draw.uniform(0.0, 0.03, len(ghosts))
    return ghosts[ghosts[:, PITCH] <= HIGHEST_PITCH]


def _as_transcribed(played: Played, draw: Draw) -> tuple[Floats, Floats]:
    """Onsets up to 30 ms off, ends where the pedal lets go, as often without a pedal as with one; soft notes lost."""
    rows = played.notes.copy()
    ends = pedal_ends(played) + draw.normal(0.0, 0.05, len(rows))
    rows[:, ONSET] = np.maximum(0.0, rows[:, ONSET] + np.clip(draw.normal(0.0, 0.012, len(rows)), -0.03, 0.03))
    rows[:, DURATION] = np.maximum(ends - rows[:, ONSET], 0.03)
    rows[:, VELOCITY] += draw.normal(0.0, 6.0, len(rows))
    return rows, played.pedal if draw.uniform() < 0.5 else np.zeros((0, 2))


def _one_finger_a_key(rows: Floats) -> Floats:
    """Rows sorted by onset, each ending where its key is struck again."""
    order = np.lexsort((rows[:, ONSET], rows[:, PITCH]))
    same = rows[order[:-1], PITCH] == rows[order[1:], PITCH]
    room = np.where(same, rows[order[1:], ONSET] - rows[order[:-1], ONSET], np.inf)
    held = rows[order[:-1], DURATION]
    rows = rows.copy()
    rows[order[:-1], DURATION] = np.maximum(0.01, np.minimum(held, room))
    return rows
