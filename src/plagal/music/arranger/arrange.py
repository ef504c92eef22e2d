"""Gospel arrangements from a tune and a style: the rule-based generator, and the baseline a model must beat.

A tune, style, key, tempo and seed go in; a two-handed piano score comes out, with its chords and sections as markers.
Everything drawn comes from one generator seeded by the arguments, so the same call gives the same score everywhere.
"""

from __future__ import annotations

import random

import numpy as np

from plagal.music.arranger.dynamics import pedals, tempos
from plagal.music.arranger.figuration import play
from plagal.music.arranger.form import Form
from plagal.music.arranger.leadsheet import Layout, LeadSheet, Span, layout
from plagal.music.arranger.lines import complete_line
from plagal.music.arranger.naming import name_played
from plagal.music.arranger.reharmonize import apply_devices, colour
from plagal.music.arranger.styles import STYLES, Style, load_style
from plagal.music.arranger.tunebook import Tune, find_tune, tune_book
from plagal.music.chords import Chord, parse_chord
from plagal.music.hands import HandNote
from plagal.music.keys import key_of, key_tonic, parse_key
from plagal.music.score import Key, Marker, Metre, Notes, Score

__all__ = ["STYLES", "arrange", "generate_melody", "played_chords"]

_STYLE_WORDS = (
    ("contemporary", "contemporary_gospel"),
    ("gospel_jazz", "gospel_jazz"),
    ("jazz_gospel", "gospel_jazz"),
    ("worship", "worship"),
    ("soul", "neo_soul"),
    ("blues", "blues"),
    ("jazz", "jazz"),
)
"""What a prompt may say, and the style that it means; the first that fits."""


def arrange(
    tune: str | Tune | None,
    style: str,
    key: str | None = None,
    tempo: float | None = None,
    seed: int = 0,
    bars: int | None = None,
) -> Score:
    """An arrangement of a tune of the book (its name or title; None lets the seed pick one).

    `key` is a tonic such as "Db" (the tune keeps its mode); None lets the seed pick one of the style's. `tempo` is in
    quarter notes a minute. `bars` asks for exactly so many bars, without introduction or ending sections.
    Raises AbcError for an unknown tune, ParamsError for an unknown style, ChordError for an unknown key.
    """
    how = load_style(style)
    tune = _the_tune(tune, seed)
    rng = random.Random(f"{tune.name} {style} {seed}")
    feel = rng.choices(list(how.feels), list(how.feels.values()))[0]
    plan = layout(tune.metre, feel)
    home = _home(tune, how, key, rng)
    speed = _speed(tune, how, plan, tempo, rng)
    form = Form(tune, how, plan, home, rng)
    if bars is None:
        form.of_style()
    else:
        form.exactly(bars)
    lead = form.lead
    spans = colour(lead, apply_devices(lead, how, rng), how, rng)
    notes = play(lead, spans, complete_line(lead, spans, how, rng), how, rng)
    spans = name_played(spans, notes)
    array = _array(notes, lead.end)
    return Score(
        notes=array,
        metres=(Metre(0, lead.metre.numerator, lead.metre.denominator),),
        tempos=tempos(lead, speed),
        keys=tuple(form.keys),
        pedals=pedals(array, lead, spans, how.pedal),
        markers=_markers(lead, spans),
        title=tune.title,
    )


def generate_melody(
    prompt_or_style: str, key: str | None = None, tempo: float | None = None, bars: int | None = None, seed: int = 0
) -> Score:
    """What the app's own generator answers: a piece in the style that a prompt names, or the style itself."""
    asked = prompt_or_style.lower().replace(" ", "_").replace("-", "_")
    style = next((name for name in STYLES if name in asked), None)
    style = style or next((name for word, name in _STYLE_WORDS if word in asked), "traditional_gospel")
    return arrange(None, style, key, tempo, seed, bars)


def _the_tune(tune: str | Tune | None, seed: int) -> Tune:
    if isinstance(tune, str):
        return find_tune(tune)
    book = tune_book()
    return tune or book[random.Random(f"tune {seed}").randrange(len(book))]


def _home(tune: Tune, style: Style, key: str | None, rng: random.Random) -> Key:
    names = style.minor_keys if tune.key.minor else style.major_keys
    picked = names[rng.randrange(len(names))]
    return key_of(key_tonic(parse_key(key or picked)), tune.key.minor)


def _speed(tune: Tune, style: Style, plan: Layout, tempo: float | None, rng: random.Random) -> float:
    """Quarter notes a minute. The tune's own tempo, somewhat varied, within the style's bounds [beats a minute]."""
    if tempo is not None:
        return tempo
    beats = min(max(tune.tempo * rng.uniform(0.85, 1.1), style.tempo[0]), style.tempo[1])
    return float(round(beats * plan.beat / 24))


def _array(notes: list[HandNote], end: int) -> Notes:
    rows = [(onset, pitch, min(ticks, end - onset), loud) for onset, pitch, ticks, loud in notes if onset < end]
    array: Notes = np.array(rows, dtype=np.int32).reshape(-1, 4)
    return array[np.lexsort((array[:, 1], array[:, 0]))]


def _markers(lead: LeadSheet, spans: list[Span]) -> tuple[Marker, ...]:
    """Sections, and each chord where it changes."""
    markers = [Marker(section.first * lead.bar, "section", section.name) for section in lead.sections]
    before = None
    for span in spans:
        if span.chord != before:
            markers.append(Marker(span.onset, "chord", span.chord.symbol))
        before = span.chord
    return tuple(sorted(markers, key=lambda marker: (marker.onset, marker.kind != "section")))


def played_chords(score: Score) -> list[tuple[int, Chord]]:
    """Onset [ticks] and chord of each chord marker: what an arrangement says that it plays."""
    return [(marker.onset, parse_chord(marker.text)) for marker in score.markers if marker.kind == "chord"]
