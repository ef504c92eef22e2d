"""A score as words, and words as a score.

`encode` brings the score into its regular form, hears its chords there, and writes. `decode` reads any sequence of
words: what the grammar does not allow is mended first (`mending`) and reported. For every regular score whose tempos
have words and whose velocities are levels, `decode(encode(score)).score` equals it, but for its title.

All notes are handled at once as arrays: rows of (sort place, first word, number of words).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plagal.music.chords import ROOT_NAMES, parse_chord
from plagal.music.grid import LATEST_TICK, bar_lines, last_event, regular
from plagal.music.score import TICKS_PER_QUARTER, Marker, Score, Tempo
from plagal.plumbing.errors import MidiError
from plagal.tokens import grammar, reading
from plagal.tokens.repair import Repair, mend
from plagal.tokens.vocabulary import (
    BEAT_TICKS,
    DURATION_TICKS,
    ID_OF,
    VELOCITY_LEVELS,
    WHOLE,
    WORD_OF,
    key_word,
    metre_word,
    tempo_word,
)

__all__ = ["Decoded", "Repair", "decode", "encode", "encode_ids"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A regular score, and how the words had to be mended to read as one."""

    score: Score
    repairs: list[Repair]


_WORD_ARRAY = np.full(max(WORD_OF) + 1, "", dtype=object)
_WORD_ARRAY[list(WORD_OF)] = list(WORD_OF.values())

_LEVELS = np.array(list(VELOCITY_LEVELS.values()))
_VELOCITY_ID = np.array(
    [ID_OF["VEL_PPP"] + int(np.argmin(np.abs(_LEVELS - velocity))) for velocity in range(128)], dtype=np.int64
)
_TICKS_TO_DURATION = {ticks: ID_OF[word] for word, ticks in DURATION_TICKS.items()}
_LONGEST_WORD = max(_TICKS_TO_DURATION)
_DURATION_ID = np.array([_TICKS_TO_DURATION.get(ticks, -1) for ticks in range(_LONGEST_WORD + 1)], dtype=np.int64)
_BEAT_ID = np.array([ID_OF[word] for word in BEAT_TICKS], dtype=np.int64)
_NOTE_ON_ID = ID_OF["NOTE_ON_21"] - 21
_TIED_WHOLE_ID = ID_OF["DUR_WHOLE_TIED"]

(_REPEAT_END, _BAR, _METRE, _REPEAT_START, _SECTION, _BEAT, _KEY, _TEMPO, _PEDAL, _CHORD, _BASS,
 _NOTE) = range(12)  # fmt: skip
"""The order of words at one tick."""
_PLACES_A_TICK = 256
"""Sort places of one tick: those above, then the 128 pitches from `_NOTE` on."""


def encode(score: Score, chords: bool = True) -> list[str]:
    """The words of a score. `chords`: write the chords that its markers assert or, where there are none, those heard
    in it; False writes none. Raises MidiError where the score lasts too long or holds what no MIDI file can."""
    return list(_WORD_ARRAY[encode_ids(score, chords)])


def encode_ids(score: Score, chords: bool = True) -> Ints:
    """Vocabulary ids of the words of `encode`. Shape (words,)."""
    score = regular(score)
    asserted = tuple(marker for marker in score.markers if chords or marker.kind != "chord")
    score = replace(score, tempos=_told_apart(score.tempos), markers=asserted)
    if chords and len(score.notes) and not any(marker.kind == "chord" for marker in asserted):
        score = replace(score, markers=(*asserted, *_heard(score)))
    head, events = _events(score)
    place, count, last_id, rows = _note_rows(score)
    lines, _ = bar_lines(score.metres, last_event(score))
    told = np.array([(tick * _PLACES_A_TICK + order, ID_OF[word]) for tick, order, word in events], np.int64)
    told_places, told_ids = told.reshape(-1, 2).T
    places = np.concatenate([place, told_places, lines * _PLACES_A_TICK + _BAR])
    beat_places, beat_ids = _beat_rows(places, lines)
    places = np.concatenate([places, beat_places])
    ends_with = np.concatenate([last_id, told_ids, np.full(len(lines), ID_OF["BAR_START"]), beat_ids])
    counts = np.ones(len(places), np.int64)
    counts[: len(place)] = count
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(counts[order])
    body = np.full(ends[-1] if len(ends) else 0, _TIED_WHOLE_ID, dtype=np.int64)
    body[ends - 1] = ends_with[order]
    is_note = order < len(place)
    note_end = ends[is_note]
    _fill_notes(body, note_end, count, *rows)
    return np.concatenate([head, body, [ID_OF["SONG_END"]]])


def _told_apart(tempos: Iterable[Tempo]) -> tuple[Tempo, ...]:
    """Tempos whose words differ from the word before; another would say nothing, yet claim a bar to say it in."""
    told = [(tempo, tempo_word(tempo.quarters_per_minute)) for tempo in tempos]
    return tuple(tempo for place, (tempo, word) in enumerate(told) if not place or told[place - 1][1] != word)


