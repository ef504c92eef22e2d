"""A tune set for four voices, as a hymnal prints it: what a gospel pianist reads, and then plays around.

Soprano is the tune. Alto, tenor and bass strike with its notes on the beat and hold under what passes between. Where
they lie is chosen for the whole setting at once (Viterbi over the voicings of each chord): smooth voices, no parallel
fifths or octaves, the root in the bass where a chord begins, no doubled third. Rules: any textbook of part-writing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, pairwise, product, takewhile

import numpy as np
import numpy.typing as npt

from plagal.music.arranger.form import LeadSheet, Span
from plagal.music.arranger.tunebook import MelodyNote
from plagal.music.arranger.voicing import essential
from plagal.music.chords import QUALITIES, Chord
from plagal.music.hands import LARGEST_SPAN, HandNote, Struck
from plagal.music.keys import natural_scale
from plagal.music.viterbi import best_path

_LOUD, _BETWEEN = 80, 65
"""A hymnal says nothing of loudness: mezzo-forte, in most settings softer between the beats."""
_ACCENTED_CHANCE = 0.75

_RANGES = ((53, 74), (47, 67), (38, 60))
"""Lowest and highest pitch of alto, tenor and bass."""
_TENOR = 1
"""Stays on its chord tones: with passing notes in every voice a hymn becomes a fugue."""
_MOST_APART = (12, 12, 24)
"""Semitones between soprano and alto, alto and tenor, tenor and bass."""
_MISSING, _THIRD_DOUBLED, _NOT_ROOT, _PARALLEL, _CROSSING, _STILL_BASS = 12.0, 4.0, 3.0, 9.0, 2.0, 0.7
_OUT_OF_REACH = 40.0
"""What four voices cost that two hands cannot hold."""
_MOVES = (1.0, 1.0, 0.45)
"""What a semitone of motion costs alto, tenor and bass."""
_PASSING, _PASSING_CHANCE = (3, 4), 0.3
"""Leaps that a passing note fills, and how often it does."""

_HELD_CHANCE = 0.7
"""How often the lower voices hold under a note of the tune that falls between beats."""

Voices = npt.NDArray[np.int64]
Costs = npt.NDArray[np.float64]


def four_part(
    lead: LeadSheet, spans: Sequence[Span], line: Sequence[MelodyNote], rng: random.Random
) -> tuple[list[HandNote], set[Struck]]:
    """All four voices' notes, in order of onset and pitch, and which are the right hand's; keys that two voices share
    are struck once. The tenor is the left hand's where that reaches it over the bass."""
    strikes = _strikes(lead, spans, line, rng)
    voices = _lead_voices(strikes)
    ends = [*(onset for onset, _, _, _ in strikes[1:]), lead.end]
    last = max(onset for onset, _, _ in line)
    played = {(onset, pitch): lead.end - onset if onset == last else ticks for onset, pitch, ticks in line}
    right = set(played)
    for number, ((onset, until, _, _), chosen) in enumerate(zip(strikes, voices, strict=True)):
        goes_on = number + 1 < len(voices) and until == ends[number]
        stop = lead.end if number + 1 == len(voices) else until
        in_right = (True, int(chosen[_TENOR] - chosen[-1]) > LARGEST_SPAN, False)
        for voice, pitch in enumerate(chosen):
            after = int(voices[number + 1][voice]) if goes_on and voice != _TENOR else None
            for start, key, ticks in _moving(int(pitch), onset, stop, after, lead, rng):
                played[start, key] = max(ticks, played.get((start, key), 0))
                if in_right[voice]:
                    right.add((start, key))
    # What is struck again ends there; off the beat it is softer in most settings.
    between = _BETWEEN if rng.random() < _ACCENTED_CHANCE else _LOUD
    ends_at: dict[int, int] = {}
    notes = []
    for (onset, pitch), ticks in sorted(played.items(), reverse=True):
        loud = between if onset % lead.beat else _LOUD
        notes.append((onset, pitch, min(ticks, ends_at.get(pitch, onset + ticks) - onset), loud))
        ends_at[pitch] = onset
    return notes[::-1], right


Strike = tuple[int, int, int, Chord]
"""Onset, end [ticks], the soprano's pitch, the chord."""


def _strikes(lead: LeadSheet, spans: Sequence[Span], line: Sequence[MelodyNote], rng: random.Random) -> list[Strike]:
    """Where the lower voices strike: with the tune's notes on beats, and where a chord begins under a held note; with
    quicker notes only now and then. A pick-up has the first chord where it belongs to it, else it is alone."""
    found: list[Strike] = []
    number = 0
    for onset, pitch, ticks in line:
        while number + 1 < len(spans) and spans[number].end <= onset:
            number += 1
        if onset < spans[0].onset and pitch % 12 not in spans[0].chord.pitch_classes:
            continue
        on_beat = onset % lead.beat == 0 or onset == spans[number].onset
        if found and not on_beat and onset // lead.beat == found[-1][0] // lead.beat and rng.random() < _HELD_CHANCE:
            continue
        found.append((onset, onset + ticks, pitch, spans[number].chord))
        for later in takewhile(lambda span: span.onset < onset + ticks, spans[number + 1 :]):  # noqa: B023
            begun, _, _, before = found.pop()
            found += [(begun, later.onset, pitch, before), (later.onset, onset + ticks, pitch, later.chord)]
    struck = {onset for onset, _, _, _ in found}
    tops = sorted((onset, pitch) for onset, pitch, _ in line)
    for span in spans:  # a chord that begins where the tune rests
        if span.onset not in struck:
            top = next((pitch for onset, pitch in reversed(tops) if onset <= span.onset), tops[0][1])
            found.append((span.onset, span.end, top, span.chord))
    return _held_until_next(sorted(found, key=lambda strike: strike[0]), line)


