"""MusicXML, ABC and Humdrum read into regular scores, repeats played out, by music21.

Grace notes, percussion and chord symbols that don't parse are left out and counted in the score's losses, beside what
`grid.regular` counts. All parts are played together. Where no dynamics stand, every note is mezzo-forte. A score
without a tempo mark gets 120 quarters a minute and the loss `tempo_unknown`.
"""

from __future__ import annotations

import copy
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from plagal.music.chords import parse_chord
from plagal.music.grid import LATEST_TICK, regular
from plagal.music.patience import patience
from plagal.music.score import TICKS_PER_QUARTER, Key, Marker, Metre, Score, Tempo
from plagal.plumbing.errors import AbcError, ChordError, InputError

NOTATION_SUFFIXES = (".musicxml", ".xml", ".mxl", ".abc", ".krn")
MAX_NOTATION_BYTES = 8_000_000
"""Unpacked. Larger files are orchestral scores that take minutes to parse, or no music at all."""

MOST_SECONDS, MOST_SECONDS_OF_A_TUNE = 300.0, 30.0
"""For a file, of which the longest in music21's corpus take twenty; for one tune in ABC, which takes a tenth of one."""

_HUGE_NUMBER = re.compile(r"\d{5,}|M:[^\n\]]*\d{3,}")
_DEFAULT_VELOCITY = 80
_DYNAMICS = {"ppp": 20, "pp": 35, "p": 50, "mp": 65, "mf": 80, "f": 95, "ff": 110, "fff": 125, "sf": 95, "sfz": 95}
_SLOWEST, _FASTEST = 20.0, 300.0


def load_notation(path: str | Path) -> Score:
    """The first piece of a MusicXML, .mxl or ABC file. Raises InputError (AbcError for ABC) that names the file."""
    for score in load_all(path):
        return score
    raise AbcError(f"{path} holds no tune (no line that begins with X:)")


def load_all(path: str | Path) -> Iterator[Score]:
    """Every piece of a file: an ABC file may hold many tunes, MusicXML holds one. Raises as `load_notation`."""
    path = Path(path)
    if path.suffix.lower() != ".abc":
        yield _load_file(path)
        return
    for tune in split_tunes(read_text(path)):
        yield score_from_abc(tune, str(path))


def read_text(path: Path) -> str:
    """A text file in UTF-8, or Latin-1 where it is not. Raises InputError where it's too large or can't be read."""
    try:
        if path.stat().st_size > MAX_NOTATION_BYTES:
            raise InputError(f"{path} is larger than {MAX_NOTATION_BYTES // 1_000_000} MB; split it by tune")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def split_tunes(text: str) -> list[str]:
    """The tunes of an ABC file, each from its `X:` line to the next."""
    tunes: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("X:"):
            tunes.append([])
        if tunes:
            tunes[-1].append(line)
    return ["\n".join(lines) + "\n" for lines in tunes]


def score_from_abc(text: str, name: str = "tune") -> Score:
    """One ABC tune as a score; `name` stands in errors. Raises AbcError."""
    from music21 import converter

    try:
        with patience(MOST_SECONDS_OF_A_TUNE):
            played, title = _walk(converter.parse(_checked_abc(text), format="abc"))
    except Exception as error:  # music21 raises nearly anything, and works out much only when it is asked
        raise AbcError(f"{name} does not parse as ABC: {_one_line(error)}") from None
    return _to_score(played, title, name)


def _checked_abc(text: str) -> str:
    """The same text. Raises AbcError for numbers that no music needs, which cost music21 minutes and gigabytes."""
    music = re.sub(r'"[^"\n]*"|%.*|^[A-JL-LN-PR-UW-Za-z]:.*', " ", text, flags=re.MULTILINE)
    if found := _HUGE_NUMBER.search(music):
        raise AbcError(f"{' '.join(found[0].split())[:24]!r} is too large a number")
    return text


def _load_file(path: Path) -> Score:
    """A MusicXML or Humdrum file."""
    from music21 import converter

    _check_size(path)
    humdrum = path.suffix.lower() == ".krn"
    try:
        with patience(MOST_SECONDS):
            form = "humdrum" if humdrum else "musicxml"
            played, title = _walk(converter.parse(path, forceSource=True, format=form))
    except Exception as error:  # as above
        name = "Humdrum" if humdrum else "MusicXML"
        raise InputError(f"{path} does not parse as {name}: {_one_line(error)}") from None
    return _to_score(played, title, path.stem)


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
        if path.suffix.lower() == ".mxl" and size <= MAX_NOTATION_BYTES:
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise InputError(f"{path} is no compressed MusicXML (no zip file)") from None
    if size > MAX_NOTATION_BYTES:
        raise InputError(f"{path} is larger than {MAX_NOTATION_BYTES // 1_000_000} MB unpacked; split it by movement")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


