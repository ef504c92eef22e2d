"""ABC 2.1 as bars. Our own reader: music21's plays voices one after the other, ignores inline fields and doubles
repeats; symusic's reads the first tune of a file; lytk's stands beside this one in docs/words.md.

Follows the standard, and abc2midi where the standard leaves things open ("Q:120" is quarters, a clef "treble-8" sounds
an octave lower, an accidental holds for its letter in all octaves until the bar line). Grace notes, ornaments and other
decorations that have no place in a score are left out and counted. Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import cycle, islice

from plagal.music.chords import chord_of_text
from plagal.music.notation.abc_voice import Shared, Voice, passes_of
from plagal.music.notation.bars import DYNAMICS, MOST_PLAYED, Bar, read_words, section_named, settle_codas
from plagal.plumbing.errors import AbcError

_FIFTHS = {"C": 0, "D": 2, "E": 4, "F": -1, "G": 1, "A": 3, "B": 5}
_SHARP_ORDER = "FCGDAEB"
_MODES = {"maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1}
"""Mode -> fifths that its signature has beyond the major one's."""
_MINOR_MODES = ("m", "min", "aeo", "dor", "phr", "loc")


@dataclass(slots=True)
class KeyField:
    """What a K: field sets; None where it leaves things as they are."""

    fifths: int | None = None
    minor: bool = False
    accidentals: dict[str, int] = field(default_factory=dict)
    """Letter -> semitones, signature and explicit accidentals together."""


def read_metre(text: str) -> tuple[int, int] | None:
    """An M: field: (0, 0) for "none", None for what is not a metre. Raises AbcError for numbers that no music needs."""
    sums = re.match(r"\(?\s*(\d+(?:\s*\+\s*\d+)*)\s*\)?\s*/\s*(\d+)", text)
    if text.lower() in ("", "none"):
        return (0, 0)
    if text.startswith("C"):
        return (2, 2) if text.startswith("C|") else (4, 4)
    if re.search(r"\d{3}", text):
        raise AbcError(f"M:{text[:24]!r} is too large a number")
    if sums is None:
        return None
    metre = (sum(int(number) for number in sums[1].split("+")), int(sums[2]))
    return metre if metre[0] and metre[1] in (1, 2, 4, 8, 16, 32, 64) else None


def read_key(text: str) -> tuple[KeyField, int]:
    """A K: field: tonic, mode, explicit accidentals, clef. "none" and nothing are C with no accidentals."""
    shift = shift_of(text)
    text = re.sub(
        r"\b(?:clef|middle|stafflines|staffscale|transpose|octave|score|sound|style|m|t)\s*=\s*\S+", " ", text
    )
    match = re.match(r"\s*([A-G])([#b♯♭]?)\s*([A-Za-z]*)", text)
    if re.match(r"\s*H[Pp]\b", text):  # the pipes: F and C sharp, whatever is printed
        return _key_field(2, False), shift
    if match is None:
        bare = text.strip().lower()
        if bare and not bare.startswith(("none", "exp", "^", "_", "=")):
            return KeyField(), shift  # a clef alone changes no key
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


def _key_field(signature: int, minor: bool) -> KeyField:
    letters, sign = (_SHARP_ORDER, 1) if signature > 0 else (_SHARP_ORDER[::-1], -1)
    altered = Counter(islice(cycle(letters), abs(signature)))
    return KeyField(signature, minor, {letter: sign * times for letter, times in altered.items()})


def transposed(fifths: int, semitones: int) -> int:
    return fifths if semitones % 12 == 0 else (fifths + 7 * semitones + 5) % 12 - 5


def parts_in_order(order: str) -> str:
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


def shift_of(properties: str) -> int:
    """Semitones of transpose=, octave= and a clef such as treble-8."""
    shift = 0
    for name, value in re.findall(r"(transpose|octave|t)\s*=\s*([+-]?\d{1,2})\b", properties):
        shift += int(value) * (12 if name == "octave" else 1)
    if match := re.search(r"(?:treble|bass|alto|tenor|none|\bG\d?|\bF\d?|\bC\d?)([+-])(8|15)", properties):
        shift += {"+8": 12, "-8": -12, "+15": 24, "-15": -24}[match[1] + match[2]]
    return shift


def whole_number(text: str) -> int:
    return int(text) if re.fullmatch(r"[+-]?\d{1,2}", text) else 0


LONGEST_TUNE = 500_000
"""[characters] The longest of music21's 13,000 has 6,000. Bounds the time that text without a note can take."""

_LETTER_DECORATIONS = {".": "staccato", "~": "roll", "H": "fermata", "L": "accent", "M": "lowermordent", "O": "coda",
                       "P": "uppermordent", "S": "segno", "T": "trill", "u": "upbow", "v": "downbow"}  # fmt: skip
