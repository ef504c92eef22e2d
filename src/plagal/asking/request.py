"""Everything that a piece can be asked for, in one model: the same for options, JSON and HTTP.

What a value may be is checked here; what the values mean together is worked out in `plagal.asking.order`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from plagal.asking.progression import read_progression
from plagal.asking.prompt import MOST_BARS
from plagal.asking.styles import STYLE_NAMES
from plagal.music.keys import parse_key
from plagal.music.midi import read_midi
from plagal.music.score import Score
from plagal.plumbing.errors import ChordError, InputError
from plagal.tokens.vocabulary import METRES

LONGEST_PROMPT = 2000
"""[characters]"""
LONGEST_ABC = 10_000
"""[characters]: a tune of many verses has 3,000."""
MOST_MIDI_BYTES = 1 << 20
"""A four-hour piano recording is about 2 MiB; nobody needs so much to go on from."""
MOST_NOTES = 20_000
"""An hour of full chords; more would keep a core busy for seconds before it is refused."""
STYLES = STYLE_NAMES
DENSITIES = ("sparse", "medium", "dense")
MOST_NOTES_A_BAR = 64

_STRICT = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
PieceId = Annotated[str, Field(min_length=1, max_length=40, description="The id of a piece that is done.")]
Midi = Annotated[str, Field(max_length=MOST_MIDI_BYTES * 4 // 3 + 8, description="A MIDI file in base64.")]


class Melody(BaseModel):
    """A tune to harmonise, in one of two forms."""

    model_config = _STRICT
    midi: Midi | None = None
    abc: str | None = Field(None, max_length=LONGEST_ABC, description="One tune in ABC.")

    @model_validator(mode="after")
    def _one(self) -> Melody:
        return _exactly_one(self, "midi", "abc")

    def score(self) -> Score:
        """Raises InputError for what cannot be read."""
        if self.midi is not None:
            return midi_score(self.midi, "melody.midi")
        from plagal.music.notation import score_from_abc

        text = self.abc or ""
        return score_from_abc(text if text.lstrip().startswith("X:") else f"X:1\n{text.lstrip()}", "melody.abc")


class Source(BaseModel):
    """Music that is already there: a piece of this service, or a MIDI file."""

    model_config = _STRICT
    piece: PieceId | None = None
    midi: Midi | None = None


class Continue(Source):
    """Music to go on from; `from_bar` keeps so many bars of it, all where not given."""

    from_bar: int | None = Field(None, ge=1, le=MOST_BARS, description="Keep bars 1 to this one, then go on.")

    @model_validator(mode="after")
    def _one(self) -> Continue:
        return _exactly_one(self, "piece", "midi")


class Refill(Source):
    """Bars to write anew between those around them; counted from 1, both included."""

    first_bar: int = Field(ge=1, le=MOST_BARS)
    last_bar: int = Field(ge=1, le=MOST_BARS)

    @model_validator(mode="after")
    def _in_order(self) -> Refill:
        if self.last_bar < self.first_bar:
            raise ValueError(f"last_bar {self.last_bar} comes before first_bar {self.first_bar}")
        return _exactly_one(self, "piece", "midi")


class Vary(BaseModel):
    """The same request as a piece's, with another seed."""

    model_config = _STRICT
    piece: PieceId


_Model = TypeVar("_Model", bound=BaseModel)


def _exactly_one(model: _Model, *names: str) -> _Model:
    if sum(getattr(model, name) is not None for name in names) != 1:
        raise ValueError(f"give exactly one of {' and '.join(names)}")
    return model


