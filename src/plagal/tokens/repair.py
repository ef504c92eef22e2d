"""Any sequence of words made grammatical, so that lenient decoding never fails.

The words are read bar by bar into what they say, in whatever order they stand, and written again in the grammar's
order. Nothing that has a meaning is dropped:
- words outside the vocabulary, special words and a second SONG_START are left out;
- a note without a duration lasts a quarter, one without a velocity is VEL_MF; a duration, velocity or bass without
  the word that it belongs to is left out;
- words before the first BAR_START begin a bar; a metre inside a bar begins the next one;
- a BEAT before the last one goes back within its bar; one past the end of its bar begins the next bar, so far in it as
  it was past a bar line;
- what a position says twice holds as it is said last, notes of one pitch too;
- repeats that do not balance are left out or closed at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from plagal.music.grid import LATEST_TICK, LONGEST_BAR
from plagal.tokens import grammar as g
from plagal.tokens import vocabulary as v

_LENGTHS = frozenset({*v.DURATION_TICKS, *v.OPEN_DURATIONS})
_BEAT_WORD = {ticks: word for word, ticks in v.BEAT_TICKS.items()}


@dataclass(frozen=True, slots=True)
class Repair:
    """What lenient decoding did about a word that may not stand where it stands."""

    position: int
    word: str
    what: str

    def __str__(self) -> str:
        return f"word {self.position} {self.word!r}: {self.what}"


_Position = dict[tuple[int, int], list[str]]
"""(kind, pitch or 0) -> words of what happens there: kinds are numbered in the order in which a position has them."""


@dataclass
class _Bar:
    ticks: int
    opening: dict[int, str] = field(default_factory=dict)
    """Kind -> word of what stands before the first position; kinds are numbered in that order, too."""
    positions: dict[int, _Position] = field(default_factory=dict)
    repeat_end: bool = False


class _FullError(Exception):
    """A bar would begin past the last tick that a piece may have."""


class _Mender:
    """Reads words into bars. The methods say what became of a word, in one phrase; "" where it was left out."""

    def __init__(self) -> None:
        self.head: dict[int, str] = {}
        self.bars: list[_Bar] = []
        self.position = 0
        self.note: list[str] = []
        self.chord_at: _Position | None = None
        self.repeat_open = False
        self.start = 0
        """Of the running bar [ticks]."""

    @property
    def here(self) -> _Position:
        return self.bar.positions.setdefault(self.position, {})

    @property
    def bar(self) -> _Bar:
        """The running bar; a new one before the first, and after the end of a repeat."""
        if not self.bars or self.bars[-1].repeat_end:
            self.begin_bar()
        return self.bars[-1]

    def begin_bar(self) -> None:
        if self.bars:
            ticks = self.bars[-1].ticks
            if self.start + ticks > LATEST_TICK - LONGEST_BAR:
                raise _FullError
            self.start += ticks
        else:
            ticks = g.KIND_OF.get(self.head.get(g.HEAD_TIMESIG, ""), (0, v.WHOLE))[1]
        self.bars.append(_Bar(ticks))
        self.position = 0

    def read(self, word: str, kind: int, value: int) -> str:
        if kind in (g.TIE, g.DURATION, g.VELOCITY):
            return self.read_in_note(word, kind)
        articulated = kind == g.NOTE_ON and self.note and self.note[-1] in v.ARTICULATIONS
        finished = "" if articulated else self.finish_note()
        if kind in (g.KEY, g.TIMESIG, g.TEMPO) and not self.bars:
            self.head[g.HEAD[kind]] = word
            return "read as part of the head"
        if kind in (g.NOTE_ON, g.ARTICULATION):
            self.note.append(word)
            return finished or "put in its order"
        if kind in (g.BAR, g.TIMESIG, g.REPEAT_START, g.SECTION, g.BEAT, g.REPEAT_END):
            return self.read_in_bar(word, kind, value)
        return self.read_in_position(word, kind, value) and (finished or "put in its order")

    def read_in_bar(self, word: str, kind: int, value: int) -> str:
        if kind == g.BAR:
            self.begin_bar()
        elif kind == g.TIMESIG:
            if self.bar.positions:
                self.begin_bar()
            self.bar.opening[kind], self.bar.ticks, self.position = word, value, 0
            return "a bar begins before it"
        elif kind == g.BEAT:
            if value >= self.bar.ticks:
                self.begin_bar()
                self.position = value % self.bar.ticks
                return "past the end of its bar: the next one begins"
            self.position = value
        elif kind == g.SECTION:
            self.bar.opening[kind] = word
            return "put at its bar line"
        elif self.repeat_open != (kind == g.REPEAT_END):
            return ""
        elif kind == g.REPEAT_START:
            self.bar.opening[kind], self.repeat_open = word, True
        else:
            self.bar.repeat_end, self.repeat_open = True, False
        return "put in its order"

    def read_in_position(self, word: str, kind: int, value: int) -> str:
        here = self.here
        if kind == g.BASS and self.chord_at is not here:
            return ""
        if kind == g.CHORD:
            self.chord_at = here
            here.pop((g.BASS, 0), None)
        elif kind == g.PEDAL_OFF:
            here.pop((g.PEDAL, 0), None)
        here[kind, value] = [word]
        return "put in its order"

    def read_in_note(self, word: str, kind: int) -> str:
        has_pitch = any(word.startswith("NOTE_ON_") for word in self.note)
        has_length = bool(self.note) and self.note[-1] in _LENGTHS
        if not has_pitch or (has_length and kind != g.VELOCITY):
            return ""
        self.note.append(word)
        return self.finish_note() if kind == g.VELOCITY else "put in its order"

    def finish_note(self) -> str:
        """Put the begun note where it belongs, with what it lacks."""
        note, self.note = self.note, []
        pitch = next((place for place, word in enumerate(note) if word.startswith("NOTE_ON_")), None)
        if pitch is None:
            return "the articulation before it is left out" if note else ""
        velocity = note.pop() if note[-1].startswith("VEL_") else "VEL_MF"
        if note[-1] in v.TIED_DURATIONS:  # with nothing to tie to it is a plain length
            note[-1] = note[-1].removesuffix("_TIED")
        elif note[-1] not in _LENGTHS:
            note.append("DUR_QUARTER")
        self.here[g.NOTE_ON, g.KIND_OF[note[pitch]][1]] = [*note, velocity]
        return "the note gets what it lacks"

    def words(self) -> list[str]:
        if not self.bars:
            self.begin_bar()
        if self.repeat_open:
            self.bars[-1].repeat_end = True
        words = ["SONG_START", *_in_order(self.head)]
        for bar in self.bars:
            words += ["BAR_START", *_in_order(bar.opening)]
            for position, content in sorted(bar.positions.items()):
                if content:
                    words += [_BEAT_WORD[position], *chain.from_iterable(content[said] for said in sorted(content))]
            words += ["REPEAT_END"] * bar.repeat_end
        return [*words, "SONG_END"]


def _in_order(said: dict[int, str]) -> list[str]:
    return [said[kind] for kind in sorted(said)]


def mend(words: Sequence[str]) -> tuple[list[str], list[Repair]]:
    """A whole grammatical piece out of any words, and what had to be done to which of them; no repairs where the words
    were such a piece."""
    mender, repairs, state = _Mender(), [], g.start()
    for place, word in enumerate(words):
        kind, value = g.KIND_OF.get(word, (g.NOTHING, 0)) if isinstance(word, str) else (g.NOTHING, 0)
        headed = g.HEAD.get(kind, kind) if state.bars == 0 else kind
        may_follow = g.may_follow(state, headed, value)
        if kind == g.SONG_END:
            if not may_follow or place + 1 < len(words):
                repairs.append(Repair(place, word, "the piece ends here, and what follows is left out"))
            state = g.following(state, kind, value)
            break
        try:
            what = mender.read(word, kind, value) if kind not in (g.NOTHING, g.SONG_START) else ""
        except _FullError:
            repairs.append(Repair(place, word, "past the longest piece: it and what follows is left out"))
            break
        if not may_follow:
            what_for = "SONG_START added before it" if what and state.kind == g.NOTHING else what
            repairs.append(Repair(place, str(word), what_for or "left out"))
        if what or kind == g.SONG_START:
            state = g.following(state, headed, value)
    if not state.done:
        repairs.append(Repair(len(words), "", "the piece has no end: SONG_END added"))
    with suppress(_FullError):
        mender.finish_note()
    return mender.words(), repairs


_KNOWN = frozenset(v.MUSIC_WORDS)
_LONGEST_TEXT = 1_000_000
"""[characters] that are read; an answer of 2,048 tokens has about 10,000."""


@dataclass(frozen=True)
class TokenResponse:
    """`words`: a whole grammatical piece; `found`: the music words in the order of the text; `skipped`: what else
    stood there, in the order of the text, each once; `repairs`: what was done to `found` to make `words`."""

    words: list[str]
    found: list[str]
    skipped: list[str]
    repairs: list[Repair]


def parse_token_response(text: str) -> TokenResponse:
    """Read any text. Never raises: where there is no music, `words` holds an empty piece."""
    found, skipped = [], dict[str, None]()
    for piece in v.without_counts(re.split(r"[\s,;|`\"'\[\]()<>]+", text[:_LONGEST_TEXT])):
        word = piece if piece in _KNOWN else piece.strip(".:!?*-")
        if word in _KNOWN:
            found.append(word)
        elif word:
            skipped[word] = None
    words, repairs = mend(found)
    return TokenResponse(words, found, list(skipped), repairs)
