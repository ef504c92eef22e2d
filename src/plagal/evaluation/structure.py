"""The second judge: does a piece come back to what it played, as real music does?

Nothing here selects or steers what is written, and no network learned it: coherence is one program's opinion, and a
writer that is chosen by it can learn to please it. Every figure stands beside the same of held-out real music and of
the arranger's pieces, in windows as long as the generated ones; near them is good, above them no better than below.

Metrics
- `returns_N`: likeness of bars N apart, N of LAGS: what two bars have in common (tick from the bar line, pitch) over
  what either has (Jaccard's index), its mean over the pairs of a piece, then over pieces.
- `compression`: how many times smaller the piece's words get when a general compressor (raw deflate) has seen the piece
  itself. Each note is one word of six bytes: ticks and semitones since the note before, and its length; so it is the
  same in any key, and repeats a step higher count as repeats.
- `distance`: Fréchet distance to held-out real music over UNTOUCHED features, in real deviations.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plagal.evaluation.copying import steps
from plagal.evaluation.distribution import frechet
from plagal.evaluation.features import FEATURES, bar_contents, bars_of, features
from plagal.music.score import Score

LAGS = (2, 4, 8)
"""Bars: half a phrase, a phrase, a period."""

UNTOUCHED = (
    "density_variation", "groove_consistency", "ioi_entropy", "duration_entropy", "mean_duration", "on_beat_share",
    "downbeat_weight", "held_over_bar", "melody_leaps", "melody_interval", "bars_repeated", "distinct_bars",
    "content_likeness", *(f"groove_likeness_{lag}" for lag in (1, 2, 4)),
    *(f"content_likeness_{lag}" for lag in (1, 2, 4)),
)  # fmt: skip
"""Rhythm, melody's shape and form. Steering decides scale, chords, bass and voicing (plagal.compose.steering), so what
follows from those (keys, chroma, polyphony, clashes, range) tells of the masks and not of the model."""
_COLUMNS = [FEATURES.index(name) for name in UNTOUCHED]
_LEAST_PIECES = 4


def returns(score: Score, lag: int) -> float | None:
    """Mean likeness 0-1 of bars `lag` apart; None where there are no two such bars, or all of them are silent."""
    contents = bar_contents(score.notes, bars_of(score)) if len(score.notes) else []
    pairs = [(one, other) for one, other in zip(contents, contents[lag:], strict=False) if one or other]
    return float(np.mean([len(one & other) / len(one | other) for one, other in pairs])) if pairs else None


def compression(score: Score) -> float | None:
    """Bytes of the notes over bytes of them compressed, at least about 1; None for fewer than two notes."""
    codes = steps(score).astype("<u8")
    if not len(codes):
        return None
    # What `steps` packs into one number, apart again: ticks between, semitones, length.
    words = np.stack([codes >> 20 & 0xFFFF, codes >> 12 & 0xFF, codes & 0xFFF], axis=1)
    raw = words.astype("<u2").tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(raw) / len(packer.compress(raw) + packer.flush())


def rows_of(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """Features of the pieces that have any, shape (pieces, len(FEATURES))."""
    rows = [features(score) for score in scores if len(score.notes) >= 2]
    return np.stack(rows) if rows else np.zeros((0, len(FEATURES)))


def structure(scores: Sequence[Score], real: Sequence[Score] | None) -> dict[str, float | None]:
    """Means over `scores`, None where no piece has the figure. `real`: held-out music to measure the distance from."""
    figures: dict[str, float | None] = {}
    for name, measure in (*((f"returns_{lag}", lag) for lag in LAGS), ("compression", 0)):
        values = [returns(score, measure) if measure else compression(score) for score in scores]
        known = [value for value in values if value is not None]
        figures[name] = float(np.mean(known)) if known else None
    if real is not None:
        ours, theirs = rows_of(scores)[:, _COLUMNS], rows_of(real)[:, _COLUMNS]
        enough = min(len(ours), len(theirs)) >= _LEAST_PIECES
        figures["distance"] = frechet(ours, theirs) if enough else None
    return figures
