"""Where the benchmarks find what they measure on."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
HYMNAL = Path(os.environ.get("PLAGAL_OPENHYMNAL", ROOT.parent / "shared" / "corpus" / "openhymnal"))
FREE = Path(os.environ.get("PLAGAL_FREE_MUSIC", ROOT.parent / "shared" / "corpus" / "free"))


def hymns() -> list[Path]:
    """The Open Hymnal's MIDI files; none where its folder is not there."""
    return sorted(HYMNAL.rglob("*.mid")) if HYMNAL.is_dir() else []


def chorales() -> list[Path]:
    """Bach's chorales of music21's corpus."""
    import music21

    return sorted((Path(music21.__file__).parent / "corpus" / "bach").glob("bwv*.mxl"))


def two_track_files() -> list[Path]:
    """Free piano music as MIDI, in most of it a track for each hand; none where its folder is not there."""
    return sorted(FREE.rglob("*.mid")) if FREE.is_dir() else []
