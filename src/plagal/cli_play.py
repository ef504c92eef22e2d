"""The commands that play: generate, chat, serve. What they do is done in `plagal.serving`."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plagal.cli_music import RollOption, SheetOption, WavOption, check_output, free_path, write_beside, write_music

if TYPE_CHECKING:
    from plagal.asking.chat import Talk
    from plagal.asking.request import Request
    from plagal.music.score import Score
    from plagal.serving.service import Written

MODEL = Path("models/fused")
TOKEN_VARIABLE = "PLAGAL_TOKEN"  # noqa: S105  # the name of a variable, not a token
MOST_AT_ONCE = 64

ModelOption = Annotated[Path, typer.Option(help="Model folder.")]
PlayOption = Annotated[bool, typer.Option("--play", help="Play it.")]
SoundFontOption = Annotated[Path | None, typer.Option(help="SoundFont for --wav and --play.")]


def _say(text: str) -> None:
    print(text, flush=True)


def generate(
    prompt: Annotated[str, typer.Argument(help='As in "slow worship ballad in Db"; options win over it.')] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="What to write: .mid, .wav, .mp3, .musicxml, .pdf, .svg or .txt; default out/PROMPT.mid; "
            "--count adds -1, -2 ...",
        ),
    ] = None,
    model: ModelOption = MODEL,
    writer: Annotated[str | None, typer.Option(help="model, arranger (needs no model), or best of both.")] = None,
    style: Annotated[str | None, typer.Option(help="For example worship; `plagal styles` lists all.")] = None,
    key: Annotated[str | None, typer.Option(help='For example Db, Bbm or "F# minor".')] = None,
    tempo: Annotated[float | None, typer.Option(help="Beats a minute: quarters, or dotted quarters in 12/8.")] = None,
    metre: Annotated[str | None, typer.Option(help="As in 12/8.")] = None,
    bars: Annotated[int | None, typer.Option(help="Bars to write, at most 64.")] = None,
    density: Annotated[str | None, typer.Option(help="sparse, medium, dense, or notes a bar.")] = None,
    level: Annotated[str | None, typer.Option(help="beginner, easy, intermediate or advanced.")] = None,
    chords: Annotated[str | None, typer.Option(help='As in "Dbmaj9 | Gb13 | Ab13sus Ab7"; repeats to the end.')] = None,
    feel: Annotated[str | None, typer.Option(help="straight, swing, shuffle, 12/8 or half-time.")] = None,
    intro: Annotated[str | None, typer.Option(help="none, turnaround, walk-up, or degrees: 3-6-2-5.")] = None,
    ending: Annotated[str | None, typer.Option(help="none, amen, tag, backdoor, or degrees: 7-3-6-2-5-1.")] = None,
    modulate: Annotated[int | None, typer.Option(help="Semitones up before the last verse (arranger only).")] = None,
    melody: Annotated[Path | None, typer.Option(help="A tune to harmonise: MIDI, ABC or MusicXML.")] = None,
    continue_: Annotated[Path | None, typer.Option("--continue", help="MIDI to continue.")] = None,
    keep_bars: Annotated[int | None, typer.Option(help="How many bars of --continue to keep; default all.")] = None,
    refill: Annotated[Path | None, typer.Option(help="MIDI with bars to write anew.")] = None,
    refill_bars: Annotated[str | None, typer.Option(help="Which bars to write anew, as in 3-4.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default 0. The same request and seed give the same piece.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2; default 0.9.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Above 0, at most 1; default 0.9.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="A JSON file with these options.")] = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_AT_ONCE, help="How many pieces, each with the next seed.")] = 1,
    play: PlayOption = False,
    wav: WavOption = None,
    soundfont: SoundFontOption = None,
    roll: RollOption = None,
    sheet: SheetOption = None,
) -> None:
    """Write a piece from a prompt: MIDI, sound or sheet music."""
    from plagal.asking.request import read_request, read_request_file

    notes = float(density) if density is not None and re.fullmatch(r"\d+(\.\d+)?", density) else density
    given = {
        "prompt": prompt or None, "style": style, "key": key, "tempo": tempo, "metre": metre, "bars": bars,
        "density": notes, "chords": chords, "melody": _score(melody),
        "continue": _continue(continue_, keep_bars), "refill": _refill(refill, refill_bars), "seed": seed,
        "temperature": temperature, "top_p": top_p, "writer": writer, "feel": feel, "intro": intro, "ending": ending,
        "modulate": modulate, "level": level,
    }  # fmt: skip
    if output is not None:
        check_output(output, soundfont)
    player = _check_sound(play, wav, soundfont)
    if sheet is not None:
        from plagal.sheet import check_name

        check_name(sheet)
    # Options win over the JSON file, and that over what the prompt says.
    values = (read_request_file(json) if json is not None else {}) | {
        name: value for name, value in given.items() if value is not None
    }
    request = read_request(values, "" if json is None else str(json))
    requests = [request.again(request.seed + number) for number in range(count)]
    if requests[0].writer != "arranger":
        _check_model(model)
    output = output or free_path(prompt or requests[0].tune or requests[0].style or "")
    for number, piece in enumerate(_written(requests, model), 1):
        path = _numbered(output, number, count)
        beside = [file and _numbered(file, number, count) for file in (wav, roll, sheet)]
        _deliver(piece, path, beside[0], beside[1], beside[2], soundfont)
        if player:
            from plagal.serving.sound import play as play_file

            play_file(player, path)


def _check_model(model: Path) -> None:
    from plagal.plumbing.errors import ModelError

    if not model.exists():
        raise ModelError(f"{model}: no such model folder; run `make repro`, or use `plagal generate --writer arranger`")


def _deliver(
    piece: Written, path: Path, sound: Path | None = None, picture: Path | None = None, sheet: Path | None = None,
    soundfont: Path | None = None,
) -> None:  # fmt: skip
    """Write the music and what is wanted beside it, and tell the files' names."""
    from plagal.asking.wording import plain_prompt

    for written in write_music(piece.score, path, soundfont):
        _say(f"{written}: {piece.description}")
    if piece.request.prompt or piece.request.not_understood:
        _say(piece.request.summary)
    if piece.judge:
        _say(piece.judge)
    title = piece.request.prompt or plain_prompt(piece.request)
    for beside in write_beside(replace(piece.score, title=title), title, sound, picture, sheet, soundfont):
        _say(str(beside))


