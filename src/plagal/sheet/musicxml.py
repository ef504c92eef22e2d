"""A score as MusicXML 4.0: two staves by hands, or a lead sheet.

What a reader sees is `written`; what sounds stands beside it, so that reading gives the same words back: `attack` and
`release` say how far a note begins and ends from where it is written, `dynamics` how loud it is, all as MusicXML
defines them. Times are in ticks: 24 divisions to the quarter.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

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
_UNIT_NAMES = {36: ("quarter", True), 24: ("quarter", False)}


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
        self.events = sorted([*self._tempos(), *self._sections(), *self._harmonies()], key=lambda event: event[:2])
        if not lead:
            self.events = sorted([*self.events, *self._pedals(), *self._dynamics()], key=lambda event: event[:2])
        self.next_event = 0

    def text(self) -> str:
        root = ET.Element("score-partwise", version="4.0")
        if self.score.title:
            _add(_add(root, "work"), "work-title", self.score.title)
        encoding = _add(_add(root, "identification"), "encoding")
        _add(encoding, "software", f"Plagal {__version__}")
        entry = _add(_add(root, "part-list"), "score-part", id="P1")
        _add(entry, "part-name", "Piano", **{"print-object": "no"})
        part = _add(root, "part", id="P1")
        for place in range(len(self.bars.starts)):
            self._measure(part, place)
        ET.indent(root, " ")
        return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"

    def _measure(self, part: ET.Element, place: int) -> None:
        bars = self.bars
        number = place if bars.upbeat else place + 1
        measure = _add(
            part, "measure", number=str(number), **({"implicit": "yes"} if place == 0 and bars.upbeat else {})
        )
        start, end = bars.starts[place], bars.ends[place]
        self._attributes(measure, place)
        repeats = [marker for marker in self.score.markers if marker.kind == "repeat"]
        line = start if place or not bars.upbeat else 0
        if any(marker.onset == line and marker.text == "START" for marker in repeats):
            barline = _add(measure, "barline", location="left")
            _add(barline, "bar-style", "heavy-light")
            _add(barline, "repeat", direction="forward")
        accidentals = [self._accidentals(staff, start, end) for staff in self.staves]
        first = True
        for number, staff in enumerate(self.staves):
            both = all(any(c.start < end and c.end > start for c in voice) for voice in staff.voices)
            for layer, voice in enumerate(staff.voices):
                inside = [c for c in voice if c.start < end and c.end > start]
                if layer and not inside:
                    continue
                if not first:
                    _add(_add(measure, "backup"), "duration", end - start)
                self._voice(measure, place, number, layer, inside, accidentals[number], both, first)
                first = False
        last = place + 1 == len(bars.starts)
        closes = any(marker.onset == end and marker.text == "END" for marker in repeats)
        if last or closes:
            barline = _add(measure, "barline", location="right")
            _add(barline, "bar-style", "light-heavy")
            if closes:
                _add(barline, "repeat", direction="backward")

    def _attributes(self, measure: ET.Element, place: int) -> None:
        bars, score = self.bars, self.score
        start, end = bars.starts[place], bars.ends[place]
        attributes = ET.Element("attributes")
        if place == 0:
            _add(attributes, "divisions", TICKS_PER_QUARTER)
        key = next((key for key in score.keys if (key.onset == start or (place == 0 and key.onset <= start))), None)
        if key is not None:
            _add_key(attributes, key)
        metre = bars.metres[place]
        if place == 0 or (metre.numerator, metre.denominator) != _sign(bars.metres[place - 1]):
            # An upbeat with a metre of its own hides it: "1/4" before "4/4" says nothing to a player.
            upbeat = place == 0 and len(bars.metres) > 1 and metre.bar_ticks < bars.metres[1].bar_ticks
            time = _add(attributes, "time", **({"print-object": "no"} if upbeat else {}))
            _add(time, "beats", metre.numerator)
            _add(time, "beat-type", metre.denominator)
        if place == 0:
            _add(attributes, "staves", len(self.staves))
        for number, clefs in enumerate(self.clefs):
            if place == 0 or clefs[place] != clefs[place - 1]:
                clef = _add(attributes, "clef", number=str(number + 1))
                _add(clef, "sign", clefs[place])
                _add(clef, "line", 2 if clefs[place] == "G" else 4)
        if len(attributes):
            measure.append(attributes)
        for later in score.keys:
            if start < later.onset < end and place + (later.onset > start):
                change = ET.Element("attributes")
                _add_key(change, later)
                self.events.insert(self.next_event, (later.onset, -1, change))
                self.events[self.next_event :] = sorted(self.events[self.next_event :], key=lambda event: event[:2])

    def _voice(
        self, measure: ET.Element, place: int, number: int, layer: int, inside: Sequence[Chord],
        accidentals: dict[tuple[int, int], str], both: bool, first: bool,
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
        edges = [edge - line for low, high, _ in spans for edge in (low, high)]
        tuplets = triplets(edges, metre)
        cut = [
            (chord, pieces(low - line, high - line, metre, tuplets, rest=chord is None)) for low, high, chord in spans
        ]
        flat = [(chord, piece) for chord, found in cut for piece in found]
        beams = _beams(flat, metre)
        voice = number * 4 + layer + 1
        for at, (here, piece) in enumerate(flat):
            tick = piece.start + line
            if first:
                until = (
                    flat[at + 1][1].start + line
                    if at + 1 < len(flat)
                    else end
                    if place + 1 < len(self.bars.starts)
                    else 1 << 30
                )
                self._directions(measure, tick, until)
            if here is None and layer:
                _add(_add(measure, "forward"), "duration", piece.ticks)
                continue
            whole_bar = here is None and len(flat) == 1
            if here is not None and tick == here.start:
                for crushed in here.graces:
                    self._grace(measure, crushed, tick, voice, number + 1)
            notes: list[int | None] = [None] if here is None else [*here.notes]
            for order, row in enumerate(notes):
                note = self._note(measure, row, here, piece, tick, order, whole_bar)
                _add(note, "voice", voice)
                if not whole_bar:
                    _add(note, "type", piece.value)
                    for _ in range(piece.dots):
                        _add(note, "dot")
                if row is not None and (accidental := accidentals.get((tick, row))):
                    _add(note, "accidental", accidental)
                if piece.triplet is not None:
                    change = _add(note, "time-modification")
                    _add(change, "actual-notes", 3)
                    _add(change, "normal-notes", 2)
                if both and row is not None:
                    _add(note, "stem", "down" if layer else "up")
                if len(self.staves) > 1:
                    _add(note, "staff", number + 1)
                if not order:
                    for level, state in enumerate(beams[at], 1):
                        _add(note, "beam", state, number=str(level))
                self._notations(note, here, row, piece, tick, order)

    def _note(
        self, measure: ET.Element, row: int | None, chord: Chord | None, piece: Piece, tick: int, order: int,
        whole_bar: bool,
    ) -> ET.Element:  # fmt: skip
        note = _add(measure, "note")
        if row is None or chord is None:
            _add(note, "rest", **({"measure": "yes"} if whole_bar else {}))
            _add(note, "duration", piece.ticks)
            return note
        onset, pitch, ticks, velocity = (int(value) for value in self.score.notes[row])
        note.set("dynamics", f"{velocity / 0.9:.2f}")
        if tick == chord.start and onset != tick:
            note.set("attack", str(onset - tick))
        if tick + piece.ticks == chord.end and onset + ticks != chord.end:
            note.set("release", str(onset + ticks - chord.end))
        if order:
            _add(note, "chord")
        self._pitch(note, row, pitch)
        _add(note, "duration", piece.ticks)
        for kind in self._ties(chord, tick, piece):
            _add(note, "tie", type=kind)
        return note

    def _pitch(self, note: ET.Element, row: int, pitch: int) -> tuple[str, int]:
        """Write a note's pitch as it is spelled. -> step and alteration."""
        step, alter, octave = _named(self.names[row], pitch)
        element = _add(note, "pitch")
        _add(element, "step", step)
        if alter:
            _add(element, "alter", alter)
        _add(element, "octave", octave)
        return step, alter

    def _grace(self, measure: ET.Element, row: int, tick: int, voice: int, staff: int) -> None:
        onset, pitch, ticks, velocity = (int(value) for value in self.score.notes[row])
        sounds = {"attack": str(onset - tick), "release": str(onset + ticks - tick)}
        note = _add(measure, "note", dynamics=f"{velocity / 0.9:.2f}", **sounds)
        _add(note, "grace", slash="yes")
        step, alter = self._pitch(note, row, pitch)
        _add(note, "voice", voice)
        _add(note, "type", "eighth")
        key = key_then(self.score.keys, tick) or Key(0, 0)
        if alter != signature(key).get(step, 0):
            _add(note, "accidental", _ACCIDENTALS[alter])
        if len(self.staves) > 1:
            _add(note, "staff", staff)

    @staticmethod
    def _ties(chord: Chord, tick: int, piece: Piece) -> list[str]:
        ties = ["stop"] if tick > chord.start else []
        return ties + (["start"] if tick + piece.ticks < chord.end else [])

    def _notations(
        self, note: ET.Element, chord: Chord | None, row: int | None, piece: Piece, tick: int, order: int
    ) -> None:
        notations = ET.Element("notations")
        if chord is not None and row is not None:
            for kind in self._ties(chord, tick, piece):
                _add(notations, "tied", type=kind)
        if piece.triplet is not None and not order:
            if piece.start == piece.triplet[0]:
                _add(notations, "tuplet", type="start", number="1", bracket="yes" if piece.value == "quarter" else "no")
            if piece.end == piece.triplet[1]:
                _add(notations, "tuplet", type="stop", number="1")
        if chord is not None and chord.rolled and tick == chord.start:
            _add(notations, "arpeggiate")
        if len(notations):
            note.append(notations)

    def _directions(self, measure: ET.Element, tick: int, until: int) -> None:
        """What stands from here to the next note."""
        while self.next_event < len(self.events) and self.events[self.next_event][0] < until:
            at, _, element = self.events[self.next_event]
            if at != tick and element.tag != "attributes":
                offset = ET.Element("offset")
                offset.text = str(at - tick)
                place = [child.tag in ("staff", "sound") for child in element]
                element.insert(place.index(True) if True in place else len(element), offset)
            measure.append(element)
            self.next_event += 1

    def _accidentals(self, staff: Staff, start: int, end: int) -> dict[tuple[int, int], str]:
        """What stands before the notes of a bar: where they differ from the signature, or from what stood there."""
        notes = sorted(
            (max(chord.start, start), chord.start < start, row)
            for voice in staff.voices for chord in voice if chord.start < end and chord.end > start
            for row in chord.notes
        )  # fmt: skip
        key = key_then(self.score.keys, start) or Key(0, 0)
        held = signature(key)
        state: dict[tuple[str, int], int] = {}
        found: dict[tuple[int, int], str] = {}
        for tick, tied, row in notes:
            step, alter, octave = _named(self.names[row], int(self.score.notes[row, PITCH]))
            if tied:
                continue
            if alter != state.get((step, octave), held.get(step, 0)):
                found[tick, row] = _ACCIDENTALS[alter]
            state[step, octave] = alter
        return found

    # --- what stands over and under the staves

    def _tempos(self) -> Iterable[_Event]:
        shown: float | None = None
        slowing = False
        for number, tempo in enumerate(self.score.tempos):
            metres = self.score.metres
            metre = next((metre for metre in reversed(metres) if metre.onset <= tempo.onset), metres[0])
            beat = metre.tempo_beat_ticks
            speed = tempo.quarters_per_minute
            after = self.score.tempos[number + 1] if number + 1 < len(self.score.tempos) else None
            steady = after is None or after.onset - tempo.onset >= 2 * metre.bar_ticks
            element = ET.Element("direction", placement="above")
            kind = _add(element, "direction-type")
            if number == 0 or (steady and shown is not None and abs(speed - shown) > 0.08 * shown and not slowing):
                mark = _add(kind, "metronome")
                value, dotted = _UNIT_NAMES.get(beat, ("quarter", False))
                _add(mark, "beat-unit", value)
                if dotted:
                    _add(mark, "beat-unit-dot")
                _add(mark, "per-minute", round(speed * TICKS_PER_QUARTER / beat))
                if number == 0 and self.swung:
                    words = _add(_add(element, "direction-type"), "words", "Swing  ")
                    words.set("font-style", "italic")
                shown, slowing = speed, False
            elif shown is not None and speed < _SLOWER * shown and not slowing:
                _add(kind, "words", "rit.").set("font-style", "italic")
                slowing = True
            elif slowing and shown is not None and abs(speed - shown) <= 0.03 * shown:
                _add(kind, "words", "a tempo").set("font-style", "italic")
                slowing = False
            else:
                element = ET.Element("sound", tempo=f"{speed:.10g}")
                yield max(tempo.onset, self.bars.starts[0]), 0, element
                continue
            _add(element, "sound", tempo=f"{speed:.10g}")
            yield max(tempo.onset, self.bars.starts[0]), 0, element

    def _sections(self) -> Iterable[_Event]:
        for marker in self.score.markers:
            if marker.kind == "section":
                element = _direction("above", "rehearsal", marker.text.capitalize())
                yield max(marker.onset, self.bars.starts[0]), 1, element

    def _harmonies(self) -> Iterable[_Event]:
        chords = [(m.onset, parse_chord(m.text)) for m in self.score.markers if m.kind == "chord"]
        before = None
        for onset, chord in chords:
            key = key_then(self.score.keys, onset) or Key(0, 0)
            root, text, bass = printed(chord, key)
            element = ET.Element("harmony")
            if self.numbers or chord == before:
                element.set("print-object", "no")
            if self.numbers and chord != before:
                words = _direction("above", "words", nashville(chord, key), **{"font-weight": "bold"})
                yield max(onset, self.bars.starts[0]), 3, words
            before = chord
            _add_name(_add(element, "root"), "root", root)
            kind, degrees = kind_of(chord.quality)
            _add(element, "kind", kind).set("text", text)
            if bass:
                _add_name(_add(element, "bass"), "bass", bass)
            for how, value, alter in degrees:
                degree = _add(element, "degree", **{"print-object": "no"})
                _add(degree, "degree-value", value)
                _add(degree, "degree-alter", alter)
                _add(degree, "degree-type", how)
            yield max(onset, self.bars.starts[0]), 2, element

    def _pedals(self) -> Iterable[_Event]:
        down = False
        for pedal in self.score.pedals:
            kind = "stop" if pedal.state == "off" else "change" if down else "start"
            if pedal.state == "half" or kind == "change":
                yield pedal.onset, 5, ET.Element("sound", {"damper-pedal": "50" if pedal.state == "half" else "yes"})
                continue
            element = _direction("below", "pedal", type=kind, line="yes", sign="no")
            _add(element, "staff", len(self.staves))
            down = pedal.state != "off"
            yield max(pedal.onset, self.bars.starts[0]), 4, element

    def _dynamics(self) -> Iterable[_Event]:
        """A mark at the first bar, and where the music has become louder or softer for `_PHRASE` bars."""
        notes = self.score.notes
        if len(set(notes[:, VELOCITY].tolist())) == 1:
            return  # nobody chose a loudness
        loud: list[float] = []
        places: list[int] = []
        for place, (start, end) in enumerate(zip(self.bars.starts, self.bars.ends, strict=True)):
            inside = (notes[:, ONSET] >= start) & (notes[:, ONSET] < end)
            if inside.any():
                loud.append(float(notes[inside, VELOCITY].mean()))
                places.append(place)
        shown: tuple[int, str] | None = None
        for number, place in enumerate(places):
            level = float(np.median(loud[number : number + _PHRASE]))
            mark = min(_MARKS, key=lambda pair: abs(pair[0] - level))
            if shown is None or (mark != shown and abs(level - shown[0]) > 10 and abs(loud[number] - level) < 10):
                shown = mark
                element = _direction("below", "dynamics")
                _add(element[0][0], mark[1])
                _add(element, "staff", 1)
                yield self.bars.starts[place], 1, element


