"""Which word may follow which: one automaton for the validity metric, strict decoding and the constrained decoder.

A piece reads, with [optional] parts and (repeated) ones:

    SONG_START [KEY] [TIMESIG] [TEMPO] (bar) SONG_END
    bar       BAR_START [TIMESIG] [REPEAT_START] [SECTION] (position) [REPEAT_END]
    position  BEAT [KEY] [TEMPO] [PEDAL] [CHORD [BASS]] (NOTE_OFF) (note), at least one of them
    note      [ARTICULATION] NOTE_ON (x_TIED) DUR VEL

Positions rise and lie inside their bar, pitches rise within a position, repeats are balanced, a lifted pedal may be
pressed again at once (PEDAL_OFF PEDAL_ON). A bar may be empty. The first position of a bar may leave out its BEAT_0.

A word costs O(1): a state is seven small values, and what it allows is made of cached masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH
from plagal.plumbing.errors import WordsError
from plagal.tokens.vocabulary import ARTICULATIONS, BAR_WORD, BEAT_TICKS, METRE_OF, MUSIC_WORDS, TIED_DURATIONS, WHOLE

(NOTHING, SONG_START, HEAD_KEY, HEAD_TIMESIG, HEAD_TEMPO, BAR, TIMESIG, REPEAT_START, SECTION, BEAT, KEY, TEMPO,
 PEDAL_OFF, PEDAL, CHORD, BASS, NOTE_OFF, ARTICULATION, NOTE_ON, TIE, DURATION, VELOCITY, REPEAT_END,
 SONG_END) = range(24)  # fmt: skip
"""Kinds of words: the last word's kind decides which kinds may follow."""

_END = frozenset({BEAT, BAR, REPEAT_END, SONG_END})
_NOTES = _END | {ARTICULATION, NOTE_ON}
_OFFS = _NOTES | {NOTE_OFF}
_CHORDS = _OFFS | {CHORD}
_PEDALS = _CHORDS | {PEDAL, PEDAL_OFF}
_TEMPOS = _PEDALS | {TEMPO}
_CONTENT = frozenset({KEY, TEMPO, PEDAL_OFF, PEDAL, CHORD, NOTE_OFF, ARTICULATION, NOTE_ON})
_IN_BAR = _CONTENT | _END

FOLLOWERS: dict[int, frozenset[int]] = {
    NOTHING: frozenset({SONG_START}),
    SONG_START: frozenset({HEAD_KEY, HEAD_TIMESIG, HEAD_TEMPO, BAR}),
    HEAD_KEY: frozenset({HEAD_TIMESIG, HEAD_TEMPO, BAR}),
    HEAD_TIMESIG: frozenset({HEAD_TEMPO, BAR}),
    HEAD_TEMPO: frozenset({BAR}),
    BAR: _IN_BAR | {TIMESIG, REPEAT_START, SECTION},
    TIMESIG: _IN_BAR | {REPEAT_START, SECTION},
    REPEAT_START: _IN_BAR | {SECTION},
    SECTION: _IN_BAR,
    BEAT: _CONTENT,
    KEY: _TEMPOS,
    TEMPO: _PEDALS,
    PEDAL_OFF: _CHORDS | {PEDAL},
    PEDAL: _CHORDS,
    CHORD: _OFFS | {BASS},
    BASS: _OFFS,
    NOTE_OFF: _OFFS,
    ARTICULATION: frozenset({NOTE_ON}),
    NOTE_ON: frozenset({TIE, DURATION}),
    TIE: frozenset({TIE, DURATION}),
    DURATION: frozenset({VELOCITY}),
    VELOCITY: _NOTES,
    REPEAT_END: frozenset({BAR, SONG_END}),
    SONG_END: frozenset(),
}

BEFORE_BEAT = frozenset({BAR, TIMESIG, REPEAT_START, SECTION})
"""Kinds after which a bar has no position yet."""
HEAD = {KEY: HEAD_KEY, TIMESIG: HEAD_TIMESIG, TEMPO: HEAD_TEMPO}
_BELOW = LOWEST_PITCH - 1


