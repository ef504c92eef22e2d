"""Chords for a bare melody: the likeliest path through the hymnal's grammar, as a Viterbi over beats.

Every beat takes one chord of the key or one of its near dominants. A path is worth what its chords hold of the melody
(long notes and notes on strong beats count most), how readily the grammar goes from chord to chord, and what a change
costs where it stands: little at a bar line, much between beats of a quick metre. A chord never stands under a strong
beat whose note lies a semitone over one of its tones. The tune ends on its tonic, and its phrases on chords that end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from plagal.music.arranger.harmony_grammar import DEGREES, QUALITY_INDEX, allowed
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.beats import beat_ticks
from plagal.music.chords import Chord
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import Key, Metre

Floats = npt.NDArray[np.float64]

# Fitted by random search on the 55 tunes of the book that the benchmark does not ask about: 80 % of their beats agree
# with the book's own harmony by function, 82 % of the other twenty's. Set by hand they were 71 and 74 %.
_FOREIGN, _WEAK_FOREIGN = 1.0, 0.16
"""What a note outside the chord costs for each beat that it sounds, where it begins on a beat and elsewhere."""
_HELD, _HELD_FIRM = 0.56, 0.15
"""What a note of the chord is worth for each beat, and more where it is its root or third."""
_GRAMMAR = 1.4
"""Weight of the grammar's logarithm."""
_CHANGE_AT_BAR, _CHANGE_AT_HALF, _CHANGE_AT_BEAT = 0.48, 0.88, 1.13
_NO_MOVE, _NO_HOME, _CLASH = -8.0, -1e6, -1e3
_BEGINS_AWAY, _COMMON = -1.5, 0.5

_MAJOR = (("1", "maj", 2.1), ("4", "maj", 1.2), ("5", "maj", -0.1), ("5", "dom7", -0.3), ("6", "min", -0.1),
          ("2", "min", -1.8), ("3", "min", -2.5), ("2", "dom7", -2.3), ("6", "dom7", -0.8), ("3", "dom7", -3.6),
          ("1", "dom7", -3.3))  # fmt: skip
_MINOR = (("1", "min", 0.7), ("4", "min", 0.7), ("5", "dom7", -0.1), ("5", "maj", -1.0), ("b3", "maj", 1.6),
          ("b6", "maj", -0.6), ("b7", "maj", 0.6), ("2", "halfdim7", -2.8), ("5", "min", -4.2),
          ("1", "dom7", -1.0))  # fmt: skip
"""Degree, quality, how common [log]."""


def harmonize(notes: Sequence[MelodyNote], key: Key, metre: Metre, pickup_ticks: int = 0) -> list[tuple[int, Chord]]:
    """Onset [ticks] and chord, one entry for each change, for a melody that begins in bar 0; a pick-up before the first
    whole bar has no chord of its own. Empty where there is no note."""
    if not notes:
        return []
    beat, bar = beat_ticks(metre), metre.bar_ticks
    begin = bar if pickup_ticks else 0
    end = -(-max(onset + ticks for onset, _, ticks in notes) // beat) * beat
    starts = list(range(begin, end, beat)) or [0]
    chords = _candidates(key.minor)
    fits = np.array([_fit(notes, start, beat, bar, key) for start in starts])
    change = np.array([_change_cost(start, bar, beat) for start in starts])
    moves = _moves(key.minor)

    # The path of most worth; staying is free, changing costs by where it stands.
    first = np.array([weight for _, _, weight in (_MINOR if key.minor else _MAJOR)])
    reached = fits[0] + np.where(np.array([chord.root for chord in chords]) == 0, 0.0, _BEGINS_AWAY) + _COMMON * first
    came: list[npt.NDArray[np.intp]] = []
    stay = np.eye(len(chords), dtype=np.bool_)
    for number in range(1, len(starts)):
        step = reached[:, None] + np.where(stay, 0.0, moves - change[number])
        came.append(step.argmax(axis=0))
        reached = step.max(axis=0) + fits[number]
    home = np.array([chord.root == 0 and chord.quality in ("maj", "min") for chord in chords])
    place = int(np.where(home, reached, reached + _NO_HOME).argmax())
    path = [place]
    for back in reversed(came):
        place = int(back[place])
        path.append(place)
    path.reverse()

    tonic, found = key_tonic(key), list[tuple[int, Chord]]()
    for start, place in zip(starts, path, strict=True):
        chord = chords[place].transposed(tonic)
        if not found or found[-1][1] != chord:
            found.append((start, chord))
    return found


def clashes(pitch: int, chord: Chord) -> bool:
    """Whether a melody note rubs against a chord: a semitone, or a minor ninth, over one of its tones, and none of its
    own."""
    return pitch % 12 not in chord.pitch_classes and (pitch - 1) % 12 in chord.pitch_classes


@cache
def _candidates(minor: bool) -> list[Chord]:
    return [Chord(DEGREES[degree], quality, DEGREES[degree]) for degree, quality, _ in (_MINOR if minor else _MAJOR)]


@cache
def _moves(minor: bool) -> Floats:
    """Worth of each change of chord: the grammar's logarithm, and how common the chord is."""
    chords, key = _candidates(minor), key_of(0, minor)
    common = np.array([weight for _, _, weight in (_MINOR if minor else _MAJOR)])
    rows = []
    for before in chords:
        table = allowed(key, "hymnal", before)
        weights = np.array([table[chord.root, QUALITY_INDEX[chord.quality]] for chord in chords], dtype=np.float64)
        rows.append(np.where(weights > 0, _GRAMMAR * np.log(np.maximum(weights, 1e-9)), _NO_MOVE))
    return np.array(rows) + _COMMON * common


def _change_cost(start: int, bar: int, beat: int) -> float:
    place, beats = start % bar, bar // beat
    if place == 0:
        return _CHANGE_AT_BAR
    return _CHANGE_AT_HALF if beats % 2 == 0 and place * 2 == bar else _CHANGE_AT_BEAT


def _fit(notes: Sequence[MelodyNote], start: int, beat: int, bar: int, key: Key) -> Floats:
    """How well each candidate bears what sounds in a beat. Shape (candidates,)."""
    tonic = key_tonic(key)
    worth = np.zeros(len(_candidates(key.minor)))
    strong = start % bar == 0 or (bar // beat % 2 == 0 and start % bar * 2 == bar)
    for onset, pitch, ticks in notes:
        inside = min(onset + ticks, start + beat) - max(onset, start)
        if inside <= 0:
            continue
        share = inside / beat
        on_beat = onset <= start
        for number, chord in enumerate(_candidates(key.minor)):
            step = (pitch - tonic - chord.root) % 12
            if (pitch - tonic) % 12 in chord.pitch_classes:
                worth[number] += share * (_HELD + (_HELD_FIRM if step in (0, 3, 4) else 0.0))
            else:
                worth[number] -= share * (_FOREIGN if on_beat else _WEAK_FOREIGN)
                if strong and on_beat and clashes(pitch - tonic, chord):
                    worth[number] += _CLASH
    return worth
