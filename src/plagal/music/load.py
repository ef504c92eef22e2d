"""A score from any file that is read: the one door for music on disk."""

from __future__ import annotations

from pathlib import Path

from plagal.music.midi import read_midi
from plagal.music.performance.reading import as_played
from plagal.music.score import Score

NOTATION = frozenset((".abc", ".musicxml", ".mxl", ".xml", ".krn", ".ly"))


def load(path: str | Path) -> Score:
    """A score from a file: MIDI (.mid, .midi, .kar; one that keeps no grid is heard as a performance), or notation
    (.abc, .musicxml, .mxl, .xml, .krn, .ly). Raises InputError or one of its kinds, naming the file."""
    path = Path(path)
    if path.suffix.lower() in NOTATION:
        from plagal.music.notation import load_notation  # its parsers take a while to import

        return load_notation(path)
    return as_played(path, read_midi(path, heard=True))
