"""The arranger's styles, as data: one YAML file each.

What each key means stands at its field in `Style`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from plagal.plumbing.errors import ParamsError

STYLES = (
    "traditional_gospel", "contemporary_gospel", "gospel_jazz", "worship", "hymnal", "jazz", "blues", "neo_soul",
    "shout", "quartet",
)  # fmt: skip
"""The first four and the last two are gospel, "hymnal" is the plain setting that gospel starts from; the rest serve
stage 1."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Event = tuple[float, str, float]
"""Part of the beat, gesture, length in beats."""


@dataclass(frozen=True)
class LeftFigure:
    """What the left hand plays under one chord: `first` in the chord's first beat, then `then` in turn."""

    name: str
    weight: float
    levels: tuple[int, ...]
    feel: str
    """"compound", "simple" or "any": the metres in which it may be played."""
    first: tuple[Event, ...]
    then: tuple[tuple[Event, ...], ...]


@dataclass(frozen=True)
class RightTexture:
    """How the right hand goes with its melody."""

    name: str
    weight: float
    levels: tuple[int, ...]
    feel: str
    shape: str
    """"close" (what moves least), or "drop2": the voice below the melody taken down an octave."""
    voices: int
    """Chord tones under the melody where a chord begins."""
    under: int
    """Chord tones under the melody's other notes on the beat."""
    octave: bool
    """Whether the melody is doubled an octave below where a chord begins."""
    comp: tuple[tuple[float, float], ...]
    """Further strikes of the inner voices: beat within the bar (parts allowed), length in beats."""


@dataclass(frozen=True)
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
    forms: tuple[tuple[float, tuple[str, ...]], ...]
    """Weight, sections in order: "intro", "last_line" (the tune's last four bars), "verse:2" (its
    level), "modulate", "vamp:4" (bars), "outro"."""
    vamps: tuple[tuple[str, ...], ...]
    """Chords of a two-bar vamp as numerals of the key: "1:maj9", "4:dom9/1"."""
    intros: tuple[tuple[str, ...], ...]
    endings: tuple[tuple[str, ...], ...]
    """As `vamps`, for major keys; the ending's last chord fills what is left of its bars."""
    pedal: str
    """"bar", "chord", "end" (the last chord only) or "none"."""
    in_four: bool
    """Whether tunes in three or in compound time are brought into 4/4: nobody shouts a waltz."""
    slows: bool
    """Whether the ending slows down."""
    tremolo: float
    """Chance that the right hand shakes a melody note of two beats or more with the chord below it."""
    texture: str
    """"hands" (figures and textures above), or "four_part": the tune over three voices, all four moving together."""


def _events(texts: list[str]) -> tuple[Event, ...]:
    events = []
    for text in texts:
        part, gesture, length = text.split()
        events.append((float(part), gesture, float(length)))
    return tuple(events)


def _left(raw: dict[str, Any]) -> LeftFigure:
    then = tuple(_events(beat) for beat in raw["then"])
    return LeftFigure(
        raw["name"], raw["weight"], tuple(raw["levels"]), raw.get("feel", "any"), _events(raw["first"]), then
    )


def _right(raw: dict[str, Any]) -> RightTexture:
    comp = tuple((float(beat), float(length)) for beat, length in raw.get("comp", []))
    return RightTexture(
        name=raw["name"],
        weight=raw["weight"],
        levels=tuple(raw["levels"]),
        feel=raw.get("feel", "any"),
        shape=raw.get("shape", "close"),
        voices=raw["voices"],
        under=raw.get("under", 0),
        octave=raw.get("octave", False),
        comp=comp,
    )


@cache
def load_style(name: str) -> Style:
    """A style by name. Raises ParamsError that names those there are."""
    if name not in STYLES:
        raise ParamsError(f"style {name!r} is not known; choose one of {', '.join(STYLES)}")
    text = (resources.files("plagal.music.arranger.styles") / f"{name}.yaml").read_text(encoding="utf-8")
    raw = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, the C one where there is one
    return Style(
        name=name,
        genre=raw["genre"],
        feels=raw["feels"],
        tempo=(raw["tempo"][0], raw["tempo"][1]),
        major_keys=tuple(raw["major_keys"]),
        minor_keys=tuple(raw["minor_keys"]),
        strain=raw["strain"],
        devices=raw["devices"],
        colours=raw["colours"],
        left=tuple(_left(figure) for figure in raw["left"]),
        right=tuple(_right(texture) for texture in raw["right"]),
        ornament=raw["ornament"],
        crush=raw["crush"],
        riffs=tuple(tuple((float(beat), float(length)) for beat, length in riff) for riff in raw["riffs"]),
        fills=raw["fills"],
        fill_chance=raw["fill_chance"],
        forms=tuple((form["weight"], tuple(form["sections"])) for form in raw["forms"]),
        vamps=tuple(tuple(vamp) for vamp in raw["vamps"]),
        intros=tuple(tuple(intro) for intro in raw["intros"]),
        endings=tuple(tuple(ending) for ending in raw["endings"]),
        pedal=raw["pedal"],
        in_four=raw.get("in_four", False),
        slows=raw.get("slows", True),
        tremolo=raw.get("tremolo", 0.0),
        texture=raw.get("texture", "hands"),
    )
