"""Chords and keys heard in a score: only from its notes (onset, pitch, duration) and metres, never from its markers.

Chords: the piece is cut at beats into segments, one chord each, so that the whole fits best (a semi-Markov Viterbi).
How well a chord fits depends on how long each pitch class sounds in the segment, up to a ceiling, on tones that it
needs and the segment lacks, on the bass, and on how plain it is.
Keys: correlation of pitch-class durations in windows with the profiles of Albrecht and Shanahan (2013), joined by a
Viterbi that makes changes dear.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from plagal.music.beats import SILENT, Beats, Floats, Ints, beats_of
from plagal.music.chords import QUALITIES, Chord
from plagal.music.keys import key_of
from plagal.music.score import DURATION, ONSET, Key, Score

LONGEST_SEGMENT = 4
"""Beats. Longer chords are several segments, joined where equal."""

_CEILING = 0.58
"""A pitch class that sounds for this share of a segment is fully there."""
_FOREIGN = 2.59
"""What a tone that does not belong costs against one that does."""
_MISSING = 1.47
"""What a tone costs that the chord needs and the segment lacks."""
_CHANGE, _CHANGE_OFF_BAR, _CHANGE_NO_BASS = 0.10, 0.87, 2.23
"""What a new segment costs, what it costs more away from a bar line, and more where no bass note is struck."""
_CHANGE_HELD, _MOST_HELD = 1.00, 3
"""What each key held over from the beat before costs a change, the first free (a melody may hold); so many count."""
_LATER_TONE, _LATER_FOREIGN = 1.02, 3.65
"""What a bass note struck within a segment costs: on the chord's third or fifth, and on anything else but its root."""
_BASS_REACH = 9
"""Semitones above the lowest note of the bars around within which a struck note counts as a bass note."""
_ROOT_BASS, _TONE_BASS, _FOREIGN_BASS = 1.16, -0.28, -2.00
"""What the bass says for a chord: its root, another of its tones, none of them."""
_COST = {
    "maj": -0.6, "min": -0.1, "dim": 0.0, "aug": 0.0, "maj7": 1.7, "min7": 1.5, "dom7": 1.6, "dim7": 1.5,
    "halfdim7": 1.5, "maj9": 2.8, "min9": 2.5, "dom9": 2.5, "maj11": 4.7, "min11": 4.0, "dom11": 4.2, "maj13": 4.6,
    "min13": 4.4, "dom13": 3.5, "sus2": 0.6, "sus4": 0.3, "6": 2.0, "min6": 1.6, "add9": 1.6, "minadd9": 1.5,
    "69": 2.8, "min69": 3.0, "minmaj7": 1.5, "minmaj9": 2.9, "maj7#11": 2.9, "maj7#5": 1.5, "7b9": 2.9, "7#9": 2.8,
    "7#11": 2.9, "7b13": 2.8, "7b5": 1.6, "7#5": 1.7, "7alt": 4.4, "7b9b13": 4.2, "7#9b13": 4.3, "13b9": 4.4,
    "13#11": 4.4, "7sus": 2.0, "9sus": 2.7, "13sus": 4.4, "7susb9": 2.9, "5": 0.1,
}  # fmt: skip
"""What naming a quality costs."""


@lru_cache(maxsize=1)
def _templates() -> tuple[list[Chord], Floats, Floats, Floats]:
    """Chords in root position; weights (chords, 24) for what sounds and what is struck
    in the bass; constants (chords); bass bonus (12, chords)."""
    chords = [Chord(root, quality, root) for quality in QUALITIES for root in range(12)]
    weights = np.zeros((len(chords), 24), dtype=np.float32)
    constants = np.zeros(len(chords), dtype=np.float32)
    bass = np.full((12, len(chords)), _FOREIGN_BASS, dtype=np.float32)
    for number, chord in enumerate(chords):
        weights[number, :12], weights[number, 12:] = -_FOREIGN, -_LATER_FOREIGN
        steps = QUALITIES[chord.quality]
        for step in steps:
            pitch_class = (chord.root + step) % 12
            need = _need(chord.quality, step)
            weights[number, pitch_class] = 1.0 + need
            if step in _STEADY:
                weights[number, 12 + pitch_class] = -_LATER_TONE if step else 0.0
            constants[number] -= need
            if len(steps) <= 4:
                bass[pitch_class, number] = _TONE_BASS
        bass[chord.root, number] = _ROOT_BASS
        constants[number] -= _COST[chord.quality]
    return chords, weights, constants, bass


_STEADY = (0, 3, 4, 6, 7, 8)
"""Steps that a bass may take within a chord: root, thirds, fifths."""


def _need(quality: str, step: int) -> float:
    tones = QUALITIES[quality]
    if step == 7 and len(tones) > 3:
        return 0.0
    if step == 2 and len(tones) > 5:
        return 0.1
    if step == 0:
        return 0.4
    return _MISSING


def hear_chords(score: Score) -> list[tuple[int, Chord]]:
    """Onsets [ticks] and chords, one entry for each change; the first where the first note sounds. Empty where no note
    sounds. The same notes and metres always give the same answer."""
    if len(score.notes) == 0:
        return []
    beats = beats_of(score)
    bass = _bass_struck(beats)
    change = _CHANGE + np.where(beats.begins_bar, 0.0, _CHANGE_OFF_BAR) + np.where(bass < 0, _CHANGE_NO_BASS, 0.0)
    change += _CHANGE_HELD * np.clip(beats.held - 1, 0, _MOST_HELD)
    sounding = np.flatnonzero(beats.lowest < SILENT)
    return _segment(
        beats.chroma[sounding], beats.lowest[sounding], bass[sounding], change[sounding], beats.starts[sounding]
    )


