"""Notation read into regular scores, repeats played out: ABC and MusicXML by readers of our own, LilyPond and Humdrum
translated to MusicXML first, by lytk. Humdrum whose spines split (all piano music) goes by way of music21, which takes
fifteen seconds where lytk takes a tenth of one, and reads the rest to the same notes.

All parts are played together. `Score.losses` counts what was left out or bent, beside what `grid.regular` counts: grace
notes, percussion, ornaments, chord symbols, bars and voices that don't add up (docs/words.md lists them).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from plagal.music.notation.abc import AbcReader
from plagal.music.notation.bars import MAX_NOTATION_BYTES, to_score
from plagal.music.score import Score
from plagal.plumbing.errors import AbcError, InputError
from plagal.plumbing.workers import run_limited

NOTATION_SUFFIXES = (".musicxml", ".xml", ".mxl", ".abc", ".krn", ".ly")
_LONGEST_HEADER = 50
"""Lines of a file's header that hold for each of its tunes: every tune is given a copy."""
_HEADER_FIELD = re.compile(r"[A-JL-WY-Za-z]:|%%|I:")


def load_notation(path: str | Path) -> Score:
    """The first piece of a file in a notation. Raises InputError (AbcError for ABC) that names the file."""
    for score in load_all(path):
        return score
    raise AbcError(f"{path} holds no tune (no line that begins with X:)")


def load_all(path: str | Path) -> Iterator[Score]:
    """Every piece of a file: an ABC file may hold many tunes, MusicXML holds one. Raises as `load_notation`."""
    path = Path(path)
    if path.suffix.lower() == ".abc":
        for tune in split_tunes(read_text(path)):
            yield score_from_abc(tune, str(path))
    else:
        from plagal.music.notation.musicxml import score_from_musicxml, unpacked

        losses: Counter[str] = Counter()
        if path.suffix.lower() == ".ly":
            data = lilypond_as_musicxml(read_text(path), str(path), losses)
        elif path.suffix.lower() == ".krn":
            data = humdrum_as_musicxml(path, read_text(path))
        else:
            data = unpacked(path)
        yield score_from_musicxml(data, str(path), path.stem, losses)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or Latin-1 where it is not. Raises InputError where it's too large or can't be read."""
    try:
        if path.stat().st_size > MAX_NOTATION_BYTES:
            raise InputError(f"{path} is larger than {MAX_NOTATION_BYTES // 1_000_000} MB; split it by tune")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def split_tunes(text: str) -> list[str]:
    """The tunes of an ABC file, each from its `X:` line to the next, after the fields of the file's header: those hold
    for all tunes (ABC 2.1, 2.2.2)."""
    header: list[str] = []
    tunes: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("X:"):
            tunes.append(header[:])
        if tunes:
            tunes[-1].append(line)
        elif _HEADER_FIELD.match(line) and len(header) < _LONGEST_HEADER:
            header.append(line[:200])
    return ["\n".join(lines) + "\n" for lines in tunes]


def score_from_abc(text: str, name: str = "tune") -> Score:
    """The first ABC tune of a text as a score, or all of a text that has no `X:` line; `name` stands in errors. Raises
    AbcError."""
    # What comes before the first X: that has a key is a header, a page layout or a letter to the reader.
    tune = next((tune for tune in split_tunes(text) if re.search(r"^K:", tune, re.MULTILINE)), text)
    reader = AbcReader(name)
    try:
        reader.read(tune)
        bars = reader.bars()
        return to_score(bars, reader.title, name, reader.losses, reader.parts(len(bars)))
    except InputError as error:
        raise AbcError(str(error)) from None


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
