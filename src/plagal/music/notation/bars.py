"""Written music as a list of bars, whatever its notation: in which order they are played, how they become a score.

Times are exact fractions of quarter notes, from the bar's own bar line; they are rounded to ticks once, when the piece
is played out. Every reader (`abc`, `musicxml`) fills `Bar`s; repeats, bar lines, ties and checks are the same for all.

music21's expander of repeats was used before: it copies all notes, doubles with every strain that has no sign for its
beginning, and goes back to the beginning of the piece where a repeat sign means the end of the repeat before.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from plagal.music import harmony
from plagal.music.chords import Chord
from plagal.music.grid import LATEST_TICK, SECTIONS, bar_lines, regular
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Marker, Metre, Pedal, Score, Tempo
from plagal.plumbing.errors import InputError

MOST_PLAYED = 20_000
"""Bars; a tune of 32 bars played an hour long has 2,000."""
MOST_TIMES = 100
"""That a strain is played; numbers beyond are misprints or malice."""


@dataclass(slots=True)
class Marks:
    """The signs at one bar, all of them read at the bar that they stand in or border on."""

    start: bool = False
    """A repeat begins here: "|:"."""
    times: int = 0
    """How often what ends here is played in all: 2 for ":|", 0 where no repeat ends."""
    ending: frozenset[int] = frozenset()
    """The passes in which the ending that begins here is played: {1, 3} for "|1,3"."""
    ending_stops: bool = False
    """The last bar of an ending."""
    strain_stops: bool = False
    """A double bar follows: in ABC a repeat without "|:" goes back to it (abc2midi too), in print it need not."""
    segno: bool = False
    coda: bool = False
    to_coda: bool = False
    fine: bool = False
    jump: str = ""
    """After this bar "capo" or "segno" is next, once."""

    def merge(self, other: Marks) -> None:
        """Take in what another voice says of the same bar."""
        for name in ("start", "ending", "ending_stops", "strain_stops", "segno", "coda", "to_coda", "fine"):
            setattr(self, name, getattr(self, name) | getattr(other, name))
        self.times = max(self.times, other.times)
        self.jump = self.jump or other.jump


def read_words(marks: Marks, text: str) -> bool:
    """Words over the music that say where it goes on ("D.C. al Fine", "To Coda") as signs; False where they don't."""
    plain = re.sub(r"[\s._]+", "", text.lower())
    if match := re.match(r"d([cs])(al|$)|dacapo|dalsegno", plain):
        marks.jump = marks.jump or ("segno" if match[1] == "s" or plain.startswith("dals") else "capo")
    elif plain == "fine":
        marks.fine = True
    elif plain in ("tocoda", "dacoda", "alcoda"):
        marks.to_coda = True
    else:
        return False
    return True


def settle_codas(marks: list[Marks], leave: int) -> None:
    """Of two coda signs the first says where one leaves: after the bar that it stands in (`leave` 0), or before (1)."""
    codas = [place for place, here in enumerate(marks) if here.coda]
    if len(codas) > 1 and not any(here.to_coda for here in marks):
        marks[codas[0]].coda = False
        marks[max(codas[0] - leave, 0)].to_coda = True


def played_order(marks: list[Marks], name: str = "the piece") -> list[int]:
    """Places of bars as they are played, in time linear in their number. Raises InputError beyond `MOST_PLAYED`.

    - A repeat goes back to its own "|:" or, where none stands, to the end of the repeat before it, or to the beginning.
    - An ending lasts until it stops, or the next one begins; the end of every ending but the last goes back, whether a
      sign says so or not. The last one is as long as the first where nothing but a later repeat sign closes it.
    - A strain is played as often as its highest ending says, at least as its signs say.
    - After a jump back no repeats are taken, and of endings the last; the piece then ends at its fine, or goes on at
      the coda from where "to coda" stands.
    """
    if len(marks) > MOST_PLAYED:
        raise InputError(f"{name}: {len(marks)} bars; at most {MOST_PLAYED} are read: cut it into shorter pieces")
    ends, highest = _endings(marks)
    codas = [place for place, here in enumerate(marks) if here.coda]
    order: list[int] = []
    place = begin = 0
    passing, jumped, opened = 1, False, False
    while place < len(marks):
        here = marks[place]
        # The ending first: "|:" may stand in the bar of a second ending, and opens what comes after this pass.
        if place in ends and not (max(here.ending) >= highest[place] if jumped else passing in here.ending):
            place = ends[place] + 1
            continue
        if here.start and (place != begin or not opened):
            begin, passing, opened = place, (passing if place == begin else 1), True
        order.append(place)
        if len(order) > MOST_PLAYED:
            raise InputError(f"{name}: repeats make more than {MOST_PLAYED} bars of it: cut it into shorter pieces")
        if jumped and here.fine:
            break
        if jumped and here.to_coda:
            following = bisect_right(codas, place)
            if following < len(codas):
                place = begin = codas[following]
                passing = 1
                continue
        if here.times and not jumped and passing < min(max(here.times, highest.get(place, 0)), MOST_TIMES):
            passing += 1
            place = begin
            continue
        if here.jump and not jumped:
            jumped = True
            back = (p for p in range(place, -1, -1) if marks[p].segno)
            place = begin = 0 if here.jump == "capo" else next(back, 0)
            passing = 1
            continue
        if here.times or (place in highest and passing >= highest[place] and here.ending_stops and not here.start):
            begin, passing, opened = place + 1, 1, False
        elif here.strain_stops and not opened and place not in highest:
            begin, passing = place + 1, 1
        place += 1
    return order


