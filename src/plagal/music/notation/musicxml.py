"""MusicXML 4.0 as bars: .musicxml and .xml as they are, .mxl by its container.

Our own reader: music21's drops chords with a degree, plays slashes and cue notes, parts chords where an element stands
between their notes, and takes 0.2 s to minutes a file; this one is linear in the file's length.
Pitches are what sounds (transposing instruments are moved); notes without pitch, cue notes, slashes and grace notes
are left out and counted, ornaments and tremolos are counted and played plain.

What Plagal wrote itself (`plagal.sheet`) says beside what is written what sounds: how far from its place a note begins
and ends (`attack`, `release`, also of a grace note), and how loud it is. There this is read, all chords are taken at
their word, and repeats are marks: so the same words come back.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
import zipfile
from bisect import bisect_right
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from plagal.music.chords import LETTERS, Degree, chord_of_kind
from plagal.music.grid import FASTEST, SLOWEST
from plagal.music.notation.bars import (
    DYNAMICS,
    MAX_NOTATION_BYTES,
    MOST_NOTES,
    MOST_PLAYED,
    MOST_TIMES,
    USUAL_VELOCITY,
    Bar,
    NoteHead,
    read_words,
    section_named,
    settle_codas,
    to_score,
)
from plagal.music.score import Score
from plagal.plumbing.errors import InputError

_BEAT_UNITS = {"breve": "8", "whole": "4", "half": "2", "quarter": "1", "eighth": "1/2", "16th": "1/4"}
_PEDALS = {"start": "on", "stop": "off", "change": "on", "resume": "on", "discontinue": "off"}
_DAMPER = {"yes": "on", "no": "off", "50": "half"}
_LONGEST_NUMBER = 24
"""[characters]"""
_MOST_DEGREES = 12
"""Of a chord, all that there are; a symbol of more says nothing."""
_MINOR_MODES = ("minor", "aeolian", "dorian", "phrygian", "locrian")
_LOST_IN_NOTATIONS = {"tremolo": "tremolos", "trill-mark": "ornaments", "turn": "ornaments", "mordent": "ornaments",
                      "inverted-turn": "ornaments", "inverted-mordent": "ornaments", "glissando": "ornaments",
                      "slide": "ornaments", "arpeggiate": "ornaments", "fermata": "articulations",
                      "staccato": "articulations", "accent": "articulations", "tenuto": "articulations",
                      "strong-accent": "articulations", "staccatissimo": "articulations"}  # fmt: skip


def score_from_musicxml(data: bytes, name: str, title: str = "", losses: Counter[str] | None = None) -> Score:
    """A score from the bytes of a MusicXML document; `name` stands in errors, `title` where it has none; `losses` of a
    translation are counted on."""
    # Nobody's scores declare entities; bombs do (expat would stop them too, but late).
    if b"<!ENTITY" in data:
        raise InputError(f"{name} does not parse as MusicXML: it declares entities of its own")
    try:
        root = ET.fromstring(data)  # noqa: S314 (see above; external entities are never fetched)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{name} does not parse as MusicXML: {' '.join(str(error).split())[:120]}") from None
    parts = _parts(root)
    if not parts:
        raise InputError(f"{name} does not parse as MusicXML: <{root.tag}> holds no part with measures")
    losses = Counter() if losses is None else losses
    exact = (root.findtext("identification/encoding/software") or "").startswith("Plagal ")
    if max(len(measures) for measures in parts) > MOST_PLAYED or sum(1 for _ in root.iter("note")) > MOST_NOTES:
        raise InputError(f"{name}: more than {MOST_PLAYED} measures or {MOST_NOTES} notes: cut it into shorter pieces")
    read = [_Part(number, name, losses, exact).read(measures) for number, measures in enumerate(parts)]
    bars = _together(read, losses)
    heads = sum(note.find("pitch") is not None for part in parts for measure in part for note in measure.iter("note"))
    silent = sum(losses[kind] for kind in ("grace_notes", "notes_cue", "notes_slash"))
    losses["notes_unread"] += abs(heads - silent - sum(len(bar.notes) for bar in bars))
    found = root.findtext("work/work-title") or root.findtext("movement-title") or ""
    return to_score(bars, found if exact else found or title, name, losses, exact=exact)


def unpacked(path: Path) -> bytes:
    """The document's bytes. Raises InputError where the file can't be read or is too large."""
    large = f"{path} is larger than {MAX_NOTATION_BYTES // 1_000_000} MB unpacked; split it by movement"
    try:
        if path.stat().st_size > MAX_NOTATION_BYTES:
            raise InputError(large)
        if path.suffix.lower() != ".mxl":
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_NOTATION_BYTES:
                raise InputError(large)
            names, container = archive.namelist(), "META-INF/container.xml"
            told = _member(archive, container) if container in names else b""
            scores = [
                name.decode("utf-8", "replace") for name in re.findall(rb"full-path\s*=\s*[\"']([^\"']+)", told)[:1]
            ]
            scores += [n for n in names if n.lower().endswith((".xml", ".musicxml")) and "META-INF" not in n]
            for score in scores:
                if score in names:
                    return _member(archive, score)
            raise InputError(f"{path} is not compressed MusicXML (no score in it)")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError, EOFError, zipfile.zlib.error):  # type: ignore[attr-defined]
        raise InputError(f"{path} is not compressed MusicXML (no zip file)") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of the archive, as long as the archive says; a plain `read` unpacks all of one that is longer."""
    with archive.open(name) as file:
        return file.read(archive.getinfo(name).file_size)


