"""Gospel arrangements from a tune and a style: the rule-based generator, and the baseline a model must beat.

A tune, style, key, tempo and seed go in; a two-handed piano score comes out, with its chords and sections as markers.
Everything drawn comes from one generator seeded by the arguments, so the same call gives the same score everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from plagal.music.arranger.figuration import pedals, play, tempos
from plagal.music.arranger.form import Form, FormWishes, Layout, LeadSheet, Span, layout
from plagal.music.arranger.harmony_grammar import Halves, chorus
from plagal.music.arranger.lines import complete_line
from plagal.music.arranger.reharmonize import apply_devices, colour
from plagal.music.arranger.styles import STYLES, Style, load_style
from plagal.music.arranger.tunebook import (
    Progression,
    Tune,
    find_tune,
    in_four,
    is_compound,
    key_of_chords,
    minor_tunes,
    tune_from_score,
    tune_over,
    tune_titles,
    with_chords,
)
from plagal.music.arranger.voicing import name_played
from plagal.music.chords import Chord, parse_chord
from plagal.music.grid import FASTEST, SLOWEST
from plagal.music.keys import key_of, key_tonic, parse_key
from plagal.music.score import Key, Marker, Metre, Notes, Score
from plagal.plumbing.errors import InputError

__all__ = ["STYLES", "arrange", "played_chords"]


def arrange(
    tune: str | Tune | Score | None,
    style: str,
    key: str | Key | None = None,
    tempo: float | None = None,
    seed: int = 0,
    bars: int | None = None,
    *,
    chords: Progression | None = None,
    metre: tuple[int, int] | None = None,
    feel: str | None = None,
    swing: float | None = None,
    sections: Sequence[str] | None = None,
    intro: str | None = None,
    ending: str | None = None,
    modulate: int = 0,
    intensity: int | None = None,
) -> Score:
    """An arrangement of a tune: one of the book by its name or title, a score's top line (harmonised where it has no
    chord markers), or None: then the seed picks one of the book or, with `chords` or where the style has a form of its
    own (the twelve bars of a blues), a melody is made over these.

    `key` as in "Db" or "F#m": a tune that the seed picks has its mode, too; one that is named keeps its own. None is an
    own tune's key, else one of the style's.
    `tempo` counts beats a minute: quarters, dotted quarters in compound metres. `bars` asks for exactly so many bars.
    `chords` are the progression bar by bar, in `key` where it is given. `metre`: 12/8 and the like play a tune of
    quarters in compound time, and back. `feel` is one of `FEELS`, `swing` the share of the first eighth (.5 to .75).
    `sections`, `intro`, `ending`, `modulate` (semitones up before the last verse) and `intensity` (1 to 4) as in
    `plagal.music.arranger.form`.
    Raises AbcError for an unknown tune, ParamsError for an unknown style, ChordError for an unknown key, InputError for
    anything else that cannot be done.
    """
    how = load_style(style)
    asked_key = parse_key(key) if isinstance(key, str) else key
    form = () if tune is not None or chords is not None else chorus(style, bars or 0) or chorus(style, _CHORUS_BARS)
    if form and metre in (None, (4, 4), (12, 8)):
        piece = _tune_in(form, style, asked_key, metre, seed)
    else:
        form, piece = (), _the_tune(tune, seed, asked_key, chords, metre)
    own = chords is not None or isinstance(tune, Score)
    rng = random.Random(f"{piece.name} {style} {seed}")
    if (metre is None and how.in_four) or metre in ((4, 4), (12, 8)):
        piece = in_four(piece)
    drawn = rng.choices(list(how.feels), list(how.feels.values()))[0]
    if metre is not None and feel is None:
        feel = "compound" if is_compound(Metre(0, *metre)) else drawn if drawn != "compound" else "straight"
        feel = "swing" if is_compound(piece.metre) and not is_compound(Metre(0, *metre)) else feel  # thirds stay
    plan = layout(piece.metre, feel or drawn, swing)
    if metre is not None and (plan.metre.numerator, plan.metre.denominator) != tuple(metre):
        raise InputError(
            f"metre {metre[0]}/{metre[1]}: the tune is in {piece.metre.numerator}/{piece.metre.denominator}, which can "
            f"be played in {_metres(piece.metre)}"
        )
    home = piece.key if own and asked_key is None else _home(piece, how, asked_key, rng)
    if chords is not None:
        away = (key_tonic(piece.key) - key_tonic(home)) % 12
        piece = replace(piece, chords=tuple((onset, chord.transposed(away)) for onset, chord in piece.chords))
    speed = _speed(piece, how, plan, tempo, rng)
    wishes = FormWishes(bars, tuple(sections) if sections is not None else None, intro, ending, modulate, intensity)
    laid = Form(piece, how, plan, home, rng, wishes)
    laid.lay()
    lead = laid.lead
    spans = apply_devices(lead, how, rng) if chords is None and not form else lead.spans
    spans = colour(lead, spans, how, rng, keep=chords is not None)
    notes, right = play(lead, spans, complete_line(lead, spans, how, rng), how, rng)
    if chords is None:  # own chords keep the names that they were given
        spans = name_played(spans, notes)
    rows = [
        (onset, *note, min(ticks, lead.end - onset), loud) for onset, *note, ticks, loud in notes if onset < lead.end
    ]
    array: Notes = np.array(rows, dtype=np.int32).reshape(-1, 4)
    array = array[np.lexsort((array[:, 1], array[:, 0]))]
    return Score(
        notes=array,
        metres=(Metre(0, lead.metre.numerator, lead.metre.denominator),),
        tempos=tempos(lead, speed, how.slows),
        keys=tuple(laid.keys),
        pedals=pedals(array, lead, spans, how.pedal),
        markers=_markers(lead, spans),
        title=piece.title,
        hands=np.array([(onset, pitch) in right for onset, pitch, _, _ in array.tolist()], dtype=np.int8),
    )


def _metres(metre: Metre) -> str:
    plans = [layout(metre, feel).metre for feel in ("straight", "swing", "compound")]
    return ", ".join(sorted({f"{plan.numerator}/{plan.denominator}" for plan in plans} | {"4/4", "12/8"}))


_CHORUS_BARS = 12
_ON_DEGREE = {
    False: {0: "dom7", 2: "min7", 5: "dom7", 6: "dim7", 7: "dom7", 9: "7b9"},
    True: {0: "min7", 2: "halfdim7", 5: "min7", 6: "dim7", 7: "7b9", 9: "halfdim7"},
}
"""The plain chord on each degree of such a form, by mode."""


def _tune_in(form: Sequence[Halves], style: str, key: Key | None, metre: tuple[int, int] | None, seed: int) -> Tune:
    """A melody over a style's own form, which has no tune: where the form leaves a choice, the seed chooses."""
    rng = random.Random(f"form {seed}")
    home = key if key is not None else key_of(0, False)
    bars = []
    for number, halves in enumerate(form, 1):
        steps = [rng.choice(sorted(half)) for half in (halves if number < len(form) else ({0},))]
        steps = steps[:1] if halves[0] == halves[-1] else steps
        roots = [(key_tonic(home) + step) % 12 for step in steps]
        bars.append([Chord(root, _ON_DEGREE[home.minor][step], root) for step, root in zip(steps, roots, strict=True)])
    tune = tune_over(bars, home, Metre(0, *(metre or (4, 4))), rng)
    return replace(tune, name=f"{style} {seed}", title=f"{len(form)}-bar {style}")


