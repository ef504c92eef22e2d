"""`plagal arrange`, `styles`, `beats`, `sheet`, `simplify`: music by rules, without a model; and how all commands write
it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from plagal.music.score import Score


# --- Where the commands write music, and as what: the name's ending says it ---

FOLDER = Path("out")
MIDI = ("", ".mid", ".midi")
"""A device or a pipe has no ending."""
SOUNDS = (".wav", ".mp3")
SHEETS = (".musicxml", ".xml", ".pdf", ".svg")

WavOption = Annotated[Path | None, typer.Option(help="Sound file to write: .wav or .mp3.")]
RollOption = Annotated[Path | None, typer.Option(help="PNG of the piano roll.")]
SheetOption = Annotated[Path | None, typer.Option(help="Sheet music: .musicxml, .pdf, .svg or .png.")]


def check_output(path: Path, soundfont: Path | None = None) -> None:
    """Before anything is written: raises InputError for an ending that stands for no form of music."""
    from plagal.plumbing.errors import InputError

    ending = path.suffix.lower()
    if ending in SOUNDS:
        from plagal.serving.sound import find_soundfont

        find_soundfont(soundfont)
    elif ending not in (*MIDI, *SHEETS, ".txt"):
        raise InputError(
            f"{path}: music is written as .mid, .wav, .mp3, .musicxml, .pdf, .svg or .txt (its words); for a picture "
            "of the piano roll add --roll FILE"
        )


def write_music(score: Score, path: Path, soundfont: Path | None = None) -> list[Path]:
    """The files written, each whole or not at all: MIDI, sound, sheet music or words."""
    ending = path.suffix.lower()
    if ending in SHEETS:
        from plagal.sheet import write_sheet

        return write_sheet(score, path)
    if ending in SOUNDS:
        from plagal.serving.sound import write_sound

        write_sound(score, path, soundfont)
    elif ending == ".txt":
        from plagal.plumbing.files import write_text
        from plagal.tokens.codec import encode

        write_text(path, " ".join(encode(score)) + "\n")
    else:
        from plagal.music.midi import write_midi

        write_midi(score, path)
    return [path]


def write_beside(
    score: Score, title: str, wav: Path | None, roll: Path | None, sheet: Path | None, soundfont: Path | None
) -> Iterator[Path]:
    """What is wanted beside the music, as it is written: sound, a picture of the roll under `title`, sheet music."""
    if wav is not None:
        from plagal.serving.sound import write_sound

        write_sound(score, wav, soundfont)
        yield wav
    if roll is not None:
        from plagal.music.pianoroll import write_piano_roll

        write_piano_roll(score, roll, title=title)
        yield roll
    if sheet is not None:
        from plagal.sheet import write_sheet

        yield from write_sheet(score, sheet)


def free_path(title: str) -> Path:
    """out/TITLE.mid, numbered where that is taken."""
    name = "-".join(re.findall(r"[a-z0-9#]+", title.lower()))[:40].strip("-") or "piece"
    names = (FOLDER / (f"{name}.mid" if number == 1 else f"{name}-{number}.mid") for number in count(1))
    return next(path for path in names if not path.exists())


# --- The commands ---


def arrange(
    tune: Annotated[
        str | None,
        typer.Argument(help="Your ABC, MusicXML or MIDI file, or a title of the book; default: the seed chooses."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="What to write: .mid, .wav, .mp3, .musicxml, .pdf, .svg or .txt; default out/TITLE.mid.",
        ),
    ] = None,
    style: Annotated[str, typer.Option(help="`plagal styles` lists them.")] = "traditional_gospel",
    key: Annotated[
        str | None, typer.Option(help="For example Db or F#m; default your tune's key, or one that suits the style.")
    ] = None,
    tempo: Annotated[float | None, typer.Option(help="Beats a minute: quarters, or dotted quarters in 12/8.")] = None,
    metre: Annotated[str | None, typer.Option(help="As in 4/4 or 12/8.")] = None,
    bars: Annotated[int | None, typer.Option(min=1, max=512, help="The number of bars.")] = None,
    chords: Annotated[str | None, typer.Option(help='Your own chords, as in "C | Am7 | Dm7 G7 | C".')] = None,
    feel: Annotated[str | None, typer.Option(help="straight, swing, shuffle, 12/8 or half-time.")] = None,
    swing: Annotated[float | None, typer.Option(help="How much of a quarter the first eighth gets, .5 to .75.")] = None,
    sections: Annotated[str | None, typer.Option(help='As in "intro, verse:2, vamp:8, outro".')] = None,
    intro: Annotated[
        str | None, typer.Option(help="none, last-line, turnaround, walk-up, or degrees: 3-6-2-5.")
    ] = None,
    ending: Annotated[str | None, typer.Option(help="none, amen, tag, backdoor, or degrees: 7-3-6-2-5-1.")] = None,
    modulate: Annotated[int, typer.Option(min=0, max=11, help="Semitones up before the last verse.")] = 0,
    intensity: Annotated[int | None, typer.Option(min=1, max=4, help="1 (soft, sparse) to 4 (shout).")] = None,
    level: Annotated[str | None, typer.Option(help="beginner, easy, intermediate or advanced.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    roll: RollOption = None,
    sheet: SheetOption = None,
    wav: WavOption = None,
    play: Annotated[bool, typer.Option("--play", help="Play it.")] = False,
    soundfont: Annotated[Path | None, typer.Option(help="SoundFont for --wav and --play.")] = None,
) -> None:
    """Arrange a tune of the book or your own, with its chords or yours. This needs no model."""
    from plagal.asking.lexicon import known_arranger_style
    from plagal.asking.progression import read_progression
    from plagal.music.arranger.arrange import arrange as arranged
    from plagal.music.keys import key_name, parse_key
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
        print(f"{written}: {_described(score, style)}")
    if key is not None and parse_key(key).minor != score.keys[0].minor:
        print(f"not understood: {key_name(parse_key(key))} (the melody stays in {key_name(score.keys[0]).split()[1]})")
    for written in write_beside(score, f"{score.title}, {style}", wav, roll, sheet, soundfont):
        print(str(written))
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

    print("styles: " + ", ".join(STYLES))
    for tune in tune_book():
        print(f"  {tune.name:<36} {tune.title} ({tune.composer}, {tune.year})")


def beats(
    file: Annotated[Path, typer.Argument(help="MIDI of a performance.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="MIDI to write: the score on its grid.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: beats and downbeats in seconds.")] = False,
    picture: Annotated[Path | None, typer.Option(help="PNG of notes, beats and tempo curve.")] = None,
    click: Annotated[Path | None, typer.Option(help="MIDI of the performance with a click on each beat.")] = None,
    bpm: Annotated[float | None, typer.Option(help="Beats a minute, if you know them; dotted quarters in 6/8.")] = None,
    metre: Annotated[str | None, typer.Option(help="2/4, 3/4, 4/4, 6/8, 9/8 or 12/8, if you know it.")] = None,
    first_downbeat: Annotated[float | None, typer.Option(help="Second of a downbeat, if you know one.")] = None,
) -> None:
    """Find beats, bars and metre in playing without a click. Options win over what is heard."""
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


MusicFile = Annotated[Path, typer.Argument(help="Music to read: MIDI, MusicXML, ABC, LilyPond or Humdrum.")]


def sheet(
    file: MusicFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="Ends with .musicxml, .pdf, .svg or .png.")],
    lead: Annotated[bool, typer.Option("--lead", help="A lead sheet: the melody and the chords.")] = False,
    numbers: Annotated[bool, typer.Option("--numbers", help="Nashville numbers instead of chord names.")] = False,
    key: Annotated[str | None, typer.Option(help="Transpose to this key, as in Db or Bm; the mode stays.")] = None,
) -> None:
    """Print a piece: a staff for each hand, chord symbols, notes spelled in the key."""
    from plagal.music.hands import unplayable
    from plagal.music.load import load
    from plagal.sheet import write_sheet

    score = load(file)
    for path in write_sheet(score, output, lead=lead, numbers=numbers, key=key):
        print(path)
    if not lead and (places := unplayable(score.notes, score.pedals)):
        print(f"{file}: two hands cannot reach all keys at {len(places)} places; all notes are written nevertheless")


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
