"""The values of a request as people and JSON write them: keys, metres and chords as text, music as files in base64,
read within limits and heard where they keep no grid of their own."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema

from plagal.asking.progression import Progression, read_progression
from plagal.music.arranger.form import ENDINGS, INTROS, numerals_of
from plagal.music.harmony import hear_key
from plagal.music.keys import key_name, key_of, key_tonic, parse_key
from plagal.music.load import BY_EAR, TO_CLICK, as_played
from plagal.music.midi import read_midi
from plagal.music.performance.hear import METRES as HEARD_METRES
from plagal.music.performance.hear import Hints
from plagal.music.performance.played import seconds_at
from plagal.music.score import DURATION, HIGHEST_PITCH, LOWEST_PITCH, ONSET, PITCH, Key, Score
from plagal.plumbing.errors import ChordError, InputError
from plagal.tokens.codec import encode
from plagal.tokens.vocabulary import METRES, MOST_BARS

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


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def read_hints(value: Any, name: str) -> Hints | None:
    """From {"bpm": 66, "metre": "12/8", "first_downbeat": 0.5}, each of which may be left out. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f'{name}.hints: give an object such as {{"metre": "12/8", "bpm": 66}}')
    given = _without_nulls(value)
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
        body = text.partition(",")[2] if text.startswith("data:") else text
        data = base64.b64decode("".join(body.split()), validate=True)
    except (AttributeError, ValueError):  # no text, or none in base64
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
    size = f"lasts {seconds / 60:.0f} minutes; at most {MOST_SECONDS / 60:.0f}"
    if len(plain.notes) > MOST_NOTES:
        size = f"has {len(plain.notes)} notes; at most {MOST_NOTES}"
    raise InputError(f"{name} {size} are read: cut out the part that counts")


LONGEST_PROMPT = 2000
"""[characters]"""
LONGEST_ABC = 10_000
"""[characters]: a tune of many verses has 3,000."""
_SILENT_TEMPO = 120.0
"""Quarters a minute that files state when they mean nothing by it."""

STRICT = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True)

# --- values that are written as text


