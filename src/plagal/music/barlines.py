"""The bar lines that the music itself has, where a file's own cannot be right.

Two kinds of files are common. Programs that write notation as MIDI (LilyPond, abc2midi, many sequencers) put the metre
and an upbeat both at tick 0, so that every bar line comes early by the upbeat's complement. And sequencers that know no
metre write one anyway: 1/4 bars, or a single bar of 65/4. Where a program plays the first note of each bar loudest
and keeps to few velocities, its bar lines stand there, also those of bars of another length.

A bar line is recognised by what musicians put there: long notes, bass notes, more keys at once, another bass and
another harmony, chords that last, roots that fell a fifth, stress; and by few notes tied over it. Each place of an
eighth in the bar is one candidate; each gets the mean of these over all its bars, above the mean of all beats, times
weights. They were fitted, by logistic regression over the candidates, to 425 public-domain pieces whose upbeats are
known from their notation (hymns, gospel songs, rags, Mutopia's piano music), all at one loudness, so that nothing leans
on stress.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from plagal.music.grid import LONGEST_BAR, bar_of, regular_notes
from plagal.music.harmony import Ints, beat_ticks, hear_chords, is_one_voice, spread
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Metre, Notes, Score

_STEP = TICKS_PER_QUARTER // 2
"""An eighth [ticks]: the grid of candidates."""
_FEWEST_BARS, _FEWEST_NOTES = 5, 40
"""Less music than this says too little."""
_LONGEST_HEARD = 1 << 17
"""Ticks (22 minutes at 240 quarters a minute) from the start that are listened to."""

_KEYS, _BASS, _LONG, _BASS_CHANGE, _HARMONY, _TIED, _LASTING, _FALLING = 93, 144, 487, 205, 370, -304, 28, 125
_STRESS = 800
"""What stress is worth where one place in the bar is louder than all others in every bar, as abc2midi writes it. By
hand: two thirds of this still put the bar lines of 248 of 248 such hymns right."""
_ENDS_ON_BAR, _ENDS_IN_MIDDLE = 42, 68
"""Where the last chord begins on the bar line, and in the middle of a bar of an even number of beats."""
_FEW_VELOCITIES = 6
"""So many and fewer, with the loudest on bar lines alone, a program wrote: abc2midi has three, dynamics add some."""
_FINEST_BAR = TICKS_PER_QUARTER // 8
"""[ticks] Bars are whole numbers of 32nds."""
_NO_UPBEAT, _LATE, _HALF, _OFF_BEAT = 135, -259, -80, 52
"""For the bar line that the file has; for an upbeat longer than half a bar, or just that (by hand: harmony that changes
every two of four beats does not say which of them is the first); for one that ends between beats. The first is 0.15
above what was fitted: a bar line that was right and is moved is worse than one that stays wrong."""
_ONE_VOICE = 3
"""So many times as much must speak against the file's own bar line where one voice gives no harmony to judge by."""
_TRIPLE_MARGIN = 40
"""By so much three quarters must be better than four where a metre is heard: four are far more common."""


def with_heard_bars(score: Score) -> Score:
    """The score with an upbeat bar where its first bar line is one, with bars of another length where stress shows
    them, and with a heard metre where its own is none; what was heard is in `losses` as `upbeat_quarters`,
    `bars_irregular` and `metre_heard`, which take nothing away. Metres that change within the first bar (a program
    wrote its upbeat itself), chord markers (Plagal wrote the file) and too little music leave it as it is."""
    notes = regular_notes(score.notes, Counter())
    if len(notes) < _FEWEST_NOTES or any(marker.kind == "chord" for marker in score.markers):
        return score
    metres = list({metre.onset: metre for metre in sorted(score.metres, key=lambda metre: metre.onset)}.values())
    metres = metres or [Metre(0, 4, 4)]
    first = metres[0]
    unbelievable = first.bar_ticks <= TICKS_PER_QUARTER or first.bar_ticks > LONGEST_BAR
    if first.numerator < 1 or first.denominator < 1 or (unbelievable and len(metres) > 1):
        return score
    until = metres[1].onset if len(metres) > 1 else _LONGEST_HEARD
    notes = notes[notes[:, ONSET] < min(until, _LONGEST_HEARD)]
    if len(metres) == 1 and first.onset <= 0 and not unbelievable and (lines := _stressed_lines(notes, first)):
        return _followed(score, lines, first)
    if unbelievable or not score.metres:
        tried = [(metre, *_best_place(notes, metre)) for metre in (Metre(0, 4, 4), Metre(0, 3, 4))]
        (four, _, in_four), (three, _, in_three) = tried
        heard = three if in_three > in_four + _TRIPLE_MARGIN else four
        if unbelievable or heard is three:
            losses = score.losses | {"metre_heard": 1}
            return _barred(replace(score, metres=(heard,), losses=losses), notes, heard, first_note_may_wait=True)
        return score
    if first.onset > 0 or until < _FEWEST_BARS * first.bar_ticks:
        return score
    return _barred(score, notes, first, first_note_may_wait=False)