def _endings(marks: list[Marks]) -> tuple[dict[int, int], dict[int, int]]:
    """First place of each ending -> its last; any place within an ending -> the highest number of its strain's
    endings. Gives every ending but the last of a strain the repeat sign that it may lack."""
    firsts = [place for place, here in enumerate(marks) if here.ending]
    ends: dict[int, int] = {}
    highest: dict[int, int] = {}
    if not firsts:
        return ends, highest
    for first, following in zip(firsts, [*firsts[1:], len(marks)], strict=True):
        last = following - 1
        for place in range(first, following):
            if marks[place].ending_stops or marks[place].times or (place + 1 < following and marks[place + 1].start):
                last = place
                break
        # Scores in print stop the bracket a bar before its repeat sign.
        goes_on = following < len(marks) and 1 not in marks[following].ending
        ends[first] = following - 1 if goes_on and marks[following - 1].times else last
    group: list[int] = []
    seen: set[int] = set()
    for first, following in zip(firsts, [*firsts[1:], len(marks)], strict=True):
        group.append(first)
        seen |= marks[first].ending
        last = ends[first]
        if following == last + 1 and following < len(marks) and not marks[following].ending <= seen:
            marks[last].times = max(marks[last].times, 2)
            continue
        usual = first + ends[group[0]] - group[0]
        if len(group) > 1 and last > usual and (marks[last].times or not marks[last].ending_stops):
            ends[first] = usual
            marks[usual].ending_stops = True
        for start in group if 1 in seen else ():
            for place in range(start, ends[start] + 1):
                highest[place] = min(max(seen), MOST_TIMES)
        if 1 not in seen:
            # A second ending without a first is played whenever one comes by.
            for start in group:
                del ends[start]
        group, seen = [], set()
    return ends, highest


USUAL_VELOCITY = 80
"""Mezzo-forte, where no dynamics stand."""

DYNAMICS = {"pppp": 20, "ppp": 20, "pp": 35, "p": 50, "mp": 65, "mf": 80, "f": 95, "ff": 110, "fff": 125, "ffff": 125,
            "sf": 95, "sfz": 95, "fp": 95, "rf": 95, "rfz": 95, "sfp": 95, "fz": 95}  # fmt: skip
"""Mark -> velocity, that of the words' levels."""

MAX_NOTATION_BYTES = 8_000_000
"""Unpacked. Larger files are orchestral scores, or no music at all."""
MOST_NOTES = 100_000
"""Played; a Beethoven quartet has 20,000. Bounds what repeats may make of a small file: 5 s and 100 MB."""

_FINEST = 32
"""The finest denominator that a metre can have in words."""

_SECTION_NAMES = {name: name for name in SECTIONS} | {"REFRAIN": "CHORUS", "ENDING": "OUTRO", "INTRODUCTION": "INTRO"}


class NoteHead(NamedTuple):
    onset: Fraction
    """[quarters]"""
    pitch: int
    """[MIDI]"""
    duration: Fraction
    """[quarters]"""
    velocity: int
    ties: bool
    """Whether it is tied on."""
    voice: str
    """Where its tie ends."""