def _written(requests: list[Request], model: Path) -> list[Written]:
    from tqdm import tqdm

    from plagal.serving.service import write_pieces

    total = sum(request.new_bars for request in requests)
    with tqdm(total=total, unit="bar", desc="write", disable=not sys.stderr.isatty(), leave=False) as progress:
        return write_pieces(requests, model, progress.update)


def _numbered(path: Path, number: int, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _score(file: Path | None) -> Score | None:
    """Music in any form that is read."""
    from plagal.music.load import load

    return None if file is None else load(file)


def _continue(file: Path | None, keep_bars: int | None) -> dict[str, Any] | None:
    from plagal.plumbing.errors import InputError

    if file is None:
        if keep_bars is not None:
            raise InputError("--keep-bars says how much of --continue FILE stays; give both")
        return None
    return {"midi": _score(file)} | ({} if keep_bars is None else {"from_bar": keep_bars})


def _refill(file: Path | None, bars: str | None) -> dict[str, Any] | None:
    from plagal.plumbing.errors import InputError

    if (file is None) != (bars is None):
        raise InputError("--refill FILE and --refill-bars FIRST-LAST go together")
    if file is None or bars is None:
        return None
    match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", bars.strip())
    if match is None:
        raise InputError(f"--refill-bars {bars}: write the first and the last bar, as in 3-4")
    return {"midi": _score(file), "first_bar": int(match[1]), "last_bar": int(match[2] or match[1])}


def _check_sound(play: bool, wav: Path | None, soundfont: Path | None) -> list[str]:
    """The player's command, empty where nothing is to be played; said before the work, not after it."""
    from plagal.serving.sound import find_player, find_soundfont

    if wav is not None:
        find_soundfont(soundfont)
    return find_player(soundfont) if play else []


def chat(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pieces.")] = Path("out"),
    model: ModelOption = MODEL,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first piece; each piece takes the next.")] = 0,
    play: PlayOption = False,
    soundfont: SoundFontOption = None,
) -> None:
    """Write one piece after another and change the last one: "again", "slower", "in G", "go on". Ends with "quit"."""
    from plagal.asking.chat import HELP, Talk
    from plagal.plumbing.errors import PlagalError
    from plagal.serving.service import loaded
    from plagal.serving.sound import play as play_file

    player = _check_sound(play, None, soundfont)
    if model != MODEL or model.exists():
        _check_model(model)
        loaded(model)
    else:  # a fresh clone has no model yet, and can play
        _say(f"{MODEL} is not there, so the arranger writes; for a model run `make repro`")
    _say(HELP)
    talk = Talk()
    done: list[tuple[Written, Path]] = []
    while (line := _next_line()) is not None:
        if re.fullmatch(r"(?:help|\?|hilfe|aide|ayuda|ajuda)[.!?]*", line, re.IGNORECASE):
            _say(HELP)
            continue
        if re.fullmatch(r"(?:undo|back)[.!]?", line, re.IGNORECASE):
            _say(_undone(talk, done))
            continue
        try:
            piece = _answer(talk, line, done[-1][0] if done else None, model, seed)
        except PlagalError as error:
            _say(f"! {error}")
            continue
        path = _free_path(output, line)
        _deliver(piece, path)
        done.append((piece, path))
        if player:
            play_file(player, path)
        seed += 1


def _answer(talk: Talk, line: str, last: Written | None, model: Path, seed: int) -> Written:
    from plagal.serving.service import Written
    from plagal.tokens.codec import encode

    edited = talk.edit(line, last.score) if last is not None else None
    if edited is not None and talk.request is not None:
        piece = Written(talk.request, tuple(encode(edited)))
    elif last is not None and re.fullmatch(r"(?:go on|continue|more|longer)[.!]?", line, re.IGNORECASE):
        _check_model(model)  # the arranger writes whole pieces
        piece = _written([talk.go_on(list(last.words), seed)], model)[0]
    else:
        request = talk.understand(line, seed)
        piece = _written([request if model.exists() else request.changed(writer="arranger")], model)[0]
    _remember(talk, piece)
    return piece


def _remember(talk: Talk, piece: Written) -> None:
    talk.request = piece.request
    talk.tempo = piece.score.tempos[0].quarters_per_minute / piece.request.beat_quarters


def _undone(talk: Talk, done: list[tuple[Written, Path]]) -> str:
    """Go back to the piece before the last; the last one's file stays."""
    if len(done) < 2:
        return "! there is no piece to go back to"
    done.pop()
    piece, path = done[-1]
    _remember(talk, piece)
    return f"back to {path}: {piece.description}"


def _next_line() -> str | None:
    """The next line with something in it; None at the end."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        if line.lower() in ("quit", "exit", "bye"):
            return None
        if line:
            return line


def _free_path(folder: Path, line: str) -> Path:
    """A name that says what was asked and is not taken."""
    name = "-".join(re.findall(r"[A-Za-z0-9#]+", line))[:40].lower() or "piece"
    numbers = (number for number in range(1, 1_000_000) if not any(folder.glob(f"{number:03d}-*.mid")))
    return folder / f"{next(numbers):03d}-{name}.mid"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine give a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    model: ModelOption = MODEL,
    previous: Annotated[Path | None, typer.Option(help="Model for blind pairs; default the arranger.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for ratings.jsonl; nothing else is written.")] = Path("out"),
    token_file: Annotated[Path | None, typer.Option(help=f"File with a token; or set {TOKEN_VARIABLE}.")] = None,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="How many pieces may wait.")] = 64,
    allow_host: Annotated[list[str], typer.Option(help="Public name of a reverse proxy in front.")] = [],  # noqa: B006
    root_path: Annotated[str, typer.Option(help="Prefix that the proxy uses, as in /plagal.")] = "",
) -> None:
    """Serve the page and the HTTP API: music for prompts, while it is written."""
    from plagal.serving.api import listen
    from plagal.serving.desk import Desk, Limits

    # A fresh clone has no model yet, and can play; a folder that somebody names is meant.
    served = model if model != MODEL or model.exists() else None
    desk = Desk(served, output, previous, Limits(queue=queue))
    listening = listen(desk, host, port, _token(token_file), tuple(allow_host), root_path.rstrip("/"))
    if served is None:
        _say(f"{MODEL} is not there, so the arranger writes everything; for a model run `make repro`")
    _say(f"plagal serves {served or 'the arranger'} at {listening.address}")
    listening.run()


def _token(file: Path | None) -> str | None:
    from plagal.plumbing.errors import InputError

    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read the token ({error})") from None
    if not token:
        raise InputError(f"{file} is empty; write a token into it")
    return token