_ORNAMENTS = {"roll", "trill", "lowermordent", "uppermordent", "mordent", "pralltriller", "turn", "turnx",
              "invertedturn", "invertedturnx", "trill(", "slide", "arpeggio", "~", "/", "//", "///"}  # fmt: skip
_ARTICULATIONS = {"staccato", "accent", ">", "emphasis", "tenuto", "marcato", "^", "wedge", "fermata",
                  "invertedfermata", "shortphrase", "mediumphrase", "longphrase", "breath"}  # fmt: skip

# What may find no end in the line is bounded, so that no line costs its length squared.
_TOKEN = re.compile(
    r"""(?P<space>[\s`\\$*;]+)
    | (?P<note>(?P<accidental>\^\^?/?|__?/?|=)?(?P<letter>[A-Ga-g])(?P<octave>[,']*)(?P<length>\d*/*\d*))
    | (?P<bar>\.?(?:\[(?=[|])|\||:(?=[|:\]])|(?<=[|:]):|(?<=\|)\])+(?P<number>\[?\d[\d,.-]*(?![\d/]))?)
    | (?P<rest>(?P<kind>[zxZXy])(?P<wait>\d*/*\d*))
    | "(?P<quote>[^"]*)"
    | !(?P<decoration>[^!\s]{1,24})!
    | \+(?P<old>[a-z<>().0-9]{1,24})\+
    | \[(?P<field>[A-Za-z]):(?P<value>[^\]]{0,1000})\]
    | \[(?P<ending>\d[\d,.-]*)
    | \((?P<tuplet>\d+(?::\d*){0,2})
    | \{(?P<grace>[^}]*)\}?
    | (?P<chord>\[|\+(?=[^+\s|]{1,40}\+))
    | (?P<close>[\]+](?P<times>\d*/*\d*))
    | (?P<broken><+|>+)
    | (?P<tie>\.?-)
    | (?P<overlay>&+)
    | (?P<slur>[()!])
    | (?P<letters>[.~H-Wh-w])
    | (?P<other>.)""",
    re.VERBOSE,
)
_FIELD = re.compile(r"([A-Za-z+]):(?![|:])\s*(.*)")


