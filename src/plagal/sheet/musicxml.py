"""A score as MusicXML 4.0: two staves by hands, or a lead sheet.

What a reader sees is `written`; what sounds stands beside it, so that reading gives the same words back: `attack` and
`release` say how far a note begins and ends from where it is written, `dynamics` how loud it is, all as MusicXML
defines them. Times are in ticks: 24 divisions to the quarter.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from plagal.music.chords import parse_chord
from plagal.music.keys import key_then, signature
from plagal.music.score import ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Key, Metre, Score
from plagal.plumbing import __version__
from plagal.sheet.spelling import LETTERS, kind_of, nashville, printed, spelled
from plagal.sheet.written import Bars, Chord, Piece, Staff, groups, page_bars, pieces, triplets

_DOCTYPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 '
    'Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">\n'
)
_FLAGS = {"eighth": 1, "16th": 2, "32nd": 3}
_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
_MARKS = ((20, "ppp"), (35, "pp"), (50, "p"), (65, "mp"), (80, "mf"), (95, "f"), (110, "ff"), (125, "fff"))
"""Velocity -> dynamics: the words' levels."""
_SLOWER = 0.9
"""Of the tempo that stands: playing that gives way less is not a ritardando."""
_PHRASE = 4
"""Bars for which a loudness must hold to be marked."""
_HIDDEN, _ITALIC = {"print-object": "no"}, {"font-style": "italic"}


def document(score: Score, staves: Sequence[Staff], swung: bool, *, lead: bool, numbers: bool) -> str:
    """The document. `staves`: what stands on each, the upper first; `lead`: a lead sheet; `numbers`: Nashville numbers
    instead of chord names."""
    return _Document(score, staves, swung, lead, numbers).text()


_Event = tuple[int, int, ET.Element]
"""Tick, order at one tick, what stands there."""