def _kind_of(word: str) -> tuple[int, int]:
    fixed = {"SONG_START": SONG_START, "SONG_END": SONG_END, "BAR_START": BAR, "REPEAT_START": REPEAT_START,
             "REPEAT_END": REPEAT_END, "PEDAL_OFF": PEDAL_OFF, "PEDAL_ON": PEDAL, "PEDAL_HALF": PEDAL}  # fmt: skip
    if word in fixed:
        return fixed[word], 0
    if word in ARTICULATIONS:
        return ARTICULATION, 0
    if word in TIED_DURATIONS:
        return TIE, 0
    if word in METRE_OF:
        numerator, denominator = METRE_OF[word]
        return TIMESIG, WHOLE * numerator // denominator
    if word.startswith("NOTE_"):
        _, onoff, pitch = word.split("_")
        return (NOTE_ON if onoff == "ON" else NOTE_OFF), int(pitch)
    kind = word.partition("_")[0]
    kinds = {"SECTION": SECTION, "BEAT": BEAT, "DUR": DURATION, "VEL": VELOCITY, "CHORD": CHORD, "BASS": BASS,
             "KEY": KEY, "TEMPO": TEMPO}  # fmt: skip
    return kinds[kind], BEAT_TICKS.get(word, 0)


KIND_OF: dict[str, tuple[int, int]] = {word: _kind_of(word) for word in MUSIC_WORDS}
"""Word -> its kind (in the body of a piece) and value: position [ticks], bar length [ticks] or pitch; else 0."""


class State(NamedTuple):
    """Where a piece stands after some words. A small hashable value; `advance` gives the next one."""

    kind: int = NOTHING
    """Of the last word."""
    bars: int = 0
    """Bars begun; the running bar's index is one less."""
    position: int = -1
    """[ticks] from the bar line; -1 until the bar has its first position."""
    bar_ticks: int = WHOLE
    """Length of the running bar [ticks]."""
    pitch: int = _BELOW
    """The last pitch of this position; only higher ones may follow."""
    repeat_open: bool = False

    @property
    def done(self) -> bool:
        """Whether the piece has ended."""
        return self.kind == SONG_END


def start() -> State:
    """Before the first word."""
    return _START


_START = State()


def may_follow(state: State, kind: int, value: int) -> bool:
    """Whether a word of this kind and value, as `KIND_OF` and `HEAD` give them, may come next."""
    if kind not in FOLLOWERS[state.kind]:
        return False
    if kind == NOTE_ON:
        return value > _floor(state)
    if kind == BEAT:
        return state.position < value < state.bar_ticks
    if kind == NOTE_OFF:
        return state.kind != NOTE_OFF or value > state.pitch
    if kind == ARTICULATION:
        return _floor(state) < HIGHEST_PITCH
    if kind in (REPEAT_START, SONG_END):
        return not state.repeat_open
    return kind != REPEAT_END or state.repeat_open


def _floor(state: State) -> int:
    """The pitch that the next note must exceed."""
    return state.pitch if state.kind in (VELOCITY, ARTICULATION) else _BELOW


def following(state: State, kind: int, value: int) -> State:
    """The state after such a word, whether it may stand there or not."""
    _, bars, position, bar_ticks, pitch, repeat_open = state
    if kind in (TIE, DURATION, VELOCITY):
        return State(kind, bars, position, bar_ticks, pitch, repeat_open)
    if kind in _CONTENT:
        pitch = value if kind in (NOTE_ON, NOTE_OFF) else _floor(state)
        return State(kind, bars, max(position, 0), bar_ticks, pitch, repeat_open)
    if kind == BEAT:
        return State(kind, bars, value, bar_ticks, _BELOW, repeat_open)
    if kind == BAR:
        return State(kind, bars + 1, -1, bar_ticks, _BELOW, repeat_open)
    if kind in (TIMESIG, HEAD_TIMESIG):
        bar_ticks = value
    elif kind in (REPEAT_START, REPEAT_END):
        repeat_open = kind == REPEAT_START
    return State(kind, bars, position, bar_ticks, pitch, repeat_open)


def advance(state: State, word: str) -> State:
    """The state after one more word. Raises WordsError where the word may not stand here; its position is 0, the
    caller knows the true one."""
    kind, value = KIND_OF.get(word, (NOTHING, 0)) if isinstance(word, str) else (NOTHING, 0)
    if state.bars == 0:
        kind = HEAD.get(kind, kind)
    if not may_follow(state, kind, value):
        raise WordsError(0, word, allowed(state), known=kind != NOTHING)
    return following(state, kind, value)


def allowed(state: State) -> list[str]:
    """The words that may come next, in the order of their ids."""
    return [MUSIC_WORDS[place] for place in np.flatnonzero(allowed_mask(state))]


def allowed_mask(state: State) -> npt.NDArray[np.bool_]:
    """Shape (len(MUSIC_WORDS),), in their order; read-only and shared: copy it before you change it."""
    followers = FOLLOWERS[state.kind]
    position, bar_ticks = (state.position, state.bar_ticks) if BEAT in followers else (0, 0)
    pitch = _floor(state) if NOTE_ON in followers else _BELOW
    if state.kind == NOTE_OFF:
        pitch = state.pitch
    return _mask(state.kind, state.bars > 0, position, bar_ticks, pitch, state.repeat_open)


