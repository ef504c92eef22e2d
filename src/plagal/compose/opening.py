"""What a request fixes before a word is drawn: how the piece opens, what follows a gap, what falls where, and which
bars come back later.

Music that is kept (to go on from, around a gap) keeps its words, but for what a cut would break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plagal.asking.lexicon import arranger_style
from plagal.asking.progression import Progression
from plagal.asking.request import USUAL_METRE, Request
from plagal.music.arranger.form import ENDINGS, INTROS, chord_of, numerals_of
from plagal.music.arranger.harmony_grammar import Halves, chorus
from plagal.music.chords import Chord
from plagal.music.harmony import beat_ticks
from plagal.music.keys import key_tonic
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Metre, Score
from plagal.tokens.grammar import BEFORE_BEAT, KIND_OF, cut_bars
from plagal.tokens.vocabulary import DENSITIES, KEY_OF, METRE_OF, TEMPO_OF, key_word, metre_word, tempo_word

_EIGHTH_TICKS = TICKS_PER_QUARTER // 2
_AROUND = 0.2
"""A number of notes a bar is kept within this share of it."""


def opening_words(request: Request) -> tuple[str, ...]:
    """Words after SONG_START that the piece begins with: its key, metre and tempo, or all that is kept before the bars
    to be written. Bars that are kept are over: without the next BAR_START the model could write into the last."""
    if source := request.refill or request.continue_:
        head, bars = _cut(source.words)
        kept = [word for bar in bars[: request.kept_bars] for word in bar]
        return (*_balanced([*head, *kept]), *(["BAR_START"] if kept else []))
    words = [] if request.key is None else [key_word(request.key.fifths, request.key.minor)]
    tempo = request.quarters_per_minute
    # A tempo has a metre before it, as in training; and places in bars of an unknown length mean nothing.
    placing = ("metre", "tempo", "chords", "melody", "density", "feel", "level", "intro", "ending")
    if any(getattr(request, name) not in (None, ()) for name in placing):
        words.append(metre_word(*(request.metre or USUAL_METRE)))
    return (*words, *([tempo_word(tempo)] if tempo is not None else []))


def carried_words(request: Request) -> dict[int, tuple[str, ...]]:
    """Bar of the piece (from 0) -> the metre, key and tempo words with which bars to be written anew began: what such a
    bar carried it carries again, however its notes change."""
    if request.refill is None:
        return {}
    _, bars = _cut(request.refill.words)
    carried = {}
    for number in range(request.refill.first_bar - 1, request.refill.last_bar):
        words = bars[number]
        metre = [word for word in words if word in METRE_OF][:1]
        at = words.index("BEAT_0") + 1 if "BEAT_0" in words else len(words)
        held = [word for word in words[at : at + 2] if word in KEY_OF or word in TEMPO_OF]
        if metre or held:
            carried[number] = (*metre, *(["BEAT_0", *held] if held else []))
    return carried


def following_words(request: Request) -> tuple[str, ...]:
    """Words of the bars behind a gap, which begin with the metre, key and tempo that the gap had brought."""
    if request.refill is None:
        return ()
    _, bars = _cut(request.refill.words)
    gone = [word for bar in bars[request.refill.first_bar - 1 : request.refill.last_bar] for word in bar]
    return tuple(_balanced(_restated(gone, [word for bar in bars[request.refill.last_bar :] for word in bar])))


def _cut(words: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What stands before the first bar (without SONG_START), then each bar's words, SONG_END left out."""
    head, bars = cut_bars([word for word in words if word not in ("SONG_START", "SONG_END")])
    return head, [bar.words for bar in bars]


def _restated(gone: Sequence[str], after: list[str]) -> list[str]:
    if not after:
        return []
    opens = {word for word in after if word != "BAR_START" and KIND_OF[word][0] in BEFORE_BEAT}
    body = next((at for at, word in enumerate(after) if at and word not in opens), len(after))
    opening, rest = after[:body], after[body:]
    if not any(word in METRE_OF for word in opening):
        opening[1:1] = [word for word in gone if word in METRE_OF][-1:]
    here = rest[1:] if rest[:1] == ["BEAT_0"] else rest
    begins, count = list[str](), 0
    for table in (KEY_OF, TEMPO_OF):
        if count < len(here) and here[count] in table:
            begins.append(here[count])
            count += 1
        else:
            begins += [word for word in gone if word in table][-1:]
    return [*opening, *rest] if len(begins) == count else [*opening, "BEAT_0", *begins, *here[count:]]


