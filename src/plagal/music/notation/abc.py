"""ABC 2.1 as bars. Our own reader: music21's plays voices one after the other, ignores inline fields and doubles
repeats; symusic's reads the first tune of a file; lytk's stands beside this one in docs/corpus.md.

Follows the standard, and abc2midi where the standard leaves things open ("Q:120" is quarters, a clef "treble-8" sounds
an octave lower, an accidental holds for its letter in all octaves until the bar line). Grace notes, ornaments and other
decorations that have no place in a score are left out and counted. Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from plagal.music.notation.bars import USUAL_VELOCITY, Bar, section_named
from plagal.music.notation.repeats import MOST_TIMES, Marks
from plagal.music.notation.symbols import chord_of_text
from plagal.plumbing.errors import AbcError

MOST_DIGITS = 4
"""Of any number in the music: no note lasts ten thousand units."""
MOST_BARS_OF_REST = 400

DYNAMICS = {"pppp": 20, "ppp": 20, "pp": 35, "p": 50, "mp": 65, "mf": 80, "f": 95, "ff": 110, "fff": 125, "ffff": 125,
            "sfz": 95, "sf": 95}  # fmt: skip

_FIFTHS = {"C": 0, "D": 2, "E": 4, "F": -1, "G": 1, "A": 3, "B": 5}
_SHARP_ORDER = "FCGDAEB"
_NATURAL = {"C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "A": 69, "B": 71}
_MODES = {"maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1}
"""Mode -> fifths that its signature has beyond the major one's."""
_MINOR_MODES = ("m", "min", "aeo", "dor", "phr", "loc")

_LETTER_DECORATIONS = {".": "staccato", "~": "roll", "H": "fermata", "L": "accent", "M": "lowermordent", "O": "coda",
                       "P": "uppermordent", "S": "segno", "T": "trill", "u": "upbow", "v": "downbow"}  # fmt: skip
_ORNAMENTS = {"roll", "trill", "lowermordent", "uppermordent", "mordent", "pralltriller", "turn", "turnx",
              "invertedturn", "invertedturnx", "trill(", "slide", "arpeggio", "~", "/", "//", "///"}  # fmt: skip
_ARTICULATIONS = {"staccato", "accent", ">", "emphasis", "tenuto", "marcato", "^", "wedge", "fermata",
                  "invertedfermata", "shortphrase", "mediumphrase", "longphrase", "breath"}  # fmt: skip

_TOKEN = re.compile(
    r"""(?P<space>[\s`\\$*;]+)
    | (?P<note>(?P<accidental>\^\^?/?|__?/?|=)?(?P<letter>[A-Ga-g])(?P<octave>[,']*)(?P<length>\d*/*\d*))
    | (?P<bar>\.?(?:\[(?=[|])|\||:(?=[|:\]])|(?<=[|:]):|(?<=\|)\])+(?P<number>\[?\d[\d,.-]*(?![\d/]))?)
    | (?P<rest>(?P<kind>[zxZXy])(?P<wait>\d*/*\d*))
    | "(?P<quote>[^"]*)"
    | !(?P<decoration>[^!\s]{1,24})!
    | \+(?P<old>[a-z<>().0-9]{1,24})\+
    | \[(?P<field>[A-Za-z]):(?P<value>[^\]]*)\]
    | \[(?P<ending>\d[\d,.-]*)
    | \((?P<tuplet>\d+(?::\d*){0,2})
    | \{(?P<grace>[^}]*)\}?
    | (?P<chord>\[)
    | (?P<close>\](?P<times>\d*/*\d*))
    | (?P<broken><+|>+)
    | (?P<tie>\.?-)
    | (?P<overlay>&+)
    | (?P<slur>[()!])
    | (?P<letters>[.~H-Wh-w])
    | (?P<other>.)""",
    re.VERBOSE,
)
_FIELD = re.compile(r"([A-Za-z+]):(?![|:])\s*(.*)")


@dataclass(slots=True)
class _KeyField:
    """What a K: field sets; None where it leaves things as they are."""

    fifths: int | None = None
    minor: bool = False
    accidentals: dict[str, int] = field(default_factory=dict)
    """Letter -> semitones, signature and explicit accidentals together."""


