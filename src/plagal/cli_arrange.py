"""`plagal arrange` and `plagal styles`: music by rules, without a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from plagal.cli_files import FOLDER, MIDI, check_output, write_music


def _say(text: str) -> None:
    print(text)


def arrange(
    tune: Annotated[
        str | None,
        typer.Argument(help="ABC, MusicXML or MIDI of your own, or a title of the book; else the seed's choice."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="What to write: .mid, .wav, .mp3, .musicxml, .pdf, .svg or .txt; default out/TITLE.mid.",
        ),
    ] = None,
    style: Annotated[str, typer.Option(help="As in `plagal styles`.")] = "traditional_gospel",
    key: Annotated[
        str | None, typer.Option(help="As in Db or F#m; else an own tune's own, or one of the style's.")
    ] = None,
    tempo: Annotated[float | None, typer.Option(help="Beats a minute: quarters, dotted quarters in 12/8.")] = None,
    metre: Annotated[str | None, typer.Option(help="As in 4/4 or 12/8.")] = None,
    bars: Annotated[int | None, typer.Option(min=1, max=512, help="The number of bars.")] = None,
    chords: Annotated[str | None, typer.Option(help='Your own chords, as in "C | Am7 | Dm7 G7 | C".')] = None,
    feel: Annotated[str | None, typer.Option(help="straight, swing, shuffle, 12/8 or half-time.")] = None,
    swing: Annotated[float | None, typer.Option(help="Share of the first eighth, .5 to .75.")] = None,
    sections: Annotated[str | None, typer.Option(help='As in "intro, verse:2, vamp:8, outro".')] = None,
    intro: Annotated[
        str | None, typer.Option(help="none, last-line, turnaround, walk-up, or degrees: 3-6-2-5.")
    ] = None,
    ending: Annotated[str | None, typer.Option(help="none, amen, tag, backdoor, or degrees: 7-3-6-2-5-1.")] = None,
    modulate: Annotated[int, typer.Option(min=0, max=11, help="Semitones up before the last verse.")] = 0,
    intensity: Annotated[int | None, typer.Option(min=1, max=4, help="1 (soft, sparse) to 4 (shout).")] = None,
    level: Annotated[str | None, typer.Option(help="beginner, easy, intermediate or advanced.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    roll: Annotated[bool, typer.Option("--roll", help="A picture of the piano roll beside it.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Sheet music: .musicxml, .pdf, .svg or .png.")] = None,
    wav: Annotated[bool, typer.Option("--wav", help="A sound file beside it.")] = False,
    play: Annotated[bool, typer.Option("--play", help="Play it.")] = False,
    soundfont: Annotated[Path | None, typer.Option(help="SoundFont for --wav and --play.")] = None,
) -> None:
    """Arrange a tune of the book or of your own, over its chords or yours. Rules do it; you need no model."""
    from plagal.asking.lexicon import known_arranger_style
    from plagal.asking.progression import read_progression
    from plagal.music.arranger.arrange import arrange as arranged
    from plagal.music.levels import check_level, simplified
    from plagal.music.midi import read_midi
    from plagal.music.notation import NOTATION_SUFFIXES, load_notation
    from plagal.plumbing.errors import InputError

    if output is not None:
        check_output(output, soundfont)
    if level is not None:
        check_level(level)
    if play:  # said before the work, not after it
        from plagal.serving.sound import find_player

        if output is not None and output.suffix.lower() not in MIDI:
            raise InputError(f"--play plays the MIDI file that is written: name one with -o, not {output}")
        player = find_player(soundfont)
    source: Any = tune
    suffix = Path(tune).suffix.lower() if tune else ""
    if tune and suffix in NOTATION_SUFFIXES:
        source = load_notation(tune)
    elif tune and (suffix in (".mid", ".midi") or Path(tune).is_file()):
        source = read_midi(tune)
    beats, _, unit = (metre or "").partition("/")
    if metre and not (beats.isdigit() and unit.isdigit() and int(beats) and int(unit)):
        raise InputError(f"--metre {metre}: write it as 4/4 or 12/8")
    score = arranged(
        source, known_arranger_style(style), key, tempo, seed, bars,
        chords=read_progression(chords) if chords is not None else None,
        metre=(int(beats), int(unit)) if metre else None,
        feel=feel, swing=swing, intro=intro, ending=ending, modulate=modulate, intensity=intensity,
        sections=[part.strip() for part in sections.split(",")] if sections else None,
    )  # fmt: skip
    if level is not None:
        score = simplified(score, level)
    name = re.sub(r"[^a-z0-9]+", "_", (score.title or "piece").lower()).strip("_") or "piece"
    output = output or FOLDER / f"{name}.mid"
    for written in write_music(score, output, soundfont):
        _say(f"{written}: {_described(score, style)}")
    if roll:
        from plagal.music.pianoroll import write_piano_roll

        write_piano_roll(score, output.with_suffix(".png"), title=f"{score.title}, {style}")
        _say(str(output.with_suffix(".png")))
    if sheet is not None:
        from plagal.sheet import write_sheet

        for page in write_sheet(score, sheet):
            _say(str(page))
    if wav:
        from plagal.serving.sound import write_sound

        write_sound(score, output.with_suffix(".wav"), soundfont)
        _say(str(output.with_suffix(".wav")))
    if play:
        from plagal.serving.sound import play as play_file

        play_file(player, output)


def _described(score: Any, style: str) -> str:
    """ "What a Friend, shout, Ab major, 4/4, ♩ = 144, 24 bars"."""
    from plagal.music.harmony import beat_ticks
    from plagal.music.keys import key_name
    from plagal.music.score import DURATION, ONSET, TICKS_PER_QUARTER

    metre, beat = score.metres[0], beat_ticks(score.metres[0])
    tempo = score.tempos[0].quarters_per_minute * TICKS_PER_QUARTER / beat
    bars = -(-int((score.notes[:, ONSET] + score.notes[:, DURATION]).max()) // metre.bar_ticks)
    sign = "♩" if beat == TICKS_PER_QUARTER else "♩."
    keys = " to ".join(key_name(key) for key in score.keys)
    return f"{score.title}, {style}, {keys}, {metre.numerator}/{metre.denominator}, {sign} = {tempo:.0f}, {bars} bars"


def styles() -> None:
    """List the arranger's styles and tunes."""
    from plagal.music.arranger.arrange import STYLES
    from plagal.music.arranger.tunebook import tune_book

    _say("styles: " + ", ".join(STYLES))
    for tune in tune_book():
        _say(f"  {tune.name:<36} {tune.title} ({tune.composer}, {tune.year})")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (arrange, styles):
        app.command()(command)
