"""All targets by name."""

from __future__ import annotations

from . import music, text, weights

TARGETS = music.TARGETS | text.TARGETS | weights.TARGETS
