"""LilyPond and Humdrum by way of lytk, which writes them as MusicXML. Humdrum whose spines split (all piano music) goes
by way of music21, which takes fifteen seconds where lytk takes a tenth of one, and reads the rest to the same notes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from plagal.plumbing.errors import InputError
from plagal.plumbing.limited import run_limited

MOST_HUMDRUM_BYTES = 200_000
"""For music21, which knows no bound of its own; a mazurka of Chopin has 20,000."""
MOST_SECONDS = 60
"""Of processor time, for music21."""


def lilypond_as_musicxml(text: str, name: str, losses: Counter[str]) -> bytes:
    """The first score of a LilyPond file; nothing is included or run. What lytk reads around is counted as
    `lilypond_<its code>`. Raises InputError with line and column of the first error."""
    import lytk

    try:
        score = lytk.from_lilypond_string(text)
        for found in score.diagnostics:
            if found.severity == "error":
                raise InputError(f"{name}: line {found.line}, column {found.column}: {' '.join(found.message.split())}")
            losses[f"lilypond_{found.code.replace('-', '_')}"] += 1
        return str(lytk.to_musicxml(score)).encode()
    except (lytk.LytkError, ValueError) as error:
        raise InputError(f"{name} does not parse as LilyPond: {' '.join(str(error).split())[:120]}") from None


def humdrum_as_musicxml(path: Path, text: str) -> bytes:
    """A Humdrum file. Raises InputError, naming it."""
    import lytk

    try:
        return str(lytk.to_musicxml(lytk.from_humdrum_string(text))).encode()
    except (lytk.LytkError, ValueError) as error:
        # lytk says so of spines that split, and names them.
        if "not supported" not in str(error) or len(text) > MOST_HUMDRUM_BYTES:
            raise InputError(f"{path} does not parse as Humdrum: {' '.join(str(error).split())[:120]}") from None
    try:
        return run_limited(_by_music21, (path,), MOST_SECONDS)
    except InputError as error:
        raise InputError(f"{path} does not parse as Humdrum: {error}") from None


def _by_music21(path: Path) -> bytes:
    from music21 import converter
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    try:
        return bytes(GeneralObjectExporter(converter.parse(path, forceSource=True, format="humdrum")).parse())
    except MemoryError:
        raise
    except Exception as error:  # music21 raises nearly anything
        raise InputError(" ".join(str(error).split())[:120]) from None