class AbcReader:
    """One tune. `read` walks through it; then `bars`, `title`, `losses` and `parts` hold what was found."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shared = Shared()
        self.losses = self.shared.losses
        self.title = ""
        self.part_order = ""
        self.part_begins: dict[str, int] = {}
        self.voices: dict[str, Voice] = {}
        self.symbols = dict(_LETTER_DECORATIONS)
        self.in_body = False
        self.chord_symbols = 0
        # What the header says for all voices.
        self.metre: tuple[int, int] = (4, 4)
        self.unit: Fraction | None = None
        self.key = KeyField(0)
        self.shift = self.key_shift = 0
        self.tempo: float | None = None
        self.voice: Voice

    def read(self, text: str) -> None:
        """Raises AbcError for what no music needs and costs too much; else counts what it does not understand."""
        if len(text) > LONGEST_TUNE:
            raise AbcError(
                f"{self.name}: a tune of {len(text)} characters; up to {LONGEST_TUNE} are read: "
                "cut it into shorter pieces"
            )
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            if line.startswith("%%") or line.startswith("I:"):
                self._directive(line[2:].strip())
                continue
            if self.in_body and not line.strip():
                # A blank line ends the tune; what still looks like music after it is counted.
                after = [line for line in lines[number:] if not line.startswith("%") and not _FIELD.match(line)]
                self.losses["lines_after_end"] += sum(line.count("|") > 1 for line in after)
                break
            plain = re.sub(r"(?<!\\)%.*", "", line)
            try:
                if match := _FIELD.match(plain):
                    self._field(match[1], match[2].strip())
                elif self.in_body:
                    self._music(plain)
            except AbcError as error:
                bar = f", bar {len(self.voice.bars) + 1}" if self.in_body else ""
                raise AbcError(f"{self.name}: line {number}{bar}: {error}") from None
        for voice in self.voices.values():
            voice.close(final=True)

    # ------------------------------------------------------------------ fields

    def _field(self, letter: str, value: str) -> None:
        readers = {"M": self._set_metre, "L": self._set_unit, "Q": self._set_tempo, "K": self._set_key,
                   "V": self._set_voice, "P": self._part, "I": self._directive}  # fmt: skip
        if letter in readers:
            readers[letter](value)
        elif letter == "T" and not self.in_body:
            self.title = self.title or value
        elif letter == "U" and (match := re.match(r"(\S)\s*=\s*[!+]?([^!+\s]+)", value)):
            self.symbols[match[1]] = match[2]
        elif letter == "X" and self.in_body:
            raise AbcError("X: begins another tune")

    def _set_metre(self, text: str) -> None:
        metre = read_metre(text)
        if metre is None:
            self.losses["metres_unwritable"] += 1
        elif not self.in_body:
            self.metre = metre
        else:
            if self.voice.now:
                self.voice.close()  # a metre begins a bar, whether a bar line stands there or not
            self.voice.metre = self.voice.bar.metre = metre

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
        """In quarters a minute; words alone are counted. "120" counts quarters, as abc2midi takes it; "C=100" of old
        files counts units."""
        plain = re.sub(r'"[^"]*"', " ", text).strip()
        beats = [Fraction(4 * int(a), int(b) or 1) for a, b in re.findall(r"(\d{1,3})/(\d{1,3})", plain)]
        speed = re.search(r"(?:=\s*|^)(\d{1,4}(?:\.\d+)?)\s*$", plain)
        unit = self.unit or self._usual_unit()
        beat = unit if plain.upper().startswith("C") else sum(beats) if beats else Fraction(1)
        tempo = float(beat * Fraction(speed[1])) if speed else 0.0
        if not tempo:
            self.losses["tempo_words"] += bool(text)
        elif self.in_body:
            self.voice.bar.tempos.append((self.voice.now, tempo))
        else:
            self.tempo = tempo

    def _usual_unit(self) -> Fraction:
        """A sixteenth where the metre is under three quarters of a whole, else an eighth (ABC 2.1, 3.1.7)."""
        return Fraction(1, 4) if self.metre[0] and self.metre[0] / self.metre[1] < 0.75 else Fraction(1, 2)

    def _set_key(self, text: str) -> None:
        key, shift = read_key(text)
        if not self.in_body:
            self.key, self.key_shift = (key if key.fifths is not None else self.key), shift
            self._begin()
            return
        voice = self.voice
        if key.fifths is not None:
            voice.signature = key.accidentals
            voice.altered = {}
            voice.bar.keys.append((voice.now, transposed(key.fifths, voice.shift), key.minor))
        if shift:
            voice.base = shift

    def _begin(self) -> None:
        """The first K: ends the header."""
        self.in_body = True
        declared = [self._as_header(voice) for voice in self.voices.values()]
        self.voice = declared[0] if declared else self._new_voice("")

    def _as_header(self, voice: Voice) -> Voice:
        """The voice with what the header says for all."""
        voice.unit, voice.metre = self.unit or self._usual_unit(), self.metre
        voice.signature, voice.base = dict(self.key.accidentals), self.key_shift + self.shift
        return voice

    def _new_voice(self, name: str) -> Voice:
        voice = self.voices[name] = Voice(name, self.shared)
        return self._as_header(voice)

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
                raise AbcError("more than 64 voices")
            if self.in_body and list(self.voices) == [""] and not (self.voices[""].bars or self.voices[""].bar.notes):
                kept = self.voices.pop("")
                voice = self._new_voice(name)
                # What stood before the first V: (an inline tempo, a repeat sign) is said of it.
                voice.bar, voice.unit, voice.metre = kept.bar, kept.unit, kept.metre
                voice.signature = dict(kept.signature)
            else:
                voice = self._new_voice(name)
        if properties:
            voice.own = shift_of(properties)
        voice.drums |= bool(re.search(r"clef\s*=\s*\"?perc|\bperc\b", properties))
        if self.in_body:
            self.voice = voice

    def _part(self, text: str) -> None:
        if not self.in_body:
            self.part_order = parts_in_order(text)
            return
        if section := section_named(text):
            self.voice.bar.sections.append(section)
        elif text[:1].isalpha() and self.part_order:
            place = len(self.voice.bars) + (self.voice.now > 0)
            self.part_begins.setdefault(text[0], place)

    def _directive(self, text: str) -> None:
        """What %% and I: say that can be heard."""
        match text.replace("=", " ").split():
            case ["MIDI", "transpose" | "rtranspose", by, *_] | ["transpose", by, *_] if not self.in_body:
                self.shift = whole_number(by)
            case ["MIDI", "transpose", by, *_]:
                self.voice.base = whole_number(by)
            case ["MIDI", "rtranspose", by, *_]:
                self.voice.base += whole_number(by)
            case ["MIDI", "nobarlines", *_]:
                self.shared.notes_apart = True
            case ["MIDI", "channel", "10", *_] if self.in_body:
                self.voice.drums = True
            case ["propagate-accidentals", how, *_]:
                self.shared.octaves_apart = how == "octave"

    # ------------------------------------------------------------------- music

    def _music(self, line: str) -> None:
        chord: list[tuple[re.Match[str], bool]] | None = None
        for match in _TOKEN.finditer(line):
            kind = match.lastgroup
            voice = self.voice
            # lastgroup names the outermost group that closed last, which is the alternative itself.
            if kind == "note":
                if chord is None:
                    voice.sound([(match, False)], "")
                else:
                    chord.append((match, False))
            elif kind in ("bar", "close"):
                if chord:
                    voice.sound(chord, match["times"] or "")
                if kind == "bar":
                    voice.bar_line(match["bar"], match["number"])
                self.losses["characters_unread"] += chord is None and match[0].startswith("+")
                chord = None
            elif kind == "rest":
                if chord is None:  # in a chord a rest sounds as little as it does elsewhere, and takes no time
                    voice.rest(match["kind"], match["wait"])
            elif kind == "quote":
                self._quote(match["quote"])
            elif kind in ("decoration", "old"):
                self._decorate(match[kind])
            elif kind == "letters":
                self._decorate(self.symbols.get(match["letters"], ""))
            elif kind == "value":
                self._field(match["field"], match["value"].strip())
            elif kind == "ending":
                if voice.now and len(self.voices) > 1:
                    voice.bar.marks.ending = passes_of(match["ending"])  # voices keep their bars side by side
                    self.losses["endings_in_mid_bar"] += 1
                else:
                    voice.begin_ending(match["ending"])
            elif kind == "tuplet":
                voice.begin_tuplet(match["tuplet"])
            elif kind == "grace":
                self.losses["grace_notes"] += len(re.findall(r"[A-Ga-g]", match["grace"]))
            elif kind == "chord":
                chord = []
            elif kind == "broken":
                voice.break_rhythm(match["broken"])
            elif kind == "tie":
                if chord:
                    chord[-1] = (chord[-1][0], True)
                else:
                    voice.tie()
            elif kind == "overlay":
                voice.longest = max(voice.longest, voice.now)
                voice.now, voice.layer, voice.last, voice.altered = Fraction(0), voice.layer + 1, [], {}
            elif kind == "other":
                self.losses["characters_unread"] += 1
        if chord:
            voice.sound(chord, "")

    def _quote(self, text: str) -> None:
        if text[:1] in "^_<>@":
            self._words(text[1:].strip())
            return
        voice = self.voice
        for piece in text.split(";") if text.strip() else []:
            if self._words(piece.strip()):
                continue
            self.chord_symbols += 1
            if self.chord_symbols > MOST_PLAYED:
                raise AbcError(f"more than {MOST_PLAYED} chord symbols: cut it into shorter pieces")
            chord = chord_of_text(piece, self.losses)
            if chord is not None and voice.shift % 12:
                chord = chord.transposed(voice.shift)
            voice.bar.chords.append((voice.now, chord))

    def _words(self, text: str) -> bool:
        """Words over the music that say where it goes on, or name a section."""
        if read_words(self.voice.bar.marks, text):
            return True
        if section := section_named(text):
            self.voice.bar.sections.append(section)
        return section is not None

    def _decorate(self, name: str) -> None:
        marks = self.voice.bar.marks
        plain = re.sub(r"[\s._]+", "", name.lower())
        if name in DYNAMICS:
            self.voice.velocity = DYNAMICS[name]
        elif plain == "segno":
            marks.segno = True
        elif plain == "coda":
            marks.coda = True
        elif not self._words(name):
            if name in _ORNAMENTS:
                self.losses["ornaments"] += 1
            elif name in _ARTICULATIONS:
                self.losses["articulations"] += 1
            elif name not in ("upbow", "downbow", "") and not plain.isdigit():
                self.losses["decorations"] += 1

    # ------------------------------------------------------------------ result

    def bars(self) -> list[Bar]:
        """All voices together, bar by bar; the first voice that has music says metre, key and form."""
        voices = [voice for voice in self.voices.values() if voice.bars]
        if not voices:
            return []
        lead = max(voices, key=lambda voice: len(voice.bars))
        count = len(lead.bars)
        first = lead.bars[0]
        if first.metre is None:
            first.metre = self.metre
        if not first.keys and self.key.fifths is not None:
            first.keys.append((Fraction(0), transposed(self.key.fifths, lead.shift), self.key.minor))
        if self.tempo and not first.tempos:
            first.tempos.append((Fraction(0), self.tempo))
        for voice in voices:
            if voice is lead:
                continue
            self.losses["bars_missing"] += count - len(voice.bars)
            for bar, other in zip(lead.bars, voice.bars, strict=False):
                self.losses["voices_uneven"] += bar.length != other.length
                bar.length = max(bar.length, other.length)
                bar.merge(other)
        # Over the first note of a bar, as ABC has it, the sign means the bar line before.
        settle_codas([bar.marks for bar in lead.bars], leave=1)
        placed = sum(len(bar.notes) for bar in lead.bars)
        counted = self.losses["percussion"] + self.losses["notes_without_length"]
        self.losses["notes_unread"] += abs(self.shared.heads - placed - counted)
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
