"""The name of a chord as it was played: what the plan called for, unless the keys say otherwise.

A voicing may have to leave out a tone that its plan named, and a melody may hold one that it did not. The arranger's
markers are the ground truth for hearing chords, so they say what sounds: the root stays, the bass is the chord's tone
that is struck lowest, the quality is the one that the keys struck in the chord's time spell best.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from plagal.music.arranger.leadsheet import Span
from plagal.music.arranger.voicing import essential
from plagal.music.chords import QUALITIES, Chord
from plagal.music.hands import HandNote

_HEARD = 0.2
"""A tone that sounds for this share of the chord's time is heard in it."""

_HELD = 0.45
"""A foreign tone that sounds for this share belongs to the chord's name, where a name has it."""

_KEEP_PLAN = 0.35
"""What the planned name is worth against a better-spelt one [tones]."""


def name_played(spans: Sequence[Span], notes: Sequence[HandNote]) -> list[Span]:
    """The spans under the names that the notes spell."""
    ordered = sorted(notes)
    onsets = [note[0] for note in ordered]
    named = []
    for span in spans:
        begin = bisect_left(onsets, span.onset)
        shares = _shares(
            span, ordered[bisect_left(onsets, span.onset - _LONGEST, 0, begin) : bisect_left(onsets, span.end)]
        )
        planned = _on_its_bass(span, ordered[begin : begin + 1])
        named.append(Span(span.onset, span.end, _best_name(planned, shares)))
    return named


def _on_its_bass(span: Span, notes: Sequence[HandNote]) -> Chord:
    """The planned chord over the lowest of its tones that is struck where it begins; `notes`: the first from there."""
    lowest = next((pitch for onset, pitch, _, _ in notes if onset == span.onset), span.chord.bass)
    bass = lowest % 12 if lowest % 12 in span.chord.pitch_classes else span.chord.bass
    return Chord(span.chord.root, span.chord.quality, bass)


_LONGEST = 24 * 16
"""Ticks after which a note is no longer looked for."""


def _shares(span: Span, notes: Sequence[HandNote]) -> list[float]:
    """For each step above the root, the share of the span in which it sounds (at most 1)."""
    shares = [0.0] * 12
    for onset, pitch, ticks, _ in notes:
        inside = min(span.end, onset + ticks) - max(span.onset, onset)
        if inside > 0:
            shares[(pitch - span.chord.root) % 12] += inside / span.ticks
    return [min(1.0, share) for share in shares]


@cache
def _rivals(quality: str) -> tuple[str, ...]:
    """Qualities that share the third (or its suspension) and the fifth's kind with one: a name never turns minor."""
    tones = set(QUALITIES[quality])
    third = (3 in tones and 4 not in tones, 4 in tones, 3 not in tones and 4 not in tones)
    altered = (6 in tones and 7 not in tones, 8 in tones and 7 not in tones)
    found = []
    for name, steps in QUALITIES.items():
        other = set(steps)
        same_third = third == (3 in other and 4 not in other, 4 in other, 3 not in other and 4 not in other)
        if same_third and altered == (6 in other and 7 not in other, 8 in other and 7 not in other):
            found.append(name)
    return tuple(found)


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