def _parts(root: ET.Element) -> list[list[ET.Element]]:
    """The measures of each part, whichever of the two contains the other."""
    if root.tag != "score-timewise":
        return [measures for part in root.findall("part") if (measures := part.findall("measure"))]
    parts: dict[str, list[ET.Element]] = {}
    for measure in root.findall("measure"):
        for part in measure.findall("part"):
            parts.setdefault(part.get("id", ""), []).append(part)
    return list(parts.values())


@lru_cache(maxsize=4096)
def _fraction(text: str) -> Fraction | None:
    """A number as it is written; None for one that no music needs. Raises ValueError where it is none: powers of ten
    are none in MusicXML, and 1e999999999 would be reckoned out."""
    if len(text) > _LONGEST_NUMBER or "e" in text.lower():
        raise ValueError(text[:_LONGEST_NUMBER])
    number = Fraction(text)
    return number if abs(number) <= 1_000_000 else None


class _Part:
    """One part, walked through measure by measure."""

    def __init__(self, number: int, name: str, losses: Counter[str], exact: bool) -> None:
        self.number, self.name, self.losses, self.exact = number, name, losses, exact
        self.divisions = Fraction(1)
        self.shift = 0
        self.velocity = USUAL_VELOCITY
        self.slashes = False
        self.bar = Bar()
        self.now = Fraction(0)
        self.longest = Fraction(0)
        self.before = Fraction(0)
        """Onset of the note before: a chord's notes share it, whatever stands between them."""
        self.dynamics: list[tuple[Fraction, int]] = []
        self.measure = ""

    def read(self, measures: list[ET.Element]) -> list[Bar]:
        bars = []
        for place, measure in enumerate(measures):
            self.measure = measure.get("number", str(place + 1))
            self.bar, self.dynamics = Bar(), []
            self.now = self.longest = self.before = Fraction(0)
            for element in measure:
                reader = getattr(self, "_" + element.tag.replace("-", "_"), None) if element.tag in _READ else None
                if reader is not None:
                    reader(element)
            self.bar.length = self.longest
            self._set_velocities()
            bars.append(self.bar)
        return bars

    def _number(self, text: str | None, usual: str = "0") -> Fraction:
        try:
            number = _fraction((text or usual).strip() or usual)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{self.name}: measure {self.measure}: {(text or '')[:20]!r} is not a number") from None
        if number is None:
            raise InputError(f"{self.name}: measure {self.measure}: {(text or '')[:20]} is too large a number")
        return number

    def _duration(self, element: ET.Element) -> Fraction:
        return max(self._number(element.findtext("duration")), Fraction(0)) / self.divisions

    def _onset(self, element: ET.Element) -> Fraction:
        return max(Fraction(0), self.now + self._number(element.findtext("offset")) / self.divisions)

    def _backup(self, element: ET.Element) -> None:
        self.now = max(Fraction(0), self.now - self._duration(element))

    def _forward(self, element: ET.Element) -> None:
        self.now += self._duration(element)
        self.longest = max(self.longest, self.now)

    def _attributes(self, element: ET.Element) -> None:
        if (text := element.findtext("divisions")) is not None:
            self.divisions = max(self._number(text), Fraction(1, 1000))
        transpose = element.find("transpose")
        if transpose is not None:
            chromatic = self._number(transpose.findtext("chromatic"))
            octaves = self._number(transpose.findtext("octave-change"))
            self.shift = int(chromatic) + 12 * int(octaves)
        for slash in element.iterfind("measure-style/slash"):
            self.slashes = slash.get("type") == "start"
        key = element.find("key")
        if key is not None and (text := key.findtext("fifths")) is not None:
            fifths = int(self._number(text))
            if self.shift % 12:
                fifths = (fifths + 7 * self.shift + 5) % 12 - 5
            mode = (key.findtext("mode") or "").strip().lower()
            minor = None if mode in ("", "none") else mode in _MINOR_MODES
            if abs(fifths) <= 7:
                self.bar.keys.append((self.now, fifths, minor))
        time = element.find("time")
        if time is not None:
            if time.find("senza-misura") is not None:
                self.bar.metre = (0, 0)
                return
            beats = [re.findall(r"\d+", beat.text or "") for beat in time.findall("beats")]
            types = [self._number(kind.text, "4") for kind in time.findall("beat-type")]
            total = Fraction(0)
            for numbers, kind in zip(beats, types, strict=False):
                total += sum((self._number(number) for number in numbers), Fraction(0)) / max(kind, Fraction(1))
            below = int(max(types, default=Fraction(4)))
            if total > 0 and below in (1, 2, 4, 8, 16, 32, 64):
                self.bar.metre = (int(total * below), below)
            else:
                self.losses["metres_unwritable"] += 1

    def _note(self, element: ET.Element) -> None:
        pitch = element.find("pitch")
        if element.find("grace") is not None and not self.exact:
            self.losses["grace_notes"] += pitch is not None
            return
        duration = self._duration(element)
        if element.find("chord") is None:
            self.before = self.now
            self.now += duration
            self.longest = max(self.longest, self.now)
        if element.find("rest") is not None:
            return
        if pitch is None:
            self.losses["percussion"] += 1
            return
        cue = element.find("cue") is not None
        if cue or self.slashes or (element.findtext("notehead") or "").strip() == "slash":
            self.losses["notes_cue" if cue else "notes_slash"] += 1
            return
        step = (pitch.findtext("step") or "").strip()
        if step not in LETTERS:
            raise InputError(f"{self.name}: measure {self.measure}: a pitch without a step")
        alter = self._number(pitch.findtext("alter"))
        octave = int(self._number(pitch.findtext("octave"), "4"))
        if alter.denominator != 1:
            self.losses["quarter_tones"] += 1
        sounding = 12 * (octave + 1) + LETTERS[step] + round(alter) + self.shift
        ties = any(tie.get("type") == "start" for tie in element.iterfind("tie"))
        voice = f"{self.number}/{element.findtext('voice') or '1'}"
        for mark in [] if self.exact else element.iterfind("notations//*"):
            if loss := _LOST_IN_NOTATIONS.get(mark.tag):
                self.losses[loss] += 1
        onset, velocity, key = self.before, 0, min(max(sounding, 0), 127)
        if self.exact:
            early, late = (self._number(element.get(name)) / self.divisions for name in ("attack", "release"))
            onset, duration = onset + early, duration - early + late
            velocity = round(0.9 * float(self._number(element.get("dynamics"))))
        self.bar.notes.append(NoteHead(onset, key, duration, velocity, ties, voice))
        if (staff := element.findtext("staff")) is not None:
            self.bar.hands[onset, key] = int(staff.strip() == "1")

    def _set_velocities(self) -> None:
        """By the dynamics of the part that hold when a note begins, in whatever order voices and marks are written."""
        marks = sorted(self.dynamics, key=lambda mark: mark[0])
        onsets, velocities = [onset for onset, _ in marks], [self.velocity, *(velocity for _, velocity in marks)]
        self.bar.notes = [
            note._replace(velocity=note.velocity or velocities[bisect_right(onsets, note.onset)])
            for note in sorted(self.bar.notes, key=lambda note: note.onset)
        ]
        self.velocity = velocities[-1]

    def _direction(self, element: ET.Element) -> None:
        onset = self._onset(element)
        marks = self.bar.marks
        sound = element.find("sound")
        for kind in element.iterfind("direction-type/*"):
            if kind.tag == "dynamics":
                self.dynamics += [(onset, DYNAMICS[mark.tag]) for mark in kind if mark.tag in DYNAMICS]
            elif kind.tag == "metronome" and (sound is None or sound.get("tempo") is None):
                self._metronome(kind, onset)
            elif kind.tag == "pedal" and kind.get("type") in _PEDALS:
                if kind.get("type") == "change":
                    self.bar.pedals.append((onset, "off"))
                self.bar.pedals.append((onset, _PEDALS[str(kind.get("type"))]))
            elif kind.tag in ("segno", "coda"):
                setattr(marks, kind.tag, True)
            elif kind.tag == "rehearsal":
                if section := section_named(kind.text or ""):
                    self.bar.sections.append(section)
                else:
                    self.losses["rehearsal_marks"] += 1
            elif kind.tag == "words":
                text = kind.text or ""
                if not read_words(marks, text) and (section := section_named(text)):
                    self.bar.sections.append(section)
            elif kind.tag == "wedge":
                self.losses["hairpins"] += kind.get("type") != "stop"
        if sound is not None:
            self._sound(sound, onset)

    def _metronome(self, element: ET.Element, onset: Fraction) -> None:
        unit = Fraction(_BEAT_UNITS.get((element.findtext("beat-unit") or "").strip(), "0"))
        dots = len(element.findall("beat-unit-dot"))
        speed = re.search(r"\d{1,4}(\.\d+)?", element.findtext("per-minute") or "")
        if unit and speed:
            self._tempo(float(unit * (2 - Fraction(1, 2**dots)) * Fraction(speed[0])), onset)

    def _tempo(self, speed: float, onset: Fraction) -> None:
        if speed > 0:
            self.bar.tempos.append((onset, min(FASTEST, max(SLOWEST, speed))))

    def _sound(self, element: ET.Element, onset: Fraction | None = None) -> None:
        marks = self.bar.marks
        onset = self._onset(element) if onset is None else onset
        if (tempo := element.get("tempo")) is not None:
            self._tempo(float(self._number(tempo)), onset)
        if (loudness := element.get("dynamics")) is not None and not any(at == onset for at, _ in self.dynamics):
            # A percentage of 90, MIDI's forte as MusicXML has it.
            self.dynamics.append((onset, min(max(round(0.9 * float(self._number(loudness))), 1), 127)))
        if state := _DAMPER.get(element.get("damper-pedal", "")):
            self.bar.pedals.append((onset, state))
        marks.segno |= element.get("segno") is not None
        marks.coda |= element.get("coda") is not None
        marks.fine |= element.get("fine") is not None
        if element.get("tocoda") is not None:
            marks.to_coda, marks.coda = True, False
        if element.get("dacapo") == "yes":
            marks.jump = "capo"
        elif element.get("dalsegno") is not None:
            marks.jump = "segno"

    def _harmony(self, element: ET.Element) -> None:
        onset = self._onset(element)
        kind = element.find("kind")
        root = self._pitch_class(element.find("root"), "root")
        nameless = kind is None or (root is None and (kind.text or "").strip() != "none")
        if kind is None or nameless or len(element.findall("degree")) > _MOST_DEGREES:
            self.losses["chord_symbols"] += 1
            self.bar.chords.append((onset, None))
            return
        degrees: list[Degree] = [
            ((degree.findtext("degree-type") or "add").strip(), int(self._number(degree.findtext("degree-value"))),
             int(self._number(degree.findtext("degree-alter"))))
            for degree in element.iterfind("degree")
        ]  # fmt: skip
        bass = self._pitch_class(element.find("bass"), "bass")
        text = kind.get("text") or ""
        self.bar.chords.append(
            (onset, chord_of_kind(root or 0, (kind.text or "").strip(), text, degrees, bass, self.losses))
        )

    def _pitch_class(self, element: ET.Element | None, what: str) -> int | None:
        step = (element.findtext(f"{what}-step") or "").strip() if element is not None else ""
        if element is None or step not in LETTERS:
            return None
        return (LETTERS[step] + int(self._number(element.findtext(f"{what}-alter"))) + self.shift) % 12

    def _barline(self, element: ET.Element) -> None:
        marks = self.bar.marks
        repeat, ending = element.find("repeat"), element.find("ending")
        if repeat is not None and self.exact:
            self.bar.repeats.append("START" if repeat.get("direction") == "forward" else "END")
        elif repeat is not None and repeat.get("direction") == "forward":
            marks.start = True
        elif repeat is not None:
            marks.times = max(2, min(int(self._number(repeat.get("times"), "2")), MOST_TIMES))
        if ending is not None:
            if ending.get("type") == "start":
                numbers = [int(number) for number in re.findall(r"\d{1,2}", ending.get("number") or "1")]
                marks.ending = frozenset(numbers or [1])
            else:
                marks.ending_stops = True
        marks.segno |= element.find("segno") is not None
        marks.coda |= element.find("coda") is not None


