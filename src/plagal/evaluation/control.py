"""Does a piece do as it was asked? Heard from the notes of the written MIDI, not from what its words assert.

- key, chords: heard by `plagal.music.harmony`, which sees notes and bars only.
- metre: an ear trained on real pieces tells from where notes fall whether they go in twos, threes or triplets; besides,
  the file's bars must be as long as asked. (Notes cannot tell 2/4 from 4/4.)
- tempo: that at which the file plays, on average, within 5 %. Notes cannot tell 66 from 132: that is notation.
- bars: up to the bar in which the last note is struck.
- style: a classifier on FEATURES, trained on pieces of known style.

A chord counts as heard when root and family (major, minor, dominant, diminished, suspended) agree, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.evaluation.features import bars_of, features, spread, windows
from plagal.music.chords import QUALITIES, Chord
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import same_key
from plagal.music.score import DURATION, ONSET, TICKS_PER_QUARTER, Key, Score

Floats = npt.NDArray[np.float64]

TEMPO_TOLERANCE = 0.05
_CELL = 3
"""Ticks: metres are heard on a grid of 32nds."""
_FAMILY_OF_METRE = {
    (2, 2): "duple", (2, 4): "duple", (4, 4): "duple", (3, 2): "triple", (3, 4): "triple", (3, 8): "triple",
    (6, 4): "compound duple", (6, 8): "compound duple", (12, 8): "compound duple", (9, 8): "compound triple",
}  # fmt: skip
_LEAST_PIECES = 5


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for; None (or no chords) where it does not say."""

    prompt: str
    key: Key | None = None
    tempo: float | None = None
    """Quarter notes a minute."""
    metre: tuple[int, int] | None = None
    bars: int | None = None
    style: str | None = None
    chords: tuple[Chord, ...] = ()


@dataclass(frozen=True)
class Ears:
    """What had to be learned in order to hear."""

    metre: MetreEar
    style: StyleEar


def follows_score(asked: Asked, score: Score, ears: Ears) -> dict[str, float | None]:
    """For each control: 1 where it was done as asked, 0 where not (chords: the share heard), None where not asked. A
    score without notes does nothing as asked."""
    judges: dict[str, Callable[[Any], float]] = {
        "key": lambda key: same_key(hear_key(score), key),
        "tempo": lambda tempo: abs(played_tempo(score) / tempo - 1) <= TEMPO_TOLERANCE,
        "metre": lambda metre: ears.metre.agrees(score, metre),
        "bars": lambda bars: heard_bars(score) == bars,
        "style": lambda style: ears.style.hear(score) == style,
        "chords": lambda chords: chords_kept(chords, [chord for _, chord in hear_chords(score)]),
    }
    wanted = {name: getattr(asked, name) for name in judges}
    wanted["chords"] = asked.chords or None
    return {
        name: None if wanted[name] is None else float(judge(wanted[name])) if len(score.notes) else 0.0
        for name, judge in judges.items()
    }