@dataclass(slots=True)
class Bar:
    """One bar as it is written, all voices together."""

    length: Fraction = Fraction(0)
    """[quarters] What it holds, which need not be what the metre says."""
    notes: list[NoteHead] = field(default_factory=list)
    chords: list[tuple[Fraction, Chord | None]] = field(default_factory=list)
    """None: a symbol that says that no chord sounds, or one that nobody can read: the chord before it ends."""
    metre: tuple[int, int] | None = None
    """Stated here; (0, 0) for music without metre."""
    keys: list[tuple[Fraction, int, bool | None]] = field(default_factory=list)
    """Onset, fifths, minor: None where only the accidentals stand."""
    tempos: list[tuple[Fraction, float]] = field(default_factory=list)
    pedals: list[tuple[Fraction, str]] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    """"START" and "END" where they are marks of the score, and nothing to be played again."""
    runs_on: bool = False
    """No bar line stands after it: an ending begins in mid-bar."""
    hands: dict[tuple[Fraction, int], int] = field(default_factory=dict)
    """Onset and pitch -> the hand, where the staff says it."""
    marks: Marks = field(default_factory=Marks)

    def merge(self, other: Bar) -> None:
        """Take in what another voice or part has in the same bar; its length, metre and keys are the reader's care."""
        for name in ("notes", "pedals", "repeats"):
            getattr(self, name).extend(getattr(other, name))
        for name in ("chords", "tempos", "sections"):
            said = getattr(self, name)
            said += [each for each in getattr(other, name) if each not in said]
        self.hands |= other.hands
        self.marks.merge(other.marks)


@dataclass(slots=True)
class _Measure:
    """One bar as it is played: two written ones where a repeat sign or an upbeat stands in mid-bar."""

    onset: Fraction
    length: Fraction
    metre: tuple[int, int]


def section_named(text: str) -> str | None:
    """ "Verse 2", "[Chorus]", "intro:" as the section that the words have; None where it is none of these."""
    word = text.strip(' []().:"').upper().rstrip(" 0123456789:.")
    return _SECTION_NAMES.get(word)


def to_score(
    bars: list[Bar],
    title: str,
    name: str,
    losses: Counter[str],
    parts: list[list[int]] | None = None,
    *,
    exact: bool = False,
) -> Score:
    """The piece played out, regular. `parts`: places of bars in the order in which named parts are played, where the
    notation says so; repeats hold within each. `exact`: chords and sections are asserted as they stand. Raises
    InputError, naming the piece, where there is nothing to play or far too much."""
    order: list[int] = []
    for part in parts or [list(range(len(bars)))]:
        order += [part[place] for place in played_order([bars[place].marks for place in part], name)]
    left_out = len(set(range(len(bars))).difference(order))
    if left_out:
        losses["bars_never_played"] += left_out
    if sum(len(bars[place].notes) for place in order) > MOST_NOTES:
        raise InputError(f"{name}: repeats make more than {MOST_NOTES} notes of it: cut it into shorter pieces")
    too_long = f"{name}: at most {LATEST_TICK // TICKS_PER_QUARTER} quarters can be read: cut it into shorter pieces"
    if sum((bars[place].length for place in order), Fraction(0)) * TICKS_PER_QUARTER > LATEST_TICK:
        raise InputError(too_long)
    measures, starts = _measures_of_pieces(bars, order, losses)

    rows = _play(bars, order, starts)
    if not rows:
        raise InputError(f"{name} holds no notes")
    if max(row[0] + row[2] for row in rows) > LATEST_TICK:
        raise InputError(too_long)

    placed = [(bars[place], start) for place, start in zip(order, starts, strict=True)]
    tempos = [Tempo(_ticks(start + onset), speed) for bar, start in placed for onset, speed in bar.tempos]
    if tempos:
        # What is marked on the first note holds for the rest before it too.
        tempos[0] = Tempo(0 if tempos[0].onset <= _ticks(starts[0]) else tempos[0].onset, tempos[0].quarters_per_minute)
    else:
        losses["tempo_unknown"] = 1
    keys = [(_ticks(start + onset), fifths, minor) for bar, start in placed for onset, fifths, minor in bar.keys]
    if keys:
        keys[0] = (0, *keys[0][1:])
    line = _bar_line_before if exact else _bar_line_from
    sections = [(line(measures, _ticks(start)), text) for bar, start in placed for text in bar.sections]
    markers = [Marker(onset, "section", text) for onset, text in sections]
    for bar, start in placed:
        ends = _ticks(start + bar.length)
        markers += [
            Marker(ends if text == "END" else _bar_line_before(measures, _ticks(start)), "repeat", text)
            for text in bar.repeats
        ]
    score = Score(
        notes=np.array(rows, dtype=np.int32),
        metres=_metres(measures),
        tempos=tuple(tempos) or (Tempo(0, 120.0),),
        keys=tuple(Key(onset, fifths, bool(minor)) for onset, fifths, minor in keys),
        pedals=tuple(Pedal(_ticks(start + onset), state) for bar, start in placed for onset, state in bar.pedals),
        markers=tuple(markers),
        title=" ".join(title.split()),
        losses={name: count for name, count in losses.items() if count},
    )
    score = regular(score)
    if not len(score.notes):
        raise InputError(f"{name} holds no notes on the piano's 88 keys")
    score = _with_chords(_with_modes(score, keys), placed, exact)
    # A loss for each bar line that the score does not have where the piece was played.
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    lines = set(bar_lines(score.metres, end)[0].tolist())
    if moved := sum(_ticks(measure.onset) not in lines for measure in measures if _ticks(measure.onset) < end):
        score.losses["bar_lines_moved"] = moved
    hands = {(_ticks(start + onset), key): hand for bar, start in placed for (onset, key), hand in bar.hands.items()}
    if len(set(hands.values())) == 2:
        places = zip(score.notes[:, ONSET].tolist(), score.notes[:, PITCH].tolist(), strict=True)
        score = replace(score, hands=np.array([hands.get(place, -1) for place in places], dtype=np.int8))
    return score