def _reader(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Reads text; what is none stays as it is, and blank text is None."""
    return lambda value: read(value) if isinstance(value, str) and value.strip() else value or None


@_reader
def read_key(value: str) -> Key:
    try:
        return parse_key(value[0].upper() + value[1:])
    except ChordError:
        raise ValueError("not a key: write a tonic and a mode, such as Db or F# minor") from None


@_reader
def read_metre(value: str) -> tuple[int, int]:
    parts = value.strip().split("/")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("not a metre: write it as in 4/4 or 12/8")
    metre = int(parts[0]), int(parts[1])
    if metre not in METRES:
        raise ValueError("not a metre that can be written: at most twelve quarters a bar, over 1, 2, 4, 8, 16 or 32")
    return metre


def _read_chords(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) > LONGEST_PROMPT:  # before it is read: a million of them would keep a core busy for minutes
        raise ValueError(f"{len(value)} characters; at most {LONGEST_PROMPT} are read")
    try:
        return read_progression(value) if value.strip() else ()
    except InputError as error:
        raise ValueError(str(error)) from None


@_reader
def _read_form(value: str) -> str:
    """A name of the arranger's introductions or endings, or degrees."""
    name = re.sub(r"[\s_-]+", "-", value.strip().lower())
    if name not in {"none", "last-line", *INTROS, *ENDINGS}:
        try:
            numerals_of(name)
        except InputError as error:
            names = ", ".join(dict.fromkeys(name for name in (*ENDINGS, *INTROS) if name[0].isalpha()))
            raise ValueError(f"{error}, or one of {names}") from None
    return name


def _read_sections(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _text(longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": longest})


KeyField = Annotated[Key, BeforeValidator(read_key), _text(12)]
MetreField = Annotated[tuple[int, int], BeforeValidator(read_metre), WithJsonSchema({"type": "string"})]
ChordsField = Annotated[Progression, BeforeValidator(_read_chords), _text(LONGEST_PROMPT)]
FormField = Annotated[str, BeforeValidator(_read_form), _text(80)]
SectionsField = Annotated[tuple[str, ...], BeforeValidator(_read_sections), _text(200)]
_MELODY_PROPERTIES = {
    "midi": MIDI_SCHEMA, "hints": HINTS_SCHEMA, "abc": {"type": "string", "maxLength": LONGEST_ABC},
}  # fmt: skip
_MELODY = "A tune to harmonise: exactly one of the two."
MelodyField = Annotated[Score, WithJsonSchema({
    "type": "object", "description": _MELODY, "properties": _MELODY_PROPERTIES, "additionalProperties": False,
})]  # fmt: skip


# --- music that is there already


_BAR = {"type": "integer", "minimum": 1}


def _schema_of_source(**more: Mapping[str, Any]) -> ConfigDict:
    """JSON gives music that is there by `piece` or `midi`: exactly one of the two."""
    piece = {"type": "string", "maxLength": 40, "description": "The id of a piece that is done."}
    properties: dict[str, Any] = {"piece": piece, "midi": MIDI_SCHEMA, "hints": HINTS_SCHEMA, **more}
    return STRICT | ConfigDict(json_schema_extra={"properties": properties})


class _Source(BaseModel):
    words: tuple[str, ...]
    heard: SkipJsonSchema[Heard | None] = None

    @model_validator(mode="before")
    @classmethod
    def _find_words(cls, data: Any, info: ValidationInfo) -> Any:
        """`piece`, `midi` or a Score replaced by the music's words."""
        if not isinstance(data, Mapping):
            return data
        name = cls.__name__.lower()
        given = _without_nulls(data)
        first, last = given.get("first_bar"), given.get("last_bar")
        if "last_bar" in cls.model_fields and isinstance(first, int) and isinstance(last, int) and last < first:
            raise ValueError(f"last_bar {last} comes before first_bar {first}")
        sources = [key for key in ("piece", "midi", "words") if key in given]
        if len(sources) != 1:
            raise ValueError("give exactly one of piece and midi")
        source = given.pop(sources[0])
        hints = read_hints(given.pop("hints", None), name)
        if hints is not None and not (sources[0] == "midi" and isinstance(source, str)):
            raise ValueError("hints are about a playing: give them with midi")
        if sources[0] == "piece":
            if not isinstance(source, str) or not 0 < len(source) <= 40:
                raise ValueError("piece: the id of a piece, as it was answered")
            find = (info.context or {}).get("find")
            if find is None:
                raise ValueError(f"there is no piece {source!r} here; give the music as MIDI")
            given["words"] = tuple(find(source))
        elif sources[0] == "midi":
            score = source if isinstance(source, Score) else midi_score(source, f"{name}.midi", hints)
            given |= {"words": tuple(encode(score)), "heard": heard_as(score)}
        else:
            given["words"] = tuple(source)
        return given


class Continue(_Source):
    """Music to go on from. `words`: of the whole piece; in JSON, `piece` or `midi` stands for them."""

    model_config = _schema_of_source(from_bar=_BAR | {"description": "Keep bars 1 to this one, then go on."})
    from_bar: int | None = Field(None, ge=1, le=MOST_BARS)

    @model_validator(mode="after")
    def _within_the_music(self) -> Continue:
        there = self.words.count("BAR_START")
        if (self.from_bar or 0) > there:
            raise ValueError(f"from_bar {self.from_bar}: the music has only {there} bars")
        return self


class Refill(_Source):
    """Bars to write anew between those around them; counted from 1, both included."""

    model_config = _schema_of_source(first_bar=_BAR, last_bar=_BAR)
    first_bar: int = Field(ge=1, le=MOST_BARS)
    last_bar: int = Field(ge=1, le=MOST_BARS)

    @model_validator(mode="after")
    def _within_the_music(self) -> Refill:
        there = self.words.count("BAR_START")
        if self.last_bar > there:
            raise ValueError(f"last_bar {self.last_bar}: the piece has only {there} bars")
        if there > MOST_BARS:
            raise ValueError(f"the piece has {there} bars; at most {MOST_BARS} can be written at once")
        return self


class Vary(BaseModel):
    """In JSON only: the same request as a piece's, with another seed."""

    model_config = STRICT
    piece: str = Field(min_length=1, max_length=40)


def read_melody(value: Any) -> Any:
    """A Score from {"midi": base64} or {"abc": text}; a Score as it is."""
    if isinstance(value, Score) or not isinstance(value, Mapping):
        return value
    given = _without_nulls(value)
    hints = read_hints(given.pop("hints", None), "melody")
    if hints is not None and "midi" not in given:
        raise ValueError("melody.hints are about a playing: give them with midi")
    if unknown := sorted(given.keys() - {"midi", "abc"}):
        raise ValueError(f"melody.{unknown[0]} is not a known key")
    if len(given) != 1:
        raise ValueError("melody: give exactly one of midi and abc")
    if "midi" in given:
        return midi_score(given["midi"], "melody.midi", hints)
    text = given["abc"]
    if not isinstance(text, str) or len(text) > LONGEST_ABC:
        raise ValueError(f"melody.abc: give one tune in ABC, of at most {LONGEST_ABC} characters")
    from plagal.music.notation import score_from_abc

    return score_from_abc(text if text.lstrip().startswith("X:") else f"X:1\n{text.lstrip()}", "melody.abc")


def take_from_melody(tune: Score, given: dict[str, Any]) -> None:
    metres = {(metre.numerator, metre.denominator) for metre in tune.metres}
    if len(metres) > 1:
        names = ", ".join(f"{n}/{d}" for n, d in sorted(metres))
        raise ValueError(f"melody changes its metre ({names}); a melody to harmonise keeps one")
    own = metres.pop()
    asked = read_metre(given["metre"]) if "metre" in given else None
    if asked is not None and asked != own:
        raise ValueError(f"metre {asked[0]}/{asked[1]}: the melody is in {own[0]}/{own[1]}; leave metre out")
    given["metre"] = own
    tempo = tune.tempos[0].quarters_per_minute
    if tempo != _SILENT_TEMPO and "tempo" not in given:
        given |= {"tempo": tempo, "beat": "quarter"}
    sounds = Key(0, tune.keys[0].fifths, tune.keys[0].minor) if tune.keys else hear_key(tune)
    if "key" not in given:
        given["key"] = sounds
    elif isinstance(asked := read_key(given["key"]), Key):  # the melody is moved, never harmonised in a foreign key
        if asked.minor != sounds.minor:
            stays = f"{key_name(asked)} (the melody stays in {'minor' if sounds.minor else 'major'})"
            asked, given["bent"] = key_of(key_tonic(asked), sounds.minor), (*given["bent"], stays)
        given["key"] = asked
        semitones = (key_tonic(asked) - key_tonic(sounds) + 5) % 12 - 5
        notes = tune.notes.copy()
        notes[:, PITCH] = np.clip(notes[:, PITCH] + semitones, LOWEST_PITCH, HIGHEST_PITCH)
        tune = given["melody"] = replace(tune, notes=notes, keys=(asked,))
    needs = -(-int((tune.notes[:, ONSET] + tune.notes[:, DURATION]).max()) // tune.metres[0].bar_ticks)
    if isinstance(bars := given.setdefault("bars", needs), int) and bars < needs:
        raise ValueError(f"bars {bars}: the melody has {needs}; ask for {needs} or more, or leave bars out")
