"""Chords and keys heard in a score: only from its notes (onset, pitch, duration) and metres, never from its markers.

Chords: the piece is cut at beats into segments, one chord each, so that the whole fits best (a semi-Markov Viterbi).
How well a chord fits depends on how long each pitch class sounds in the segment, up to a ceiling, on tones that it
needs and the segment lacks, on the bass, and on how plain it is. The pedal holds what it holds, a push belongs to its
beat, and where few keys sound at once a tone needs less time to be there: broken chords, stride and walking basses
spell one harmony over several beats.
Beats, by which both go: what sounds in each, how low, and what is struck or held where it begins.
Keys: correlation of pitch-class durations in windows with the profiles of Albrecht and Shanahan (2013), joined by a
Viterbi that makes changes dear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, groupby
from operator import itemgetter, mul, ne

import numpy as np
import numpy.typing as npt

from plagal.music.chords import QUALITIES, Chord
from plagal.music.keys import key_of, key_tonic, same_key
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Metre, Score

Ints = npt.NDArray[np.int64]

LONGEST_NOTE = 16 * TICKS_PER_QUARTER
"""Ticks of a note that count: bounds the work for absurd notes."""

SILENT = 128
"""Above every pitch."""


def beat_ticks(metre: Metre) -> int:
    """The beat in which chords change: a quarter, a dotted note in compound metres, an eighth in odd ones."""
    unit = 4 * TICKS_PER_QUARTER // metre.denominator
    if metre.denominator >= 8:
        return 3 * unit if metre.numerator % 3 == 0 and metre.numerator > 3 else max(unit, TICKS_PER_QUARTER // 2)
    return TICKS_PER_QUARTER


SHARE = 72
"""Of a beat of 12, 24 or 36 ticks, a whole number to the tick."""

ANTICIPATION = TICKS_PER_QUARTER // 2
"""Ticks before a beat from which on a note that sounds into it is pushed: it is heard as struck there."""
_REMNANT = 4
"""What rings into a beat for less than this part of it is not a note of it."""


@dataclass(frozen=True)
class Beats:
    """The beats of the bars in which something sounds; silent bars are left out, however many there are."""

    starts: Ints
    """Ticks, rising."""
    ends: Ints
    begins_bar: npt.NDArray[np.bool_]
    chroma: Ints
    """(beats, 12): how long each pitch class sounds, in `SHARE`ths of the beat; its octaves add up."""
    lowest: Ints
    """The lowest pitch that sounds, `SILENT` where none does."""
    struck: Ints
    """The lowest pitch struck where the beat begins, or pushed before it; `SILENT` where none is."""
    held: Ints
    """How many keys are held over from before, pushed ones left out."""


def held_until(score: Score) -> Ints:
    """When each note ends for the ear [ticks]: where the key is let go or, under the pedal, where that is lifted or the
    key is struck again."""
    onsets = score.notes[:, ONSET].astype(np.int64)
    ends = onsets + score.notes[:, DURATION]
    if not score.pedals:
        return ends
    changes = np.array([pedal.onset for pedal in score.pedals], dtype=np.int64)
    down = np.array([pedal.state == "on" for pedal in score.pedals])
    # At one tick the last state holds; a pedal lifted and pressed again in one tick lifts what sounded before.
    lifts = changes[~down]
    place = np.searchsorted(changes, ends, side="left") - 1
    under = (place >= 0) & down[place]
    after = np.append(lifts, ends.max())[np.searchsorted(lifts, ends, side="left")]
    until = np.where(under, np.maximum(after, ends), ends)
    order = np.lexsort((onsets, score.notes[:, PITCH]))
    same = score.notes[order[:-1], PITCH] == score.notes[order[1:], PITCH]
    again = np.where(same, onsets[order[1:]], until[order[:-1]])
    until[order[:-1]] = np.minimum(until[order[:-1]], np.maximum(again, ends[order[:-1]]))
    return until


def beats_of(score: Score) -> Beats:
    """The score by beats; it must have a note. Whole numbers throughout, so that every machine hears the same."""
    notes = score.notes
    onsets = notes[:, ONSET].astype(np.int64)
    ends = np.minimum(held_until(score), onsets + LONGEST_NOTE)
    pitches = notes[:, PITCH].astype(np.int64)
    starts, until, begins_bar = _grid(score.metres or (Metre(0, 4, 4),), onsets, ends)
    count = len(starts)
    following = np.searchsorted(starts, onsets, side="left")
    beat = np.append(starts, np.iinfo(np.int64).max)[following]
    # A push belongs to the beat that it runs into; a note let go right after the beat is none, but a plain off-beat.
    there = (beat - onsets <= ANTICIPATION) & ((beat == onsets) | (ends - beat >= beat - onsets))
    onsets = np.where(there, beat, onsets)
    first = np.searchsorted(starts, onsets, side="right") - 1
    last = np.searchsorted(starts, ends, side="left") - 1
    which, frame = spread(first, last)
    overlap = np.minimum(ends[which], until[frame]) - np.maximum(onsets[which], starts[frame])
    share = np.maximum(overlap, 0) * SHARE // (until - starts)[frame]
    # Sums of small whole numbers are exact in the floating point that bincount adds in.
    chroma = np.bincount(frame * 12 + pitches[which] % 12, weights=share, minlength=count * 12).astype(np.int64)
    # What a late foot or finger lets ring into a beat is not a bass of it.
    here = (share * _REMNANT >= SHARE) | (frame == first[which])
    lowest = np.full(count, SILENT, dtype=np.int64)
    np.minimum.at(lowest, frame[here], pitches[which[here]])
    struck = np.full(count, SILENT, dtype=np.int64)
    np.minimum.at(struck, first[there], pitches[there])
    after = first + 1
    last = np.searchsorted(starts, ends - TICKS_PER_QUARTER // _REMNANT, side="left") - 1
    steps = np.bincount(after, minlength=count + 1) - np.bincount(np.maximum(last + 1, after), minlength=count + 1)
    held = np.cumsum(steps)[:count]
    return Beats(starts, until, begins_bar, chroma.reshape(-1, 12), lowest, struck, held)


def spread(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Each index repeated for all that lies from its first to its last, and those."""
    counts = np.maximum(last - first + 1, 1)
    which = np.repeat(np.arange(len(first)), counts)
    inside = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, first[which] + inside