def _balanced(words: Sequence[str]) -> list[str]:
    """Without repeats where a cut has parted a beginning from its end."""
    starts, ends = words.count("REPEAT_START"), words.count("REPEAT_END")
    return list(words) if starts == ends else [word for word in words if not word.startswith("REPEAT_")]


# --- what falls where


def _is_whole(request: Request) -> bool:
    """Whether all bars are to be written, about no melody."""
    return not request.kept_bars and request.refill is None and request.melody is None


PlacedChords = dict[tuple[int, int], Chord]
"""Chords by bar, from 0 over the whole piece, and tick from its bar line."""


@dataclass(frozen=True, slots=True)
class PlacedNote:
    """One note of a melody: `bar` from 0, `tick` from its bar line, `ticks` long."""

    bar: int
    tick: int
    pitch: int
    ticks: int


def bar_ticks(request: Request) -> int:
    """Of the metre in force where writing begins."""
    return Metre(0, *request.metre_in_force).bar_ticks


def placed_chords(request: Request) -> PlacedChords:
    """The asked progression over all bars to be written."""
    return spread_chords(request.chords, request.new_bars, bar_ticks(request), request.kept_bars)


def form_chords(request: Request) -> PlacedChords:
    """The chords of the introduction and of the ending that are asked for: two bars of introduction, or more where each
    chord would get less than a beat; the ending's last chord has the last bar, the others share those before it."""
    key = request.key
    if key is None or not _is_whole(request):
        return {}
    metre, bars, tonic = Metre(0, *request.metre_in_force), request.new_bars, key_tonic(key)
    beat = beat_ticks(metre)
    beats = metre.bar_ticks // beat

    def laid(numerals: tuple[str, ...], first: int, count: int) -> PlacedChords:
        """Spread over `count` bars; where they are more than there are beats, the last of them."""
        fitting = numerals[-count * beats :] if count else ()
        at = [divmod(place * count * beats // len(fitting), beats) for place in range(len(fitting))]
        return {
            (first + bar, number * beat): chord_of(numeral, tonic)
            for (bar, number), numeral in zip(at, fitting, strict=True)
        }

    placed: PlacedChords = {}
    if request.intro not in (None, "none", "last-line"):
        numerals = numerals_of(INTROS.get(request.intro, request.intro), key.minor)
        placed |= laid(numerals, 0, min(max(2, -(-len(numerals) // beats)), bars // 2))
    if request.ending not in (None, "none"):
        *before, last = numerals_of(ENDINGS.get(request.ending, request.ending), key.minor)
        count = min(max(1, -(-len(before) // beats)), bars - 1)
        placed |= laid(tuple(before), bars - 1 - count, count) | laid((last,), bars - 1, 1)
    return placed


def spread_chords(progression: Progression, bars: int, bar_ticks: int, first_bar: int = 0) -> PlacedChords:
    """A progression, bar by bar, over `bars` bars from `first_bar` on, again and again. Chords of one bar share it
    equally; a share that would begin between eighths begins on the beat before, where there are beats enough."""
    placed: PlacedChords = {}
    for number in range(bars if progression else 0):
        chords = progression[number % len(progression)]
        beat = TICKS_PER_QUARTER if len(chords) * TICKS_PER_QUARTER <= bar_ticks else 1
        for place, chord in enumerate(chords):
            tick = bar_ticks * place // len(chords)
            if tick % _EIGHTH_TICKS:
                tick -= tick % beat
            placed[first_bar + number, tick] = chord
    return placed


def placed_melody(tune: Score | None, bar_ticks: int) -> tuple[PlacedNote, ...]:
    """The highest note of each onset, cut where the next begins."""
    if tune is None:
        return ()
    notes = tune.notes[np.lexsort((-tune.notes[:, PITCH], tune.notes[:, ONSET]))]
    onsets, first = np.unique(notes[:, ONSET], return_index=True)
    ends = np.append(onsets[1:], np.iinfo(np.int32).max)
    return tuple(
        PlacedNote(onset // bar_ticks, onset % bar_ticks, pitch, min(ticks, end - onset))
        for onset, pitch, ticks, end in zip(
            onsets.tolist(), notes[first, PITCH].tolist(), notes[first, DURATION].tolist(), ends.tolist(), strict=True
        )
    )


def notes_a_bar(request: Request) -> tuple[int, int] | None:
    """The fewest and the most notes that a bar may strike; None where no density is asked for."""
    asked = request.density
    if asked is None:
        return None
    if isinstance(asked, str):
        fewest, most = (share * bar_ticks(request) / TICKS_PER_QUARTER for share in DENSITIES[asked])
    else:
        fewest, most = asked * (1 - _AROUND), asked * (1 + _AROUND)
    return max(1, round(fewest)), max(1, round(most))


PHRASE_BARS = 4
RETURNING_BARS = 2
"""So many bars of a phrase come back where it is repeated; its second half answers anew."""
LOWEST_MELODY_PITCH = 60


def returning_bars(request: Request) -> dict[int, int]:
    """Bar -> the bar that comes back there, both from 0: of four phrases (A A' B A'') the second and the fourth begin
    as the first, and after sixteen bars it begins again. Empty where melody, chords, other bars or a density are given:
    what comes back owes its notes."""
    if request.density is not None or request.chords or not _is_whole(request):
        return {}
    returns = {}
    if form := chorus_bars(request):
        return _returning_in(form, request.new_bars)
    for bar in range(PHRASE_BARS, request.new_bars - 1):  # the last bar is the end's
        phrase, place = divmod(bar, PHRASE_BARS)
        back = {0: 4, 1: 1, 2: 0, 3: 3}[phrase % 4] * PHRASE_BARS
        if back and back <= bar and place < RETURNING_BARS:
            returns[bar] = bar - back
    return returns


def chorus_bars(request: Request) -> dict[int, Halves]:
    """Number of a bar, from 1 -> the degrees that the style's own form has there, as a blues has its twelve bars: after
    an introduction, and behind the bars that are too many. Empty where there is none, or chords are given."""
    if request.chords or not _is_whole(request):
        return {}
    style, bars = arranger_style(request.style), request.new_bars
    intro = {bar for bar, _ in form_chords(request) if bar < bars // 2}
    first = max(intro, default=-1) + 1
    first += (bars - first) % PHRASE_BARS
    return {first + number: halves for number, halves in enumerate(chorus(style, bars - first), 1)}


def _returning_in(form: dict[int, Halves], bars: int) -> dict[int, int]:
    """Of a form of its own those bars come back, a line or a chorus later, that have the same chords there."""
    returns = {}
    for bar in range(PHRASE_BARS, bars - 2):  # the last two lead to the end
        for back in (PHRASE_BARS, 12):
            same = bar + 1 in form and form[bar + 1] == form.get(bar + 1 - back)
            if same and bar not in returns and (back == PHRASE_BARS or bar % PHRASE_BARS < RETURNING_BARS):
                returns[bar] = bar - back
    return returns


class Form:
    """What a piece has said, bar by bar: its chords, and its melody (the highest note of each onset, above C4)."""

    def __init__(self, request: Request, apart: frozenset[int]):
        """`apart`: bars of an introduction or an ending: nothing comes back there, nor are they what comes back."""
        self.returns = {bar: there for bar, there in returning_bars(request).items() if not {bar, there} & apart}
        self._chords: dict[int, dict[int, Chord]] = {}
        self._melody: dict[int, list[PlacedNote]] = {}

    def begin_bar(self, bar: int, chord: Chord | None) -> None:
        """`chord`: what still sounds there."""
        self._chords[bar] = {} if chord is None else {0: chord}
        self._melody[bar] = []

    def add_chord(self, bar: int, tick: int, chord: Chord) -> None:
        self._chords[bar][tick] = chord

    def add_note(self, bar: int, tick: int, pitch: int, ticks: int) -> None:
        """Notes of one onset come from below."""
        melody = self._melody[bar]
        if pitch >= LOWEST_MELODY_PITCH:
            if melody and melody[-1].tick == tick:
                melody.pop()
            melody.append(PlacedNote(bar, tick, pitch, ticks))

    def coming_back(self, bar: int) -> tuple[dict[int, Chord], list[PlacedNote]]:
        """Chords by tick and melody of the bar that returns at `bar`, its notes cut where the next begins."""
        source = self.returns[bar]
        melody = self._melody[source]
        ends = [*(note.tick for note in melody[1:]), 1 << 30]
        return self._chords[source], [
            replace(note, bar=bar, ticks=min(note.ticks, end - note.tick))
            for note, end in zip(melody, ends, strict=False)
        ]