def _heard(score: Score) -> list[Marker]:
    from plagal.music import harmony  # only where chords are asked for

    # What changes while the last notes ring on, past the last bar, would make bars of its own.
    lines, lengths = bar_lines(score.metres, last_event(score))
    end = int(lines[-1] + lengths[-1])
    return [Marker(onset, "chord", chord.symbol) for onset, chord in harmony.hear_chords(score) if onset < end]


def _note_rows(score: Score) -> tuple[Ints, Ints, Ints, tuple[Ints, Ints]]:
    """Of each note: its sort place, its number of words, its last word; and its first and last but one."""
    onset, pitch, duration, velocity = np.array(score.notes.T, dtype=np.int64, order="C")
    ties = (duration - 1) // WHOLE
    rest = duration - WHOLE * ties
    # What is left after tied wholes may be a dotted whole, which has a word of its own.
    dotted = (ties > 0) & (rest + WHOLE == _LONGEST_WORD)
    ties, rest = ties - dotted, rest + WHOLE * dotted
    place = onset * _PLACES_A_TICK + _NOTE + pitch
    return place, 3 + ties, _VELOCITY_ID[velocity], (pitch + _NOTE_ON_ID, _DURATION_ID[rest])


def _fill_notes(body: Ints, note_end: Ints, count: Ints, first_id: Ints, duration_id: Ints) -> None:
    """Write the first and the last but one word of notes that end before `note_end`; ties stand there already."""
    body[note_end - 2] = duration_id
    body[note_end - count] = first_id


def _beat_rows(places: Ints, lines: Ints) -> tuple[Ints, Ints]:
    """A BEAT before all that happens at one position."""
    ticks = np.unique(places[places % _PLACES_A_TICK > _BEAT] // _PLACES_A_TICK)
    position = ticks - lines[np.searchsorted(lines, ticks, side="right") - 1]
    return ticks * _PLACES_A_TICK + _BEAT, _BEAT_ID[position]


def _events(score: Score) -> tuple[list[int], list[tuple[int, int, str]]]:
    """Ids of the head, and (tick, order, word) of what is neither note, bar line nor beat."""
    events: list[tuple[int, int, str]] = []
    head = ["SONG_START"]
    changes = (
        (_KEY, [(key.onset, key_word(key.fifths, key.minor)) for key in score.keys]),
        (_METRE, [(metre.onset, metre_word(metre.numerator, metre.denominator)) for metre in score.metres]),
        (_TEMPO, [(tempo.onset, tempo_word(tempo.quarters_per_minute)) for tempo in score.tempos]),
    )
    for order, words in changes:
        current = ""
        for onset, word in words:
            if onset == 0:
                head.append(word)
            elif word != current:
                events.append((onset, order, word))
            current = word
    events += [(pedal.onset, _PEDAL, f"PEDAL_{pedal.state.upper()}") for pedal in score.pedals]
    for marker in score.markers:
        events += _marker_events(marker)
    return [ID_OF[word] for word in head], events


def _marker_events(marker: Marker) -> list[tuple[int, int, str]]:
    if marker.kind == "repeat":
        order = _REPEAT_END if marker.text == "END" else _REPEAT_START
        return [(marker.onset, order, f"REPEAT_{marker.text}")]
    if marker.kind == "section":
        return [(marker.onset, _SECTION, f"SECTION_{marker.text}")]
    chord = parse_chord(marker.text)
    events = [(marker.onset, _CHORD, f"CHORD_{ROOT_NAMES[chord.root]}{chord.quality}")]
    if chord.bass != chord.root:
        events.append((marker.onset, _BASS, f"BASS_{ROOT_NAMES[chord.bass]}"))
    return events


def decode(words: Iterable[str], strict: bool = False) -> Decoded:
    """The score that words mean. `strict` raises WordsError at the first word that may not stand where it stands, or
    after the last where the piece has not ended; else any sequence of words is mended, and the repairs are listed.
    A piece is at most `LATEST_TICK` long: strictly, a longer one raises MidiError. A text is split at white space."""
    words = words.split() if isinstance(words, str) else list(words)
    places = reading.lay_out(words)
    repairs: list[Repair] = []
    if places is None:
        if strict:
            grammar.check_whole(words)
            raise MidiError(f"the piece lasts longer than {LATEST_TICK // TICKS_PER_QUARTER} quarters: cut it")
        words, repairs = mend(words)
        places = reading.lay_out(words)
    if places is None:  # the grammar and the mending disagree: a bug, never a user's fault
        raise AssertionError(f"mended words are not grammatical: {' '.join(words)[:2000]}")
    return Decoded(reading.to_score(places), repairs)
