"""A piece as it is being written, as events for a page that draws it: bars, chords, notes, pedal, tempo.

Words go in one at a time; events come out as soon as nothing that follows can change them. Times in ticks, 24 a
quarter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plagal.music.chords import parse_chord
from plagal.music.keys import chord_symbol, key_name
from plagal.music.score import Key
from plagal.tokens.vocabulary import (
    BEAT_TICKS,
    DURATION_TICKS,
    KEY_OF,
    METRE_OF,
    PEDALS,
    TEMPO_OF,
    TIED_DURATIONS,
    VELOCITY_LEVELS,
    WHOLE,
)

_USUAL_VELOCITY = VELOCITY_LEVELS["VEL_MF"]
_USUAL_TEMPO = 120.0


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: start, bar, chord, note, pedal, tempo, and what a service adds: queued, done, problem."""

    kind: str
    data: dict[str, Any]


class EventReader:
    """Makes events of words. Words that its own music cannot hold (as a stock model may write them) are passed over;
    what decoding would mend is not mended here."""

    def __init__(self, bars_asked: int | None = None):
        self.bars_asked = bars_asked
        self.bars = self.notes = 0
        self.end = 0
        """Where the running bar ends [ticks]."""
        self._head: dict[str, Any] = {"key": None, "tempo": _USUAL_TEMPO, "metre": "4/4"}
        self._bar_start, self._bar_ticks, self._position = 0, WHOLE, 0
        self._bar_told = True
        self._chord: str | None = None
        self._key: Key | None = None
        """That which holds now: chords are spelled by it."""
        self._pitch, self._ticks, self._velocity = -1, 0, _USUAL_VELOCITY

    def feed(self, word: str) -> Iterator[Event]:
        """The events that are certain once `word` is read."""
        if word in METRE_OF:
            numerator, denominator = METRE_OF[word]
            self._bar_ticks = WHOLE * numerator // denominator
            self._head["metre"] = f"{numerator}/{denominator}"
            return
        if self.bars and not self._bar_told:
            yield from self._tell_bar()
        if self._chord is not None:
            yield self._tell_chord(word)
        if word == "BAR_START":
            yield from self._begin_bar()
        elif word in BEAT_TICKS:
            self._position = BEAT_TICKS[word]
        elif word in KEY_OF:
            self._key = Key(0, *KEY_OF[word])
            self._head["key"] = key_name(self._key)
        elif word in TEMPO_OF:
            yield from self._tempo(TEMPO_OF[word])
        elif word in PEDALS:
            yield Event("pedal", {"onset": self._onset, "state": PEDALS[word]})
        elif word.startswith("CHORD_"):
            self._chord = word.removeprefix("CHORD_")
        else:
            yield from self._note(word)

    def done(self, seconds: float, writer: str | None = None, judge: str | None = None) -> Event:
        """The last event; `seconds` that the piece took to write, who wrote it, and who judged where two did."""
        size = {"bars": self.bars, "notes": self.notes, "seconds": round(seconds, 3), "end": self.end}
        return Event("done", {**size, "writer": writer, "judge": judge})

    @property
    def _onset(self) -> int:
        return self._bar_start + self._position

    def _begin_bar(self) -> Iterator[Event]:
        if not self.bars:
            yield Event("start", {**self._head, "bars_asked": self.bars_asked})
        self._bar_start = self.end
        self._position, self._bar_told = 0, False
        self.bars += 1

    def _tell_bar(self) -> Iterator[Event]:
        self._bar_told = True
        self.end = self._bar_start + self._bar_ticks
        yield Event("bar", {"bar": self.bars, "onset": self._bar_start, "ticks": self._bar_ticks})

    def _tell_chord(self, following: str) -> Event:
        bass = f"/{following.removeprefix('BASS_')}" if following.startswith("BASS_") else ""
        symbol, self._chord = chord_symbol(parse_chord(f"{self._chord}{bass}"), self._key), None
        return Event("chord", {"onset": self._onset, "symbol": symbol})

    def _tempo(self, tempo: float) -> Iterator[Event]:
        if self.bars:
            yield Event("tempo", {"onset": self._onset, "tempo": tempo})
        else:
            self._head["tempo"] = tempo

    def _note(self, word: str) -> Iterator[Event]:
        if word.startswith("NOTE_ON_"):
            self._pitch, self._ticks = int(word.removeprefix("NOTE_ON_")), 0
        elif word in TIED_DURATIONS:
            self._ticks += TIED_DURATIONS[word]
        elif word.startswith("DUR_"):
            # An open duration lasts at least to the end of its bar, as far as is known yet.
            self._ticks += DURATION_TICKS.get(word, max(self.end - self._onset, 1))
        elif word.startswith("VEL_") and self._pitch >= 0:
            velocity = VELOCITY_LEVELS.get(word, 0 if word == "VEL_SILENT" else self._velocity)
            if velocity:
                self._velocity = velocity
                self.notes += 1
                note = {"onset": self._onset, "pitch": self._pitch, "duration": self._ticks, "velocity": velocity}
                yield Event("note", note)
            self._pitch = -1


_EVENTS: dict[str, dict[str, str]] = {
    "queued": {"ahead": "integer"},
    "start": {"key": "string?", "tempo": "number", "metre": "string", "bars_asked": "integer?"},
    "bar": {"bar": "integer", "onset": "integer", "ticks": "integer"},
    "chord": {"onset": "integer", "symbol": "string"},
    "note": {"onset": "integer", "pitch": "integer", "duration": "integer", "velocity": "integer"},
    "pedal": {"onset": "integer", "state": "string"},
    "tempo": {"onset": "integer", "tempo": "number"},
    "done": {
        "bars": "integer",
        "notes": "integer",
        "seconds": "number",
        "end": "integer",
        "writer": "string?",
        "judge": "string?",
    },
    "problem": {"type": "string", "title": "string", "status": "integer", "detail": "string"},
}
"""What `data` holds in each kind of event; "?" where it may be null."""


def event_schema() -> dict[str, Any]:
    """An event as OpenAPI 3.2 describes one: `data` is a text that holds an object."""

    def data_of(fields: dict[str, str]) -> dict[str, Any]:
        types = {name: {"type": [kind[:-1], "null"] if kind[-1] == "?" else kind} for name, kind in fields.items()}
        return {"type": "object", "properties": types, "required": list(types), "additionalProperties": False}

    kinds = [
        {"properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"}, "event": {"const": kind},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data_of(fields)},
        }, "required": ["id", "event", "data"]}
        for kind, fields in _EVENTS.items()
    ]  # fmt: skip
    return {"type": "object", "oneOf": kinds}