class _Document:
    def __init__(self, score: Score, staves: Sequence[Staff], swung: bool, lead: bool, numbers: bool) -> None:
        self.score, self.staves, self.swung, self.numbers = score, staves, swung, numbers
        self.bars: Bars = page_bars(score, staves)
        self.names = spelled(score)
        self.clefs = [_clefs(score, staff, self.bars, number) for number, staff in enumerate(staves)]
        starts, last = self.bars.starts, self.bars.ends[-1]
        within = [key for key in score.keys if starts[0] < key.onset < last and key.onset not in starts]
        events = [(key.onset, -1, _node("attributes", _key(key))) for key in within]
        for tick, order, element in (*self._tempos(), *self._sections(), *self._harmonies()):
            events.append((max(tick, starts[0]), order, element))
        if not lead:
            events += [*self._pedals(), *self._dynamics()]
        self.events = deque(sorted(events, key=lambda event: event[:2]))

    def text(self) -> str:
        title = self.score.title
        root = _node(
            "score-partwise",
            _node("work", _node("work-title", title)) if title else None,
            _node("identification", _node("encoding", _node("software", f"Plagal {__version__}"))),
            _node("part-list", _node("score-part", _node("part-name", "Piano", **_HIDDEN), id="P1")),
            _node("part", *(self._measure(place) for place in range(len(self.bars.starts))), id="P1"),
            version="4.0",
        )
        ET.indent(root, " ")
        return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"

    def _measure(self, place: int) -> ET.Element:
        start, end, upbeat = self.bars.starts[place], self.bars.ends[place], self.bars.upbeat
        measure = _node(
            "measure", number=str(place + (not upbeat)), **({"implicit": "yes"} if upbeat and not place else {})
        )
        attributes = self._attributes(place)
        if len(attributes):
            measure.append(attributes)
        repeats = {(marker.onset, marker.text) for marker in self.score.markers if marker.kind == "repeat"}
        if (start if place else 0, "START") in repeats:
            measure.append(_bar_line("left", "heavy-light", "forward"))
        for number, staff in enumerate(self.staves):
            accidentals = self._accidentals(staff, start, end)
            voices = [[chord for chord in voice if chord.start < end and chord.end > start] for voice in staff]
            for layer, inside in enumerate(voices):
                if layer and not inside:
                    continue
                if number or layer:
                    measure.append(_node("backup", _node("duration", end - start)))
                self._voice(measure, place, number, layer, inside, accidentals, all(voices))
        closes = (end, "END") in repeats
        if closes or place + 1 == len(self.bars.starts):
            measure.append(_bar_line("right", "light-heavy", "backward" if closes else None))
        return measure

    def _attributes(self, place: int) -> ET.Element:
        """What is new at the beginning of a bar."""
        bars, first = self.bars, place == 0
        start, metre = bars.starts[place], bars.metres[place]
        key = next((key for key in self.score.keys if key.onset == start or (first and key.onset <= start)), None)
        attributes = _node(
            "attributes", _node("divisions", TICKS_PER_QUARTER) if first else None, _key(key) if key else None
        )
        before = bars.metres[place - 1]
        if first or (metre.numerator, metre.denominator) != (before.numerator, before.denominator):
            # An upbeat with a metre of its own hides it: "1/4" before "4/4" says nothing to a player.
            upbeat = first and len(bars.metres) > 1 and metre.bar_ticks < bars.metres[1].bar_ticks
            sign = _node("beats", metre.numerator), _node("beat-type", metre.denominator)
            attributes.append(_node("time", *sign, **(_HIDDEN if upbeat else {})))
        if first:
            attributes.append(_node("staves", len(self.staves)))
        for number, clefs in enumerate(self.clefs, 1):
            if first or clefs[place] != clefs[place - 1]:
                line = 2 if clefs[place] == "G" else 4
                attributes.append(_node("clef", _node("sign", clefs[place]), _node("line", line), number=str(number)))
        return attributes

    def _voice(
        self, measure: ET.Element, place: int, number: int, layer: int, inside: Sequence[Chord],
        accidentals: dict[tuple[int, int], str], both: bool,
    ) -> None:  # fmt: skip
        """One voice of a bar: its notes, the rests between (none in a second voice), and with the first voice what
        stands over and under the staves."""
        start, end, metre = self.bars.starts[place], self.bars.ends[place], self.bars.metres[place]
        line = end - metre.bar_ticks if place == 0 else start  # an upbeat is counted from where its bar would begin
        spans: list[tuple[int, int, Chord | None]] = []
        now = start
        for chord in inside:
            if chord.start > now:
                spans.append((now, chord.start, None))
            spans.append((max(chord.start, start), min(chord.end, end), chord))
            now = min(chord.end, end)
        if now < end:
            spans.append((now, end, None))
        tuplets = triplets([edge - line for low, high, _ in spans for edge in (low, high)], metre)
        flat = [
            (chord, piece)
            for low, high, chord in spans
            for piece in pieces(low - line, high - line, metre, tuplets, rest=chord is None)
        ]
        beams = _beams(flat, metre)
        voice = number * 4 + layer + 1
        after = [*(piece.start + line for _, piece in flat[1:]), end if place + 1 < len(self.bars.starts) else 1 << 30]
        for (here, piece), until, states in zip(flat, after, beams, strict=True):
            tick = piece.start + line
            if not (number or layer):
                self._directions(measure, tick, until)
            if here is None and layer:
                measure.append(_node("forward", _node("duration", piece.ticks)))
                continue
            whole_bar = here is None and len(flat) == 1
            if here is not None and tick == here.start:
                measure.extend(self._grace(crushed, tick, voice, number) for crushed in here.graces)
            ties = [] if here is None else ["stop"] * (tick > here.start) + ["start"] * (tick + piece.ticks < here.end)
            notes: list[int | None] = [None] if here is None else [*here.notes]
            for order, row in enumerate(notes):
                accidental = None if row is None else accidentals.get((tick, row))
                notations = [_node("tied", type=kind) for kind in ties]
                notations += _brackets(piece) if not order else []
                notations += [_node("arpeggiate")] if here is not None and here.rolled and tick == here.start else []
                note = _node(
                    "note",
                    _node("chord") if order else None,
                    _node("rest", **({"measure": "yes"} if whole_bar else {})) if row is None else self._pitch(row),
                    _node("duration", piece.ticks),
                    *(_node("tie", type=kind) for kind in ties),
                    _node("voice", voice),
                    *([] if whole_bar else [_node("type", piece.value), *(_node("dot") for _ in range(piece.dots))]),
                    _node("accidental", accidental) if accidental else None,
                    _node("time-modification", _node("actual-notes", 3), _node("normal-notes", 2))
                    if piece.triplet is not None
                    else None,
                    _node("stem", "down" if layer else "up") if both and row is not None else None,
                    self._staff(number),
                    *(_node("beam", state, number=str(level)) for level, state in enumerate(states, 1) if not order),
                    _node("notations", *notations) if notations else None,
                )
                if here is not None and row is not None:
                    onset, _, ticks, velocity = self.score.notes[row].tolist()
                    note.set("dynamics", f"{velocity / 0.9:.2f}")
                    if tick == here.start and onset != tick:
                        note.set("attack", str(onset - tick))
                    if tick + piece.ticks == here.end and onset + ticks != here.end:
                        note.set("release", str(onset + ticks - here.end))
                measure.append(note)

    def _named(self, row: int) -> tuple[str, int, int]:
        """Step, alteration and octave of a note as it is spelled."""
        alter, letter = divmod(self.names[row] + 1, 7)
        return LETTERS[letter], alter, (int(self.score.notes[row, PITCH]) - alter) // 12 - 1

    def _staff(self, number: int) -> ET.Element | None:
        return _node("staff", number + 1) if len(self.staves) > 1 else None

    def _pitch(self, row: int) -> ET.Element:
        step, alter, octave = self._named(row)
        return _node("pitch", _node("step", step), _node("alter", alter) if alter else None, _node("octave", octave))

    def _grace(self, row: int, tick: int, voice: int, staff: int) -> ET.Element:
        onset, _, ticks, velocity = self.score.notes[row].tolist()
        step, alter, _ = self._named(row)
        plain = signature(key_then(self.score.keys, tick) or Key(0, 0)).get(step, 0)
        return _node(
            "note",
            _node("grace", slash="yes"),
            self._pitch(row),
            _node("voice", voice),
            _node("type", "eighth"),
            _node("accidental", _ACCIDENTALS[alter]) if alter != plain else None,
            self._staff(staff),
            dynamics=f"{velocity / 0.9:.2f}",
            attack=str(onset - tick),
            release=str(onset + ticks - tick),
        )

    def _directions(self, measure: ET.Element, tick: int, until: int) -> None:
        """What stands from here to the next note."""
        while self.events and self.events[0][0] < until:
            at, _, element = self.events.popleft()
            if at != tick and element.tag != "attributes":
                place = [child.tag in ("staff", "sound") for child in element]
                element.insert(place.index(True) if True in place else len(element), _node("offset", at - tick))
            measure.append(element)

    def _accidentals(self, staff: Staff, start: int, end: int) -> dict[tuple[int, int], str]:
        """What stands before the notes of a bar: where they differ from the signature, or from what stood there."""
        notes = sorted(
            (chord.start, row)
            for voice in staff for chord in voice if start <= chord.start < end and chord.end > start
            for row in chord.notes
        )  # fmt: skip
        held = signature(key_then(self.score.keys, start) or Key(0, 0))
        state: dict[tuple[str, int], int] = {}
        found: dict[tuple[int, int], str] = {}
        for tick, row in notes:
            step, alter, octave = self._named(row)
            if alter != state.get((step, octave), held.get(step, 0)):
                found[tick, row] = _ACCIDENTALS[alter]
            state[step, octave] = alter
        return found

    # --- what stands over and under the staves

    def _tempos(self) -> Iterator[_Event]:
        tempos, metres = self.score.tempos, self.score.metres
        shown, slowing = 0.0, False
        for number, tempo in enumerate(tempos):
            metre = next((metre for metre in reversed(metres) if metre.onset <= tempo.onset), metres[0])
            beat, speed = metre.tempo_beat_ticks, tempo.quarters_per_minute
            steady = number + 1 == len(tempos) or tempos[number + 1].onset - tempo.onset >= 2 * metre.bar_ticks
            kinds: list[ET.Element] = []
            if number == 0 or (steady and abs(speed - shown) > 0.08 * shown and not slowing):
                dot = _node("beat-unit-dot") if beat > TICKS_PER_QUARTER else None
                beats = _node("per-minute", round(speed * TICKS_PER_QUARTER / beat))
                kinds = [_node("metronome", _node("beat-unit", "quarter"), dot, beats)]
                kinds += [_node("words", "Swing  ", **_ITALIC)] if number == 0 and self.swung else []
                shown, slowing = speed, False
            elif speed < _SLOWER * shown and not slowing:
                kinds, slowing = [_node("words", "rit.", **_ITALIC)], True
            elif slowing and abs(speed - shown) <= 0.03 * shown:
                kinds, slowing = [_node("words", "a tempo", **_ITALIC)], False
            sound = _node("sound", tempo=f"{speed:.10g}")
            yield tempo.onset, 0, _direction("above", *kinds, after=sound) if kinds else sound

    def _sections(self) -> Iterator[_Event]:
        for marker in self.score.markers:
            if marker.kind == "section":
                yield marker.onset, 1, _direction("above", _node("rehearsal", marker.text.capitalize()))

    def _harmonies(self) -> Iterator[_Event]:
        before = None
        for marker in self.score.markers:
            if marker.kind != "chord":
                continue
            onset, chord = marker.onset, parse_chord(marker.text)
            key = key_then(self.score.keys, onset) or Key(0, 0)
            root, text, bass = printed(chord, key)
            if self.numbers and chord != before:
                yield onset, 3, _direction("above", _node("words", nashville(chord, key), **{"font-weight": "bold"}))
            kind, degrees = kind_of(chord.quality)
            yield onset, 2, _node(
                "harmony",
                _name("root", root),
                _node("kind", kind, text=text),
                _name("bass", bass) if bass else None,
                *(
                    _node(
                        "degree", _node("degree-value", value), _node("degree-alter", alter), _node("degree-type", how),
                        **_HIDDEN,
                    )
                    for how, value, alter in degrees
                ),
                **(_HIDDEN if self.numbers or chord == before else {}),
            )  # fmt: skip
            before = chord

    def _pedals(self) -> Iterator[_Event]:
        down = False
        for pedal in self.score.pedals:
            if pedal.state == "half" or (down and pedal.state == "on"):
                yield pedal.onset, 5, _node("sound", **{"damper-pedal": "50" if pedal.state == "half" else "yes"})
                continue
            down = pedal.state != "off"
            line = _node("pedal", type="start" if down else "stop", line="yes", sign="no")
            yield (
                max(pedal.onset, self.bars.starts[0]),
                4,
                _direction("below", line, after=_node("staff", len(self.staves))),
            )

    def _dynamics(self) -> Iterator[_Event]:
        """A mark at the first bar, and where the music has become louder or softer for `_PHRASE` bars."""
        notes = self.score.notes
        if len(set(notes[:, VELOCITY].tolist())) == 1:
            return  # nobody chose a loudness
        edges = zip(self.bars.starts, self.bars.ends, strict=True)
        bars = [(start, notes[(notes[:, ONSET] >= start) & (notes[:, ONSET] < end), VELOCITY]) for start, end in edges]
        loud = [(start, float(inside.mean())) for start, inside in bars if len(inside)]
        shown: tuple[int, str] | None = None
        for number, (start, here) in enumerate(loud):
            level = float(np.median([mean for _, mean in loud[number : number + _PHRASE]]))
            mark = min(_MARKS, key=lambda pair: abs(pair[0] - level))
            if shown is None or (mark != shown and abs(level - shown[0]) > 10 and abs(here - level) < 10):
                shown = mark
                yield start, 1, _direction("below", _node("dynamics", _node(mark[1])), after=_node("staff", 1))


