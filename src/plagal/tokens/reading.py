"""Grammatical words laid out in time, and the score that they mean.

`lay_out` decides for a whole piece at once what the automaton of `grammar` decides word by word; a test holds the two
together. Everything is an array over the words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plagal.music.grid import LATEST_TICK, LONGEST_BAR, regular
from plagal.music.score import HIGHEST_PITCH, Key, Marker, Metre, Pedal, Score, Tempo
from plagal.tokens import grammar as g
from plagal.tokens.vocabulary import (
    DURATION_TICKS,
    ID_OF,
    KEY_OF,
    METRE_OF,
    OPEN_DURATIONS,
    PEDALS,
    RELATIVE_VELOCITIES,
    TEMPO_OF,
    TIED_DURATIONS,
    VELOCITY_LEVELS,
    WHOLE,
)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_IDS = max(ID_OF.values()) + 1
_KIND = np.zeros(_IDS, np.int64)
_VALUE = np.zeros(_IDS, np.int64)
for _word, (_kind, _value) in g.KIND_OF.items():
    _KIND[ID_OF[_word]], _VALUE[ID_OF[_word]] = _kind, _value
for _word, _number in (*DURATION_TICKS.items(), *TIED_DURATIONS.items(), *VELOCITY_LEVELS.items()):
    _VALUE[ID_OF[_word]] = _number
_SPECIAL = np.zeros(_IDS, np.bool_)
_SPECIAL[[ID_OF[word] for word in (*OPEN_DURATIONS, *RELATIVE_VELOCITIES)]] = True
_SPECIAL |= np.isin(_KIND, [g.ARTICULATION, g.NOTE_OFF])
"""Words whose effect depends on other notes."""
_HEAD_KIND = np.arange(24)
for _kind, _head_kind in g.HEAD.items():
    _HEAD_KIND[_kind] = _head_kind
_FOLLOWS = np.zeros((24, 24), np.bool_)
for _kind, _followers in g.FOLLOWERS.items():
    _FOLLOWS[_kind, list(_followers)] = True
_EVENTS = np.isin(np.arange(24), [g.KEY, g.TEMPO, g.PEDAL, g.PEDAL_OFF, g.SECTION, g.REPEAT_START, g.REPEAT_END,
                                  g.CHORD, g.BASS, g.HEAD_KEY, g.HEAD_TEMPO])  # fmt: skip
_BEFORE_BEAT = np.isin(np.arange(24), list(g.BEFORE_BEAT))


@dataclass(frozen=True, slots=True)
class Places:
    """Words laid out: each array has one entry a word, those that begin with `bar_` one a bar."""

    words: Sequence[str]
    ids: Ints
    kind: Ints
    value: Ints
    bar: Ints
    position: Ints
    onset: Ints
    bar_start: Ints
    bar_ticks: Ints


def lay_out(words: Sequence[str]) -> Places | None:
    """Where each word happens; None where the words are no whole grammatical piece, or one that lasts too long."""
    try:
        ids = np.fromiter(map(ID_OF.__getitem__, words), np.int64, len(words))
    except (KeyError, TypeError):
        return None
    kind, value = _KIND[ids], _VALUE[ids]
    is_bar = kind == g.BAR
    bar = np.cumsum(is_bar) - 1
    kind = np.where(bar < 0, _HEAD_KIND[kind], kind)
    if not len(kind) or kind[0] != g.SONG_START or kind[-1] != g.SONG_END or not _FOLLOWS[kind[:-1], kind[1:]].all():
        return None
    bar = np.maximum(bar, 0)
    bar_ticks = _bar_lengths(kind, value, bar)
    bar_start = np.cumsum(bar_ticks) - bar_ticks
    if bar_start[-1] > LATEST_TICK - LONGEST_BAR:
        return None
    is_beat = kind == g.BEAT
    index = np.arange(len(ids))
    last = np.maximum.accumulate(np.where(is_beat | is_bar, index, 0))
    position = np.where(is_beat[last], value[last], 0)
    places = Places(words, ids, kind, value, bar, position, bar_start[bar] + position, bar_start, bar_ticks)
    return places if _rises(places, last) else None


def _bar_lengths(kind: Ints, value: Ints, bar: Ints) -> Ints:
    given = np.zeros(int(bar[-1]) + 1, np.int64)
    given[0] = WHOLE
    metres = np.flatnonzero((kind == g.TIMESIG) | (kind == g.HEAD_TIMESIG))
    given[bar[metres]] = value[metres]
    return given[np.maximum.accumulate(np.where(given > 0, np.arange(len(given)), 0))]


def _rises(places: Places, last: Ints) -> bool:
    """Whether positions rise within their bars and pitches within their positions, and repeats are balanced."""
    kind, value, bar, position = places.kind, places.value, places.bar, places.position
    beats = np.flatnonzero(kind == g.BEAT)
    before = np.where(_BEFORE_BEAT[kind[beats - 1]], -1, position[beats - 1])
    if not ((value[beats] > before) & (value[beats] < places.bar_ticks[bar[beats]])).all():
        return False
    notes = np.flatnonzero(kind == g.NOTE_ON)
    together = last[notes[1:]] == last[notes[:-1]]
    if (together & (value[notes[1:]] <= value[notes[:-1]])).any():
        return False
    offs = np.flatnonzero((kind[1:] == g.NOTE_OFF) & (kind[:-1] == g.NOTE_OFF))
    if (value[offs + 1] <= value[offs]).any():
        return False
    repeats = kind[(kind == g.REPEAT_START) | (kind == g.REPEAT_END)]
    return len(repeats) % 2 == 0 and bool(
        (repeats[::2] == g.REPEAT_START).all() and (repeats[1::2] == g.REPEAT_END).all()
    )


def to_score(places: Places) -> Score:
    """The regular score that the words mean."""
    kind, value, onset = places.kind, places.value, places.onset
    first, last = np.flatnonzero(kind == g.NOTE_ON), np.flatnonzero(kind == g.VELOCITY)
    length = np.cumsum(np.where((kind == g.DURATION) | (kind == g.TIE), value, 0))
    notes = np.stack([onset[first], value[first], length[last] - length[first], value[last]], axis=1)
    if _SPECIAL[places.ids].any():
        notes = _played(places, notes, first, last)
    metres, tempos, keys, pedals = [Metre(0, 4, 4)], list[Tempo](), list[Key](), list[Pedal]()
    markers: list[Marker] = []
    for place in np.flatnonzero((kind == g.TIMESIG) | (kind == g.HEAD_TIMESIG)).tolist():
        metres.append(Metre(int(places.bar_start[places.bar[place]]), *METRE_OF[places.words[place]]))
    for place in np.flatnonzero(_EVENTS[kind]).tolist():
        word, tick = places.words[place], int(onset[place])
        name, _, text = word.partition("_")
        if name == "KEY":
            keys.append(Key(tick, *KEY_OF[word]))
        elif name == "TEMPO":
            tempos.append(Tempo(tick, TEMPO_OF[word]))
        elif name == "PEDAL":
            pedals.append(Pedal(tick, PEDALS[word]))
        elif name == "BASS":
            markers[-1] = Marker(tick, "chord", f"{markers[-1].text}/{text}")
        else:
            bar = places.bar[place]
            at_end = int(places.bar_ticks[bar]) if word == "REPEAT_END" else 0
            tick = int(places.bar_start[bar]) + at_end if name == "REPEAT" else tick
            markers.append(Marker(tick, name.lower(), text))
    return regular(Score(notes, tuple(metres), tuple(tempos), tuple(keys), tuple(pedals), tuple(markers)))


_LEVELS = list(VELOCITY_LEVELS.values())
_RISE = {"VEL_CRESC": 1, "VEL_DECRESC": -1, "VEL_ACCENT": 2, "VEL_SOFT_ACCENT": 1, "VEL_MARCATO": 2}
_SHORT = 3
"""A 32nd [ticks]: the length of grace notes and of a trill's notes."""