def _sign(metre: Metre) -> tuple[int, int]:
    return metre.numerator, metre.denominator


def _add(parent: ET.Element, tag: str, text: object = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    if text is not None:
        element.text = str(text)
    return element


def _direction(placement: str, tag: str, text: object = None, **attributes: str) -> ET.Element:
    element = ET.Element("direction", placement=placement)
    _add(_add(element, "direction-type"), tag, text, **attributes)
    return element


def _add_key(attributes: ET.Element, key: Key) -> None:
    element = _add(attributes, "key")
    _add(element, "fifths", key.fifths)
    _add(element, "mode", "minor" if key.minor else "major")


def _add_name(element: ET.Element, what: str, name: str) -> None:
    _add(element, f"{what}-step", name[0])
    if alter := name.count("#") - name[1:].count("b"):
        _add(element, f"{what}-alter", alter)


def _named(fifths: int, pitch: int) -> tuple[str, int, int]:
    """Step, alter and octave of a key that is spelled at a place on the line of fifths."""
    alter, letter = divmod(fifths + 1, 7)
    return LETTERS[letter], alter, (pitch - alter) // 12 - 1


def _beams(flat: Sequence[tuple[Chord | None, Piece]], metre: Metre) -> list[list[str]]:
    """For each piece the state of its beams, the longest first."""
    edges = groups(metre.numerator, metre.denominator)
    group_of: list[int | None] = []
    for chord, piece in flat:
        beat = sum(edge <= piece.start for edge in edges) - 1
        group_of.append(beat if chord is not None and piece.value in _FLAGS else None)
    halves = len(edges) == 5 and edges[1] == 24
    if halves:  # four eighths in a half bar of 4/4 are one group
        for half in (0, 2):
            places = [place for place, group in enumerate(group_of) if group in (half, half + 1)]
            inside = [place for place, (_, piece) in enumerate(flat) if edges[half] <= piece.start < edges[half + 2]]
            if len(places) == 4 and places == inside and all(flat[place][1].ticks == 12 for place in places):
                for place in places:
                    group_of[place] = half
    beams: list[list[str]] = [[] for _ in flat]
    place = 0
    while place < len(flat):
        last = place
        while last + 1 < len(flat) and group_of[last + 1] is not None and group_of[last + 1] == group_of[place]:
            last += 1
        if group_of[place] is not None and last > place:
            levels = [_FLAGS[flat[at][1].value] for at in range(place, last + 1)]
            for at, level in enumerate(levels):
                for depth in range(1, level + 1):
                    before = at > 0 and levels[at - 1] >= depth
                    after = at + 1 < len(levels) and levels[at + 1] >= depth
                    state = "continue" if before and after else "end" if before else "begin" if after else ""
                    beams[place + at].append(state or ("backward hook" if at else "forward hook"))
        place = last + 1
    return beams


_LOW_LEFT, _HIGH_RIGHT = 62, 57


def _clefs(score: Score, staff: Staff, bars: Bars, number: int) -> list[str]:
    """A clef for each bar: the staff's own, the other where two bars on end lie wholly in its reach."""
    usual, other = ("G", "F") if number == 0 else ("F", "G")
    away: list[bool] = []
    for start, end in zip(bars.starts, bars.ends, strict=True):
        rows = [row for voice in staff.voices for c in voice if start <= c.start < end for row in c.notes]
        keys = [int(score.notes[row, PITCH]) for row in rows]
        if usual == "G":
            away.append(bool(keys) and max(keys) <= 60 and sum(keys) < _HIGH_RIGHT * len(keys))
        else:
            away.append(bool(keys) and min(keys) >= 58 and sum(keys) > _LOW_LEFT * len(keys))
    clefs: list[str] = []
    for place, lies in enumerate(away):
        near = lies and ((place + 1 < len(away) and away[place + 1]) or (place > 0 and clefs[place - 1] == other))
        clefs.append(other if near else usual)
    return clefs
