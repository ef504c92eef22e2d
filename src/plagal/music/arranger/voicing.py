"""Which keys a hand takes for a chord: bass notes, left-hand gestures, inner voices; and what the keys then spell.

A voicing may have to leave out a tone that its plan named, and a melody may hold one that it did not. The arranger's
markers are the ground truth for hearing chords, so they say what sounds (`name_played`): the root stays, the bass is
the chord's tone that is struck lowest, the quality is the one that the keys struck in the chord's time spell best.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise, product

from plagal.music.arranger.form import Span
from plagal.music.chords import QUALITIES, Chord
from plagal.music.hands import LARGEST_SPAN, HandNote

WIDEST_ROLL = 24
"""Semitones of a rolled chord: two octaves."""

LOWEST_BASS, HIGHEST_BASS = 28, 50
LOWEST_SHAPE, HIGHEST_SHAPE = 48, 65


@cache
def essential(quality: str) -> frozenset[int]:
    """Steps above the root without which the ear hears another quality. The perfect fifth goes first, the ninth of a
    thirteenth or eleventh next."""
    tones = set(QUALITIES[quality])
    if len(tones) > 3:
        tones.discard(7)
    if len(tones) > 4 and (9 in tones or 5 in tones) and 10 in tones | {10 if 11 in tones else 0}:
        tones.discard(2)
    return frozenset(tones)


@cache
def by_importance(quality: str) -> tuple[int, ...]:
    """Steps of a quality, those that say most first: guide tones, colours, root, fifth."""
    order = {4: 0, 3: 0, 10: 1, 11: 1, 5: 0, 6: 2, 1: 2, 8: 2, 9: 3, 2: 4, 0: 6, 7: 5}
    colour = {3: 2.5} if {3, 4} <= {*QUALITIES[quality]} else {}  # 7#9: the ninth is a colour
    return tuple(sorted(QUALITIES[quality], key=lambda step: (order | colour)[step]))


def choose_bass(chord: Chord, before: int | None) -> int:
    """The bass key nearest to the one before and to the middle of the left hand's low range."""
    options = range(LOWEST_BASS + (chord.bass - LOWEST_BASS) % 12, HIGHEST_BASS + 1, 12)
    home = 39 if before is None else before
    return min(options, key=lambda pitch: abs(pitch - home) * 0.7 + abs(pitch - 38) * 0.6)


def chord_tone_near(chord: Chord, target: int) -> int:
    """The key of the chord nearest to `target`, the lower one in a tie."""
    return min(
        (pitch for pitch in range(target - 6, target + 7) if pitch % 12 in chord.pitch_classes),
        key=lambda pitch: (abs(pitch - target), pitch),
    )


def fifth_above(chord: Chord, bass: int) -> int:
    """The chord's fifth above the bass; over a slash bass, its nearest tone there."""
    step = next((step for step in (7, 6, 8) if step in QUALITIES[chord.quality]), 7)
    if chord.bass == chord.root:
        return bass + step
    return chord_tone_near(chord, bass + 8)


def tenth_above(chord: Chord, bass: int) -> int:
    """The chord's tenth above the bass (its third, or the fourth that stands for it), at most a major tenth away."""
    if chord.bass == chord.root:
        step = next((step for step in (4, 3, 5, 2) if step in QUALITIES[chord.quality]), 7)
        return bass + (step + 12 if step <= 4 else step)
    return min(bass + LARGEST_SPAN, chord_tone_near(chord, bass + 14))


def spread_shell(chord: Chord, bass: int) -> tuple[int, ...]:
    """The bass, the seventh (or sixth, or fifth) over it and the tenth: a shell that one hand spans."""
    if chord.bass != chord.root:
        return (bass, fifth_above(chord, bass))
    tones = QUALITIES[chord.quality]
    seventh = next((step for step in (10, 11, 9, 7) if step in tones), 7)
    return tuple(sorted({bass, bass + seventh, tenth_above(chord, bass)}))


def rolled_shell(chord: Chord, bass: int, ceiling: int) -> tuple[int, ...]:
    """Bass, fifth (or what stands for it), tenth and one tone more up to two octaves above the bass: wider than a hand,
    so it is rolled. Empty where the chord's bass is not its root or `ceiling` leaves no room for the top."""
    if chord.bass != chord.root:
        return ()
    tenth = tenth_above(chord, bass)
    tops = range(bass + LARGEST_SPAN + 1, min(bass + WIDEST_ROLL, ceiling) + 1)
    ranked = [step for step in by_importance(chord.quality) if (bass + step - tenth) % 12]
    top = next((key for step in ranked for key in tops if (key - bass) % 12 == step), None)
    middle = fifth_above(chord, bass)
    return (bass, middle, tenth, top) if top is not None and bass < middle < tenth else ()


def place(
    pitch_classes: Sequence[int], low: int, high: int, before: Sequence[int], top: int | None = None
) -> tuple[int, ...] | None:
    """Keys in [low, high], one for each pitch class, that move least from `before` and lie well under `top`.
    None where a pitch class has no key there or the hand would not reach."""
    options = [range(low + (pc - low) % 12, high + 1, 12) for pc in pitch_classes]
    voicings = (tuple(sorted(keys)) for keys in product(*options) if keys)
    within = (keys for keys in voicings if (keys[-1] if top is None else top) - keys[0] <= LARGEST_SPAN)
    return min(within, key=lambda keys: _cost(keys, before, top), default=None)