def _played(places: Places, notes: Ints, first: Ints, last: Ints) -> Ints:
    """The notes with the effect of articulations, relative velocities, open durations and NOTE_OFF, as the
    vocabulary defines them. Shapes (notes, 4)."""
    end = int(places.bar_start[-1] + places.bar_ticks[-1])
    onsets = np.unique(notes[:, 0])
    following = np.append(onsets, end)[np.searchsorted(onsets, notes[:, 0], side="right")]
    bar_ends = (places.bar_start + places.bar_ticks)[places.bar[first]]
    level, rolled, rolled_from = _LEVELS.index(VELOCITY_LEVELS["VEL_MF"]), 0, -1
    played: list[list[int]] = []
    for number, note in enumerate(notes.tolist()):
        onset, pitch, duration, velocity = note
        duration_word, velocity_word = places.words[last[number] - 1], places.words[last[number]]
        articulation = places.words[first[number] - 1]
        until_next = max(int(following[number]) - onset, 1)
        if duration_word in OPEN_DURATIONS:
            until = {"DUR_RELEASE": onset + until_next, "DUR_HOLD": int(bar_ends[number])}.get(duration_word, end)
            duration = max(duration, until - onset, 1)
        if velocity_word in RELATIVE_VELOCITIES:
            loud = min(max(level + _RISE.get(velocity_word, 0), 0), len(_LEVELS) - 1)
            level = loud if velocity_word.endswith("CRESC") else level
            velocity = _LEVELS[loud]
        elif velocity:
            level = _LEVELS.index(velocity)
        duration = _articulated_length(duration, velocity_word, articulation, until_next)
        if articulation == "ACCENT" and velocity:
            velocity = _LEVELS[min(_LEVELS.index(velocity) + 1, len(_LEVELS) - 1)]
        if articulation == "ARPEGGIO" or (rolled and rolled_from == onset):
            rolled = rolled + 1 if rolled_from == onset else 1
            rolled_from = onset
            shift = min(rolled - 1, duration - 1)
            onset, duration = onset + shift, duration - shift
        played += _ornamented(onset, pitch, duration, velocity, articulation)
    return np.array(_released(places, played), np.int64).reshape(-1, 4)


