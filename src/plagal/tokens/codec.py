"""A score as words, and words as a score.

`encode` brings the score into its regular form, hears its chords there, and writes. `decode` reads any sequence of
words: what the grammar does not allow is mended first (`plagal.tokens.repair`) and reported. For every regular score
whose tempos have words and whose velocities are levels, `decode(encode(score)).score` equals it, but for its title.

All notes and words are handled at once as arrays. `lay_out` decides for a whole piece what the automaton of `grammar`
decides word by word; a test holds the two together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plagal.music.chords import ROOT_NAMES, parse_chord
from plagal.music.grid import LATEST_TICK, LONGEST_BAR, bar_lines, last_event, regular
from plagal.music.score import HIGHEST_PITCH, TICKS_PER_QUARTER, Key, Marker, Metre, Pedal, Score, Tempo
from plagal.plumbing.errors import MidiError
from plagal.tokens import grammar as g
from plagal.tokens import vocabulary as v
from plagal.tokens.repair import Repair, mend

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_IDS = max(v.ID_OF.values()) + 1
_KIND = np.zeros(_IDS, np.int64)
_VALUE = np.zeros(_IDS, np.int64)
for _word, (_kind, _value) in g.KIND_OF.items():
    _KIND[v.ID_OF[_word]], _VALUE[v.ID_OF[_word]] = _kind, _value
for _word, _number in (*v.DURATION_TICKS.items(), *v.TIED_DURATIONS.items(), *v.VELOCITY_LEVELS.items()):
    _VALUE[v.ID_OF[_word]] = _number
_SPECIAL = np.zeros(_IDS, np.bool_)
_SPECIAL[[v.ID_OF[word] for word in (*v.OPEN_DURATIONS, *v.RELATIVE_VELOCITIES)]] = True
_SPECIAL |= np.isin(_KIND, [g.ARTICULATION, g.NOTE_OFF])
"""Words whose effect depends on other notes."""
_HEAD_KIND = np.arange(24)
for _kind, _head_kind in g.HEAD.items():
    _HEAD_KIND[_kind] = _head_kind
_FOLLOWS = np.zeros((24, 24), np.bool_)
for _kind, _followers in g.FOLLOWERS.items():
    _FOLLOWS[_kind, list(_followers)] = True
_EVENTS = np.isin(np.arange(24), [g.KEY, g.TEMPO, g.PEDAL, g.PEDAL_OFF, g.SECTION, g.REPEAT_START, g.REPEAT_END,
                                  g.CHORD, g.BASS, g.HEAD_KEY, g.HEAD_TEMPO])  # fmt: skip
_BEFORE_BEAT = np.isin(np.arange(24), list(g.BEFORE_BEAT))


@dataclass(frozen=True, slots=True)
class Places:
    """Words laid out: each array has one entry a word, those that begin with `bar_` one a bar."""

    words: Sequence[str]
    ids: Ints
    kind: Ints
    value: Ints
    bar: Ints
    position: Ints
    onset: Ints
    bar_start: Ints
    bar_ticks: Ints


def lay_out(words: Sequence[str]) -> Places | None:
    """Where each word happens; None where the words are no whole grammatical piece, or one that lasts too long."""
    try:
        ids = np.fromiter(map(v.ID_OF.__getitem__, words), np.int64, len(words))
    except (KeyError, TypeError):
        return None
    kind, value = _KIND[ids], _VALUE[ids]
    is_bar = kind == g.BAR
    bar = np.cumsum(is_bar) - 1
    kind = np.where(bar < 0, _HEAD_KIND[kind], kind)
    if not len(kind) or kind[0] != g.SONG_START or kind[-1] != g.SONG_END or not _FOLLOWS[kind[:-1], kind[1:]].all():
        return None
    bar = np.maximum(bar, 0)
    bar_ticks = _bar_lengths(kind, value, bar)
    bar_start = np.cumsum(bar_ticks) - bar_ticks
    if bar_start[-1] > LATEST_TICK - LONGEST_BAR:
        return None
    is_beat = kind == g.BEAT
    index = np.arange(len(ids))
    last = np.maximum.accumulate(np.where(is_beat | is_bar, index, 0))
    position = np.where(is_beat[last], value[last], 0)
    places = Places(words, ids, kind, value, bar, position, bar_start[bar] + position, bar_start, bar_ticks)
    return places if _rises(places, last) else None


def _bar_lengths(kind: Ints, value: Ints, bar: Ints) -> Ints:
    given = np.zeros(int(bar[-1]) + 1, np.int64)
    given[0] = v.WHOLE
    metres = np.flatnonzero((kind == g.TIMESIG) | (kind == g.HEAD_TIMESIG))
    given[bar[metres]] = value[metres]
    return given[np.maximum.accumulate(np.where(given > 0, np.arange(len(given)), 0))]


def _rises(places: Places, last: Ints) -> bool:
    """Whether positions rise within their bars and pitches within their positions, and repeats are balanced."""
    kind, value, bar, position = places.kind, places.value, places.bar, places.position
    beats = np.flatnonzero(kind == g.BEAT)
    before = np.where(_BEFORE_BEAT[kind[beats - 1]], -1, position[beats - 1])
    if not ((value[beats] > before) & (value[beats] < places.bar_ticks[bar[beats]])).all():
        return False
    notes = np.flatnonzero(kind == g.NOTE_ON)
    together = last[notes[1:]] == last[notes[:-1]]
    if (together & (value[notes[1:]] <= value[notes[:-1]])).any():
        return False
    offs = np.flatnonzero((kind[1:] == g.NOTE_OFF) & (kind[:-1] == g.NOTE_OFF))
    if (value[offs + 1] <= value[offs]).any():
        return False
    repeats = kind[(kind == g.REPEAT_START) | (kind == g.REPEAT_END)]
    return len(repeats) % 2 == 0 and bool((repeats == np.resize([g.REPEAT_START, g.REPEAT_END], len(repeats))).all())


def to_score(places: Places) -> Score:
    """The regular score that the words mean."""
    kind, value, onset = places.kind, places.value, places.onset
    first, last = np.flatnonzero(kind == g.NOTE_ON), np.flatnonzero(kind == g.VELOCITY)
    length = np.cumsum(np.where((kind == g.DURATION) | (kind == g.TIE), value, 0))
    notes = np.stack([onset[first], value[first], length[last] - length[first], value[last]], axis=1)
    if _SPECIAL[places.ids].any():
        notes = _played(places, notes, first, last)
    metres, tempos, keys, pedals = [Metre(0, 4, 4)], list[Tempo](), list[Key](), list[Pedal]()
    markers: list[Marker] = []
    for place in np.flatnonzero((kind == g.TIMESIG) | (kind == g.HEAD_TIMESIG)).tolist():
        metres.append(Metre(int(places.bar_start[places.bar[place]]), *v.METRE_OF[places.words[place]]))
    for place in np.flatnonzero(_EVENTS[kind]).tolist():
        word, tick = places.words[place], int(onset[place])
        name, _, text = word.partition("_")
        if name == "KEY":
            keys.append(Key(tick, *v.KEY_OF[word]))
        elif name == "TEMPO":
            tempos.append(Tempo(tick, v.TEMPO_OF[word]))
        elif name == "PEDAL":
            pedals.append(Pedal(tick, v.PEDALS[word]))
        elif name == "BASS":
            markers[-1] = Marker(tick, "chord", f"{markers[-1].text}/{text}")
        else:
            bar = places.bar[place]
            at_end = int(places.bar_ticks[bar]) if word == "REPEAT_END" else 0
            tick = int(places.bar_start[bar]) + at_end if name == "REPEAT" else tick
            markers.append(Marker(tick, name.lower(), text))
    return regular(Score(notes, tuple(metres), tuple(tempos), tuple(keys), tuple(pedals), tuple(markers)))


_LEVELS = list(v.VELOCITY_LEVELS.values())
_RISE = {"VEL_CRESC": 1, "VEL_DECRESC": -1, "VEL_ACCENT": 2, "VEL_SOFT_ACCENT": 1, "VEL_MARCATO": 2}
_LENGTHS = {"VEL_STACCATO": (1, 2), "VEL_MARCATO": (3, 4), "STACCATO": (1, 2), "FERMATA": (3, 2)}
_SHORT = 3
"""A 32nd [ticks]: the length of grace notes and of a trill's notes."""


