"""`plagal beats`: where the beats and bars of a playing are. What it does is done in `plagal.music.performance`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def beats(
    file: Annotated[Path, typer.Argument(help="MIDI of somebody playing.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="MIDI to write: the score on its grid.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Beats and downbeats in seconds, as one object.")] = False,
    picture: Annotated[Path | None, typer.Option(help="PNG: beats over the notes, the tempo curve under them.")] = None,
    click: Annotated[Path | None, typer.Option(help="MIDI: the playing as it was, with a click at each beat.")] = None,
    bpm: Annotated[float | None, typer.Option(help="Beats a minute, where you know; a dotted quarter in 6/8.")] = None,
    metre: Annotated[str | None, typer.Option(help="2/4, 3/4, 4/4, 6/8, 9/8 or 12/8, where you know.")] = None,
    first_downbeat: Annotated[float | None, typer.Option(help="Second of a downbeat, where you know.")] = None,
) -> None:
    """Hear beats, bars and metre in playing without a click. What you say by an option wins over the ear."""
    from tqdm import tqdm

    from plagal.music.midi import write_midi
    from plagal.music.performance.hear import Hints, hear
    from plagal.music.performance.played import read_played, write_click
    from plagal.music.performance.written import write_down
    from plagal.music.pianoroll import write_picture

    played = read_played(file)
    with tqdm(total=round(played.seconds), desc="listening", unit="s", delay=2, leave=False) as bar:
        heard = hear(played, Hints(bpm, metre, first_downbeat), lambda second: bool(bar.update(round(second) - bar.n)))
    pulse = heard.pulse
    if as_json:
        shown = {
            "beats": [round(second, 4) for second in pulse.seconds.tolist()],
            "downbeats": [round(second, 4) for second in pulse.downbeats.tolist()],
            "metre": pulse.metre,
            "bpm": round(pulse.bpm, 1),
            "confidence": round(heard.confidence, 3),
        }
        print(json.dumps(shown))
    else:
        print(
            f"{file}: {pulse.metre}, about {pulse.bpm:.0f} beats a minute, {len(pulse.seconds)} beats, "
            f"{len(pulse.downbeats)} bars, confidence {heard.confidence:.2f}"
        )
    if output is not None:
        score = write_down(played, pulse)
        write_midi(score, output)
        if not as_json:
            off = score.losses.get("played_onsets_ms", 0.0)
            print(f"{output}: {len(score.notes)} notes; nine of ten onsets within {off:.0f} ms of the playing")
    if picture is not None:
        write_picture(played, heard, picture)
    if click is not None:
        write_click(played, heard.pulse, click)