def _held_until_next(strikes: list[Strike], line: Sequence[MelodyNote]) -> list[Strike]:
    """The lower voices hold on under the tune's quicker notes, until they strike again or the tune rests."""
    end_at = {onset: onset + ticks for onset, _, ticks in line}
    held = []
    for number, (onset, end, pitch, chord) in enumerate(strikes):
        limit = strikes[number + 1][0] if number + 1 < len(strikes) else max(end_at.values())
        until = end
        while until < limit and until in end_at:
            until = end_at[until]
        held.append((onset, min(until, limit), pitch, chord))
    return held


def _lead_voices(strikes: Sequence[Strike]) -> list[Voices]:
    """Alto, tenor and bass of each strike: the path of least cost."""
    options = [_options(chord, pitch) for _, _, pitch, chord in strikes]
    begins = [True, *(before[3] != after[3] for before, after in pairwise(strikes))]
    path, _ = best_path(
        [-_own_cost(*strike) for strike in zip(options, strikes, begins, strict=True)],
        lambda at: -_moving_cost(options[at - 1], strikes[at - 1], options[at], strikes[at]),
    )
    return [choices[place] for choices, place in zip(options, path, strict=True)]


@lru_cache(maxsize=4096)
def _options(chord: Chord, soprano: int) -> Voices:
    """Shape (voicings, 3): alto, tenor and bass from the chord, below the soprano and not too far apart."""
    tones = chord.pitch_classes
    parts = [[key for key in range(low, high + 1) if key % 12 in tones] for low, high in _RANGES]
    if chord.bass != chord.root:
        parts[2] = [key for key in parts[2] if key % 12 == chord.bass]
    fits = [
        keys
        for keys in product(*parts)
        if 0 <= soprano - keys[0] <= _MOST_APART[0] and 0 <= keys[0] - keys[1] <= _MOST_APART[1]
        and 0 <= keys[1] - keys[2] <= _MOST_APART[2]
    ]  # fmt: skip
    if not fits:  # a tune that lies very low or high: the chord's own tones nearest under it
        below = [key for key in range(soprano - 24, soprano) if key % 12 in tones]
        fits = [(below[-1], below[-2], below[0])]
    return np.array(fits, dtype=np.int64)


def _own_cost(options: Voices, strike: Strike, begins: bool) -> Costs:
    """What each voicing lacks and doubles."""
    _, _, soprano, chord = strike
    classes = np.insert(options, 0, soprano, axis=1) % 12
    cost = np.zeros(len(options))
    for step in essential(chord.quality):
        cost += _MISSING * ~(classes == (chord.root + step) % 12).any(axis=1)
    third = next((step for step in QUALITIES[chord.quality] if step in (3, 4)), 4)
    cost += _THIRD_DOUBLED * ((classes == (chord.root + third) % 12).sum(axis=1) > 1)
    wrong_bass = options[:, 2] % 12 != chord.bass
    cost += wrong_bass * (_NOT_ROOT * (2 if begins else 0.5))
    spacing = np.abs(options[:, 0] - options[:, 1] - 5) + np.abs(options[:, 1] - options[:, 2] - 10)
    alto, tenor, bass = options.T
    spans = np.maximum(tenor - bass, soprano - alto), soprano - tenor, alto - bass  # two and two, one and three
    cost += _OUT_OF_REACH * (np.min(spans, axis=0) > LARGEST_SPAN)
    return np.asarray(cost + 0.1 * spacing)


def _moving_cost(before: Voices, was: Strike, after: Voices, now: Strike) -> Costs:
    """Shape (voicings before, voicings after): how far voices move, parallels, crossings, a bass that stands still
    under a new chord."""
    old, new = before[:, None, :], after[None, :, :]
    cost: Costs = (np.abs(new - old) * _MOVES).sum(axis=2).astype(np.float64)
    if was[3] != now[3]:
        cost += _STILL_BASS * (old[..., 2] == new[..., 2])
    four_old = np.insert(before, 0, was[2], axis=1).T[:, :, None]
    four_new = np.insert(after, 0, now[2], axis=1).T[:, None, :]
    moves = four_old != four_new
    for high, low in combinations(range(4), 2):
        gap, next_gap = (four_old[high] - four_old[low]) % 12, (four_new[high] - four_new[low]) % 12
        cost += _PARALLEL * (moves[high] & moves[low] & (gap == next_gap) & ((gap == 0) | (gap == 7)))
    for upper, lower in pairwise(range(4)):
        cost += _CROSSING * (four_new[lower] > four_old[upper])
    return cost


def _moving(
    pitch: int, onset: int, until: int, after: int | None, lead: LeadSheet, rng: random.Random
) -> list[tuple[int, int, int]]:
    """A voice's note, or that note and a passing one (of the key) that leads on to the next by step."""
    whole = [(onset, pitch, until - onset)]
    half = lead.beat // 2
    if after is None or abs(after - pitch) not in _PASSING or until - onset < lead.beat:
        return whole
    if rng.random() >= _PASSING_CHANCE:
        return whole
    section = lead.section_at(onset)
    scale = natural_scale(section.tonic, section.minor)
    between = [key for key in range(min(pitch, after) + 1, max(pitch, after)) if key % 12 in scale]
    if not between:
        return whole
    return [(onset, pitch, until - half - onset), (until - half, between[0], half)]