@dataclass(slots=True)
class _Voice:
    """Where one voice is in its music."""

    name: str
    unit: Fraction
    """[quarters]"""
    metre: tuple[int, int]
    signature: dict[str, int]
    base: int = 0
    own: int = 0
    """Semitones by which all of the tune and this voice sound higher than written."""
    drums: bool = False
    bars: list[Bar] = field(default_factory=list)
    bar: Bar = field(default_factory=Bar)
    now: Fraction = Fraction(0)
    longest: Fraction = Fraction(0)
    """Of the overlays of this bar that are behind us."""
    layer: int = 0
    altered: dict[str, int] = field(default_factory=dict)
    tied: dict[tuple[str, str], int] = field(default_factory=dict)
    """Letter and octave of a note that is tied on -> its accidental, which holds over the bar line."""
    last: list[int] = field(default_factory=list)
    """Places in `bar.notes` of what sounded last, for broken rhythm."""
    last_heads: list[re.Match[str]] = field(default_factory=list)
    last_length: Fraction = Fraction(0)
    broken: Fraction | None = None
    tuplet: Fraction = Fraction(1)
    tuplet_left: int = 0
    velocity: int = USUAL_VELOCITY

    @property
    def shift(self) -> int:
        return self.base + self.own


class AbcReader:
    """One tune. `read` walks through it; then `bars`, `title`, `losses` and `parts` hold what was found."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.losses: Counter[str] = Counter()
        self.title = ""
        self.part_order = ""
        self.part_begins: dict[str, int] = {}
        self.voices: dict[str, _Voice] = {}
        self.symbols = dict(_LETTER_DECORATIONS)
        self.octaves_apart = self.notes_apart = False
        self.in_body = False
        self.heads = 0
        self.line = 0
        # What the header says for all voices.
        self.metre: tuple[int, int] = (4, 4)
        self.unit: Fraction | None = None
        self.key = _KeyField(0)
        self.shift = self.key_shift = 0
        self.tempo: tuple[list[Fraction], float] | None = None
        self.voice: _Voice

    def read(self, text: str) -> None:
        """Raises AbcError for what no music needs and costs too much; else counts what it does not understand."""
        for self.line, line in enumerate(text.splitlines(), 1):
            if line.startswith("%%") or line.startswith("I:"):
                self._directive(line[2:].strip())
                continue
            if self.in_body and not line.strip():
                self._after_end(text.splitlines()[self.line :])
                break
            plain = re.sub(r"(?<!\\)%.*", "", line)
            if match := _FIELD.match(plain):
                self._field(match[1], match[2].strip())
            elif self.in_body:
                self._music(plain)
        for voice in self.voices.values():
            self._close(voice, final=True)

    def _after_end(self, lines: list[str]) -> None:
        """A blank line ends the tune; what still looks like music after it is counted."""
        music = sum(line.count("|") > 1 and not line.startswith("%") and not _FIELD.match(line) for line in lines)
        self.losses["lines_after_end"] += music

    def fail(self, what: str) -> AbcError:
        bars = len(self.voice.bars) + 1 if self.in_body else 0
        return AbcError(f"{self.name}: line {self.line}, bar {bars}: {what}")

    # ------------------------------------------------------------------ fields

    def _field(self, letter: str, value: str) -> None:
        if letter == "T" and not self.in_body:
            self.title = self.title or value
        elif letter == "M":
            self._set_metre(value)
        elif letter == "L":
            self._set_unit(value)
        elif letter == "Q":
            self._set_tempo(value)
        elif letter == "K":
            self._set_key(value)
        elif letter == "V":
            self._set_voice(value)
        elif letter == "P":
            self._part(value)
        elif letter == "I":
            self._directive(value)
        elif letter == "U" and (match := re.match(r"(\S)\s*=\s*[!+]?([^!+\s]+)", value)):
            self.symbols[match[1]] = match[2]
        elif letter == "X" and self.in_body:
            raise self.fail("X: begins another tune")

    def _set_metre(self, text: str) -> None:
        text = text.strip()
        sums = re.match(r"\(?\s*(\d+(?:\s*\+\s*\d+)*)\s*\)?\s*/\s*(\d+)", text)
        if text.lower() in ("", "none"):
            metre = (0, 0)
        elif text.startswith("C|"):
            metre = (2, 2)
        elif text.startswith("C"):
            metre = (4, 4)
        elif sums and all(len(number) <= 2 for number in re.findall(r"\d+", text)):
            metre = (sum(int(number) for number in sums[1].split("+")), int(sums[2]))
        else:
            if len(max(re.findall(r"\d+", text), key=len, default="")) > 2:
                raise self._header_error(f"M:{text[:24]}")
            self.losses["metres_unwritable"] += 1
            return
        if metre != (0, 0) and (metre[0] == 0 or metre[1] not in (1, 2, 4, 8, 16, 32, 64)):
            self.losses["metres_unwritable"] += 1
            return
        if not self.in_body:
            self.metre = metre
            return
        if self.voice.now:
            self._close(self.voice)  # a metre begins a bar, whether a bar line stands there or not
        self.voice.metre = self.voice.bar.metre = metre

    def _header_error(self, what: str) -> AbcError:
        return AbcError(f"{self.name}: line {self.line}: {what!r} is too large a number")

    def _set_unit(self, text: str) -> None:
        match = re.match(r"(\d{1,4})\s*/\s*(\d{1,4})", text) or re.match(r"(1)()", text)
        if match is None or not int(match[1]) or match[2] == "0":
            self.losses["fields_unread"] += 1
            return
        unit = Fraction(4 * int(match[1]), int(match[2] or 1))
        if self.in_body:
            self.voice.unit = unit
        else:
            self.unit = unit

    def _set_tempo(self, text: str) -> None:
        plain = re.sub(r'"[^"]*"', " ", text).strip()
        beats = [Fraction(4 * int(a), int(b) or 1) for a, b in re.findall(r"(\d{1,3})/(\d{1,3})", plain)]
        speed = re.search(r"(?:=\s*|^)(\d{1,4}(?:\.\d+)?)\s*$", plain)
        if speed is None:
            self.losses["tempo_words"] += bool(text.strip())
            return
        quarters = (sum(beats) if beats else Fraction(1)) * Fraction(speed[1])
        if plain.upper().startswith("C"):  # "C=100", "C3=40" count in units
            quarters = (self.unit or self._usual_unit()) * Fraction(speed[1])
        if quarters <= 0:
            return
        if self.in_body:
            self.voice.bar.tempos.append((self.voice.now, float(quarters)))
        else:
            self.tempo = (beats, float(quarters))

    def _usual_unit(self) -> Fraction:
        """A sixteenth where the metre is under three quarters of a whole, else an eighth (ABC 2.1, 3.1.7)."""
        return Fraction(1, 4) if self.metre[0] and self.metre[0] / self.metre[1] < 0.75 else Fraction(1, 2)

    def _set_key(self, text: str) -> None:
        key, shift = _read_key(text)
        if not self.in_body:
            self.key, self.key_shift = (key if key.fifths is not None else self.key), shift
            self._begin()
            return
        voice = self.voice
        if key.fifths is not None:
            voice.signature = key.accidentals
            voice.altered = {}
            voice.bar.keys.append((voice.now, _transposed(key.fifths, voice.shift), key.minor))
        if shift:
            voice.base = shift

    def _begin(self) -> None:
        """The first K: ends the header."""
        self.in_body = True
        declared = list(self.voices.values())
        for voice in declared:
            voice.unit, voice.metre = self.unit or self._usual_unit(), self.metre
            voice.signature = dict(self.key.accidentals)
            voice.base = self.key_shift + self.shift
        self.voice = declared[0] if declared else self._new_voice("")

    def _new_voice(self, name: str) -> _Voice:
        voice = _Voice(
            name, self.unit or self._usual_unit(), self.metre, dict(self.key.accidentals), self.key_shift + self.shift
        )
        self.voices[name] = voice
        return voice

    def _set_voice(self, text: str) -> None:
        name = text.split()[0] if text.split() else ""
        properties = text[len(name) :]
        if name == "*" or not name:
            return
        voice = self.voices.get(name)
        if voice is None and list(self.voices) == [""] and name == "1" and self.voices[""].bars:
            voice = self.voices[""]  # music before any V: is the first voice's
        if voice is None:
            if len(self.voices) >= 64:
                raise AbcError(f"{self.name}: line {self.line}: more than 64 voices")
            if self.in_body and list(self.voices) == [""] and not (self.voices[""].bars or self.voices[""].bar.notes):
                kept = self.voices.pop("")
                voice = self._new_voice(name)
                # What stood before the first V: (an inline tempo, a repeat sign) is said of it.
                voice.bar, voice.unit, voice.metre = kept.bar, kept.unit, kept.metre
                voice.signature = dict(kept.signature)
            elif self.in_body:
                voice = self._new_voice(name)
            else:
                voice = self.voices[name] = _Voice(name, Fraction(1, 2), (4, 4), {})
        if properties:
            voice.own = _shift_of(properties)
        voice.drums |= bool(re.search(r"clef\s*=\s*\"?perc|\bperc\b", properties))
        if self.in_body:
            self.voice = voice

    def _part(self, text: str) -> None:
        if not self.in_body:
            self.part_order = _spelled_out(text)
            return
        if section := section_named(text):
            self.voice.bar.sections.append(section)
        elif text[:1].isalpha() and self.part_order:
            place = len(self.voice.bars) + (self.voice.now > 0)
            self.part_begins.setdefault(text[0], place)

    def _directive(self, text: str) -> None:
        """What %% and I: say that can be heard."""
        words = text.replace("=", " ").split()
        if words[:1] == ["MIDI"]:
            words = words[1:]
            if words[:1] in (["transpose"], ["rtranspose"]) and len(words) > 1:
                semitones = _whole(words[1])
                if not self.in_body:
                    self.shift = semitones
                elif words[0] == "rtranspose":
                    self.voice.base += semitones
                else:
                    self.voice.base = semitones
            elif words[:1] == ["nobarlines"]:
                self.notes_apart = True
            elif words[:2] == ["channel", "10"] and self.in_body:
                self.voice.drums = True
        elif words[:1] == ["propagate-accidentals"] and len(words) > 1:
            self.octaves_apart = words[1] == "octave"
        elif words[:1] == ["transpose"] and len(words) > 1 and not self.in_body:
            self.shift = _whole(words[1])

    # ------------------------------------------------------------------- music

    def _music(self, line: str) -> None:
        chord: list[tuple[re.Match[str], bool]] | None = None
        for match in _TOKEN.finditer(line):
            kind = match.lastgroup
            voice = self.voice
            # lastgroup names the outermost group that closed last, which is the alternative itself.
            if kind == "note":
                if chord is None:
                    self._sound([(match, False)], "")
                else:
                    chord.append((match, False))
            elif kind == "bar":
                if chord is not None:
                    self._sound(chord, "")
                    chord = None
                self._bar_line(match["bar"], match["number"])
            elif kind == "rest":
                self._rest(match["kind"], match["wait"])
            elif kind == "quote":
                self._quote(match["quote"])
            elif kind in ("decoration", "old"):
                self._decorate(match[kind])
            elif kind == "letters":
                self._decorate(self.symbols.get(match["letters"], ""))
            elif kind == "value":
                self._field(match["field"], match["value"].strip())
            elif kind == "ending":
                voice.bar.marks.ending = _numbers(match["ending"])
                if voice.now:
                    self.losses["endings_in_mid_bar"] += 1
            elif kind == "tuplet":
                self._tuplet(match["tuplet"])
            elif kind == "grace":
                self.losses["grace_notes"] += len(re.findall(r"[A-Ga-g]", match["grace"]))
            elif kind == "chord":
                chord = []
            elif kind == "close":
                if chord:
                    self._sound(chord, match["times"])
                chord = None
            elif kind == "broken":
                self._break(match["broken"])
            elif kind == "tie":
                if chord:
                    chord[-1] = (chord[-1][0], True)
                else:
                    self._tie()
            elif kind == "overlay":
                voice.longest = max(voice.longest, voice.now)
                voice.now, voice.layer, voice.last, voice.altered = Fraction(0), voice.layer + 1, [], {}
            elif kind == "other":
                self.losses["characters_unread"] += 1
        if chord:
            self._sound(chord, "")

    def _length(self, text: str) -> Fraction:
        top, slashes, bottom = re.fullmatch(r"(\d*)(/*)(\d*)", text).groups()  # type: ignore[union-attr]
        if max(len(top), len(bottom), len(slashes)) > MOST_DIGITS:
            raise self.fail(f"{text[:12]!r} is too large a number")
        below = int(bottom) if bottom and slashes else 2 ** len(slashes)
        return Fraction(int(top or 1), below or 1)

    def _stretched(self, length: Fraction) -> Fraction:
        """With the tuplet and the broken rhythm that it stands in."""
        voice = self.voice
        if voice.tuplet_left:
            voice.tuplet_left -= 1
            length *= voice.tuplet
        if voice.broken is not None:
            length *= voice.broken
            voice.broken = None
        return length

    def _sound(self, heads: list[tuple[re.Match[str], bool]], times: str) -> None:
        """A note or a chord; a chord lasts as long as its first note."""
        voice = self.voice
        factor = self._stretched(voice.unit * (self._length(times) if times else 1))
        pitches = voice.tied
        voice.tied, voice.last, voice.last_heads = {}, [], []
        step = Fraction(0)
        for number, (match, ties) in enumerate(heads):
            length = factor * self._length(match["length"])
            if number == 0:
                step = length
            self.heads += 1
            pitch = self._pitch(match, pitches) + voice.shift
            if voice.drums:
                self.losses["percussion"] += 1
                continue
            if length <= 0:
                self.losses["notes_without_length"] += 1
                continue
            voice.last.append(len(voice.bar.notes))
            voice.last_heads.append(match)
            layer = f"{voice.name}&{voice.layer}" if voice.layer else voice.name
            voice.bar.notes.append((voice.now, min(max(pitch, 0), 127), length, voice.velocity, ties, layer))
            if ties:
                voice.tied[match["letter"], match["octave"]] = pitch - voice.shift
        voice.last_length = step
        voice.now += step

    def _pitch(self, match: re.Match[str], tied: dict[tuple[str, str], int]) -> int:
        voice = self.voice
        letter, octave, accidental = match["letter"], match["octave"], match["accidental"]
        if len(octave) > MOST_DIGITS:
            raise self.fail(f"{match[0][:12]!r} is on no instrument")
        above = octave.count("'") - octave.count(",") + letter.islower()
        natural = _NATURAL[letter.upper()] + 12 * above
        place = f"{letter.upper()}{above}" if self.octaves_apart else letter.upper()
        if accidental:
            if accidental.endswith("/"):
                self.losses["quarter_tones"] += 1
            change = accidental.count("^") - accidental.count("_")
            if self.notes_apart:
                return natural + change
            voice.altered[place] = change
        elif (letter, octave) in tied and place not in voice.altered:
            return tied[letter, octave]
        return natural + voice.altered.get(place, voice.signature.get(letter.upper(), 0))

    def _tie(self) -> None:
        voice = self.voice
        for place in voice.last:
            onset, pitch, length, velocity, _, layer = voice.bar.notes[place]
            voice.bar.notes[place] = (onset, pitch, length, velocity, True, layer)
        for place, match in zip(voice.last, voice.last_heads, strict=True):
            voice.tied[match["letter"], match["octave"]] = voice.bar.notes[place][1] - voice.shift

    def _rest(self, kind: str, wait: str) -> None:
        voice = self.voice
        if kind == "y":
            return
        if kind in "ZX":
            count = self._length(wait)
            if count.denominator != 1 or not 1 <= count <= MOST_BARS_OF_REST:
                raise self.fail(f"{kind}{wait[:12]}: rests last 1 to {MOST_BARS_OF_REST} bars")
            full = Fraction(4 * voice.metre[0], voice.metre[1]) if voice.metre[0] else Fraction(4)
            for _ in range(int(count) - 1):
                voice.now += full
                self._close(voice)
            voice.now += full
            return
        length = self._stretched(voice.unit * self._length(wait))
        voice.last, voice.last_heads, voice.last_length, voice.tied = [], [], length, {}
        voice.now += length

    def _break(self, signs: str) -> None:
        """`a>b`: a half longer, b half as long; each further sign halves again."""
        voice = self.voice
        short = Fraction(1, 2 ** min(len(signs), 3))
        mine, other = (2 - short, short) if signs[0] == ">" else (short, 2 - short)
        if not voice.last_length:
            self.losses["characters_unread"] += 1
            return
        for place in voice.last:
            onset, pitch, length, velocity, ties, layer = voice.bar.notes[place]
            voice.bar.notes[place] = (onset, pitch, length * mine, velocity, ties, layer)
        voice.now += voice.last_length * (mine - 1)
        voice.last_length *= mine
        voice.broken = other

    def _tuplet(self, text: str) -> None:
        """(p:q:r: the next r notes, p in the time of q (ABC 2.1, 4.13)."""
        numbers = [int(number) if number and len(number) <= 2 else 0 for number in text.split(":")]
        p, q, r = (*numbers, 0, 0)[:3]
        compound = self.voice.metre[0] in (6, 9, 12) and self.voice.metre[1] >= 8
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, 3 if compound else 2)
        if not 1 <= p <= 64:
            self.losses["characters_unread"] += 1
            return
        self.voice.tuplet, self.voice.tuplet_left = Fraction(q or usual, p), r or p

    def _quote(self, text: str) -> None:
        if text[:1] in "^_<>@":
            self._words(text[1:].strip())
            return
        voice = self.voice
        for piece in text.split(";") if text.strip() else []:
            if self._words(piece.strip()):
                continue
            chord = chord_of_text(piece, self.losses)
            if chord is not None and voice.shift % 12:
                chord = chord.transposed(voice.shift)
            voice.bar.chords.append((voice.now, chord))

    def _words(self, text: str) -> bool:
        """Words over the music that say where it goes on, or name a section."""
        plain = re.sub(r"[\s._]+", "", text.lower())
        marks = self.voice.bar.marks
        if match := re.match(r"d([cs])(al|$)|dacapo|dalsegno", plain):
            marks.jump = "segno" if match[1] == "s" or plain.startswith("dals") else "capo"
        elif plain == "fine":
            marks.fine = True
        elif section := section_named(text):
            self.voice.bar.sections.append(section)
        else:
            return False
        return True

    def _decorate(self, name: str) -> None:
        marks = self.voice.bar.marks
        plain = re.sub(r"[\s._]+", "", name.lower())
        if name in DYNAMICS:
            self.voice.velocity = DYNAMICS[name]
        elif plain == "segno":
            marks.segno = True
        elif plain == "coda":
            marks.coda = True
        elif plain in ("dacoda", "tocoda"):
            marks.to_coda = True
        elif not self._words(name):
            if name in _ORNAMENTS:
                self.losses["ornaments"] += 1
            elif name in _ARTICULATIONS:
                self.losses["articulations"] += 1
            elif name not in ("upbow", "downbow", "") and not plain.isdigit():
                self.losses["decorations"] += 1

    def _bar_line(self, sign: str, number: str | None) -> None:
        voice = self.voice
        ends, begins = _colons(sign)
        self._close(voice)
        before = voice.bars[-1].marks if voice.bars else None
        if ends and before:
            before.times = max(before.times, min(ends + 1, MOST_TIMES))
        if before and (ends or "||" in sign or "]" in sign or "[|" in sign):
            before.ending_stops = before.strain_stops = True
        if begins:
            voice.bar.marks.start = True
        if number:
            voice.bar.marks.ending = _numbers(number)

    def _close(self, voice: _Voice, final: bool = False) -> None:
        """End a bar, where one has begun. Of an empty one the signs wait for the next."""
        voice.now = max(voice.now, voice.longest)
        voice.altered, voice.layer, voice.longest = {}, 0, Fraction(0)
        if voice.now == 0 and not voice.bar.notes:
            if final and voice.bars and voice.bar.marks.jump:
                voice.bars[-1].marks.jump = voice.bar.marks.jump
            return
        bar = voice.bar
        bar.length = voice.now
        voice.bars.append(bar)
        voice.bar = Bar()
        voice.now, voice.last = Fraction(0), []

    # ------------------------------------------------------------------ result

    def bars(self) -> list[Bar]:
        """All voices together, bar by bar; the first voice that has music says metre, key and form."""
        voices = [voice for voice in self.voices.values() if voice.bars]
        if not voices:
            return []
        count = max(len(voice.bars) for voice in voices)
        lead = voices[0] if len(voices[0].bars) == count else max(voices, key=lambda voice: len(voice.bars))
        first = lead.bars[0]
        if first.metre is None:
            first.metre = self.metre
        if not first.keys and self.key.fifths is not None:
            first.keys.append((Fraction(0), _transposed(self.key.fifths, lead.shift), self.key.minor))
        if self.tempo and not first.tempos:
            first.tempos.append((Fraction(0), self.tempo[1]))
        for voice in voices:
            if voice is lead:
                continue
            self.losses["bars_missing"] += count - len(voice.bars)
            for bar, other in zip(lead.bars, voice.bars, strict=False):
                self.losses["voices_uneven"] += bar.length != other.length
                bar.length = max(bar.length, other.length)
                bar.notes += other.notes
                bar.chords += other.chords
                bar.tempos += [tempo for tempo in other.tempos if tempo not in bar.tempos]
                bar.sections += [section for section in other.sections if section not in bar.sections]
                bar.marks.merge(other.marks)
        _jump_to_coda([bar.marks for bar in lead.bars])
        placed = sum(len(bar.notes) for bar in lead.bars)
        counted = self.losses["percussion"] + self.losses["notes_without_length"]
        self.losses["notes_unread"] += abs(self.heads - placed - counted)
        return lead.bars

    def parts(self, count: int) -> list[list[int]] | None:
        """Places of the bars of each part in the order of the header's P: field, None where it says none."""
        begins = sorted(self.part_begins.items(), key=lambda item: item[1])
        if not self.part_order or not begins:
            return None
        ends = [*(place for _, place in begins[1:]), count]
        spans = {name: list(range(place, end)) for (name, place), end in zip(begins, ends, strict=True)}
        if begins[0][1] > 0:
            spans[begins[0][0]] = [*range(begins[0][1]), *spans[begins[0][0]]]
        return [spans[name] for name in self.part_order if name in spans] or None


def _jump_to_coda(marks: list[Marks]) -> None:
    """`!coda!` is written at both ends of the way: the first of two says where one leaves."""
    codas = [place for place, here in enumerate(marks) if here.coda]
    if len(codas) > 1 and not any(here.to_coda for here in marks):
        # The sign stands over the bar that is still played when it stands at its end; ABC cannot say. Leave before it.
        leave = codas[0]
        marks[leave].coda = False
        marks[max(leave - 1, 0)].to_coda = True


def _colons(sign: str) -> tuple[int, int]:
    """How many colons stand before and after the bar: "::" is one of each."""
    bare = sign.replace("[", "").replace("]", "").replace(".", "")
    if "|" not in bare:
        return len(bare) // 2, len(bare) // 2
    ends, begins = len(bare) - len(bare.lstrip(":")), len(bare) - len(bare.rstrip(":"))
    return ends, begins


def _numbers(text: str) -> frozenset[int]:
    """Passes of an ending: "1,3", "1-3", "2"."""
    passes: set[int] = set()
    for piece in re.split(r"[,.]", text.strip("[")):
        numbers = [min(int(number[:3]), MOST_TIMES) for number in re.findall(r"\d+", piece)]
        if numbers:
            passes.update(range(numbers[0], numbers[-1] + 1))
    return frozenset(passes or {1})


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"[+-]?\d{1,2}", text) else 0


