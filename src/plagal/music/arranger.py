"""Gospel arrangements from a tune and a style: the rule-based generator, and the baseline a model must beat.

A tune, style, key, tempo and seed go in; a two-handed piano score comes out, with its chords and sections as markers.
Everything drawn comes from one generator seeded by the arguments, so the same call gives the same score everywhere.
"""

from __future__ import annotations

import random

import numpy as np

from plagal.music.chords import Chord, parse_chord
from plagal.music.figuration import Player
from plagal.music.hands import HandNote, reachable, together
from plagal.music.leadsheet import Chorus, Layout, LeadSheet, Section, Span, lay_out, layout
from plagal.music.reharmonize import apply_devices, colour
from plagal.music.score import Key, Marker, Metre, Notes, Pedal, Score, Tempo
from plagal.music.styles import STYLES, Style, load_style
from plagal.music.tunebook import Tune, find_tune, key_of, key_tonic, parse_key, tune_book

__all__ = ["STYLES", "arrange", "generate_melody"]

_MELODY_CENTRE = 70
_DEGREES = {"1": 0, "b2": 1, "2": 2, "b3": 3, "3": 4, "4": 5, "#4": 6, "b5": 6, "5": 7, "b6": 8, "6": 9, "b7": 10, "7": 11}


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
    if tune is None:
        book = tune_book()
        tune = book[random.Random(f"tune {seed}").randrange(len(book))]
    elif isinstance(tune, str):
        tune = find_tune(tune)
    rng = random.Random(f"{tune.name} {style} {seed}")
    feel = rng.choices(list(how.feels), list(how.feels.values()))[0]
    plan = layout(tune.metre, feel)
    home = _home(tune, how, key, rng)
    speed = _speed(tune, how, plan, tempo, rng)
    lead, keys = _form(tune, how, plan, home, rng, bars)
    spans = colour(lead, apply_devices(lead, how, rng), how, rng)
    hands = Player(lead, how, rng).play(spans)
    notes = together(reachable(hands.left), reachable(hands.right))
    return _score(notes, lead, spans, keys, how, speed, tune, bars)


def generate_melody(
    prompt_or_style: str, key: str | None = None, tempo: float | None = None, bars: int | None = None, seed: int = 0
) -> Score:
    """What the app's own generator answers: a piece in the style that a prompt names, or the style itself."""
    asked = prompt_or_style.lower().replace(" ", "_").replace("-", "_")
    style = next((name for name in STYLES if name in asked), None)
    style = style or next((name for word, name in _STYLE_WORDS if word in asked), "traditional_gospel")
    return arrange(None, style, key, tempo, seed, bars)


_STYLE_WORDS = (("contemporary", "contemporary_gospel"), ("gospel_jazz", "gospel_jazz"), ("worship", "worship"), ("soul", "neo_soul"),
                ("blues", "blues"), ("jazz", "jazz"))  # fmt: skip


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


def _shift(tune: Tune, tonic: int) -> int:
    """Semitones that bring the tune to the key and its middle near the right hand's."""
    centre = sum(pitch * ticks for _, pitch, ticks in tune.notes) / sum(ticks for _, _, ticks in tune.notes)
    shift = (tonic - tune.tonic) % 12
    return min((shift + 12 * octave for octave in (-2, -1, 0, 1)), key=lambda by: abs(centre + by - _MELODY_CENTRE))