def _the_tune(
    tune: str | Tune | Score | None, seed: int, key: Key | None, chords: Progression | None,
    metre: tuple[int, int] | None,
) -> Tune:  # fmt: skip
    """The tune to be played; with `chords`, over these, which then stand as they are in its key."""
    if chords is not None and not any(chords):
        raise InputError("chords: the progression is empty")
    if isinstance(tune, Score):
        piece = tune_from_score(tune)
    elif isinstance(tune, Tune):
        piece = tune
    elif isinstance(tune, str):
        piece = find_tune(tune)
    elif chords is not None:
        home = key if key is not None else key_of_chords(chords)
        return tune_over(chords, home, Metre(0, *(metre or (4, 4))), random.Random(f"over {seed}"))
    else:
        names = [name for name in tune_titles() if key is None or (name in minor_tunes()) == key.minor]
        if metre is not None:
            asked = Metre(0, *metre)
            feels = ("straight", "swing", "compound")[: 2 + is_compound(asked)]
            names = [name for name in names for feel in feels if layout(find_tune(name).metre, feel).metre == asked]
            if not names:
                mode = "" if key is None else " in minor" if key.minor else " in major"
                raise InputError(f"metre {metre[0]}/{metre[1]}: no tune of the book{mode} can be played in it")
        return find_tune(names[random.Random(f"tune {seed}").randrange(len(names))])
    if chords is None:
        return piece
    home = key if key is not None else key_of_chords(chords)
    home = key_of(key_tonic(home), piece.key.minor)
    by = (key_tonic(home) - key_tonic(piece.key) + 6) % 12 - 6
    lifted = tuple((onset, pitch + by, ticks) for onset, pitch, ticks in piece.notes)
    return with_chords(replace(piece, key=home, notes=lifted), chords)


def _home(tune: Tune, style: Style, key: Key | None, rng: random.Random) -> Key:
    names = style.minor_keys if tune.key.minor else style.major_keys
    picked = names[rng.randrange(len(names))]
    return key_of(key_tonic(key or parse_key(picked)), tune.key.minor)


def _speed(tune: Tune, style: Style, plan: Layout, tempo: float | None, rng: random.Random) -> float:
    """Quarter notes a minute: those of the tempo asked for [beats a minute], or the tune's own, somewhat varied; where
    that is not the style's, one of the half of its tempos that lies nearer. Cut at the bounds instead, every shout went
    at 132. Raises InputError for a tempo that no word says."""
    if tempo is not None:
        quarters = tempo * plan.beat / 24
        if not SLOWEST <= quarters <= FASTEST:
            unit = "quarters" if plan.beat == 24 else "dotted quarters"
            slowest, fastest = (bound * 24 / plan.beat for bound in (SLOWEST, FASTEST))
            raise InputError(f"tempo {tempo:g}: give {slowest:.3g} to {fastest:.3g} {unit} a minute")
        return quarters
    slowest, fastest = style.tempo
    beats = tune.tempo * rng.uniform(0.85, 1.1)
    if not slowest <= beats <= fastest:
        beats = rng.uniform((slowest + fastest) / 2, slowest if beats < slowest else fastest)
    return float(round(beats * plan.beat / 24))


def _markers(lead: LeadSheet, spans: list[Span]) -> tuple[Marker, ...]:
    """Sections, and each chord where it changes."""
    markers = [Marker(section.first * lead.bar, "section", section.name) for section in lead.sections]
    for _, same in groupby(spans, key=lambda span: span.chord):
        span = next(same)
        markers.append(Marker(span.onset, "chord", span.chord.symbol))
    return tuple(sorted(markers, key=lambda marker: (marker.onset, marker.kind != "section")))


def played_chords(score: Score) -> list[tuple[int, Chord]]:
    """Onset [ticks] and chord of each chord marker: what an arrangement says that it plays."""
    return [(marker.onset, parse_chord(marker.text)) for marker in score.markers if marker.kind == "chord"]