def _played(places: Places, notes: Ints, first: Ints, last: Ints) -> Ints:
    """The notes with the effect of articulations, relative velocities, open durations and NOTE_OFF, as the
    vocabulary defines them. Shapes (notes, 4)."""
    end = int(places.bar_start[-1] + places.bar_ticks[-1])
    onsets = np.unique(notes[:, 0])
    following = np.append(onsets, end)[np.searchsorted(onsets, notes[:, 0], side="right")]
    bar_ends = (places.bar_start + places.bar_ticks)[places.bar[first]]
    level, rolled, rolled_from = _LEVELS.index(v.VELOCITY_LEVELS["VEL_MF"]), 0, -1
    played: list[list[int]] = []
    for number, note in enumerate(notes.tolist()):
        onset, pitch, duration, velocity = note
        duration_word, velocity_word = places.words[last[number] - 1], places.words[last[number]]
        before = places.words[first[number] - 1]
        articulation = before if before in v.ARTICULATIONS else ""
        until_next = max(int(following[number]) - onset, 1)
        if duration_word in v.OPEN_DURATIONS:
            until = {"DUR_RELEASE": onset + until_next, "DUR_HOLD": int(bar_ends[number])}.get(duration_word, end)
            duration = max(duration, until - onset, 1)
        if velocity_word in v.RELATIVE_VELOCITIES:
            loud = min(max(level + _RISE.get(velocity_word, 0), 0), len(_LEVELS) - 1)
            level = loud if velocity_word.endswith("CRESC") else level
            velocity = _LEVELS[loud]
        elif velocity:
            level = _LEVELS.index(velocity)
        duration = _articulated_length(duration, velocity_word, articulation, until_next)
        if articulation == "ACCENT" and velocity:
            velocity = _LEVELS[min(_LEVELS.index(velocity) + 1, len(_LEVELS) - 1)]
        if articulation == "ARPEGGIO" or (rolled and rolled_from == onset):
            rolled = rolled + 1 if rolled_from == onset else 1
            rolled_from = onset
            shift = min(rolled - 1, duration - 1)
            onset, duration = onset + shift, duration - shift
        played += _ornamented(onset, pitch, duration, velocity, articulation)
    return np.array(_released(places, played), np.int64).reshape(-1, 4)