class PieceRequest(BaseModel):
    """What a piece is asked for. Whatever is left out, the prompt or the model decides."""

    model_config = _STRICT | ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "slow worship ballad in Db", "bars": 8, "seed": 1},
                {
                    "style": "gospel_jazz",
                    "key": "Bb",
                    "tempo": 120,
                    "chords": "Bbmaj9 | Gm9 | Cm9 F13 | Bb6/9",
                    "bars": 8,
                },
                {"melody": {"abc": "K:G\nM:3/4\nL:1/4\nD|G2B|A2G|E2D|"}, "style": "worship"},
            ]
        }
    )
    prompt: str = Field("", max_length=LONGEST_PROMPT, description="What to play, in plain words.")
    style: str | None = Field(None, max_length=40, description=f"One of {', '.join(STYLES)}.")
    key: str | None = Field(None, max_length=12, description="As in Db, Bbm or F# minor.")
    tempo: float | None = Field(None, ge=20, le=300, description="Quarter notes a minute.")
    metre: str | None = Field(None, max_length=7, description="As in 4/4 or 12/8.")
    bars: int | None = Field(None, ge=1, le=MOST_BARS, description="Bars to write, those of `continue` not counted.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Same request and seed, same piece.")
    density: Literal["sparse", "medium", "dense"] | Annotated[float, Field(ge=1, le=MOST_NOTES_A_BAR)] | None = Field(
        None, description="Or notes a bar."
    )
    chords: str | None = Field(
        None, max_length=LONGEST_PROMPT, description='As in "Dbmaj9 | Gb13 | Ab13sus Ab7"; repeats to the end.'
    )
    melody: Melody | None = None
    continue_: Continue | None = Field(None, alias="continue")
    refill: Refill | None = None
    vary: Vary | None = None
    temperature: float = Field(0.9, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)

    @field_validator("prompt")
    @classmethod
    def _plain_text(cls, text: str) -> str:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError("half of a character (a lone surrogate); send whole UTF-8 text")
        if "<|" in text:
            raise ValueError('holds "<|", which marks turns of the chat; leave it out')
        return " ".join("".join(char if char.isprintable() else " " for char in text).split())

    @field_validator("style")
    @classmethod
    def _known_style(cls, style: str | None) -> str | None:
        if style is None or not style.strip():
            return None
        name = "_".join(style.lower().replace("-", " ").replace("_", " ").split())
        if name not in STYLES:
            raise ValueError(f"no style that is known: one of {', '.join(STYLES)}")
        return name

    @field_validator("key")
    @classmethod
    def _known_key(cls, key: str | None) -> str | None:
        if key is None or not key.strip():
            return None
        try:
            parse_key(key[0].upper() + key[1:])
        except ChordError:
            raise ValueError("no key: write a tonic and a mode, such as Db or F# minor") from None
        return key[0].upper() + key[1:]

    @field_validator("metre")
    @classmethod
    def _known_metre(cls, metre: str | None) -> str | None:
        if metre is None or not metre.strip():
            return None
        parts = metre.strip().split("/")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError("no metre: write it as in 4/4 or 12/8")
        if (int(parts[0]), int(parts[1])) not in METRES:
            raise ValueError("no metre that can be written: at most twelve quarters a bar, over 1, 2, 4, 8, 16 or 32")
        return f"{int(parts[0])}/{int(parts[1])}"

    @field_validator("chords")
    @classmethod
    def _known_chords(cls, chords: str | None) -> str | None:
        if chords is None or not chords.strip():
            return None
        try:
            read_progression(chords)
        except InputError as error:
            raise ValueError(str(error)) from None
        return chords

    @model_validator(mode="after")
    def _no_contradiction(self) -> PieceRequest:
        sources = [name for name in ("continue_", "refill", "vary", "melody") if getattr(self, name) is not None]
        if len(sources) > 1:
            names = " and ".join(name.rstrip("_") for name in sources)
            raise ValueError(f"{names} exclude each other; give one of them")
        if self.vary is not None:
            others = sorted(self.model_fields_set - {"vary", "seed"})
            if others:
                raise ValueError(f"vary repeats a whole request; leave out {', '.join(others)}")
        if self.refill is not None:
            others = sorted(self.model_fields_set & {"key", "tempo", "metre", "bars"})
            if others:
                raise ValueError(f"refill keeps the piece's key, tempo, metre and bars; leave out {', '.join(others)}")
        if self.continue_ is not None:
            others = sorted(self.model_fields_set & {"key", "tempo", "metre"})
            if others:
                raise ValueError(f"continue goes on in the music's key, tempo and metre; leave out {', '.join(others)}")
        return self


def read_request(value: Mapping[str, Any], name: str = "") -> PieceRequest:
    """A request from JSON-like values. Raises InputError of one line: the key, its value, what is allowed."""
    try:
        return PieceRequest.model_validate(dict(value))
    except ValidationError as error:
        raise InputError((f"{name}: " if name else "") + one_line(error.errors())) from None


def read_request_file(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError."""
    from plagal.plumbing.files import read_json

    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f'{path} holds no JSON object, such as {{"prompt": "slow worship ballad in Db"}}')
    return value


def one_line(errors: Any) -> str:
    """The first of pydantic's errors as "key value: what is wrong"."""
    error = errors[0]
    place = [str(part) for part in error["loc"] if part not in ("body", "float", "continue_")]
    place = [part for part in place if not part.startswith(("literal", "constrained", "function"))]
    what = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(field.alias or name for name, field in PieceRequest.model_fields.items())
        return (
            f"{'.'.join(place)} is no key that is known; allowed are {allowed}"
            if len(place) == 1
            else (f"{'.'.join(place)} is no key that is known")
        )
    if place and place[0] == "density":
        what = f"allowed are {', '.join(DENSITIES)} or a number of notes a bar from 1 to {MOST_NOTES_A_BAR}"
    given = error.get("input")
    shown = "" if isinstance(given, dict | list) or given is None else f" {_shown(given)}"
    return f"{'.'.join(place)}{shown}: {what}" if place else what


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}... ({len(text)} characters)"


def midi_score(text: str, name: str) -> Score:
    """A score from MIDI in base64. Raises InputError that begins with `name`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name} is no base64") from None
    if len(data) > MOST_MIDI_BYTES:
        raise InputError(f"{name} has {len(data)} bytes; at most {MOST_MIDI_BYTES} are read")
    try:
        score = read_midi(data)
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix('MIDI bytes: ')}") from None
    if len(score.notes) > MOST_NOTES:
        raise InputError(
            f"{name} has {len(score.notes)} notes; at most {MOST_NOTES} are read: cut out the part that counts"
        )
    return score


def midi_text(path: str | Path) -> str:
    """A MIDI file in base64, as requests hold it. Raises InputError."""
    path = Path(path)
    try:
        if path.stat().st_size > MOST_MIDI_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MOST_MIDI_BYTES} are read")
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