def _stressed_lines(notes: Notes, metre: Metre) -> list[int]:
    """Bar lines [ticks], the start among them, where a program plays the first notes of each bar louder than all
    others; none where it plainly does not. So bars of another length show too: after a fermata, in chant.

    A voice that runs late alone, as abc2midi's soprano after a fermata, says nothing against the others. Few lines far
    apart are believed where whole chords are loud, the first of the piece among them, and no chord in part."""
    onsets, loudest = notes[:, ONSET], notes[:, VELOCITY] == notes[:, VELOCITY].max()
    struck, times = np.unique(onsets, return_counts=True)
    loud, loud_times = np.unique(onsets[loudest], return_counts=True)
    begins = np.flatnonzero(np.diff(loud, prepend=-_STEP) > 1)  # what is a tick apart is struck together
    together = np.add.reduceat(loud_times, begins)
    lines = [int(line) for line in loud[begins[2 * together >= np.median(together)]] if line > 1]
    gaps, bar = np.diff([0, *lines]), metre.bar_ticks
    if 2 * len(loud) > len(struck) or len(np.unique(notes[:, VELOCITY])) > _FEW_VELOCITIES:
        return []
    too_close = (gaps[1:] < min(bar, 2 * beat_ticks(metre))).any()
    if len(lines) < 3 or too_close or (gaps % _FINEST_BAR).any():
        return []
    whole_chords = min(loud_times) > 2 and np.array_equal(times[np.isin(struck, loud)], loud_times)
    many = 2 * bar * (len(lines) + 1) >= onsets[-1]
    return [0, *lines] if many or (whole_chords and loud[0] == struck[0]) else []


def _followed(score: Score, lines: list[int], metre: Metre) -> Score:
    """The score with its bars between these lines. Music for two bars and more is counted off in bars of the metre; an
    odd rest of it makes the last bar longer."""
    gaps = np.diff(lines).tolist()
    usual, times = Counter(gaps[1:]).most_common(1)[0]
    bar = usual if 2 * times > len(gaps) - 1 else metre.bar_ticks
    starts = [0]
    for line, gap in zip(lines, gaps, strict=False):
        starts += [line + done for done in range(bar, gap - bar + 1, bar)] + [line + gap]
    lengths = [*np.diff(starts).tolist(), bar]
    metres = [bar_of(start, length, metre.denominator) for start, length in zip(starts, lengths, strict=True)]
    losses: dict[str, float] = {"upbeat_quarters": lengths[0] / TICKS_PER_QUARTER} if lengths[0] < bar else {}
    irregular = sum(length != bar for length in lengths[len(losses) :])
    losses |= {"bars_irregular": irregular} if irregular else {}
    return replace(score, metres=tuple(metres), losses=score.losses | losses)


def _barred(score: Score, notes: Notes, metre: Metre, *, first_note_may_wait: bool) -> Score:
    """The score with an upbeat bar before the bar line heard. Music after a rest is where somebody put it."""
    enough = len(notes) >= _FEWEST_NOTES and notes[-1, ONSET] >= _FEWEST_BARS * metre.bar_ticks
    if not enough or metre.bar_ticks % _STEP or (notes[0, ONSET] > 0 and not first_note_may_wait):
        return score
    place, _ = _best_place(notes, metre)
    if not place:
        return score
    upbeat = bar_of(0, place, metre.denominator)
    metres = (upbeat, replace(metre, onset=place), *sorted(score.metres, key=lambda metre: metre.onset)[1:])
    return replace(score, metres=metres, losses=score.losses | {"upbeat_quarters": place / TICKS_PER_QUARTER})


