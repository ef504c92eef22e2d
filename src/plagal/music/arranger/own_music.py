"""Music that a user brings to the arranger, as tunes: a melody from a score, a progression of their own, or both."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from plagal.music.arranger.harmonize import harmonize
from plagal.music.arranger.harmony_grammar import classify, family
from plagal.music.arranger.leadsheet import is_compound
from plagal.music.arranger.tunebook import MelodyNote, Tune
from plagal.music.beats import beat_ticks
from plagal.music.chords import Chord, parse_chord
from plagal.music.harmony import hear_key
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import DURATION, ONSET, PITCH, Key, Metre, Score
from plagal.plumbing.errors import ChordError, InputError

_UNSAID_TEMPO, _USUAL_TEMPO = 120.0, 88.0
"""A file that says nothing of its tempo says 120."""

Progression = Sequence[Sequence[Chord]]
"""Chords bar by bar; those of one bar share it."""

_MOTIFS: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0.0, 1.0), (1.5, 0.5), (2.0, 1.0), (3.0, 1.0)),
    ((0.5, 0.5), (1.0, 1.0), (2.0, 1.5), (3.5, 0.5)),
    ((0.0, 0.5), (0.5, 0.5), (1.0, 1.0), (2.5, 1.5)),
    ((0.0, 1.5), (1.5, 0.5), (2.0, 2.0)),
)
"""Rhythms of one bar for a melody over chords: beat, length in beats."""
_ANSWER = ((0.0, 2.0),)


def tune_from_score(score: Score, key: Key | None = None, title: str = "") -> Tune:
    """A score's top line as a tune. Its chord markers are its chords; without any, the melody is harmonised. A short
    first bar is its pick-up. Raises InputError where it has no note or changes its metre."""
    if not len(score.notes):
        raise InputError("the tune has no notes: give a melody")
    metre, pickup = _metre_and_pickup(score)
    shift = metre.bar_ticks - pickup if pickup else 0
    first = int(score.notes[:, ONSET].min())
    if not pickup:  # an upbeat after a rest: what comes in after a third of its bar or later leads into the next
        shift -= first // metre.bar_ticks * metre.bar_ticks
        rest = first % metre.bar_ticks
        pickup = metre.bar_ticks - rest if 3 * rest >= metre.bar_ticks else 0
    notes = _top_line(score, shift)
    key = key or (Key(0, score.keys[0].fifths, score.keys[0].minor) if score.keys else hear_key(score))
    named = []
    for marker in score.markers:
        if marker.kind == "chord":
            try:
                named.append((max(0, marker.onset + shift), parse_chord(marker.text)))
            except ChordError:
                continue
    sections = tuple(
        (max(0, marker.onset + shift) if marker.onset else 0, marker.text)
        for marker in score.markers
        if marker.kind == "section"
    )
    tempo = score.tempos[0].quarters_per_minute if score.tempos else _UNSAID_TEMPO
    return Tune(
        name="own",
        title=title or score.title or "Own tune",
        composer="",
        year=0,
        metre=metre,
        key=key,
        tempo=_USUAL_TEMPO if tempo == _UNSAID_TEMPO else tempo,
        notes=notes,
        chords=tuple(sorted(dict(named).items()) or harmonize(notes, key, metre, pickup)),
        sections=sections if sections and sections[0][0] == 0 else ((0, "VERSE"),),
        pickup_ticks=pickup,
    )


def _metre_and_pickup(score: Score) -> tuple[Metre, int]:
    """The metre of the whole bars, and the ticks of a short first one. A short last bar is what the pick-up left."""
    metres = score.metres or (Metre(0, 4, 4),)
    lengths = {metre.bar_ticks for metre in metres[1:]}
    if len(metres) > 1 and metres[0].bar_ticks < metres[1].bar_ticks and metres[1].onset == metres[0].bar_ticks:
        main = metres[1]
        if lengths <= {main.bar_ticks, main.bar_ticks - metres[0].bar_ticks}:
            return Metre(0, main.numerator, main.denominator), metres[0].bar_ticks
    elif all((metre.numerator, metre.denominator) == (metres[0].numerator, metres[0].denominator) for metre in metres):
        return Metre(0, metres[0].numerator, metres[0].denominator), 0
    raise InputError(
        f"the tune changes its metre at tick {metres[-1].onset} "
        f"({metres[-1].numerator}/{metres[-1].denominator}): arrange it part by part"
    )


def _top_line(score: Score, shift: int) -> tuple[MelodyNote, ...]:
    """The highest note struck at each onset, cut where the next one comes; what lies far under a note that still sounds
    is accompaniment."""
    line: list[MelodyNote] = []
    for onset in sorted(set(score.notes[:, ONSET].tolist())):
        struck = score.notes[score.notes[:, ONSET] == onset]
        top = struck[struck[:, PITCH].argmax()]
        pitch, ticks = int(top[PITCH]), int(top[DURATION])
        if line:
            last, last_pitch, last_ticks = line[-1]
            if last + last_ticks > onset + shift and pitch < last_pitch - 4:
                continue
            line[-1] = (last, last_pitch, min(last_ticks, onset + shift - last))
        line.append((onset + shift, pitch, ticks))
    return tuple(line)


def with_chords(tune: Tune, progression: Progression) -> Tune:
    """The tune over other chords, in its own key, from its first whole bar on, again and again."""
    bar, beat = tune.metre.bar_ticks, beat_ticks(tune.metre)
    first = 1 if tune.pickup_ticks else 0
    chords = []
    for number in range(tune.bars - first):
        row = progression[number % len(progression)]
        for place, chord in enumerate(row):
            within = bar * place // len(row) // beat * beat if len(row) * beat <= bar else bar * place // len(row)
            chords.append(((number + first) * bar + within, chord))
    return replace(tune, chords=tuple(chords))


def in_four(tune: Tune) -> Tune:
    """The tune in 4/4, as a quick style wants it: of three beats the first lasts two, bars of two are joined, compound
    beats become quarters whose thirds stay thirds. A tune in four, or in a metre of another kind, stays as it is."""
    if is_compound(tune.metre):
        simple = Metre(0, tune.metre.numerator // 3, 4)
        tune = _placed(tune, simple, lambda tick: tick * 2 // 3)
    if (tune.metre.numerator, tune.metre.denominator) == (6, 4):
        earlier = 72 if 0 < tune.pickup_ticks <= 72 else 0
        tune = _placed(tune, Metre(0, 3, 4), lambda tick: tick - earlier)
    if (tune.metre.numerator, tune.metre.denominator) == (3, 4):

        def stretched(tick: int) -> int:
            bar, inside = divmod(tick, 72)
            return bar * 96 + (inside * 2 if inside < 24 else inside + 24)

        tune = _placed(tune, Metre(0, 4, 4), stretched)
    elif (tune.metre.numerator, tune.metre.denominator) == (2, 4):
        later = 48 if tune.pickup_ticks else 0  # the pick-up leads into a whole bar of four
        tune = _placed(tune, Metre(0, 4, 4), lambda tick: tick + later)
    return tune


def _placed(tune: Tune, metre: Metre, place: Callable[[int], int]) -> Tune:
    """The tune in another metre, each tick moved to its place."""
    first = tune.notes[0][0]
    return replace(
        tune,
        metre=metre,
        notes=tuple((place(onset), pitch, place(onset + ticks) - place(onset)) for onset, pitch, ticks in tune.notes),
        chords=tuple((place(onset), chord) for onset, chord in tune.chords),
        sections=tuple((place(onset) // metre.bar_ticks * metre.bar_ticks, name) for onset, name in tune.sections),
        pickup_ticks=metre.bar_ticks - place(first) % metre.bar_ticks if tune.pickup_ticks else 0,
    )


def key_of_chords(progression: Progression) -> Key:
    """The key in which most of the chords are at home; the last and the first chord speak for theirs."""
    chords = [chord for bar in progression for chord in bar]

    def worth(key: Key) -> float:
        tonic = key_tonic(key)
        at_home = sum(classify(chord, key) == "diatonic" for chord in chords) / len(chords)
        ends = 0.25 * (chords[-1].root == tonic) + 0.2 * (chords[0].root == tonic)
        modes = sum(
            (family(chord.quality) == "minor") == key.minor and family(chord.quality) != "dominant"
            for chord in chords
            if chord.root == tonic
        )
        return at_home + ends + 0.1 * min(1, modes) + 0.01 * (not key.minor)

    return max((key_of(tonic, minor) for minor in (False, True) for tonic in range(12)), key=worth)


def tune_over(
    progression: Progression,
    key: Key,
    metre: Metre,
    rng: random.Random,
) -> Tune:
    """A melody over a progression: a motif, brought again a step on, brought again as it was, and an answer, in phrases
    of four bars; strong places on tones of the chords, what lies between by step."""
    bars = max(len(progression), 4)
    bar, beat = metre.bar_ticks, beat_ticks(metre)
    blank = Tune(
        "own_chords", "Own chords", "", 0, metre, key, _USUAL_TEMPO, ((0, 72, bars * bar),), (), ((0, "VERSE"),), 0
    )
    chords = with_chords(blank, progression).chords
    motif = _MOTIFS[rng.randrange(len(_MOTIFS))]
    scale = {(key_tonic(key) + step) % 12 for step in ((0, 2, 3, 5, 7, 8, 10) if key.minor else (0, 2, 4, 5, 7, 9, 11))}
    notes: list[MelodyNote] = []
    first = 70 + rng.randrange(5)
    for number in range(bars):
        last = number == bars - 1
        rhythm = _ANSWER if number % 4 == 3 or last else motif
        at = first + (2 if number % 4 == 1 else 0)
        for beats, length in rhythm:
            if beats * beat >= bar:
                continue
            onset = number * bar + round(beats * beat)
            chord = [chord for start, chord in chords if start <= onset][-1]
            pitches = chord.pitch_classes if beats == int(beats) else scale | chord.pitch_classes
            if last:
                pitches = frozenset({key_tonic(key)}) & chord.pitch_classes or chord.pitch_classes
            at = min((pitch for pitch in range(60, 82) if pitch % 12 in pitches), key=lambda pitch: abs(pitch - at))
            notes.append((onset, at, min(round(length * beat), (number + 1) * bar - onset)))
            at += (-2, 1, 2)[rng.randrange(3)]
    return replace(blank, notes=tuple(notes), chords=chords)