def _bass_struck(beats: Beats) -> Ints:
    """The pitch class of the bass note struck on each beat, -1 where none is."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(beats.lowest, 4, constant_values=SILENT), 9).min(axis=1)
    low = beats.struck <= np.minimum(around + _BASS_REACH, SILENT - 1)
    return np.asarray(np.where(low, beats.struck % 12, -1), dtype=np.int64)


def _segment(
    chroma: Floats,
    lowest: Ints,
    bass: Ints,
    change: npt.NDArray[np.float64],
    starts: Ints,
) -> list[tuple[int, Chord]]:
    chords, weights, constants, bass_bonus = _templates()
    count = len(chroma)
    struck = np.zeros((count, 12), dtype=np.float32)
    struck[bass >= 0, bass[bass >= 0]] = 1.0
    total, total_struck = _running(chroma), _running(struck)
    best = np.full((LONGEST_SEGMENT + 1, count), -np.inf, dtype=np.float64)
    label = np.zeros((LONGEST_SEGMENT + 1, count), dtype=np.int32)
    for length in range(1, min(LONGEST_SEGMENT, count) + 1):
        there = np.minimum(1.0, (total[length:] - total[:-length]) / (length * _CEILING), dtype=np.float32)
        later = (total_struck[length:] - total_struck[:-length]) / length
        fit = _fit(np.hstack([there, later]), weights) + constants + bass_bonus[lowest[: count - length + 1] % 12]
        label[length, : len(fit)] = fit.argmax(axis=1)
        best[length, : len(fit)] = fit.max(axis=1) * length - change[: len(fit)]
    return _decode(best, label, lowest, starts, chords)


def _fit(rows: Floats, weights: Floats) -> Floats:
    """rows @ weights.T in small blocks: BLAS then stays on one thread. On so little work more threads cost a hundred
    times what they save where cores are busy."""
    count = len(rows)
    blocks = np.zeros((-(-count // _BLOCK) * _BLOCK, rows.shape[1]), dtype=np.float32)
    blocks[:count] = rows
    product = blocks.reshape(-1, _BLOCK, rows.shape[1]) @ weights.T
    return np.asarray(product.reshape(len(blocks), -1)[:count])


_BLOCK = 16
"""Rows."""


def _running(rows: Floats) -> Floats:
    """Sums of all rows before each, shape (rows + 1, 12)."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]), dtype=np.float32)
    np.cumsum(rows, axis=0, dtype=np.float32, out=sums[1:])
    return sums


def _decode(
    best: npt.NDArray[np.float64],
    label: npt.NDArray[np.int32],
    lowest: Ints,
    starts: Ints,
    chords: list[Chord],
) -> list[tuple[int, Chord]]:
    """The best cut into segments, and each one's chord."""
    count = best.shape[1]
    rows = best.tolist()
    reached = [0.0] + [float("-inf")] * count
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
        chord = chords[int(label[came[end], begin])]
        bass = int(lowest[begin]) % 12
        heard.append((int(starts[begin]), Chord(chord.root, chord.quality, bass)))
        end = begin
    heard.reverse()
    return [now for number, now in enumerate(heard) if number == 0 or now[1] != heard[number - 1][1]]


# Albrecht & Shanahan 2013, "The use of large corpora to train a new type of key-finding algorithm".
_MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
_MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)
_KEY_CHANGE = 0.9
"""What a change of key costs, in units of correlation."""
_KEY_WINDOW_BARS, _KEY_BASS = 4, 0.5
"""Bars that are judged together; the extra weight of the lowest note, in beats."""


@lru_cache(maxsize=1)
def _key_profiles() -> npt.NDArray[np.float64]:
    """Shape (24, 12): twelve major keys, then twelve minor, each standardised."""
    rows = [np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)]
    profiles = np.array(rows)
    profiles -= profiles.mean(axis=1, keepdims=True)
    return np.asarray(profiles / np.linalg.norm(profiles, axis=1, keepdims=True))


def hear_keys(score: Score) -> list[Key]:
    """The keys heard, each from its onset [ticks] on, at bar lines of the beats' grid."""
    if len(score.notes) == 0:
        return []
    beats = beats_of(score)
    window = np.cumsum(beats.begins_bar) // _KEY_WINDOW_BARS
    totals = np.zeros((int(window.max()) + 1, 12))
    np.add.at(totals, window, np.minimum(beats.chroma, 1.0))
    low = beats.lowest < SILENT
    np.add.at(totals, (window[low], beats.lowest[low] % 12), _KEY_BASS)
    path = _key_path(totals)
    keys: list[Key] = []
    for number, state in enumerate(path):
        if number == 0 or state != path[number - 1]:
            onset = int(beats.starts[np.searchsorted(window, number)]) if number else 0
            keys.append(key_of(int(state) % 12, state >= 12, onset))
    return keys


def _key_path(totals: npt.NDArray[np.float64]) -> list[int]:
    centred = totals - totals.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    fits = (centred / np.maximum(norms, 1e-9)) @ _key_profiles().T
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
    ends = [*(key.onset for key in keys[1:]), end]
    lengths = [until - key.onset for key, until in zip(keys, ends, strict=True)]
    long = [key for key, length in zip(keys, lengths, strict=True) if length >= end / 4]
    chosen = long[0] if long else keys[lengths.index(max(lengths))]
    return Key(0, chosen.fifths, chosen.minor)