class _Former:
    """Lays sections one after another into a lead sheet."""

    def __init__(self, tune: Tune, style: Style, plan: Layout, home: Key, rng: random.Random) -> None:
        self.tune, self.style, self.plan, self.rng = tune, style, plan, rng
        self.lead = LeadSheet(plan.metre, plan.beat, plan.swing)
        self.tonic, self.minor = key_tonic(home), home.minor
        self.semitones = _shift(tune, self.tonic)
        self.keys = [home]
        self.bar = 0

    def chorus(self) -> Chorus:
        return lay_out(self.tune, self.plan, self.semitones)

    def tune_section(self, level: int) -> None:
        once = self.chorus()
        start = self.bar
        offset = start * self.lead.bar
        self.lead.melody.extend((onset + offset, pitch, ticks) for onset, pitch, ticks in once.melody)
        self.lead.spans.extend(Span(span.onset + offset, span.end + offset, span.chord) for span in once.spans)
        starts = [first for first, _ in once.sections]
        for (first, name), end in zip(once.sections, [*starts[1:], once.bars], strict=True):
            higher = min(4, level + (1 if name == "CHORUS" else 0))
            self.lead.sections.append(Section(name, start + first, start + end, self.tonic, self.minor, higher))
        self.bar += once.bars

    def chords(self, name: str, symbols: list[tuple[int, str]], level: int) -> None:
        """A section without melody from (beats, numeral) pairs."""
        onset = self.bar * self.lead.bar
        start = self.bar
        for beats, numeral in symbols:
            end = onset + beats * self.lead.beat
            self.lead.spans.append(Span(onset, end, self.numeral(numeral)))
            onset = end
        self.bar = -(-onset // self.lead.bar)
        self.lead.sections.append(Section(name, start, self.bar, self.tonic, self.minor, level, sung=False))

    def numeral(self, text: str) -> Chord:
        """ "1:dom7/3" in the key at hand: degree, quality, degree in the bass."""
        degree, _, rest = text.partition(":")
        quality, _, bass = rest.partition("/")
        root = (self.tonic + _DEGREES[degree]) % 12
        return Chord(root, quality, (self.tonic + _DEGREES[bass]) % 12 if bass else root)

    def spread(self, numerals: tuple[str, ...], bars: int) -> list[tuple[int, str]]:
        """Numerals shared evenly over bars, the last taking what is left."""
        beats = bars * self.lead.beats_per_bar
        each = max(1, beats // len(numerals))
        counts = [each] * (len(numerals) - 1)
        return [*zip(counts, numerals, strict=False), (beats - each * (len(numerals) - 1), numerals[-1])]

    def modulate(self) -> None:
        """One bar of the new key's dominant, and up a semitone."""
        self.tonic = (self.tonic + 1) % 12
        self.semitones += 1
        self.chords("BRIDGE", self.spread(("5:9sus", "5:dom7"), 1), 3)
        self.keys.append(key_of(self.tonic, self.minor, (self.bar - 1) * self.lead.bar))


def _form(
    tune: Tune, style: Style, plan: Layout, home: Key, rng: random.Random, bars: int | None
) -> tuple[LeadSheet, list[Key]]:
    former = _Former(tune, style, plan, home, rng)
    if bars is not None:
        while former.bar < bars:
            former.tune_section(2)
        _cut(former.lead, bars)
        return former.lead, former.keys
    weights = [weight for weight, _ in style.forms]
    for part in style.forms[rng.choices(range(len(weights)), weights)[0]][1]:
        name, _, number = part.partition(":")
        _add_part(former, name, int(number or 2))
    return former.lead, former.keys


def _add_part(former: _Former, name: str, number: int) -> None:
    minor = former.minor
    if name == "intro":
        numerals = ("1:min", "4:min", "5:dom7") if minor else ("1:maj", "6:min", "2:min", "5:dom7")
        former.chords("INTRO", former.spread(numerals, 2), 2)
    elif name == "verse":
        former.tune_section(number)
    elif name == "modulate":
        former.modulate()
    elif name == "vamp":
        vamp = ("1:min7", "4:dom7") if minor else former.style.vamps[former.rng.randrange(len(former.style.vamps))]
        once = former.spread(vamp, 2)
        former.chords("BRIDGE", once * (number // 2), 4)
    elif name == "outro":
        numerals = ("4:min", "1:min") if minor else ("4:maj", "1:maj")
        former.chords("OUTRO", former.spread(numerals, 2), 1)


def _cut(lead: LeadSheet, bars: int) -> None:
    """The lead sheet's first bars, its last note and chord ending with them."""
    end = bars * lead.bar
    lead.melody[:] = [(onset, pitch, min(ticks, end - onset)) for onset, pitch, ticks in lead.melody if onset < end]
    lead.spans[:] = [Span(span.onset, min(span.end, end), span.chord) for span in lead.spans if span.onset < end]
    lead.sections[:] = [
        Section(part.name, part.first, min(part.end, bars), part.tonic, part.minor, part.level, part.sung)
        for part in lead.sections
        if part.first < bars
    ]


def _score(
    notes: list[HandNote], lead: LeadSheet, spans: list[Span], keys: list[Key], style: Style, speed: float, tune: Tune, bars: int | None
) -> Score:
    end = lead.end
    array: Notes = np.array([(o, p, min(d, end - o), v) for o, p, d, v in notes if o < end], dtype=np.int32).reshape(-1, 4)
    array = array[np.lexsort((array[:, 1], array[:, 0]))]
    markers = [Marker(section.first * lead.bar, "section", section.name) for section in lead.sections]
    before = None
    for span in spans:
        if span.chord != before:
            markers.append(Marker(span.onset, "chord", span.chord.symbol))
        before = span.chord
    markers.sort(key=lambda marker: (marker.onset, marker.kind != "section"))
    return Score(
        notes=array,
        metres=(Metre(0, lead.metre.numerator, lead.metre.denominator),),
        tempos=(Tempo(0, speed),),
        keys=tuple(keys),
        pedals=_pedals(array, lead, spans, style),
        markers=tuple(markers),
        title=tune.title,
    )


def _pedals(notes: Notes, lead: LeadSheet, spans: list[Span], style: Style) -> tuple[Pedal, ...]:
    """Down with each chord (or bar), up at the last note struck before the next: no moment that no note has."""
    if style.pedal == "none":
        return ()
    starts = sorted({span.onset for span in spans if style.pedal == "chord" or span.onset % lead.bar == 0})
    onsets = np.unique(notes[:, 0])
    pedals = []
    for start, end in zip(starts, [*starts[1:], lead.end], strict=True):
        inside = onsets[(onsets > start + (end - start) // 2) & (onsets < end)]
        if end - start >= lead.beat * 2 and len(inside) and start in onsets:
            pedals += [Pedal(start, "on"), Pedal(int(inside[-1]), "off")]
    return tuple(pedals)


def parse_symbols(score: Score) -> list[tuple[int, Chord]]:
    """Onset and chord of each chord marker: what the arranger says it plays."""
    return [(marker.onset, parse_chord(marker.text)) for marker in score.markers if marker.kind == "chord"]