@dataclass
class _Played:
    """What has been found while the bars are walked through in the order in which they are played. Times in ticks."""

    shift: int
    rows: list[list[int]] = field(default_factory=list)
    metres: list[Metre] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    tempos: list[Tempo] = field(default_factory=list)
    chords: dict[int, str] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    tied: dict[int, list[int]] = field(default_factory=dict)
    """Pitch -> the row of a note of this part that is tied on."""
    velocity: int = _DEFAULT_VELOCITY


def _walk(parsed: Any) -> tuple[_Played, str]:
    """What is played, and the title."""
    from music21 import stream

    if isinstance(parsed, stream.Opus):
        parsed = parsed.scores[0]
    title = (parsed.metadata.title or "") if parsed.metadata else ""
    parts = [list(part.getElementsByClass("Measure")) or [part.flatten()] for part in parsed.parts or [parsed]]
    played = _Played(_pickup_ticks(parts[0]))
    order = _played_order(parts[0])
    for number, measures in enumerate(parts):
        played.tied, played.velocity = {}, _DEFAULT_VELOCITY
        _play(played, measures, order if len(measures) == len(parts[0]) else list(range(len(measures))), number == 0)
    return played, title


def _to_score(played: _Played, title: str, name: str) -> Score:
    if not played.rows:
        raise InputError(f"{name} holds no notes")
    if not played.tempos:
        played.losses["tempo_unknown"] = 1
    score = Score(
        notes=np.array(played.rows, dtype=np.int32),
        metres=tuple(played.metres) or (Metre(0, 4, 4),),
        tempos=tuple(sorted(played.tempos, key=lambda tempo: tempo.onset)),
        keys=tuple(played.keys),
        markers=tuple(Marker(onset, "chord", played.chords[onset]) for onset in sorted(played.chords)),
        title=" ".join(title.split()),
        losses=dict(played.losses),
    )
    score = regular(score)
    if not len(score.notes):
        raise InputError(f"{name} holds no notes on the piano's 88 keys")
    return score


def _ticks(quarters: float | Fraction) -> int:
    return int(Fraction(quarters) * TICKS_PER_QUARTER + Fraction(1, 2))


def _length(measures: list[Any], place: int) -> Fraction:
    """Quarters from a bar line to the next; of the last bar, what it holds."""
    if place + 1 < len(measures):
        return Fraction(measures[place + 1].offset) - Fraction(measures[place].offset)
    return Fraction(measures[place].duration.quarterLength)


def _pickup_ticks(measures: list[Any]) -> int:
    """How far the piece moves so that bar lines fall on multiples of the bar: a short first bar is an upbeat."""
    signature = next((signature for measure in measures for signature in _signatures(measure)), None)
    if signature is None or len(measures) < 2:
        return 0
    return max(0, _ticks(signature.barDuration.quarterLength) - _ticks(_length(measures, 0)))


def _signatures(measure: Any) -> list[Any]:
    """Time signatures of at least a quarter note: music21 makes up shorter ones for upbeats in ABC."""
    return [s for s in measure.getElementsByClass("TimeSignature") if s.barDuration.quarterLength >= 1]


def _played_order(measures: list[Any]) -> list[int]:
    """Places of the bars in the order in which repeats, endings and da capos have them played; as written where those
    don't add up. music21's own expander copies all notes, so it gets bars that hold their repeat marks alone."""
    from music21 import stream
    from music21.repeat import Expander, ExpanderException

    written = list(range(len(measures)))
    skeleton = stream.Part()
    marked = False
    for place, measure in enumerate(measures):
        bare = stream.Measure(number=place + 1)
        for side in ("leftBarline", "rightBarline"):
            line = getattr(measure, side, None)
            if line is not None and "Repeat" in line.classes:
                setattr(bare, side, copy.deepcopy(line))
                marked = True
        for mark in measure.getElementsByClass("RepeatExpression"):
            bare.insert(0, copy.deepcopy(mark))
            marked = True
        bare.editorial["place"] = place
        skeleton.append(bare)
    if not marked:
        return written
    _copy_brackets(measures, skeleton)
    try:
        return [int(measure.editorial["place"]) for measure in Expander(skeleton).process()]
    except (ExpanderException, KeyError, ValueError, AttributeError, TypeError, IndexError):
        return written