def _ticks(quarters: Fraction) -> int:
    """The nearest tick; exactly between two, the later."""
    doubled = 2 * TICKS_PER_QUARTER * quarters.numerator + quarters.denominator
    return doubled // (2 * quarters.denominator)


def _measures_of_pieces(
    bars: list[Bar], order: list[int], losses: Counter[str]
) -> tuple[list[_Measure], list[Fraction]]:
    """`_measures` of the bars in this order, where some are but the beginning of one [`runs_on`]."""
    metre = next((bar.metre for bar in bars if bar.metre), (4, 4))  # what stands nowhere is 4/4
    nominal = [metre := bar.metre or metre for bar in bars]
    whole: list[list[int]] = [[]]
    for place in order:
        whole[-1].append(place)
        if not bars[place].runs_on:
            whole.append([])
    whole = [pieces for pieces in whole if pieces]
    lengths = [[bars[place].length for place in pieces] for pieces in whole]
    played = [(sum(each, Fraction(0)), nominal[pieces[0]]) for each, pieces in zip(lengths, whole, strict=True)]
    measures, starts = _measures(played, losses)
    return measures, [
        start + before
        for start, each in zip(starts, lengths, strict=True)
        for before in accumulate([Fraction(0), *each[:-1]])
    ]


def _measures(
    played: list[tuple[Fraction, tuple[int, int]]], losses: Counter[str]
) -> tuple[list[_Measure], list[Fraction]]:
    """What lies between the bar lines that one hears, and where each played bar begins [quarters].

    A short first bar is an upbeat: it ends where its bar would. Two bars that make up one (the last of a strain and the
    next one's upbeat, a repeat sign in mid-bar) are one. Music without bar lines for two bars and more is counted off
    in bars of its metre. What is still shorter or longer than its metre keeps its bar lines, under a metre of its own.
    """
    measures: list[_Measure] = []
    starts: list[Fraction] = []
    now = Fraction(0)
    place = 0
    while place < len(played):
        length, metre = played[place]
        full = Fraction(4 * metre[0], metre[1]) if metre[0] else length
        if full <= 0:
            full = length
        joins = place + 1 < len(played) and length + played[place + 1][0] == full and metre == played[place + 1][1]
        if place == 0 and length < full and len(played) > 1 and not joins:
            now = full - length
            starts.append(now)
            measures.append(_Measure(Fraction(0), full, metre))
            now, place = full, 1
            continue
        starts.append(now)
        place += 1
        if length == 0:
            continue
        if length < full and joins:
            starts.append(now + length)
            place += 1
            length = full
        while length >= 2 * full:
            measures.append(_Measure(now, full, metre))
            now, length = now + full, length - full
        if length != full and (place < len(played) or length > full):
            losses["bars_irregular"] += 1
            # A bar's end must have words: what a wrong triplet leaves over becomes a rest.
            odd = -length % Fraction(4, _FINEST)
            losses["bars_padded"] += odd > 0
            length += odd
        if length:
            measures.append(_Measure(now, length, metre))
        now += length
    return measures, starts