def _grid(metres: tuple[Metre, ...], onsets: Ints, ends: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Starts and ends of the beats in bars where a note sounds, and which of them begin a bar."""
    starts, untils, firsts = [], [], []
    for number, metre in enumerate(metres):
        begin = metre.onset if number else min(0, metre.onset)
        until = metres[number + 1].onset if number + 1 < len(metres) else int(ends.max())
        inside = (onsets < until) & (ends > begin)
        if until <= begin or not inside.any():
            continue
        bar, beat = max(1, metre.bar_ticks), beat_ticks(metre)
        first = (np.maximum(onsets[inside], begin) - begin) // bar
        last = (np.minimum(ends[inside], until) - 1 - begin) // bar
        lines = begin + np.unique(spread(first, last)[1]) * bar
        in_bar = np.arange(0, bar, beat)
        grid = (lines[:, None] + in_bar).ravel()
        stops = np.minimum((lines[:, None] + np.minimum(in_bar + beat, bar)).ravel(), until)
        kept = grid < until
        starts.append(grid[kept])
        untils.append(stops[kept])
        firsts.append(np.tile(in_bar == 0, len(lines))[kept])
    return np.concatenate(starts), np.concatenate(untils), np.concatenate(firsts)


LONGEST_SEGMENT = 4
"""Beats. Longer chords are several segments, joined where equal."""

# Weights are in hundredths of what a tone that is there is worth, and scores are whole numbers: sums in floating point
# depend on the processor, by the order in which its kernels add, and then a tie falls otherwise, and so does a word.
_CEILING, _THIN, _THINNEST = 58, 400, 30
"""A pitch class that sounds for this share of a segment [%] is fully there; where on average fewer keys sound than
`_THIN` [hundredths], for as much less, down to `_THINNEST` [%]: figuration spells its chord key by key."""
_FOREIGN = 259
"""What a tone that does not belong costs against one that does."""
_MISSING = 147
"""What a tone costs that the chord needs and the segment lacks."""
_CHANGE, _CHANGE_OFF_BAR, _CHANGE_NO_BASS = 10, 87, 223
"""What a new segment costs, what it costs more away from a bar line, and more where no bass note is struck."""
_CHANGE_HELD, _MOST_HELD = 100, 3
"""What each key held over from the beat before costs a change, the first free (a melody may hold); so many count."""
_LATER_TONE, _LATER_FOREIGN = 102, 365
"""What a bass note struck within a segment costs: on the chord's third or fifth, and on anything else but its root."""
_BASS_REACH = 9
"""Semitones above the lowest note of the bars around within which a struck note counts as a bass note."""
_ROOT_BASS, _TONE_BASS, _FOREIGN_BASS = 116, -28, -200
"""What the bass says for a chord: its root, another of its tones, none of them."""
_COST = {
    "maj": -60, "min": -10, "dim": 0, "aug": 0, "maj7": 170, "min7": 150, "dom7": 160, "dim7": 150,
    "halfdim7": 150, "maj9": 280, "min9": 250, "dom9": 250, "maj11": 470, "min11": 400, "dom11": 420, "maj13": 460,
    "min13": 440, "dom13": 350, "sus2": 60, "sus4": 30, "6": 200, "min6": 160, "add9": 160, "minadd9": 150,
    "69": 280, "min69": 300, "minmaj7": 150, "minmaj9": 290, "maj7#11": 290, "maj7#5": 150, "7b9": 290, "7#9": 280,
    "7#11": 290, "7b13": 280, "7b5": 160, "7#5": 170, "7alt": 440, "7b9b13": 420, "7#9b13": 430, "13b9": 440,
    "13#11": 440, "7sus": 200, "9sus": 270, "13sus": 440, "7susb9": 290, "5": 10,
}  # fmt: skip
"""What naming a quality costs."""

_STEADY = (3, 4, 6, 7, 8)
"""Steps that a bass may take within a chord beside its root: thirds, fifths."""


def _need(quality: str, step: int) -> int:
    tones = len(QUALITIES[quality])
    return 0 if step == 7 and tones > 3 else 10 if step == 2 and tones > 5 else 40 if step == 0 else _MISSING


_Kind = tuple[int, bool, bool, bool]
"""What a step is worth: its need; whether it is the root; whether a bass may take it; whether few tones surround it."""


def _templates() -> list[tuple[int, int, int, list[tuple[int, _Kind]]]]:
    """Of each quality its number, what naming it costs and what it would miss, how many steps it begins with that the
    one before begins with too, and the other steps with their kinds, upwards from the root."""
    found: list[tuple[int, int, int, list[tuple[int, _Kind]]]] = []
    before: list[tuple[int, _Kind]] = []
    for steps, number in sorted((steps, number) for number, steps in enumerate(QUALITIES.values())):
        quality, few = _QUALITY_NAMES[number], len(steps) <= 4
        kinds = [(step, (_need(quality, step), step == 0, step in _STEADY, step > 0 and few)) for step in steps]
        shared = sum(accumulate((one == other for one, other in zip(before, kinds, strict=False)), mul))
        lost = 100 * (_COST[quality] + sum(_need(quality, step) for step in steps) - _FOREIGN_BASS)
        found.append((number, lost, shared, kinds[shared:]))
        before = kinds
    return found


_QUALITY_NAMES = tuple(QUALITIES)
_TEMPLATES = _templates()
_BLOCK = 2048
"""Segments at once: what they need stays in the processor's cache."""
_NUMBER_BITS = 10
"""Enough for 46 qualities on 12 roots; six tones' worth above them stays under 2^31."""


def hear_chords(score: Score) -> list[tuple[int, Chord]]:
    """Onsets [ticks] and chords, one entry for each change; the first where the first note sounds. Empty where no note
    sounds, and where one voice is alone and spells no chords: what harmony it has a listener adds. The same notes,
    pedals and metres always give the same answer, on every machine."""
    if len(score.notes) == 0:
        return []
    beats = beats_of(score)
    bass = _bass_struck(beats)
    change = _CHANGE + np.where(beats.begins_bar, 0, _CHANGE_OFF_BAR) + np.where(bass < 0, _CHANGE_NO_BASS, 0)
    change += _CHANGE_HELD * np.clip(beats.held - 1, 0, _MOST_HELD)
    sounding = np.flatnonzero(beats.lowest < SILENT)
    chords = _segment(
        beats.chroma[sounding], beats.lowest[sounding], bass[sounding], change[sounding], beats.starts[sounding]
    )
    return [] if is_one_voice(score) and not _spells(score, chords) else chords


_VOICE_SHARE = 20
"""One in so many notes may sound together with another in what is still one voice."""
_SPELLED = 65
"""Share of the time [%] in which a voice alone must spell its chords. Broken chords of lead sheets do in 95 of 100
pieces, and fewer than 1 of 100 fiddle tunes and hymn melodies."""
_BY_STEP = ("sus2", "sus4", "6", "min6", "add9", "minadd9", "69")
"""Qualities that a voice spells when it only moves by step."""


def is_one_voice(score: Score) -> bool:
    """Whether hardly any two notes sound together; what the pedal holds does."""
    onsets = score.notes[:, ONSET]
    overlaps = held_until(score)[:-1] - 1 > onsets[1:]  # a tick of legato is not a second voice
    return int(np.count_nonzero(overlaps)) * _VOICE_SHARE <= len(onsets)


def _spells(score: Score, chords: list[tuple[int, Chord]]) -> bool:
    """Whether the notes under most chords are all of their tones and nothing else."""
    onsets, spelled = score.notes[:, ONSET], 0
    end = int(onsets[-1]) + 1
    for (onset, chord), until in zip(chords, [*(onset for onset, _ in chords[1:]), end], strict=True):
        steps = QUALITIES[chord.quality]
        under = score.notes[slice(*np.searchsorted(onsets, (onset, until))), PITCH]
        struck = set(((under - chord.root) % 12).tolist())
        if len(under) > 3 and len(steps) <= 5 and chord.quality not in _BY_STEP and struck == set(steps):
            spelled += until - onset
    return spelled * 100 >= _SPELLED * (end - chords[0][0])


def _bass_struck(beats: Beats) -> Ints:
    """The pitch class of the bass note struck on each beat, -1 where none is."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(beats.lowest, 4, constant_values=SILENT), 9).min(axis=1)
    low = beats.struck <= np.minimum(around + _BASS_REACH, SILENT - 1)
    return np.asarray(np.where(low, beats.struck % 12, -1), dtype=np.int64)


def _segment(chroma: Ints, lowest: Ints, bass: Ints, change: Ints, starts: Ints) -> list[tuple[int, Chord]]:
    """The chords of the segments that fit best, from sounding beats' `Beats`."""
    count = len(chroma)
    struck = np.zeros((count, 12), dtype=np.int64)
    struck[bass >= 0, bass[bass >= 0]] = 1
    total, total_struck = _running(chroma), _running(struck)
    longest = min(LONGEST_SEGMENT, count)
    there, later, lows = [], [], []
    for length in range(1, longest + 1):
        sums = total[length:] - total[:-length]
        thickness = np.clip(sums.sum(axis=1) * 10_000 // (length * SHARE * _THIN), _THINNEST, 100)
        there.append(np.minimum(100, sums * 1_000_000 // (length * SHARE * _CEILING * thickness)[:, None]))
        later.append((total_struck[length:] - total_struck[:-length]) * 100 // length)
        lows.append(lowest[: count - length + 1] % 12)
    rows = np.concatenate(there), np.concatenate(later), np.concatenate(lows)
    blocks = [_best_chords(*(part[at : at + _BLOCK] for part in rows)) for at in range(0, len(rows[2]), _BLOCK)]
    fit, label = (np.concatenate(part) for part in zip(*blocks, strict=True))
    best = np.full((LONGEST_SEGMENT + 1, count), -(1 << 60), dtype=np.int64)
    labels = np.zeros((LONGEST_SEGMENT + 1, count), dtype=np.int64)
    begin = 0
    for length in range(1, longest + 1):
        end = begin + count - length + 1
        best[length, : end - begin] = fit[begin:end] * length - change[: end - begin] * 100
        labels[length, : end - begin] = label[begin:end]
        begin = end
    return _decode(best, labels, lowest, starts)


def _best_chords(there: Ints, later: Ints, bass: Ints) -> tuple[Ints, Ints]:
    """The best fit of each segment, in ten-thousandths of a tone, and its chord's number: quality x 12 + root.

    there: (segments, 12), how far each pitch class is there [%]; later: (segments, 12), how often each is struck in the
    bass [%]; bass: (segments,), pitch class of the lowest key at the start.
    """
    count = len(there)
    # Doubled in pitch class and turned, so that a step above all twelve roots is a slice.
    sounds, struck = _doubled(there), _doubled(later)
    low = np.zeros((24, count), dtype=np.int32)
    low[bass, np.arange(count)] = low[bass + 12, np.arange(count)] = 100
    worth = {}
    for kind in {kind for *_, steps in _TEMPLATES for _, kind in steps}:
        need, is_root, is_steady, is_small = kind
        of_root, of_bass = is_root * (_ROOT_BASS - _FOREIGN_BASS), is_small * (_TONE_BASS - _FOREIGN_BASS)
        moving = is_root * _LATER_FOREIGN + is_steady * (_LATER_FOREIGN - _LATER_TONE)
        worth[kind] = sounds * np.int32((100 + _FOREIGN + need) << _NUMBER_BITS)
        for rows, weight in ((struck, moving), (low, of_root + of_bass)):
            if weight:
                worth[kind] += rows * np.int32(weight << _NUMBER_BITS)
    # Below each fit stands the chord's number, the first the highest: one maximum finds both, and ties have one answer.
    best = np.full((12, count), -(1 << 31), dtype=np.int32)
    fit = np.empty_like(best)
    sums = np.empty((1 + max(map(len, QUALITIES.values())), 12, count), dtype=np.int32)
    sums[0] = (1 << _NUMBER_BITS) - 1 - np.arange(12, dtype=np.int32)[:, None]
    for number, lost, shared, steps in _TEMPLATES:
        for place, (step, kind) in enumerate(steps, shared):
            np.add(sums[place], worth[kind][step : step + 12], out=sums[place + 1])
        np.subtract(sums[shared + len(steps)], (lost << _NUMBER_BITS) + number * 12, out=fit)
        np.maximum(best, fit, out=best)
    highest = best.max(axis=0).astype(np.int64)
    base = -_FOREIGN * there.sum(axis=1) - _LATER_FOREIGN * later.sum(axis=1)
    return (highest >> _NUMBER_BITS) + base, (1 << _NUMBER_BITS) - 1 - (highest & (1 << _NUMBER_BITS) - 1)


def _doubled(rows: Ints) -> npt.NDArray[np.int32]:
    turned = np.ascontiguousarray(rows.T, dtype=np.int32)
    return np.concatenate([turned, turned])


def _running(rows: Ints) -> Ints:
    """Sums of all rows before each, shape (rows + 1, 12)."""
    return np.concatenate([np.zeros((1, rows.shape[1]), np.int64), np.cumsum(rows, axis=0)])


def _decode(best: Ints, label: Ints, lowest: Ints, starts: Ints) -> list[tuple[int, Chord]]:
    """The best cut into segments, and each one's chord."""
    count = best.shape[1]
    rows = best.tolist()
    reached = [0] + [-(1 << 62)] * count
    came = [0] * (count + 1)
    for end in range(1, count + 1):
        for length in range(1, min(LONGEST_SEGMENT, end) + 1):
            value = reached[end - length] + rows[length][end - length]
            if value > reached[end]:
                reached[end], came[end] = value, length
    heard: list[tuple[int, Chord]] = []
    end = count
    while end > 0:
        begin = end - came[end]
        quality, root = divmod(int(label[came[end], begin]), 12)
        heard.append((int(starts[begin]), Chord(root, _QUALITY_NAMES[quality], int(lowest[begin]) % 12)))
        end = begin
    return [next(same) for _, same in groupby(reversed(heard), key=itemgetter(1))]


# Albrecht & Shanahan 2013, "The use of large corpora to train a new type of key-finding algorithm".
_MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
_MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)
_KEY_CHANGE = 900
"""What a change of key costs, in thousandths of a correlation."""
_KEY_WINDOW_BARS, _KEY_BASS = 4, SHARE // 2
"""Bars that are judged together; the extra weight of the lowest note, half a beat."""


@lru_cache(maxsize=1)
def _key_profiles() -> Ints:
    """Shape (24, 12): twelve major keys, then twelve minor, each standardised, in ten-thousandths."""
    rows = np.array([np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)])
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(np.rint(rows / np.sqrt((rows**2).sum(axis=1, keepdims=True)) * 10_000), dtype=np.int64)


def _key_fits(totals: Ints) -> Ints:
    """How well each of the 24 keys fits rows of pitch-class weights, in thousandths of a correlation. The sums are of
    whole numbers, and a square root and a division are rounded alike everywhere."""
    centred = totals * 12 - totals.sum(axis=1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=1, keepdims=True).astype(np.float64))
    sums = (centred[:, None, :] * _key_profiles()).sum(axis=2)
    return np.asarray(np.rint(sums / np.maximum(size, 1) / 10), dtype=np.int64)


def _key_weights(beats: Beats) -> Ints:
    """(beats, 12): how much each pitch class says for a key."""
    weights = np.minimum(beats.chroma, SHARE)
    low = np.flatnonzero(beats.lowest < SILENT)
    weights[low, beats.lowest[low] % 12] += _KEY_BASS
    return weights


def hear_keys(score: Score) -> list[Key]:
    """The keys heard, each from its onset [ticks] on, at bar lines of the beats' grid."""
    if len(score.notes) == 0:
        return []
    beats = beats_of(score)
    window = np.maximum(np.cumsum(beats.begins_bar) - 1, 0) // _KEY_WINDOW_BARS
    totals = np.zeros((int(window.max()) + 1, 12), dtype=np.int64)
    np.add.at(totals, window, _key_weights(beats))
    path = _key_path(_key_fits(totals))
    changes = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist()]
    onsets = [0, *beats.starts[np.searchsorted(window, changes[1:])].tolist()]
    return [key_of(path[number] % 12, path[number] >= 12, onset) for number, onset in zip(changes, onsets, strict=True)]


def _key_path(fits: Ints) -> list[int]:
    reached = fits[0].copy()
    came = np.zeros(fits.shape, dtype=np.int64)
    for number in range(1, len(fits)):
        jump = int(reached.argmax())
        stay = reached >= reached[jump] - _KEY_CHANGE
        came[number] = np.where(stay, np.arange(24), jump)
        reached = np.where(stay, reached, reached[jump] - _KEY_CHANGE) + fits[number]
    path = [int(reached.argmax())]
    for number in range(len(fits) - 1, 0, -1):
        path.append(int(came[number, path[-1]]))
    return path[::-1]


def hear_key(score: Score) -> Key:
    """The first key that holds for a quarter of the piece (else the one that holds longest). C major where no note
    sounds."""
    keys = hear_keys(score)
    if not keys:
        return Key(0, 0)
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    lengths = np.diff([*(key.onset for key in keys), end])
    chosen = keys[int(np.minimum(lengths, end / 4).argmax())]
    return replace(chosen, onset=0)


_OTHER_MODE, _OTHER_SIGNATURE, _DEFAULT = 60, 150, 80
"""By so many thousandths of a correlation another key must fit better than the stated one before it stands instead: one
of the same signature (many programs cannot write minor), of another, and of another where C major is stated, which is
every sequencer's default. In 275 hymns with the signatures that people wrote, modes lost, this corrects 45: all but 4
are minor or Dorian; with C major written into all of them, 97 % of those in other keys are found."""
_JUDGED_BARS = 4
"""A stated key that holds for less is taken as it is."""


def with_heard_keys(score: Score) -> Score:
    """The score with the key heard where it states none, or one that the ear clearly contradicts: those are counted in
    `losses` as `keys_corrected`. A stated spelling stays (F# major is not Gb major)."""
    if not len(score.notes):
        return score
    if not score.keys:
        return replace(score, keys=(hear_key(score),))
    keys: list[Key] = []
    onsets = score.notes[:, ONSET]
    ends = [*(key.onset for key in score.keys[1:]), int(onsets[-1]) + 1]
    for key, end in zip(score.keys, ends, strict=True):
        begin = key.onset if keys else 0
        metre = [Metre(0, 4, 4), *(metre for metre in score.metres if metre.onset <= begin)][-1]
        part = replace(score, notes=score.notes[(onsets >= begin) & (onsets < end)], keys=(), markers=())
        judged = len(part.notes) and end - begin >= _JUDGED_BARS * metre.bar_ticks
        better = _clearly_better(part, key) if judged else None
        keys.append(key if better is None else replace(better, onset=key.onset))
    corrected = sum(map(ne, keys, score.keys))
    return replace(score, keys=tuple(keys), losses=score.losses | {"keys_corrected": corrected}) if corrected else score


def _clearly_better(score: Score, stated: Key) -> Key | None:
    heard = hear_key(score)
    if same_key(heard, stated):
        return None
    fits = _key_fits(_key_weights(beats_of(score)).sum(axis=0, keepdims=True))[0]
    better = fits[key_tonic(heard) + 12 * heard.minor] - fits[key_tonic(stated) + 12 * stated.minor]
    if heard.fifths == -6 and stated.fifths > 0:
        heard = replace(heard, fifths=6)
    if heard.fifths == stated.fifths:
        return heard if better > _OTHER_MODE else None
    return heard if better > (_DEFAULT if (stated.fifths, stated.minor) == (0, False) else _OTHER_SIGNATURE) else None
