"""`plagal sheet`: a piece as sheet music. What it does is done in `plagal.sheet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sheet(
    file: Annotated[
        Path, typer.Argument(help="Music in any form that is read: MIDI, MusicXML, ABC, LilyPond, Humdrum.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Ends with .musicxml, .pdf, .svg or .png.")],
    lead: Annotated[bool, typer.Option("--lead", help="A lead sheet: the melody and the chords.")] = False,
    numbers: Annotated[bool, typer.Option("--numbers", help="Nashville numbers for chord names.")] = False,
    key: Annotated[str | None, typer.Option(help="Transpose there, as in Db or Bm; the mode stays.")] = None,
) -> None:
    """Sheet music: two staves by hands, chord symbols, spelled in its key."""
    from plagal.music.hands import unplayable
    from plagal.music.load import load
    from plagal.sheet import write_sheet

    score = load(file)
    for path in write_sheet(score, output, lead=lead, numbers=numbers, key=key):
        print(path)
    if not lead and (places := unplayable(score.notes, score.pedals)):
        print(f"{file}: at {len(places)} places no two hands reach all keys; all notes are written all the same")
