"""The arranger's styles, as data: one YAML file each.

What each key means stands at its field in `Style`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, TypeAdapter

from plagal.plumbing.errors import ParamsError

STYLES = (
    "traditional_gospel", "contemporary_gospel", "gospel_jazz", "worship", "hymnal", "jazz", "blues", "neo_soul",
    "shout", "quartet",
)  # fmt: skip
"""The first four and the last two are gospel, "hymnal" is the plain setting that gospel starts from; the rest serve
stage 1."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Event = tuple[float, str, float]
"""Part of the beat, gesture, length in beats; written as "0.5 shape 0.5"."""
_Events = Annotated[tuple[Event, ...], BeforeValidator(lambda texts: [text.split() for text in texts])]
_Form = Annotated[tuple[float, tuple[str, ...]], BeforeValidator(lambda form: (form["weight"], form["sections"]))]


@dataclass(frozen=True, kw_only=True)
class LeftFigure:
    """What the left hand plays under one chord: `first` in the chord's first beat, then `then` in turn."""

    name: str
    weight: float
    levels: tuple[int, ...]
    feel: str = "any"
    """"compound", "simple" or "any": the metres in which it may be played."""
    first: _Events
    then: tuple[_Events, ...]


@dataclass(frozen=True, kw_only=True)
class RightTexture:
    """How the right hand goes with its melody."""

    name: str
    weight: float
    levels: tuple[int, ...]
    feel: str = "any"
    shape: str = "close"
    """"close" (what moves least), or "drop2": the voice below the melody taken down an octave."""
    voices: int
    """Chord tones under the melody where a chord begins."""
    under: int = 0
    """Chord tones under the melody's other notes on the beat."""
    octave: bool = False
    """Whether the melody is doubled an octave below where a chord begins."""
    comp: tuple[tuple[float, float], ...] = ()
    """Further strikes of the inner voices: beat within the bar (parts allowed), length in beats."""
    answers: bool = False
    """Whether the inner voices leave the beat to the left hand: where a chord begins on one they wait for `comp`."""


@dataclass(frozen=True, kw_only=True)
class Style:
    name: str
    genre: str
    feels: dict[str, float]
    tempo: tuple[float, float]
    """Beats a minute, slowest and fastest."""
    major_keys: tuple[str, ...]
    minor_keys: tuple[str, ...]
    strain: float
    """Largest share of the melody that a chord need not bear."""
    devices: dict[str, float]
    """Device -> chance that it is tried on a chord, in this order."""
    colours: dict[str, dict[str, float]]
    """Function -> quality -> weight."""
    left: tuple[LeftFigure, ...]
    right: tuple[RightTexture, ...]
    ornament: float
    """Chance that a melody note is led to by a neighbour on the last part of the beat before."""
    crush: float
    """Chance that a melody note on the chord's third is crushed into from the semitone below."""
    riffs: tuple[tuple[tuple[float, float], ...], ...]
    """Rhythms of the vamp's calls, one bar each: beat (parts allowed), length in beats."""
    fills: dict[str, float]
    """Kind of fill -> weight."""
    fill_chance: float
    forms: tuple[_Form, ...]
    """Weight, sections in order: "intro", "last_line" (the tune's last four bars), "verse:2" (its
    level), "modulate", "vamp:4" (bars), "outro"."""
    vamps: tuple[tuple[str, ...], ...]
    """Chords of a two-bar vamp as numerals of the key: "1:maj9", "4:dom9/1"."""
    intros: tuple[tuple[str, ...], ...]
    endings: tuple[tuple[str, ...], ...]
    """As `vamps`, for major keys; the ending's last chord fills what is left of its bars."""
    pedal: str
    """"bar", "chord", "end" (the last chord only) or "none"."""
    in_four: bool = False
    """Whether tunes in three or in compound time are brought into 4/4: nobody shouts or shuffles a waltz."""
    slows: bool = True
    """Whether the ending slows down."""
    push: float = 0.0
    """Chance that a melody note of a beat or more is struck half a beat early and held over the beat, and with it the
    right hand's chord where one begins there."""
    breaks: float = 0.0
    """Chance that in the last bar of four of a vamp the left hand strikes each chord once and leaves the rest to the
    right."""
    tremolo: float = 0.0
    """Chance that the right hand shakes a melody note of two beats or more with the chord below it."""
    texture: str = "hands"
    """"hands" (figures and textures above), or "four_part": the tune over three voices, all four moving together."""


@cache
def read_table(folder: str, name: str) -> dict[str, Any]:
    """One of the arranger's YAML files, as it stands."""
    text = (resources.files("plagal.music.arranger") / folder / f"{name}.yaml").read_text(encoding="utf-8")
    read: dict[str, Any] = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, the C one where there is one
    return read


@cache
def load_style(name: str) -> Style:
    """A style by name. Raises ParamsError that names those there are."""
    if name not in STYLES:
        raise ParamsError(f"style {name!r} is not known; choose one of {', '.join(STYLES)}")
    return TypeAdapter(Style).validate_python({"name": name, **read_table("styles", name)})
