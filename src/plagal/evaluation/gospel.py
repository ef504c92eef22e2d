"""What makes harmony sound like gospel, counted in the chords that are heard.

Shares of the time that chords sound: `sevenths` (a seventh above the root), `ninths` (a ninth, natural or altered),
`sus` (a fourth or second in place of the third); and `passing`, the share of chords of half a bar at most whose bass
comes and goes by a half or whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from plagal.evaluation.bars import bars_of
from plagal.music.chords import QUALITIES, Chord
from plagal.music.harmony import hear_chords
from plagal.music.score import DURATION, ONSET, Score

SIGNS = ("sevenths", "ninths", "sus", "passing")


def has_seventh(chord: Chord) -> bool:
    steps = QUALITIES[chord.quality]
    return bool({10, 11} & set(steps)) or chord.quality == "dim7"


def has_ninth(chord: Chord) -> bool:
    """A second beside a third, or beside a fourth and a seventh; b9 and #9 over a dominant."""
    steps = set(QUALITIES[chord.quality])
    third = bool({3, 4} & steps)
    return (2 in steps and (third or 10 in steps)) or (10 in steps and (1 in steps or {3, 4} <= steps))


def is_sus(chord: Chord) -> bool:
    steps = set(QUALITIES[chord.quality])
    return not {3, 4} & steps and bool({2, 5} & steps)


def gospel_signs(score: Score) -> dict[str, float]:
    """The share 0-1 of each of SIGNS; all 0 where no chord is heard."""
    chords = hear_chords(score) if len(score.notes) else []
    if not chords:
        return dict.fromkeys(SIGNS, 0.0)
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    lengths = np.diff([*(onset for onset, _ in chords), end]).clip(0).astype(float)
    total = max(lengths.sum(), 1.0)
    tests = {"sevenths": has_seventh, "ninths": has_ninth, "sus": is_sus}
    shares = {name: float(lengths[[test(chord) for _, chord in chords]].sum() / total) for name, test in tests.items()}
    half_bar = min(bar.end - bar.begin for bar in bars_of(score)) / 2
    return shares | {"passing": _passing([chord for _, chord in chords], lengths.tolist(), half_bar)}


def _passing(chords: Sequence[Chord], lengths: Sequence[float], half_bar: float) -> float:
    steps = [_is_step(one.bass, after.bass) for one, after in pairwise(chords)]
    passing = [lengths[place] <= half_bar and steps[place - 1] and steps[place] for place in range(1, len(chords) - 1)]
    return sum(passing) / len(chords)


def _is_step(one: int, other: int) -> bool:
    return 1 <= min((one - other) % 12, (other - one) % 12) <= 2


def mean_signs(scores: Sequence[Score]) -> dict[str, float | None]:
    """Over pieces; None where there are none."""
    found = [gospel_signs(score) for score in scores]
    return {name: float(np.mean([one[name] for one in found])) if found else None for name in SIGNS}