def _articulated_length(duration: int, velocity_word: str, articulation: str, until_next: int) -> int:
    if velocity_word == "VEL_STACCATO":
        duration = max(duration // 2, 1)
    elif velocity_word == "VEL_MARCATO":
        duration = max(duration * 3 // 4, 1)
    if articulation == "STACCATO":
        return max(duration // 2, 1)
    if articulation == "FERMATA":
        return duration * 3 // 2
    if articulation == "LEGATO" or velocity_word == "VEL_TENUTO":
        return max(duration, until_next)
    return duration


def _ornamented(onset: int, pitch: int, duration: int, velocity: int, articulation: str) -> list[list[int]]:
    if articulation in ("GRACE_NOTE", "GRACE_BEFORE", "GRACE_AFTER"):
        shift = {"GRACE_BEFORE": -_SHORT, "GRACE_AFTER": _SHORT}.get(articulation, 0)
        return [[max(onset + shift, 0), pitch, _SHORT, velocity]]
    if articulation == "TRILL" and pitch + 2 <= HIGHEST_PITCH:
        return [
            [onset + start, pitch + 2 * (start // _SHORT % 2), min(_SHORT, duration - start), velocity]
            for start in range(0, duration, _SHORT)
        ]
    return [[onset, pitch, duration, velocity]]


def _released(places: Places, played: list[list[int]]) -> list[list[int]]:
    """Notes that sound when a NOTE_OFF of their pitch comes end there."""
    offs: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(places.kind == g.NOTE_OFF):
        offs[int(places.value[place])].append(int(places.onset[place]))
    for note in played:
        onset, pitch, duration, _ = note
        releases = offs.get(pitch, [])
        next_release = int(np.searchsorted(releases, onset, side="right"))
        if next_release < len(releases):
            note[2] = min(duration, releases[next_release] - onset)
    return played
