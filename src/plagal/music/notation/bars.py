"""Written music as a list of bars, whatever notation it stands in, and how it becomes a score.

Times are exact fractions of quarter notes, from the bar's own bar line; they are rounded to ticks once, when the piece
is played out. Every reader (`abc`, `musicxml`) fills `Bar`s; repeats, bar lines, ties and checks are the same for all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate

import numpy as np

from plagal.music import harmony
from plagal.music.chords import Chord
from plagal.music.grid import LATEST_TICK, SECTIONS, bar_lines, regular
from plagal.music.notation.repeats import Marks, played_order
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Marker, Metre, Pedal, Score, Tempo
from plagal.plumbing.errors import InputError

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

NoteHead = tuple[Fraction, int, Fraction, int, bool, str]
"""Onset and duration [quarters], pitch [MIDI], velocity, whether it is tied on, voice: where its tie ends."""


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


@dataclass(slots=True)
class _Measure:
    """One bar as it is played: two written ones where a repeat sign or an upbeat stands in mid-bar."""

    onset: Fraction
    length: Fraction
    metre: tuple[int, int]


def section_named(text: str) -> str | None:
    """ "Verse 2", "[Chorus]", "intro:" as the section that the words have; None where it is none of these."""
    word = text.strip(' []().:"').upper().rstrip(" 0123456789:.")
    return (
        {"REFRAIN": "CHORUS", "CODA": "OUTRO", "ENDING": "OUTRO", "INTRODUCTION": "INTRO"}.get(word, word)
        if (word in SECTIONS or word in ("REFRAIN", "ENDING", "INTRODUCTION"))
        else None
    )


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
    order = [place for part in parts or [list(range(len(bars)))] for place in _order_of(bars, part, name)]
    left_out = len(set(range(len(bars))).difference(order))
    if left_out:
        losses["bars_never_played"] += left_out
    if sum(len(bars[place].notes) for place in order) > MOST_NOTES:
        raise InputError(f"{name}: repeats make more than {MOST_NOTES} notes of it: cut the piece")
    too_long = f"{name}: at most {LATEST_TICK // TICKS_PER_QUARTER} quarters can be read: cut the piece"
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
    score = _checked(_with_chords(_with_modes(score, keys), placed, exact), measures)
    hands = {(_ticks(start + onset), key): hand for bar, start in placed for (onset, key), hand in bar.hands.items()}
    if len(set(hands.values())) == 2:
        places = zip(score.notes[:, ONSET].tolist(), score.notes[:, PITCH].tolist(), strict=True)
        score = replace(score, hands=np.array([hands.get(place, -1) for place in places], dtype=np.int8))
    return score


def _order_of(bars: list[Bar], part: list[int], name: str) -> list[int]:
    return [part[place] for place in played_order([bars[place].marks for place in part], name)]


def _ticks(quarters: Fraction) -> int:
    """The nearest tick; exactly between two, the later."""
    doubled = 2 * TICKS_PER_QUARTER * quarters.numerator + quarters.denominator
    return doubled // (2 * quarters.denominator)


def _nominal_metres(bars: list[Bar]) -> list[tuple[int, int]]:
    """The metre in force in each written bar; what stands nowhere is 4/4."""
    metre = next((bar.metre for bar in bars if bar.metre), (4, 4))
    return [metre := bar.metre or metre for bar in bars]


def _measures_of_pieces(
    bars: list[Bar], order: list[int], losses: Counter[str]
) -> tuple[list[_Measure], list[Fraction]]:
    """`_measures` of the bars in this order, where some are but the beginning of one [`runs_on`]."""
    nominal = _nominal_metres(bars)
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
        for onset, pitch, duration, velocity, ties, voice in sorted(bars[place].notes, key=lambda note: note[0]):
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


def _checked(score: Score, measures: list[_Measure]) -> Score:
    """The same score, with a loss for each bar line that it does not have where the piece was played."""
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    lines = set(bar_lines(score.metres, end)[0].tolist())
    moved = sum(_ticks(measure.onset) not in lines for measure in measures if _ticks(measure.onset) < end)
    if moved:
        score.losses["bar_lines_moved"] = moved
    return score
