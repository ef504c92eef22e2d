"""Where the benchmarks find what they measure on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def unpack_commit(commit: str, folder: str, *parts: str) -> bool:
    """Write `parts` of the tree of a commit under `folder`. -> whether git knows it; where not, that is said."""
    archive = ["git", "-C", str(ROOT), "archive", "--output", f"{folder}/tree.tar", commit, *parts]
    if subprocess.run(archive, capture_output=True, check=False).returncode:
        print(f"git knows no commit {commit}: no row is beside it", file=sys.stderr)
        return False
    shutil.unpack_archive(f"{folder}/tree.tar", folder, filter="data")
    return True