def _metres(measures: list[_Measure]) -> tuple[Metre, ...]:
    metres: list[Metre] = []
    for measure in measures:
        numerator, denominator = measure.metre
        if not numerator or measure.length != Fraction(4 * numerator, denominator):
            denominator = max(denominator, 4)
            while (measure.length * denominator / 4).denominator > 1 and denominator < _FINEST:
                denominator *= 2
            numerator = int(measure.length * denominator / 4)
            if measure is measures[-1] and measure.length < Fraction(4 * measure.metre[0], measure.metre[1] or 4):
                numerator, denominator = measure.metre  # the last bar may be short: nothing follows
        if not metres or (metres[-1].numerator, metres[-1].denominator) != (numerator, denominator):
            metres.append(Metre(_ticks(measure.onset), numerator, denominator))
    return tuple(metres) or (Metre(0, 4, 4),)


def _bar_line_from(measures: list[_Measure], onset: int) -> int:
    """The first bar line at `onset` or after: a section that begins with an upbeat belongs to the bar after it."""
    return next((line for measure in measures if (line := _ticks(measure.onset)) >= onset), onset)


def _bar_line_before(measures: list[_Measure], onset: int) -> int:
    """The last bar line up to `onset`: what stands in an upbeat belongs to its bar."""
    return next((line for measure in reversed(measures) if (line := _ticks(measure.onset)) <= onset), 0)


def _play(bars: list[Bar], order: list[int], starts: list[Fraction]) -> list[list[int]]:
    """Rows of notes, tied ones as one. A tie holds where its voice strikes the same pitch when the first note ends,
    so it leads into each ending that follows."""
    rows: list[list[int]] = []
    tied: dict[tuple[str, int], tuple[Fraction, list[int]]] = {}
    for place, start in zip(order, starts, strict=True):
        for onset, pitch, duration, velocity, ties, voice in sorted(bars[place].notes, key=lambda note: note.onset):
            begin, end = start + onset, start + onset + duration
            until, row = tied.pop((voice, pitch), (None, None))
            if row is None or until != begin:
                row = [_ticks(begin), pitch, 0, velocity]
                rows.append(row)
            row[2] = max(1, _ticks(end) - row[0])
            if ties:
                tied[voice, pitch] = (end, row)
    return rows


def _with_modes(score: Score, keys: list[tuple[int, int, bool | None]]) -> Score:
    """Major or minor by ear where a signature stands without its mode: MuseScore writes none."""
    unsure = {(onset, fifths) for onset, fifths, minor in keys if minor is None}
    if not unsure:
        return score
    heard = harmony.hear_key(score)
    keys_by_ear = tuple(
        replace(key, minor=heard.minor and heard.fifths == key.fifths) if (key.onset, key.fifths) in unsure else key
        for key in score.keys
    )
    return replace(score, keys=keys_by_ear)


def _with_chords(score: Score, placed: list[tuple[Bar, Fraction]], exact: bool) -> Score:
    """The chord symbols of the piece, and what is heard where none holds: after a symbol that says or means nothing
    and, in a piece with a symbol in a quarter of its bars or fewer, after the bar that a symbol stands in."""
    symbols: dict[int, Chord | None] = {}
    ends: dict[int, int] = {}
    for bar, start in placed:
        for onset, chord in bar.chords:
            symbols[_ticks(start + onset)] = chord
            ends[_ticks(start + onset)] = _ticks(start + bar.length)
    if not any(symbols.values()):
        return score
    occasional = 4 * len(symbols) <= len(placed) and not exact
    heard = harmony.hear_chords(score) if occasional or None in symbols.values() else []
    begins = [onset for onset, _ in heard]
    markers = []
    onsets = sorted(symbols)
    for symbol_onset, until in zip(onsets, [*onsets[1:], LATEST_TICK], strict=True):
        chord = symbols[symbol_onset]
        silent = symbol_onset if chord is None else ends[symbol_onset] if occasional else until
        if chord is not None:
            markers.append(Marker(symbol_onset, "chord", chord.symbol))
        first = bisect_right(begins, silent)
        if chord is None and not heard:
            score.losses["chords_held_over"] = score.losses.get("chords_held_over", 0) + 1
        if silent < until and first and heard[first - 1][1] != chord:
            markers.append(Marker(silent, "chord", heard[first - 1][1].symbol))
        markers += [Marker(begin, "chord", found.symbol) for begin, found in heard[first : bisect_left(begins, until)]]
    last = max(int(score.notes[-1, ONSET]), onsets[-1])
    kept = [marker for marker in markers if marker.onset <= last]
    return regular(replace(score, markers=(*score.markers, *kept)))