def _copy_brackets(measures: list[Any], skeleton: Any) -> None:
    """First and second endings, spanning the skeleton's bars instead of the real ones."""
    from music21.spanner import RepeatBracket

    bare = list(skeleton.getElementsByClass("Measure"))
    place_of = {id(measure): place for place, measure in enumerate(measures)}
    seen: set[int] = set()
    for measure in measures:
        for bracket in measure.getSpannerSites(["RepeatBracket"]):
            if id(bracket) not in seen:
                seen.add(id(bracket))
                spanned = [bare[place_of[id(m)]] for m in bracket.getSpannedElements() if id(m) in place_of]
                skeleton.insert(0, RepeatBracket(spanned, number=bracket.number))


def _play(played: _Played, measures: list[Any], order: list[int], leads: bool) -> None:
    """Walk through one part. `leads`: metres and keys are read from it."""
    quarters = Fraction(0)
    for place in order:
        measure = measures[place]
        start = _ticks(quarters) + played.shift
        if leads:
            _read_signatures(played, measure, start)
        for mark in measure.getElementsByClass("MetronomeMark"):
            if speed := mark.getQuarterBPM():
                onset = start + _ticks(mark.offset) if played.tempos else 0
                played.tempos.append(Tempo(onset, min(_FASTEST, max(_SLOWEST, float(speed)))))
        for container in (measure, *measure.voices):
            _read_notes(played, container, quarters)
        quarters += _length(measures, place)


def _read_signatures(played: _Played, measure: Any, start: int) -> None:
    for signature in _signatures(measure):
        metre = Metre(start if played.metres else 0, int(signature.numerator), int(signature.denominator))
        before = played.metres[-1] if played.metres else None
        # Repeats state the same metre again at an upbeat; that would begin a bar in mid-bar.
        if before is None or (metre.numerator, metre.denominator) != (before.numerator, before.denominator):
            played.metres.append(metre)
    for signature in measure.getElementsByClass("KeySignature"):
        fifths = signature.sharps or 0
        if -7 <= fifths <= 7:
            minor = getattr(signature, "mode", "") == "minor"
            played.keys.append(Key(start + _ticks(signature.offset) if played.keys else 0, fifths, minor))


def _read_notes(played: _Played, container: Any, quarters: Fraction) -> None:
    """Notes, dynamics and chord symbols of one bar (or one voice of it) that begins at `quarters`."""
    from music21 import chord, harmony, note

    base = quarters + (Fraction(container.offset) if "Voice" in container.classes else 0)
    marks = [(mark.offset, mark.value) for mark in container.getElementsByClass("Dynamic")]
    for element in container.notes:
        while marks and marks[0][0] <= element.offset:
            played.velocity = _DYNAMICS.get(marks.pop(0)[1], played.velocity)
        onset = _ticks(base + Fraction(element.offset)) + played.shift
        if isinstance(element, harmony.ChordSymbol):
            _read_chord_symbol(played, element, onset)
        elif not isinstance(element, note.Note | chord.Chord):
            played.losses["percussion"] += 1
        elif element.duration.isGrace or not element.duration.quarterLength:
            played.losses["grace_notes"] += 1
        else:
            end = _ticks(base + Fraction(element.offset) + Fraction(element.duration.quarterLength)) + played.shift
            for single in element.notes if isinstance(element, chord.Chord) else (element,):
                _add_note(played, single, onset, max(1, end - onset))


def _add_note(played: _Played, single: Any, onset: int, duration: int) -> None:
    if not 0 <= onset <= LATEST_TICK or duration > LATEST_TICK:
        raise InputError(f"at most {LATEST_TICK // TICKS_PER_QUARTER} quarters can be read: cut the piece")
    pitch = min(max(int(single.pitch.midi), 0), 127)
    tie = single.tie.type if single.tie is not None else ""
    before = played.tied.pop(pitch, None)
    if tie in ("stop", "continue") and before is not None and before[0] + before[2] == onset:
        before[2] += duration
        row = before
    else:
        row = [onset, pitch, duration, played.velocity]
        played.rows.append(row)
    if tie in ("start", "continue"):
        played.tied[pitch] = row


def _read_chord_symbol(played: _Played, symbol: Any, onset: int) -> None:
    """A chord symbol written above the staff; one that doesn't parse is left out and counted."""
    try:
        played.chords[onset] = parse_chord(symbol.figure.replace("-", "b")).symbol
    except ChordError:
        played.losses["chord_symbols"] += 1
