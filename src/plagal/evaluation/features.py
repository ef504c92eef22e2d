"""What a piece is like, in numbers: the ground on which coherence, distribution and style stand.

Names follow MusPy, MusDr (jazz transformer's) and mgeval where they have the measure. Where theirs has a known fault
ours differs, and `docs/evaluation.md` says how: groove compares only positions where something happens (MusDr's and
MusPy's count agreeing silence, so that an empty bar grooves perfectly), entropies weigh notes and not files, and
nothing depends on the resolution of a file. A measure that a piece is too short for is NaN, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from plagal.music.grid import bar_lines
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Metre, Notes, Score

# --- bars of a score, and windows of some bars ---

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BarSpan:
    """A bar from tick `begin` to tick `end`; numbers count from 1."""

    number: int
    begin: int
    end: int
    metre: Metre

    @property
    def beat(self) -> int:
        """What a musician taps, in ticks: a dotted quarter in 6/8, 9/8, 12/8; else the note that the metre names, but
        nothing shorter than a quarter in metres over 4 or less."""
        if self.metre.denominator == 8 and self.metre.numerator % 3 == 0:
            return 3 * TICKS_PER_QUARTER // 2
        return max(4 * TICKS_PER_QUARTER // self.metre.denominator, 1)


def bars_of(score: Score) -> list[BarSpan]:
    """The bars from the start to the one in which the last note sounds; none where there are no notes."""
    if not len(score.notes):
        return []
    last = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max()) - 1
    metres = tuple(metre for metre in score.metres if metre.onset <= last) or (Metre(0, 4, 4),)
    lines, lengths = bar_lines(metres, last)
    place = np.searchsorted([metre.onset for metre in metres], lines, side="right") - 1
    return [
        BarSpan(number, int(line), int(line + length), metres[max(which, 0)])
        for number, (line, length, which) in enumerate(zip(lines, lengths, place, strict=True), 1)
    ]


def cut(notes: Notes, begin: int, end: int) -> Notes:
    """Notes that begin in [begin, end), shifted so that `begin` is 0, and ending at `end` at the latest."""
    some = notes[(notes[:, ONSET] >= begin) & (notes[:, ONSET] < end)].copy()
    some[:, DURATION] = np.minimum(some[:, DURATION], end - some[:, ONSET])
    some[:, ONSET] -= begin
    return some


def window(score: Score, first: int, bars: int) -> Score:
    """`bars` bars from the `first` (counted from 0) as a score of their own: notes and metres only."""
    inside = bars_of(score)[first : first + bars]
    begin = inside[0].begin
    metres: list[Metre] = []
    for bar in inside:
        metre = replace(bar.metre, onset=bar.begin - begin)
        if not metres or (metre.numerator, metre.denominator) != (metres[-1].numerator, metres[-1].denominator):
            metres.append(metre)
    return Score(cut(score.notes, begin, inside[-1].end), tuple(metres), score.tempos[:1])


def windows(score: Score, bars: int, most: int) -> list[Score]:
    """At most `most` windows of `bars` bars, spread evenly from the first bar to the last; the whole score where it is
    no longer than one; none where it has no notes."""
    count = len(bars_of(score))
    if not count:
        return []
    starts = np.unique(np.linspace(0, max(count - bars, 0), most).round().astype(int))
    return [window(score, int(start), bars) for start in starts if count > bars or start == 0]


Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LAGS = (1, 2, 4, 8)
"""Bars between which likeness is measured."""

FEATURES = (
    "pitch_class_entropy", "scale_consistency", "key_clarity", "key_stability", "pitch_range", "mean_pitch",
    "polyphony", "polyphony_rate", "empty_beat_rate", "notes_per_quarter", "density_variation", "groove_consistency",
    "ioi_entropy", "duration_entropy", "mean_duration", "on_beat_share", "downbeat_weight", "held_over_bar",
    "melody_steps", "melody_leaps", "melody_interval", "melody_at_bar_lines", "bass_fourths", "bass_steps",
    "voice_leading", "voice_leading_at_bar_lines", "clashes", "tritones", "chroma_change", "chroma_change_at_bar_lines",
    "bars_repeated", "distinct_bars", "chroma_likeness", "content_likeness",
    *(f"chroma_likeness_{lag}" for lag in LAGS), *(f"content_likeness_{lag}" for lag in LAGS),
    *(f"groove_likeness_{lag}" for lag in LAGS),
)  # fmt: skip

_STEP = TICKS_PER_QUARTER // 4
"""Sixteenths, for what is counted in time [ticks]."""
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
"""Krumhansl and Kessler's key profiles (1982)."""
_SCALE = np.isin(np.arange(12), [0, 2, 4, 5, 7, 9, 11])