def following_mask(state: State, word: str) -> npt.NDArray[np.bool_]:
    """The mask after one more word, whether that may stand here or not."""
    kind, value = KIND_OF[word]
    return allowed_mask(following(state, HEAD.get(kind, kind) if state.bars == 0 else kind, value))


@lru_cache(maxsize=8192)
def _mask(
    kind: int, in_body: bool, position: int, bar_ticks: int, pitch: int, repeat_open: bool
) -> npt.NDArray[np.bool_]:
    mask = _kinds_mask(kind, in_body, repeat_open).copy()
    followers = FOLLOWERS[kind]
    if BEAT in followers:
        mask[_BEATS[position + 1 : bar_ticks]] = True
    floor = pitch if kind in (VELOCITY, ARTICULATION) else _BELOW
    if NOTE_ON in followers:
        mask[_NOTE_ONS[floor - _BELOW :]] = True
    if ARTICULATION in followers:
        mask[_ARTICULATIONS] = floor < HIGHEST_PITCH
    if NOTE_OFF in followers:
        mask[_NOTE_OFFS[pitch - _BELOW if kind == NOTE_OFF else 0 :]] = True
    mask.flags.writeable = False
    return mask


@cache
def _kinds_mask(kind: int, in_body: bool, repeat_open: bool) -> npt.NDArray[np.bool_]:
    """What the kind of the last word allows, but for words that depend on position or pitch."""
    kinds = set(FOLLOWERS[kind]) - {BEAT, NOTE_ON, NOTE_OFF, ARTICULATION}
    kinds -= {REPEAT_START, SONG_END} if repeat_open else {REPEAT_END}
    if not in_body:
        kinds = {body for body in KIND_VALUES if HEAD.get(body, body) in kinds}
    return np.isin(_KINDS, list(kinds))


_KINDS = np.array([KIND_OF[word][0] for word in MUSIC_WORDS])
KIND_VALUES = frozenset(int(kind) for kind in _KINDS)
_PLACE = {word: place for place, word in enumerate(MUSIC_WORDS)}
_BEATS = np.array([_PLACE[word] for word, _ in sorted(BEAT_TICKS.items(), key=lambda item: item[1])])
_NOTE_ONS = np.array([_PLACE[f"NOTE_ON_{pitch}"] for pitch in range(LOWEST_PITCH, HIGHEST_PITCH + 1)])
_NOTE_OFFS = np.array([_PLACE[f"NOTE_OFF_{pitch}"] for pitch in range(LOWEST_PITCH, HIGHEST_PITCH + 1)])
_ARTICULATIONS = np.array([_PLACE[word] for word in ARTICULATIONS])


def check(words: Iterable[str]) -> State:
    """The state after all the words. Raises WordsError at the first that may not stand where it stands."""
    state = _START
    for position, word in enumerate(words):
        try:
            state = advance(state, word)
        except WordsError as error:
            raise error.at(position) from None
    return state


def check_whole(words: Iterable[str]) -> None:
    """Raises WordsError unless the words are a whole piece; at the end of the words where it has not ended."""
    words = list(words)
    state = check(words)
    if not state.done:
        raise WordsError(len(words), "", allowed(state))


def accepts(words: Iterable[str]) -> bool:
    """Whether the words are a whole piece, from SONG_START to SONG_END."""
    try:
        check_whole(words)
    except WordsError:
        return False
    return True


HELD_PREFIXES = ("KEY_", "TIMESIG_", "TEMPO_")
"""Words that hold until another of their kind."""


@dataclass(frozen=True)
class Bar:
    """One bar of a piece: its words and what held when it began."""

    words: tuple[str, ...]
    held: tuple[str, ...]


def held_words(words: Sequence[str], held: Mapping[str, str] | None = None) -> dict[str, str]:
    """Prefix -> the last KEY, TIMESIG and TEMPO word in `words`, else that of `held`; in that order."""
    last = dict(held or {})
    for word in words:
        for prefix in HELD_PREFIXES:
            if word.startswith(prefix):
                last[prefix] = word
    return {prefix: last[prefix] for prefix in HELD_PREFIXES if prefix in last}


def cut_bars(words: Sequence[str]) -> tuple[tuple[str, ...], list[Bar]]:
    """A piece's words before its first bar, and its bars; SONG_END belongs to the last."""
    starts = [i for i, word in enumerate(words) if word == BAR_WORD]
    head = tuple(words[: starts[0]] if starts else words)
    held, bars = held_words(head), []
    for start, end in zip(starts, [*starts[1:], len(words)], strict=False):  # without a bar there is no start
        bars.append(Bar(tuple(words[start:end]), tuple(held.values())))
        held = held_words(words[start:end], held)
    return head, bars
