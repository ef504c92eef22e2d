"""`plagal sheet` and `plagal simplify`: a piece on paper, and a piece made easier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plagal.cli_files import check_output, write_music

MusicFile = Annotated[
    Path, typer.Argument(help="Music in any form that is read: MIDI, MusicXML, ABC, LilyPond, Humdrum.")
]


def sheet(
    file: MusicFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="Ends with .musicxml, .pdf, .svg or .png.")],
    lead: Annotated[bool, typer.Option("--lead", help="A lead sheet: the melody and the chords.")] = False,
    numbers: Annotated[bool, typer.Option("--numbers", help="Nashville numbers for chord names.")] = False,
    key: Annotated[str | None, typer.Option(help="Transpose there, as in Db or Bm; the mode stays.")] = None,
) -> None:
    """Print a piece: a staff for each hand, chord symbols, notes spelled in the key."""
    from plagal.music.hands import unplayable
    from plagal.music.load import load
    from plagal.sheet import write_sheet

    score = load(file)
    for path in write_sheet(score, output, lead=lead, numbers=numbers, key=key):
        print(path)
    if not lead and (places := unplayable(score.notes, score.pedals)):
        print(f"{file}: at {len(places)} places no two hands reach all keys; all notes are written all the same")


def simplify(
    file: MusicFile,
    output: Annotated[Path, typer.Option("-o", "--output", help=".mid, .wav, .mp3, .musicxml, .pdf, .svg or .txt.")],
    level: Annotated[str, typer.Option(help="beginner, easy, intermediate or advanced.")] = "easy",
) -> None:
    """Make a piece easier to play: melody, bass and harmony stay."""
    from plagal.music.levels import beyond, check_level, simplified
    from plagal.music.load import load

    check_level(level)
    check_output(output)
    score = load(file)
    easier = simplified(score, level)
    for path in write_music(easier, output):
        print(f"{path}: {len(easier.notes)} of {len(score.notes)} notes")
    for what in beyond(easier, level):
        print(f"{output}: beyond {level} in {what}")