def _node(tag: str, *inside: ET.Element | str | int | None, **attributes: str) -> ET.Element:
    """An element with its children or its text; None is nothing."""
    element = ET.Element(tag, attributes)
    for each in inside:
        if isinstance(each, ET.Element):
            element.append(each)
        elif each is not None:
            element.text = str(each)
    return element


def _direction(placement: str, *kinds: ET.Element, after: ET.Element | None = None) -> ET.Element:
    return _node("direction", *(_node("direction-type", kind) for kind in kinds), after, placement=placement)


def _bar_line(location: str, style: str, repeat: str | None) -> ET.Element:
    sign = _node("repeat", direction=repeat) if repeat else None
    return _node("barline", _node("bar-style", style), sign, location=location)


def _key(key: Key) -> ET.Element:
    return _node("key", _node("fifths", key.fifths), _node("mode", "minor" if key.minor else "major"))


def _name(what: str, name: str) -> ET.Element:
    alter = name.count("#") - name[1:].count("b")
    return _node(what, _node(f"{what}-step", name[0]), _node(f"{what}-alter", alter) if alter else None)


def _brackets(piece: Piece) -> list[ET.Element]:
    """Where the triplet of a piece begins and ends."""
    begin, end = piece.triplet or (None, None)
    found = []
    if piece.start == begin:
        found.append(_node("tuplet", type="start", number="1", bracket="yes" if piece.value == "quarter" else "no"))
    if piece.end == end:
        found.append(_node("tuplet", type="stop", number="1"))
    return found