def _cost(keys: tuple[int, ...], before: Sequence[int], top: int | None) -> float:
    cost = sum(min(abs(key - old) for old in before) if before else abs(key - 60) * 0.5 for key in keys)
    line = (*keys, top) if top is not None else keys
    for lower, upper in pairwise(line):
        gap = upper - lower
        if gap == 1:
            cost += 8 if upper == top or lower < 62 else 5
        elif gap < 5 and lower < 50:
            cost += 4
        elif gap > 9:
            cost += 1.5
    return cost + max(0, line[-1] - line[0] - 12) * 1.5


def wanted(chord: Chord, have: Iterable[int], count: int) -> list[int]:
    """Pitch classes for inner voices: first what the chord cannot do without and nobody plays, then by importance, up
    to `count` (more only where essentials need it)."""
    sounding = set(have)
    ranked = [(chord.root + step) % 12 for step in by_importance(chord.quality)]
    named = {(chord.root + step) % 12 for step in essential(chord.quality)}
    needed = [pc for pc in ranked if pc in named - sounding]
    rest = [pc for pc in ranked if pc not in needed and pc != chord.bass]
    rest.sort(key=sounding.__contains__)  # what nobody plays first, then doublings
    return needed + rest[: max(0, count - len(needed))]


def drop_two(pitch_classes: Sequence[int], top: int, floor: int) -> tuple[int, ...] | None:
    """The chord tones in close position under `top`, the highest of them taken down an octave: the arranger's drop-2.
    None where that voice would lie below `floor` or out of the hand's reach."""
    close = sorted((top - 1 - (top - 1 - pc) % 12 for pc in pitch_classes), reverse=True)
    keys = tuple(sorted((*close[1:], *(key - 12 for key in close[:1]))))
    return keys if keys and keys[0] >= floor and top - keys[0] <= LARGEST_SPAN else None


_HEARD = 0.2
"""A tone that sounds for this share of the chord's time is heard in it."""

_HELD = 0.45
"""A foreign tone that sounds for this share belongs to the chord's name, where a name has it."""

_KEEP_PLAN = 0.35
"""What the planned name is worth against a better-spelt one [tones]."""


_WALKS_BELOW = 48
"""Under C3 only a chord's own bass names it: what walks on to the next made an A flat 7 a 7b13 or a 7#11."""

_LONGEST = 24 * 16
"""Ticks after which a note is no longer looked for."""


def name_played(spans: Sequence[Span], notes: Sequence[HandNote]) -> list[Span]:
    """The spans under the names that the notes spell."""
    ordered = sorted(notes)
    onsets = [note[0] for note in ordered]
    named = []
    for span in spans:
        begin, end = bisect_left(onsets, span.onset), bisect_left(onsets, span.end)
        root, quality, bass = span.chord.root, span.chord.quality, span.chord.bass
        shares = [0.0] * 12  # of the span, in which each step above the root sounds
        for onset, pitch, ticks, _ in ordered[bisect_left(onsets, span.onset - _LONGEST, 0, begin) : end]:
            inside = min(span.end, onset + ticks) - max(span.onset, onset)
            if inside > 0 and not (onset > span.onset and pitch < _WALKS_BELOW):
                shares[(pitch - root) % 12] += inside / span.ticks
        if onsets[begin : begin + 1] == [span.onset] and ordered[begin][1] % 12 in span.chord.pitch_classes:
            bass = ordered[begin][1] % 12
        name = _best_name(Chord(root, quality, bass), [min(1.0, share) for share in shares])
        named.append(Span(span.onset, span.end, name))
    return named


@cache
def _rivals(quality: str) -> tuple[str, ...]:
    """Qualities that share the third (or its suspension) and the fifth's kind with one: a name never turns minor."""

    def kind(name: str) -> tuple[bool, ...]:
        tones = set(QUALITIES[name])
        minor, major = 3 in tones and 4 not in tones, 4 in tones
        return minor, major, 6 in tones and 7 not in tones, 8 in tones and 7 not in tones

    return tuple(name for name in QUALITIES if kind(name) == kind(quality))


def _best_name(planned: Chord, shares: Sequence[float]) -> Chord:
    bass = (planned.bass - planned.root) % 12
    held = [step for step, share in enumerate(shares) if share >= _HELD and step != bass]
    plan_fits = all(shares[step] >= _HEARD for step in _needed(planned.quality))
    if plan_fits and set(held) <= set(QUALITIES[planned.quality]):
        return planned

    def worth(quality: str) -> float:
        tones = QUALITIES[quality]
        missing = sum(shares[step] < _HEARD for step in _needed(quality))
        foreign = sum(shares[step] for step in held if step not in tones)
        return (_KEEP_PLAN if quality == planned.quality else 0.0) - missing - foreign - 0.05 * len(tones)

    options = _rivals(planned.quality)
    if bass:
        options = tuple(quality for quality in options if len(QUALITIES[quality]) <= 4 and quality not in ("6", "min6"))
    return Chord(planned.root, max(options, key=worth), planned.bass)


@cache
def _needed(quality: str) -> tuple[int, ...]:
    """Tones without which the name would be wrong; the bass has the root."""
    return tuple(sorted(essential(quality) - {0}))
