"""The tempos that words can say, and the nearest of them."""

from __future__ import annotations

from bisect import bisect_left

from plagal.music.grid import FASTEST, SLOWEST


def _tempo_steps() -> tuple[float, ...]:
    """Steps that double where the tempo has doubled, so that their ratio stays under 1.02."""
    steps = [SLOWEST]
    for last, step in ((25.5, 0.25), (51, 0.5), (102, 1), (204, 2), (FASTEST, 4)):
        while steps[-1] < last:
            steps.append(steps[-1] + step)
    return tuple(steps)


TEMPOS = _tempo_steps()
"""[quarters a minute], rising, each less than 2 % above the one before: the nearest is within 1 %."""


def nearest_tempo(quarters_per_minute: float) -> float:
    """The tempo with a word whose ratio to the given one is nearest to 1; 20 and 300 beyond the ends."""
    above = bisect_left(TEMPOS, quarters_per_minute)
    if above in (0, len(TEMPOS)):
        return TEMPOS[min(above, len(TEMPOS) - 1)]
    low, high = TEMPOS[above - 1], TEMPOS[above]
    return low if quarters_per_minute**2 < low * high else high