def _articulated_length(duration: int, velocity_word: str, articulation: str, until_next: int) -> int:
    for word in (velocity_word, articulation):
        above, below = _LENGTHS.get(word, (1, 1))
        duration = max(duration * above // below, 1)
    if articulation == "LEGATO" or (velocity_word == "VEL_TENUTO" and articulation not in _LENGTHS):
        duration = max(duration, until_next)
    return duration


def _ornamented(onset: int, pitch: int, duration: int, velocity: int, articulation: str) -> list[list[int]]:
    if articulation in ("GRACE_NOTE", "GRACE_BEFORE", "GRACE_AFTER"):
        shift = {"GRACE_BEFORE": -_SHORT, "GRACE_AFTER": _SHORT}.get(articulation, 0)
        return [[max(onset + shift, 0), pitch, _SHORT, velocity]]
    if articulation == "TRILL" and pitch + 2 <= HIGHEST_PITCH:
        return [
            [onset + start, pitch + 2 * (start // _SHORT % 2), min(_SHORT, duration - start), velocity]
            for start in range(0, duration, _SHORT)
        ]
    return [[onset, pitch, duration, velocity]]


def _released(places: Places, played: list[list[int]]) -> list[list[int]]:
    """Notes that sound when a NOTE_OFF of their pitch comes end there."""
    offs: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(places.kind == g.NOTE_OFF):
        offs[int(places.value[place])].append(int(places.onset[place]))
    for note in played:
        onset, pitch, duration, _ = note
        releases = offs.get(pitch, [])
        if (following := bisect_right(releases, onset)) < len(releases):
            note[2] = min(duration, releases[following] - onset)
    return played


__all__ = ["Decoded", "Repair", "decode", "encode", "encode_ids"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A regular score, and how the words had to be mended to read as one."""

    score: Score
    repairs: list[Repair]


_WORD_ARRAY = np.full(max(v.WORD_OF) + 1, "", dtype=object)
_WORD_ARRAY[list(v.WORD_OF)] = list(v.WORD_OF.values())

_VELOCITY_ID = v.ID_OF["VEL_PPP"] + np.abs(np.array(_LEVELS) - np.arange(128)[:, None]).argmin(axis=1)
_LONGEST_WORD = max(v.DURATION_TICKS.values())
_DURATION_ID = np.full(_LONGEST_WORD + 1, -1, dtype=np.int64)
_DURATION_ID[list(v.DURATION_TICKS.values())] = [v.ID_OF[word] for word in v.DURATION_TICKS]
_BEAT_ID = np.array([v.ID_OF[word] for word in v.BEAT_TICKS], dtype=np.int64)
_NOTE_ON_ID = v.ID_OF["NOTE_ON_21"] - 21
_TIED_WHOLE_ID = v.ID_OF["DUR_WHOLE_TIED"]

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
    # A tempo whose word is that before would say nothing, yet claim a bar to say it in.
    said = [(tempo, v.tempo_word(tempo.quarters_per_minute)) for tempo in score.tempos]
    tempos = tuple(tempo for place, (tempo, word) in enumerate(said) if not place or said[place - 1][1] != word)
    score = replace(score, tempos=tempos, markers=asserted)
    lines, lengths = bar_lines(score.metres, last_event(score))
    if chords and len(score.notes) and not any(marker.kind == "chord" for marker in asserted):
        from plagal.music import harmony  # only where chords are asked for

        # What changes while the last notes ring on, past the last bar, would make bars of its own.
        heard = [(onset, chord) for onset, chord in harmony.hear_chords(score) if onset < lines[-1] + lengths[-1]]
        score = replace(score, markers=(*asserted, *(Marker(onset, "chord", chord.symbol) for onset, chord in heard)))
    head, events = _events(score)
    place, count, last_id, first_id, duration_id = _note_rows(score)
    told = np.array([(tick * _PLACES_A_TICK + order, v.ID_OF[word]) for tick, order, word in events], np.int64)
    told_places, told_ids = told.reshape(-1, 2).T
    places = np.concatenate([place, told_places, lines * _PLACES_A_TICK + _BAR])
    # A BEAT before all that happens at one position.
    ticks = np.unique(places[places % _PLACES_A_TICK > _BEAT] // _PLACES_A_TICK)
    beat_ids = _BEAT_ID[ticks - lines[np.searchsorted(lines, ticks, side="right") - 1]]
    places = np.concatenate([places, ticks * _PLACES_A_TICK + _BEAT])
    ends_with = np.concatenate([last_id, told_ids, np.full(len(lines), v.ID_OF["BAR_START"]), beat_ids])
    counts = np.ones(len(places), np.int64)
    counts[: len(place)] = count
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(counts[order])
    body = np.full(ends[-1] if len(ends) else 0, _TIED_WHOLE_ID, dtype=np.int64)
    body[ends - 1] = ends_with[order]
    is_note = order < len(place)
    note_end = ends[is_note]
    # The first and the last but one word of each note; its ties stand there already.
    body[note_end - 2] = duration_id
    body[note_end - count] = first_id
    return np.concatenate([head, body, [v.ID_OF["SONG_END"]]])


def _note_rows(score: Score) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Of each note: its sort place, its number of words, its last word; and its first and last but one."""
    onset, pitch, duration, velocity = np.array(score.notes.T, dtype=np.int64, order="C")
    ties = (duration - 1) // v.WHOLE
    rest = duration - v.WHOLE * ties
    # What is left after tied wholes may be a dotted whole, which has a word of its own.
    dotted = (ties > 0) & (rest + v.WHOLE == _LONGEST_WORD)
    ties, rest = ties - dotted, rest + v.WHOLE * dotted
    place = onset * _PLACES_A_TICK + _NOTE + pitch
    return place, 3 + ties, _VELOCITY_ID[velocity], pitch + _NOTE_ON_ID, _DURATION_ID[rest]


def _events(score: Score) -> tuple[list[int], list[tuple[int, int, str]]]:
    """Ids of the head, and (tick, order, word) of what is neither note, bar line nor beat."""
    events: list[tuple[int, int, str]] = []
    head = ["SONG_START"]
    changes = (
        (_KEY, [(key.onset, v.key_word(key.fifths, key.minor)) for key in score.keys]),
        (_METRE, [(metre.onset, v.metre_word(metre.numerator, metre.denominator)) for metre in score.metres]),
        (_TEMPO, [(tempo.onset, v.tempo_word(tempo.quarters_per_minute)) for tempo in score.tempos]),
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
    return [v.ID_OF[word] for word in head], events


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
    places = lay_out(words)
    repairs: list[Repair] = []
    if places is None:
        if strict:
            g.check_whole(words)
            raise MidiError(f"the piece lasts longer than {LATEST_TICK // TICKS_PER_QUARTER} quarters: cut it")
        words, repairs = mend(words)
        places = lay_out(words)
    if places is None:  # the grammar and the mending disagree: a bug, never a user's fault
        raise AssertionError(f"mended words are not grammatical: {' '.join(words)[:2000]}")
    return Decoded(to_score(places), repairs)