def features(score: Score) -> Floats:
    """The numbers that FEATURES names, shape (len(FEATURES),). Meant for windows of 4 to 16 bars; all NaN for fewer
    than two notes."""
    bars = bars_of(score)
    if len(score.notes) < 2:
        return np.full(len(FEATURES), np.nan)
    roll = _roll(score.notes, bars[-1].end)
    chroma = _per_span(_fold(roll), [(bar.begin, bar.end) for bar in bars])
    found = _pitches(score.notes, roll, chroma) | _rhythm(score.notes, roll, bars) | _lines(score.notes, bars)
    found |= _harmony(roll, bars) | _form(score.notes, chroma, bars)
    return np.array([found[name] for name in FEATURES])


def spread(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column over the rows that know it; 0 and 0 where none does."""
    known = np.isfinite(rows)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0.0).sum(axis=0) / counts
    squares = np.where(known, (rows - mean) ** 2, 0.0).sum(axis=0) / counts
    return mean, np.sqrt(squares)


def entropy(counts: Floats) -> float:
    """Shannon's, in bits."""
    share = counts[counts > 0] / counts.sum() if counts.sum() else np.ones(1)
    return float(-(share * np.log2(share)).sum()) + 0.0


def _roll(notes: Notes, end: int) -> Floats:
    """What sounds at each sixteenth: shape (sixteenths, 128), zeros and ones."""
    steps = -(-end // _STEP)
    change = np.zeros((steps + 1, 128))
    begin = notes[:, ONSET] // _STEP
    stop = np.maximum(-(-(notes[:, ONSET] + notes[:, DURATION]) // _STEP), begin + 1)
    np.add.at(change, (begin, notes[:, PITCH]), 1)
    np.add.at(change, (np.minimum(stop, steps), notes[:, PITCH]), -1)
    return np.asarray(np.minimum(change.cumsum(axis=0)[:-1], 1))


def _fold(roll: Floats) -> Floats:
    """Pitches to pitch classes: shape (sixteenths, 12)."""
    padded = np.zeros((len(roll), 132))
    padded[:, :128] = roll
    return np.asarray(padded.reshape(len(roll), 11, 12).sum(axis=1))


def _per_span(chroma: Floats, spans: list[tuple[int, int]]) -> Floats:
    """Pitch-class weight in each span of ticks: shape (spans, 12)."""
    sums = np.concatenate([np.zeros((1, 12)), chroma.cumsum(axis=0)])
    begin = np.array([begin // _STEP for begin, _ in spans])
    end = np.array([min(max(end // _STEP, begin // _STEP + 1), len(chroma)) for begin, end in spans])
    return np.asarray(sums[end] - sums[begin])


def _key_fit(chroma: Floats) -> Floats:
    """Correlation with the profiles of the 24 keys (12 major, 12 minor): shape (spans, 24)."""
    profiles = np.stack([np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)])
    profiles = profiles - profiles.mean(axis=1, keepdims=True)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    centred = chroma - chroma.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, size, out=np.zeros_like(centred), where=size > 0) @ profiles.T)


def _pitches(notes: Notes, roll: Floats, chroma: Floats) -> dict[str, float]:
    classes = np.bincount(notes[:, PITCH] % 12, minlength=12).astype(float)
    sounding = roll.sum(axis=1)
    fit = _key_fit(chroma.sum(axis=0, keepdims=True))[0]
    halves = [half.sum(axis=0) for half in np.array_split(chroma, max(2, len(chroma) // 2))]
    by_part = _key_fit(np.stack(halves))[:, fit.argmax()]
    return {
        "pitch_class_entropy": entropy(classes),
        "scale_consistency": float(max(classes[np.roll(_SCALE, tonic)].sum() for tonic in range(12)) / classes.sum()),
        "key_clarity": float(fit.max()),
        "key_stability": float(by_part.mean()),
        "pitch_range": float(np.ptp(notes[:, PITCH])),
        "mean_pitch": float(notes[:, PITCH].mean()),
        "polyphony": float(sounding[sounding > 0].mean()),
        "polyphony_rate": float((sounding >= 2).mean()),
    }


def _rhythm(notes: Notes, roll: Floats, bars: list[BarSpan]) -> dict[str, float]:
    onsets = np.unique(notes[:, ONSET])
    bar_of = _bar_index(onsets, bars)
    within = onsets - np.array([bar.begin for bar in bars])[bar_of]
    beats = np.array([bar.beat for bar in bars])[bar_of]
    lengths = np.array([(bar.end - bar.begin) / TICKS_PER_QUARTER for bar in bars])
    per_bar = np.bincount(_bar_index(notes[:, ONSET], bars), minlength=len(bars)) / lengths
    weights = np.bincount(np.searchsorted(onsets, notes[:, ONSET]))
    struck, others = weights[within == 0], weights[within != 0]
    quarters = roll[: len(roll) // 4 * 4].reshape(-1, 4, 128).any(axis=(1, 2)) if len(roll) >= 4 else np.ones(1)
    ends = notes[:, ONSET] + notes[:, DURATION]
    lines = np.array([bar.end for bar in bars])[_bar_index(notes[:, ONSET], bars)]
    grooves = onset_grids(notes, bars)
    return {
        "empty_beat_rate": float(1 - quarters.mean()),
        "notes_per_quarter": float(len(notes) / lengths.sum()),
        "density_variation": float(per_bar.std() / max(per_bar.mean(), 1e-9)) if len(bars) > 1 else np.nan,
        "groove_consistency": _at_lag(_jaccard(grooves), 1),
        "ioi_entropy": entropy(np.bincount(np.diff(onsets)).astype(float)) if len(onsets) > 1 else np.nan,
        "duration_entropy": entropy(np.bincount(notes[:, DURATION]).astype(float)),
        "mean_duration": float(np.log2(notes[:, DURATION] / TICKS_PER_QUARTER).mean()),
        "on_beat_share": float((within % beats == 0).mean()),
        "downbeat_weight": float(np.log2(struck.mean() / others.mean())) if len(struck) and len(others) else np.nan,
        "held_over_bar": float((ends > lines).mean()),
    }


def _bar_index(ticks: npt.NDArray[np.int32], bars: list[BarSpan]) -> npt.NDArray[np.int64]:
    return np.searchsorted(np.array([bar.begin for bar in bars]), ticks, side="right") - 1


def _lines(notes: Notes, bars: list[BarSpan]) -> dict[str, float]:
    """The outer voices and how chords lead on. At each onset: the highest and the lowest note struck, and all."""
    onsets, begins = np.unique(notes[:, ONSET], return_index=True)
    stacks = np.split(notes[:, PITCH], begins[1:])
    top = np.array([stack[-1] for stack in stacks])
    bottom = np.array([stack[0] for stack in stacks])
    full = np.array([len(stack) > 1 for stack in stacks])
    bass = bottom[full & (bottom < 60)]
    crossing = np.diff(_bar_index(onsets, bars)) > 0
    moves = np.abs(np.diff(top)).astype(float)
    leading = _leading(stacks)
    motion = np.diff(bass)
    return {
        "melody_steps": _share(moves[moves > 0] <= 2),
        "melody_leaps": _share(moves > 7),
        "melody_interval": float(moves.mean()) if len(moves) else np.nan,
        "melody_at_bar_lines": _difference(moves, crossing),
        "bass_fourths": _share(np.isin(np.abs(motion[motion != 0]) % 12, (5, 7))),
        "bass_steps": _share(np.abs(motion[motion != 0]) <= 2),
        "voice_leading": float(np.nanmean(leading)) if np.isfinite(leading).any() else np.nan,
        "voice_leading_at_bar_lines": _difference(leading, crossing),
    }


def _leading(stacks: list[npt.NDArray[np.int32]]) -> Floats:
    """From each struck stack to the next: semitones from a note to the nearest one, on average; NaN where either is a
    single note."""
    moves = np.full(len(stacks) - 1, np.nan)
    for place, (one, after) in enumerate(pairwise(stacks)):
        if len(one) > 1 and len(after) > 1:
            moves[place] = np.abs(after[:, None] - one[None, :]).min(axis=1).mean()
    return moves


def _share(which: Bools) -> float:
    return float(which.mean()) if len(which) else np.nan


def _difference(values: Floats, where: Bools) -> float:
    """Mean where `where` holds less mean where it doesn't."""
    inside, outside = values[where & np.isfinite(values)], values[~where & np.isfinite(values)]
    return float(inside.mean() - outside.mean()) if len(inside) and len(outside) else np.nan


def _harmony(roll: Floats, bars: list[BarSpan]) -> dict[str, float]:
    classes = np.minimum(_fold(roll), 1)
    pairs = classes.sum(axis=1) * (classes.sum(axis=1) - 1) / 2
    clashes = (classes * np.roll(classes, 1, axis=1)).sum(axis=1)
    tritones = (classes * np.roll(classes, 6, axis=1)).sum(axis=1) / 2
    spans = [(tick, min(tick + bar.beat, bar.end)) for bar in bars for tick in range(bar.begin, bar.end, bar.beat)]
    beats = _per_span(_fold(roll), spans)
    change = 1 - _cosine(beats[:-1], beats[1:]) if len(beats) > 1 else np.zeros(0)
    begins = {bar.begin for bar in bars}
    at_lines = np.array([begin in begins for begin, _ in spans[1:]], dtype=bool)
    return {
        "clashes": float(clashes.sum() / max(pairs.sum(), 1)),
        "tritones": float(tritones.sum() / max(pairs.sum(), 1)),
        "chroma_change": float(change.mean()) if len(change) else np.nan,
        "chroma_change_at_bar_lines": _difference(change, at_lines),
    }


def _cosine(one: Floats, other: Floats) -> Floats:
    sizes = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    dots = (one * other).sum(axis=-1)
    return np.asarray(np.divide(dots, sizes, out=np.zeros_like(dots), where=sizes > 0))


def onset_grids(notes: Notes, bars: list[BarSpan]) -> Bools:
    """Where something is struck in each bar: shape (bars, longest bar in ticks)."""
    grid = np.zeros((len(bars), max(bar.end - bar.begin for bar in bars)), dtype=bool)
    place = _bar_index(notes[:, ONSET], bars)
    grid[place, notes[:, ONSET] - np.array([bar.begin for bar in bars])[place]] = True
    return grid


def bar_contents(notes: Notes, bars: list[BarSpan]) -> list[frozenset[int]]:
    """What is struck in each bar: (tick from the bar line, pitch) as one number each."""
    place = _bar_index(notes[:, ONSET], bars)
    keys = (notes[:, ONSET] - np.array([bar.begin for bar in bars])[place]) * 128 + notes[:, PITCH]
    return [frozenset(keys[place == bar].tolist()) for bar in range(len(bars))]


def _jaccard(rows: Bools) -> Floats:
    """Shape (rows, rows): what two rows share over what either has."""
    numbers = rows.astype(np.float64)
    both = numbers @ numbers.T
    sizes = numbers.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def _at_lag(likeness: Floats, lag: int) -> float:
    return float(np.diagonal(likeness, lag).mean()) if len(likeness) > lag else np.nan


def _form(notes: Notes, chroma: Floats, bars: list[BarSpan]) -> dict[str, float]:
    """Likeness of bars some bars apart, less that of any two bars: what order adds."""
    contents = bar_contents(notes, bars)
    everything = {key: place for place, key in enumerate(sorted(frozenset().union(*contents)))}
    struck = np.zeros((len(bars), len(everything)), dtype=bool)
    for row, content in enumerate(contents):
        struck[row, [everything[key] for key in content]] = True
    size = np.linalg.norm(chroma, axis=1, keepdims=True)
    directions = np.divide(chroma, size, out=np.zeros_like(chroma), where=size > 0)
    tables = {
        "chroma": directions @ directions.T,
        "content": _jaccard(struck),
        "groove": _jaccard(onset_grids(notes, bars)),
    }
    found = {
        "bars_repeated": _share(np.array([one == two for one, two in pairwise(contents)])),
        "distinct_bars": len(set(contents)) / len(contents),
    }
    apart = ~np.eye(len(bars), dtype=bool)
    for name, table in tables.items():
        usual = float(table[apart].mean()) if len(bars) > 1 else np.nan
        found[f"{name}_likeness"] = usual
        found |= {f"{name}_likeness_{lag}": _at_lag(table, lag) - usual for lag in LAGS}
    return found