def _beams(flat: Sequence[tuple[Chord | None, Piece]], metre: Metre) -> list[list[str]]:
    """For each piece the state of its beams, the longest first."""
    edges = groups(metre.numerator, metre.denominator)
    group_of: list[int | None] = []
    for chord, piece in flat:
        beat = sum(edge <= piece.start for edge in edges) - 1
        group_of.append(beat if chord is not None and piece.value in _FLAGS else None)
    if len(edges) == 5 and edges[1] == 24:  # four eighths in a half bar of 4/4 are one group
        for half in (0, 2):
            places = [place for place, group in enumerate(group_of) if group in (half, half + 1)]
            inside = [place for place, (_, piece) in enumerate(flat) if edges[half] <= piece.start < edges[half + 2]]
            if len(places) == 4 and places == inside and all(flat[place][1].ticks == 12 for place in places):
                for place in places:
                    group_of[place] = half
    beams: list[list[str]] = [[] for _ in flat]
    for group, run in groupby(range(len(flat)), key=group_of.__getitem__):
        beamed = list(run)
        if group is None or len(beamed) == 1:
            continue
        levels = [0, *(_FLAGS[flat[place][1].value] for place in beamed), 0]
        for at, place in enumerate(beamed, 1):
            for depth in range(1, levels[at] + 1):
                before, after = levels[at - 1] >= depth, levels[at + 1] >= depth
                state = "continue" if before and after else "end" if before else "begin" if after else ""
                beams[place].append(state or ("backward hook" if at > 1 else "forward hook"))
    return beams


_LOW_LEFT, _HIGH_RIGHT = 62, 57


def _clefs(score: Score, staff: Staff, bars: Bars, number: int) -> list[str]:
    """A clef for each bar: the staff's own, the other where two bars on end lie wholly in its reach."""
    usual, other = ("F", "G") if number else ("G", "F")
    away: list[bool] = []
    for start, end in zip(bars.starts, bars.ends, strict=True):
        rows = [row for voice in staff for c in voice if start <= c.start < end for row in c.notes]
        keys = score.notes[rows, PITCH]
        if number:
            away.append(bool(rows) and keys.min() >= 58 and keys.mean() > _LOW_LEFT)
        else:
            away.append(bool(rows) and keys.max() <= 60 and keys.mean() < _HIGH_RIGHT)
    clefs: list[str] = []
    for lies, after in zip(away, [*away[1:], False], strict=True):
        clefs.append(other if lies and (after or clefs[-1:] == [other]) else usual)
    return clefs