def _best_place(notes: Notes, metre: Metre) -> tuple[int, int]:
    """The tick of the first bar line heard, from 0 on below a bar, and how much speaks for it."""
    per_bar, per_beat = metre.bar_ticks // _STEP, max(1, beat_ticks(metre) // _STEP)
    signs = _signs(notes, metre, per_bar, per_beat)
    places = np.arange(per_bar)
    alone = _ONE_VOICE if is_one_voice(Score(notes)) else 1
    signs += _NO_UPBEAT * alone * 1000 * (places == 0) + _LATE * 1000 * (2 * places > per_bar)
    signs += _HALF * 1000 * (2 * places == per_bar)
    signs += _OFF_BEAT * 1000 * (places % per_beat > 0)
    to_last = (int(notes[-1, ONSET]) // _STEP - places) % per_bar
    signs += _ENDS_ON_BAR * 1000 * (to_last == 0)
    if per_bar // per_beat % 2 == 0:
        signs += _ENDS_IN_MIDDLE * 1000 * (2 * to_last == per_bar)
    begun = np.zeros(per_bar, np.bool_)
    begun[0] = True
    onsets = notes[:, ONSET]
    begun[onsets[(onsets < metre.bar_ticks) & (onsets % _STEP == 0)] // _STEP] = True
    best = int(np.argmax(np.where(begun, signs, -(1 << 60))))
    return best * _STEP, int(signs[best]) // 1000


def _signs(notes: Notes, metre: Metre, per_bar: int, per_beat: int) -> Ints:
    """What speaks for a bar line at each place of an eighth in the bar, in hundred-thousandths; shape (per_bar,)."""
    onsets, pitches = notes[:, ONSET].astype(np.int64), notes[:, PITCH].astype(np.int64)
    durations = np.minimum(notes[:, DURATION], metre.bar_ticks).astype(np.int64)
    count = int(onsets[-1]) // _STEP + 2
    on_step = onsets % _STEP == 0
    step = onsets // _STEP
    struck = np.bincount(step[on_step], minlength=count)
    length, stress, lasting, falling = np.zeros((4, count), np.int64)
    np.maximum.at(length, step[on_step], durations[on_step])
    np.maximum.at(stress, step[on_step], notes[on_step, VELOCITY].astype(np.int64))
    last = np.minimum((onsets + durations - 1) // _STEP, count - 1)
    which, sounding = spread(step, last)
    lowest, lowest_struck = np.full(count, 128), np.full(count, 128)
    np.minimum.at(lowest, sounding, pitches[which])
    np.minimum.at(lowest_struck, step[on_step], pitches[on_step])
    there = np.zeros((count, 12), np.int64)
    there[sounding, pitches[which] % 12] = 1
    tied = np.bincount(sounding[sounding > step[which]], minlength=count)
    bass = np.where(lowest < 128, lowest % 12, -1)
    bass_changes = (bass != np.roll(bass, 1)) & (bass >= 0)
    # Harmony: the angle between what sounds half a bar before and after, and the chord ear's changes on plain beats.
    reach = max(per_beat, per_bar // 2)
    sums = np.concatenate([np.zeros((1, 12), np.int64), np.cumsum(there, axis=0)])
    places = np.arange(count)
    after = sums[np.minimum(places + reach, count)] - sums[places]
    before = sums[places] - sums[np.maximum(places - reach, 0)]
    sizes = np.maximum((after**2).sum(axis=1) * (before**2).sum(axis=1), 1)
    harmony = 1000 - np.rint(1000 * (after * before).sum(axis=1) / np.sqrt(sizes)).astype(np.int64)
    beat = Metre(0, 3, 8) if per_beat == 3 else Metre(0, 1, 4) if per_beat == 2 else Metre(0, 1, 8)
    chords = hear_chords(Score(notes, (beat,)))
    ends = [*(onset for onset, _ in chords[1:]), int(onsets[-1]) + per_beat * _STEP]
    for number in range(1, len(chords)):
        onset, chord = chords[number]
        if onset // _STEP < count:
            lasting[onset // _STEP] = min(4000, 1000 * (ends[number] - onset) // (per_beat * _STEP))
            falling[onset // _STEP] = 1000 * ((chord.root - chords[number - 1][1].root) % 12 == 5)

    def mean(values: npt.NDArray[np.int64]) -> Ints:
        """By place in the bar, without the start, which is struck wherever it lies; above the mean of the beats."""
        total = np.bincount(places[1:] % per_bar, weights=values[1:], minlength=per_bar).astype(np.int64)
        means = total // np.maximum(np.bincount(places[1:] % per_bar, minlength=per_bar), 1)
        return np.asarray(means - int(means[::per_beat].mean()), dtype=np.int64)

    usual = max(1, int(struck[struck > 0].mean() * 1000))
    in_bass = (lowest_struck <= lowest) & (lowest_struck < 128)
    signs = _KEYS * mean(struck * 1_000_000 // usual) + _BASS * mean(1000 * in_bass)
    signs += _LONG * mean(length * 1000 // metre.bar_ticks) + _BASS_CHANGE * mean(1000 * bass_changes)
    signs += _HARMONY * mean(harmony) + _TIED * mean(tied * 1_000_000 // usual)
    signs += _LASTING * mean(lasting) + _FALLING * mean(falling)
    bars = stress[: count // per_bar * per_bar].reshape(-1, per_bar)
    loudest = bars == bars.max(axis=1, keepdims=True)
    alone = loudest & (loudest.sum(axis=1, keepdims=True) == 1)
    return np.asarray(signs + _STRESS * (1000 * alone.sum(axis=0) // max(len(bars), 1)), dtype=np.int64)
