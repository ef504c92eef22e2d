"""Music files that come with a request: read within limits, and heard where they keep no grid of their own."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from plagal.music.load import BY_EAR, TO_CLICK, as_played
from plagal.music.midi import read_midi
from plagal.music.performance.hear import METRES as HEARD_METRES
from plagal.music.performance.hear import Hints
from plagal.music.performance.played import seconds_at
from plagal.music.score import DURATION, ONSET, Score
from plagal.plumbing.errors import InputError

MOST_MIDI_BYTES = 1 << 20
"""A four-hour piano recording is about 2 MiB; nobody needs so much to go on from."""
MOST_NOTES = 20_000
"""An hour of full chords; more would keep a core busy for seconds before it is refused."""
MOST_SECONDS = 1800.0
"""Of a file; the ear takes five seconds of a core for so much."""

MIDI_SCHEMA: dict[str, Any] = {"type": "string", "contentEncoding": "base64", "description": "A MIDI file in base64."}
HINTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "What you know of a playing without a beat of its own; it wins over what is heard.",
    "properties": {
        "bpm": {"type": "number", "minimum": 20, "maximum": 340, "description": "Beats a minute."},
        "metre": {"enum": list(HEARD_METRES)},
        "first_downbeat": {"type": "number", "minimum": 0, "description": "Second of a downbeat."},
    },
    "additionalProperties": False,
}


class Heard(BaseModel):
    """What a file without a grid of its own was heard as; `bpm` counts the metre's beats: dotted quarters in 12/8."""

    model_config = ConfigDict(frozen=True)
    metre: str
    bpm: float
    by: Literal["ear", "click"]
    """Whose beats they are: heard, or those of the click that the file was played to."""
    confidence: float


def heard_as(score: Score) -> Heard | None:
    """None where the score was written, not played."""
    if BY_EAR not in score.losses and TO_CLICK not in score.losses:
        return None
    metre = max(score.metres, key=lambda metre: sum(other == metre for other in score.metres))
    onsets = score.notes[:, ONSET]
    beats = np.diff(seconds_at(score, np.arange(onsets[0], onsets[-1] + 1, metre.tempo_beat_ticks)))
    bpm = 60.0 / float(np.median(beats)) if len(beats) else score.tempos[0].quarters_per_minute
    return Heard(
        metre=f"{metre.numerator}/{metre.denominator}",
        bpm=round(bpm, 1),
        by="ear" if BY_EAR in score.losses else "click",
        confidence=score.losses.get("played_confidence", 1.0),
    )


def read_hints(value: Any, name: str) -> Hints | None:
    """From {"bpm": 66, "metre": "12/8", "first_downbeat": 0.5}, each of which may be left out. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f'{name}.hints: give an object such as {{"metre": "12/8", "bpm": 66}}')
    given = {key: hint for key, hint in value.items() if hint is not None}
    if unknown := sorted(given.keys() - HINTS_SCHEMA["properties"].keys()):
        raise ValueError(f"{name}.hints.{unknown[0]} is not a known key; allowed are bpm, metre, first_downbeat")
    for key in ("bpm", "first_downbeat"):
        if key in given and (isinstance(given[key], bool) or not isinstance(given[key], int | float)):
            raise ValueError(f"{name}.hints.{key}: give a number")
    return Hints(**given) if given else None


def midi_score(text: Any, name: str, hints: Hints | None = None) -> Score:
    """A score from MIDI in base64, with or without line breaks, or a data: URL; a playing without a grid of its own is
    heard, as any file is, by `hints` where they are given. Raises InputError naming `name`."""
    try:
        if not isinstance(text, str):
            raise ValueError
        body = text.partition(",")[2] if text.startswith("data:") else text
        data = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name} is not base64") from None
    if len(data) > MOST_MIDI_BYTES:
        raise InputError(f"{name} has {len(data)} bytes; at most {MOST_MIDI_BYTES} are read")
    try:
        # Looked at before it is heard: the ear's work grows with notes and seconds.
        plain = read_midi(data)
        seconds = float(seconds_at(plain, plain.notes[:, ONSET] + plain.notes[:, DURATION]).max())
        if len(plain.notes) <= MOST_NOTES and seconds <= MOST_SECONDS:
            return as_played(data, read_midi(data, heard=True), hints)
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix('MIDI bytes: ')}") from None
    size, most = (
        (f"has {len(plain.notes)} notes", f"{MOST_NOTES}")
        if len(plain.notes) > MOST_NOTES
        else (f"lasts {seconds / 60:.0f} minutes", f"{MOST_SECONDS / 60:.0f}")
    )
    raise InputError(f"{name} {size}; at most {most} are read: cut out the part that counts")