def mean_verdicts(verdicts: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean of each control over the pieces that were asked for it; None where none was."""
    names = dict.fromkeys(name for verdict in verdicts for name in verdict)
    asked = {name: [one for verdict in verdicts if (one := verdict.get(name)) is not None] for name in names}
    return {name: float(np.mean(values)) if values else None for name, values in asked.items()}


def played_tempo(score: Score) -> float:
    """Quarter notes over minutes, from the first onset's bar to the end of the last note."""
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    begins = [tempo.onset for tempo in score.tempos if tempo.onset < end] or [0]
    pace = [tempo.quarters_per_minute for tempo in score.tempos][: len(begins)] or [120.0]
    begins[0] = 0
    minutes = sum(
        (after - begin) / TICKS_PER_QUARTER / each
        for begin, after, each in zip(begins, [*begins[1:], end], pace, strict=True)
    )
    return end / TICKS_PER_QUARTER / minutes


def heard_bars(score: Score) -> int:
    """Bars up to the one in which the last note is struck."""
    last = int(score.notes[:, ONSET].max())
    return next(bar.number for bar in reversed(bars_of(score)) if bar.begin <= last)


def family(chord: Chord) -> str:
    """What a chord does: "major", "minor", "dominant", "diminished", "augmented", "suspended" or "open"."""
    steps = set(QUALITIES[chord.quality])
    if 4 in steps:
        fifth_up = 8 in steps and 7 not in steps
        return "dominant" if 10 in steps else "augmented" if fifth_up else "major"
    if 3 in steps:
        return "diminished" if 6 in steps and 7 not in steps else "minor"
    return "suspended" if steps & {2, 5} else "open"


def chords_kept(asked: Sequence[Chord], heard: Sequence[Chord]) -> float:
    """Share of the asked chords that are heard, in their order, before the piece has had time for twice as many."""
    wanted = [(chord.root, family(chord)) for chord in asked]
    found = [(chord.root, family(chord)) for chord in heard[: 2 * len(wanted) + 2]]
    longest = np.zeros((len(wanted) + 1, len(found) + 1), dtype=int)
    for row, one in enumerate(wanted, 1):
        for column, other in enumerate(found, 1):
            same = longest[row - 1, column - 1] + 1 if one == other else 0
            longest[row, column] = max(longest[row - 1, column], longest[row, column - 1], same)
    return float(longest[-1, -1] / len(wanted))


class MetreEar:
    """Where in a bar notes fall, for each metre that there is enough of: the metre under which a piece is likeliest."""

    def __init__(self, pieces: Sequence[Score]):
        found: dict[tuple[int, int], list[Floats]] = {}
        for piece in pieces:
            metre = _only_metre(piece)
            if metre in _FAMILY_OF_METRE and len(piece.notes):
                profile = _profile(piece, _bar_ticks(metre))
                found.setdefault(metre, []).append(profile / profile.sum())
        self._log_density = {
            metre: np.log((sum(profiles) / len(profiles) + 0.05 / profiles[0].size) / 1.05 * profiles[0].size)
            for metre, profiles in found.items()
            if len(profiles) >= _LEAST_PIECES
        }

    def hear(self, score: Score) -> tuple[int, int] | None:
        """None where the ear has learned nothing."""
        fits = {
            metre: float((_profile(score, _bar_ticks(metre)) * density).sum())
            for metre, density in self._log_density.items()
        }
        return max(fits, key=lambda metre: fits[metre]) if fits else None

    def agrees(self, score: Score, asked: tuple[int, int]) -> bool:
        """Whether bars are as long as asked and, where the ear knows the asked metre, the notes go like it."""
        if _only_metre(score) is None or _bar_ticks(_only_metre(score) or asked) != _bar_ticks(asked):
            return False
        heard = self.hear(score)
        knows = {_FAMILY_OF_METRE[metre] for metre in self._log_density}
        if heard is None or _FAMILY_OF_METRE.get(asked) not in knows:
            return True
        return _FAMILY_OF_METRE[heard] == _FAMILY_OF_METRE[asked]


def _bar_ticks(metre: tuple[int, int]) -> int:
    return 4 * TICKS_PER_QUARTER * metre[0] // metre[1]


def _only_metre(score: Score) -> tuple[int, int] | None:
    """The metre, where it never changes."""
    metres = {(metre.numerator, metre.denominator) for metre in score.metres}
    return metres.pop() if len(metres) == 1 else None


def _profile(score: Score, bar_ticks: int) -> Floats:
    """Weight of the onsets at each 32nd of a bar of `bar_ticks`: longer and lower notes weigh more."""
    cells = score.notes[:, ONSET] % bar_ticks // _CELL
    weight = np.minimum(score.notes[:, DURATION] / TICKS_PER_QUARTER, 2.0) + 0.25
    return np.asarray(np.bincount(cells, weight, bar_ticks // _CELL), dtype=np.float64)


class StyleEar:
    """Logistic regression on FEATURES of windows (scikit-learn)."""

    def __init__(self, pieces: Sequence[tuple[str, Score]], bars: int, seed: int):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows, names = [], []
        for style, score in pieces:
            for some in windows(score, bars, 2):
                rows.append(features(some))
                names.append(style)
        self._bars, self._only = bars, names[0] if len(set(names)) == 1 else None
        self._usual = spread(np.stack(rows))[0] if rows else np.zeros(1)
        self._classifier: Any = None
        if len(set(names)) > 1:
            self._classifier = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.3, max_iter=2000, class_weight="balanced", random_state=seed)
            )
            self._classifier.fit(self._filled(np.stack(rows)), names)

    def _filled(self, rows: Floats) -> Floats:
        return np.where(np.isfinite(rows), rows, self._usual)

    def hear(self, score: Score) -> str | None:
        """The likeliest style; None where no style was learned."""
        if self._classifier is None:
            return self._only
        rows = self._filled(np.stack([features(some) for some in windows(score, self._bars, 2)]))
        weights = self._classifier.predict_proba(rows).sum(axis=0)
        return str(self._classifier.classes_[weights.argmax()])