_READ = frozenset({"note", "backup", "forward", "attributes", "direction", "sound", "harmony", "barline"})


def _together(parts: list[list[Bar]], losses: Counter[str]) -> list[Bar]:
    """All parts bar by bar. The first part that sounds as written says the key; the first says metre and form."""
    count = max(len(part) for part in parts)
    bars = [Bar() for _ in range(count)]
    metre = (4, 4)
    for part in parts:
        losses["bars_missing"] += count - len(part)
    for place, bar in enumerate(bars):
        here = [part[place] for part in parts if place < len(part)]
        bar.metre = next((other.metre for other in here if other.metre), None)
        metre = bar.metre or metre
        bar.length = max(other.length for other in here)
        # An empty measure is a bar of rest.
        if bar.length == 0 and metre[0]:
            bar.length = Fraction(4 * metre[0], metre[1])
        losses["voices_uneven"] += sum(0 < other.length != bar.length for other in here)
        bar.keys = next((other.keys for other in here if other.keys), [])
        for other in here:
            bar.merge(other)
        bar.hands = bar.hands if len(parts) == 1 else {}
        bar.tempos.sort(key=lambda tempo: tempo[0])
        bar.pedals.sort(key=lambda pedal: pedal[0])
    settle_codas([bar.marks for bar in bars], leave=0)
    return bars
