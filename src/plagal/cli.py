"""`plagal ...`: each command is one call into the library. Imports stand inside the commands, so that `--help` is quick
and commands without a model start without MLX."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plagal import cli_music, cli_play, cli_train
from plagal.plumbing import errors

_ORDER = (
    "doctor", "arrange", "styles", "understand", "generate", "chat", "serve", "sheet", "simplify", "beats", "profile",
    "plan", "rehearse", "sources", "collect", "convert", "metrics", "export", "vocab", "tokenize", "detokenize",
    "roundtrip", "mend",
)  # fmt: skip
"""In the order of use: play at once, ask a model, train one, look into words."""


class _InOrder(TyperGroup):
    """Lists commands in the order of use, each with all of its first sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
            formatter.write_dl(
                [(name, (command.help or "").split("\n\n")[0]) for name, command in commands if command is not None]
            )


app = typer.Typer(
    cls=_InOrder,
    help="Write, arrange and print gospel piano, and teach a language model to play it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
collect_app = typer.Typer(help="Collect pieces by genre quota.", no_args_is_help=True, rich_markup_mode=None)
metrics_app = typer.Typer(
    help="Show metrics, compare them with another commit's, or show what listeners said.", no_args_is_help=True
)
app.add_typer(collect_app, name="collect")
app.add_typer(metrics_app, name="metrics")
sources_app = typer.Typer(help="Show where pieces come from, or fetch an archive.", rich_markup_mode=None)
app.add_typer(sources_app, name="sources")


class Format(StrEnum):
    mlx = "mlx"
    alpaca = "alpaca"
    chatml = "chatml"


def _show_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _show_version(wanted: bool) -> None:
    if wanted:
        from plagal.plumbing import __version__

        print(f"plagal {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback behind an error.")] = False,
    version: Annotated[  # noqa: ARG001  # its callback does it
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ[errors.DEBUG_VARIABLE] = "1"


class Backend(StrEnum):
    local = "local"
    dask = "dask"


BackendOption = Annotated[Backend, typer.Option(help="Run on this machine's cores, or on a Dask cluster.")]
SchedulerOption = Annotated[str, typer.Option(help="The Dask scheduler's address, as in tcp://host:8786.")]


def _collect(stage: str, output: Path, target_files: int | None, backend: Backend, scheduler: str) -> None:
    from plagal.corpus.collect import collect
    from plagal.plumbing.errors import InputError
    from plagal.plumbing.params import load_params
    from plagal.plumbing.workers import Workers

    if (backend is Backend.dask) != bool(scheduler):
        raise InputError("--backend dask and --scheduler ADDRESS go together, as in --scheduler tcp://host:8786")

    params = load_params()
    settings = getattr(params, f"collect_{stage}")
    if target_files is not None:
        settings = settings.model_copy(update={"target_files": target_files})
    collect(stage, settings, output, params.seed, Workers(scheduler=scheduler))


@collect_app.command("stage1")
def collect_stage1(
    output: Annotated[Path, typer.Option(help="Folder to write; it replaces what was there.")] = Path("data/stage1"),
    target_files: Annotated[int | None, typer.Option(min=1, help="How many pieces to collect.")] = None,
    backend: BackendOption = Backend.local,
    scheduler: SchedulerOption = "",
) -> None:
    """Collect general music, from the sources that params.yaml names."""
    _collect("stage1", output, target_files, backend, scheduler)


@collect_app.command("stage2")
def collect_stage2(
    output: Annotated[Path, typer.Option(help="Folder to write; it replaces what was there.")] = Path("data/stage2"),
    target_files: Annotated[int | None, typer.Option(min=1, help="How many pieces to collect.")] = None,
    backend: BackendOption = Backend.local,
    scheduler: SchedulerOption = "",
) -> None:
    """Collect gospel, from the sources that params.yaml names."""
    _collect("stage2", output, target_files, backend, scheduler)


def _lists_of_sources() -> list[str]:
    from plagal.plumbing.params import load_params

    params = load_params()
    return [params.collect_stage1.sources, params.collect_stage2.sources]


@sources_app.callback(invoke_without_command=True)
def sources(ctx: typer.Context) -> None:
    """Where pieces come from: list, name, kind, genre, licence, size, on or off."""
    if ctx.invoked_subcommand is None:
        from plagal.corpus.sources import sources_table

        for row in sources_table(_lists_of_sources()):
            print(" | ".join(row))


@sources_app.command("fetch")
def sources_fetch(name: Annotated[str, typer.Argument(help="The archive, as `plagal sources` lists it.")]) -> None:
    """Fetch an archive into your cache, check it, and unpack its music."""
    from plagal.corpus.sources import fetch_source

    print(fetch_source(name, _lists_of_sources()))


@app.command()
def convert(
    input: Annotated[Path, typer.Option(help='JSONL of {"prompt", "tokens": [ids], "metadata"}.')],
    output: Annotated[Path, typer.Option(help="JSONL to write.")],
    format: Annotated[Format, typer.Option(help="What the text is for.")] = Format.mlx,
    validate: Annotated[bool, typer.Option("--validate", help="Check every record's round trip and grammar.")] = False,
) -> None:
    """Turn token ids into training text."""
    from plagal.corpus.formats import convert_file

    _show_json(convert_file(input, output, format.value, validate=validate))


@app.command()
def vocab(
    word: Annotated[str | None, typer.Argument(help="A word, a chord or part of a word: Dbmaj9, TRIPLET.")] = None,
) -> None:
    """List every word with its id and its definition."""
    from plagal.tokens.vocabulary import ID_OF, WORDS, definition

    for each in WORDS if word is None else _words_named(word):
        print(f"{ID_OF[each]:>5}  {each:<24} {definition(each)}")


def _words_named(text: str) -> list[str]:
    """The word itself, the word of a chord symbol, or all words that hold a part. Raises InputError."""
    from plagal.music.chords import read_chord
    from plagal.plumbing.errors import ChordError, InputError
    from plagal.tokens.vocabulary import ID_OF, WORDS

    if text in ID_OF:
        return [text]
    try:
        chord, _ = read_chord(text)
        return [
            f"CHORD_{replace(chord, bass=chord.root).symbol}",
            *([f"BASS_{text.rpartition('/')[2]}"] if "/" in text else []),
        ]
    except ChordError:
        pass
    holding = [word for word in WORDS if text.upper() in word.upper().split("_") or text.upper() == word.upper()]
    if not holding:
        raise InputError(f"{text!r} is not a word of the vocabulary; `plagal vocab` lists all {len(WORDS)}")
    return holding


@app.command()
def tokenize(
    file: Annotated[Path, typer.Argument(help="MIDI, MusicXML or ABC.")],
    chords: Annotated[bool, typer.Option(help="Also write the chords that are heard.")] = True,
) -> None:
    """Write music as words, on one line."""
    from plagal.music.load import load
    from plagal.tokens.codec import encode

    print(" ".join(encode(load(file), chords=chords)))


@app.command()
def detokenize(
    output: Annotated[Path, typer.Option("-o", "--output", help="MIDI to write.")],
    file: Annotated[Path | None, typer.Argument(help="Text file with words; default standard input.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first word that is not allowed there.")] = False,
) -> None:
    """Write words as a MIDI file, and report what had to be repaired."""
    from plagal.music.midi import write_midi
    from plagal.plumbing.errors import InputError
    from plagal.tokens.codec import decode

    text = (sys.stdin.buffer.read() if file is None else file.read_bytes()).decode("utf-8", "replace")
    if "\ufffd" in text:
        raise InputError(f"{file or 'standard input'} is not UTF-8 text; save it as UTF-8")
    decoded = decode(text.split(), strict=strict)
    write_midi(decoded.score, output)
    for repair in decoded.repairs:
        print(repair, file=sys.stderr)
    print(f"{output}: {len(decoded.score.notes)} notes, {len(decoded.repairs)} repairs")


@app.command()
def roundtrip(
    files: Annotated[list[Path], typer.Argument(help="MIDI files, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a row for each file, and totals.")] = False,
) -> None:
    """Show what a round trip through words loses, file by file."""
    from plagal.tokens.roundtrip import as_table, roundtrip

    report = roundtrip(files)
    if as_json:
        _show_json(report)
    else:
        print(as_table(report))


@app.command()
def understand(
    prompt: Annotated[str, typer.Argument(help='As in "slow worship ballad in Db".')],
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """Show what Plagal understands of a prompt, and what not, without writing a piece."""
    from plagal.asking.request import read_request

    request = read_request({"prompt": prompt})
    values = request.understood()
    if as_json:
        _show_json(values | {"not_understood": list(request.not_understood)})
    else:
        for name, value in values.items():
            print(f"{name}: {value}")
        if request.not_understood:
            print(f"not understood: {', '.join(request.not_understood)}")


for _command in (
    *(cli_play.generate, cli_play.chat, cli_play.serve),
    *(cli_music.arrange, cli_music.styles, cli_music.sheet, cli_music.simplify, cli_music.beats),
    *(cli_train.doctor, cli_train.plan, cli_train.rehearse, cli_train.export),
):
    app.command()(_command)


@app.command()
def profile(
    name: Annotated[
        str | None, typer.Argument(help="A file in profiles/, without its ending; without it, list them.")
    ] = None,
) -> None:
    """Apply a profile to params.yaml and show what changed; without a name, list the profiles."""
    from plagal.plumbing.params import apply_profile, profile_path

    if name is None:
        for path in sorted(Path("profiles").glob("*.yaml")):
            about = re.match(r"#\s*(.+?)(?:\. |\.?\n)", path.read_text(encoding="utf-8"))
            print(f"{path.stem:<20} {about[1] if about else ''}".rstrip())
        return
    print(apply_profile(profile_path(name)) or "nothing to change")


@app.command()
def mend() -> None:
    """Repair DVC's own files after a kill; `make repro` does this first."""
    from plagal.plumbing.dvc_cache import PIPELINE_FILE, stages_of, unread_music
    from plagal.plumbing.dvc_cache import mend as mended

    for line in (*mended(), *unread_music(stages_of(PIPELINE_FILE))):
        print(line)


@metrics_app.command("show")
def metrics_show(folder: Annotated[Path, typer.Argument(help="Folder with metrics.json.")] = Path("metrics")) -> None:
    """Show the metrics beside their targets, and where the samples are."""
    from plagal.evaluation.report import terminal_table
    from plagal.plumbing.files import read_json

    print(terminal_table(read_json(folder / "metrics.json")))
    for sample in sorted((folder / "samples").glob("*.mid")):
        print(str(sample))


@metrics_app.command("diff")
def metrics_diff(
    revision: Annotated[str, typer.Argument(help="Commit to compare with; default main, or else origin/main.")] = "",
) -> None:
    """Print a Markdown table for a pull request: old, new, better or worse."""
    from plagal.evaluation.report import diff_against

    print(diff_against(revision or _main_branch()))


def _main_branch() -> str:
    """main, or origin/main in a clone of another branch. Raises InputError where neither is there."""
    from plagal.plumbing.errors import InputError

    for name in ("main", "origin/main"):
        command = ["git", "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    raise InputError(
        "this clone has neither main nor origin/main; run `git fetch --depth 1 origin main:refs/remotes/origin/main`,"
        " or name another commit"
    )


@metrics_app.command("ratings")
def metrics_ratings(
    file: Annotated[Path, typer.Argument(help="JSONL that plagal serve writes.")] = Path("out/ratings.jsonl"),
) -> None:
    """Show what listeners said: each system's mean rating, and which won in blind pairs."""
    from plagal.evaluation.report import ratings_lines

    for line in ratings_lines(file):
        print(line)


def main() -> None:
    """Entry point: run the command line and leave with its exit code."""
    sys.exit(errors.run(app, "plagal"))