def _shift_of(properties: str) -> int:
    """Semitones of transpose=, octave= and a clef such as treble-8."""
    shift = 0
    for name, value in re.findall(r"(transpose|octave|t)\s*=\s*([+-]?\d{1,2})\b", properties):
        shift += int(value) * (12 if name == "octave" else 1)
    if match := re.search(r"(?:treble|bass|alto|tenor|none|\bG\d?|\bF\d?|\bC\d?)([+-])(8|15)", properties):
        shift += {"+8": 12, "-8": -12, "+15": 24, "-15": -24}[match[1] + match[2]]
    return shift


def _read_key(text: str) -> tuple[_KeyField, int]:
    """A K: field: tonic, mode, explicit accidentals, clef. "none" and nothing are C with no accidentals."""
    shift = _shift_of(text)
    text = re.sub(
        r"\b(?:clef|middle|stafflines|staffscale|transpose|octave|score|sound|style|m|t)\s*=\s*\S+", " ", text
    )
    match = re.match(r"\s*([A-G])([#b♯♭]?)\s*([A-Za-z]*)", text)
    if re.match(r"\s*H[Pp]\b", text):  # the pipes: F and C sharp, whatever is printed
        return _key_field(2, False), shift
    if match is None:
        bare = text.strip().lower()
        if bare and not bare.startswith(("none", "exp", "^", "_", "=")):
            return _KeyField(), shift  # a clef alone changes no key
        key, rest = _key_field(0, False), text
    else:
        mode = match[3].lower()
        name = mode if mode in _MODES else mode[:3]
        rest = text[match.end() :]
        if name not in _MODES:
            name, rest = "maj", text[match.end(2) :]
        if not mode and (words := re.match(r"\s+([A-Za-z]{3})", rest)) and words[1].lower() in _MODES:
            name = words[1].lower()
        fifths = _FIFTHS[match[1]] + 7 * {"#": 1, "♯": 1, "b": -1, "♭": -1, "": 0}[match[2]]
        key = _key_field(fifths + _MODES[name], name in _MINOR_MODES)
        # The tonic is what is told: E dorian as E minor, A mixolydian as A major, whatever the signature.
        key.fifths = fifths - 3 if key.minor else fifths
    if re.search(r"\bexp\b", rest):
        key.accidentals = {}
    for sign, letter in re.findall(r"(\^\^?|__?|=)([A-Ga-g])(?![a-z])", rest):
        key.accidentals[letter.upper()] = sign.count("^") - sign.count("_")
    if key.fifths is not None and abs(key.fifths) > 7:
        key.fifths -= 12 if key.fifths > 0 else -12
    return key, shift


def _key_field(signature: int, minor: bool) -> _KeyField:
    letters = _SHARP_ORDER if signature > 0 else _SHARP_ORDER[::-1]
    accidentals: dict[str, int] = {}
    for number in range(abs(signature)):
        accidentals[letters[number % 7]] = accidentals.get(letters[number % 7], 0) + (1 if signature > 0 else -1)
    return _KeyField(signature, minor, accidentals)


def _transposed(fifths: int, semitones: int) -> int:
    return fifths if semitones % 12 == 0 else (fifths + 7 * semitones + 5) % 12 - 5


def _spelled_out(order: str) -> str:
    """The parts that a header's P: names: "A(BC)2A3" -> "ABCBCAAA", at most 200 of them."""
    text = re.sub(r"[^A-Za-z0-9()]", "", order)[:200]
    if len(text) > 1 and section_named(order):
        return ""
    inner = re.compile(r"\(([A-Za-z0-9]*)\)(\d?)|([A-Za-z])(\d)")
    for _ in range(20):
        text, changed = inner.subn(lambda m: (m[1] or "") * int(m[2] or 1) if m[3] is None else m[3] * int(m[4]), text)
        if not changed or len(text) > 200:
            break
    return re.sub(r"[^A-Za-z]", "", text)[:200]
