"""`plagal ...`: each command is one call into the library. Imports stand inside the commands, so that `--help` is quick
and commands without a model start without MLX."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from plagal import cli_beats, cli_play
from plagal.plumbing import terminal

app = typer.Typer(
    help="Teaches a language model to play gospel piano.",
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


class Format(StrEnum):
    mlx = "mlx"
    alpaca = "alpaca"
    chatml = "chatml"


def _say(text: str) -> None:
    print(text)


def _show_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback behind an error.")] = False,
) -> None:
    if debug:
        os.environ[terminal.DEBUG_VARIABLE] = "1"


class Backend(StrEnum):
    local = "local"
    dask = "dask"


BackendOption = Annotated[Backend, typer.Option(help="Whose cores do the work.")]
SchedulerOption = Annotated[str, typer.Option(help="The Dask scheduler's address, as in tcp://host:8786.")]


def _collect(stage: str, output: Path, target_files: int | None, backend: Backend, scheduler: str) -> None:
    from plagal.corpus.collect import collect
    from plagal.corpus.parallel import Workers
    from plagal.plumbing.errors import InputError
    from plagal.plumbing.params import load_params

    if (backend is Backend.dask) != bool(scheduler):
        raise InputError("--backend dask and --scheduler ADDRESS go together, as in --scheduler tcp://host:8786")

    params = load_params()
    settings = getattr(params, f"collect_{stage}")
    if target_files is not None:
        settings = settings.model_copy(update={"target_files": target_files})
    collect(stage, settings, output, params.seed, Workers(scheduler=scheduler))


@collect_app.command("stage1")
def collect_stage1(
    output: Annotated[Path, typer.Option(help="Folder to write; replaced as a whole.")] = Path("data/stage1"),
    target_files: Annotated[int | None, typer.Option(min=1, help="Pieces wanted in all.")] = None,
    backend: BackendOption = Backend.local,
    scheduler: SchedulerOption = "",
) -> None:
    """General music, from the sources that params.yaml names."""
    _collect("stage1", output, target_files, backend, scheduler)


@collect_app.command("stage2")
def collect_stage2(
    output: Annotated[Path, typer.Option(help="Folder to write; replaced as a whole.")] = Path("data/stage2"),
    target_files: Annotated[int | None, typer.Option(min=1, help="Pieces wanted in all.")] = None,
    backend: BackendOption = Backend.local,
    scheduler: SchedulerOption = "",
) -> None:
    """Gospel, from the sources that params.yaml names."""
    _collect("stage2", output, target_files, backend, scheduler)


@app.command()
def convert(
    input: Annotated[Path, typer.Option(help='JSONL of {"prompt", "tokens": [ids], "metadata"}.')],
    output: Annotated[Path, typer.Option(help="JSONL to write.")],
    format: Annotated[Format, typer.Option(help="What the text is for.")] = Format.mlx,
    validate: Annotated[bool, typer.Option("--validate", help="Check every record's round trip and grammar.")] = False,
) -> None:
    """Token ids to training text."""
    from plagal.corpus.formats import convert_file

    _show_json(convert_file(input, output, format.value, validate=validate))


@app.command()
def vocab(word: Annotated[str | None, typer.Argument(help="Only this word.")] = None) -> None:
    """Every word with its id and its definition."""
    from plagal.plumbing.errors import InputError
    from plagal.tokens.vocabulary import ID_OF, WORDS, definition

    if word is not None and word not in ID_OF:
        raise InputError(f"{word!r} is no word of the vocabulary; `plagal vocab` lists all {len(WORDS)}")
    for each in WORDS if word is None else [word]:
        _say(f"{ID_OF[each]:>5}  {each:<24} {definition(each)}")


@app.command()
def tokenize(
    file: Annotated[Path, typer.Argument(help="MIDI, MusicXML or ABC.")],
    chords: Annotated[bool, typer.Option(help="Write the chords heard as words.")] = True,
) -> None:
    """Music to words, on one line."""
    from plagal.music.midi import load
    from plagal.tokens.codec import encode

    _say(" ".join(encode(load(file), chords=chords)))


@app.command()
def detokenize(
    output: Annotated[Path, typer.Option("-o", "--output", help="MIDI to write.")],
    file: Annotated[Path | None, typer.Argument(help="Text file with words; standard input where none.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first word that may not stand there.")] = False,
) -> None:
    """Words to a MIDI file. Repairs are reported, unless --strict."""
    from plagal.music.midi import write_midi
    from plagal.plumbing.errors import InputError
    from plagal.tokens.codec import decode

    text = (sys.stdin.buffer.read() if file is None else file.read_bytes()).decode("utf-8", "replace")
    if "\ufffd" in text:
        raise InputError(f"{file or 'standard input'} is no UTF-8 text; words are")
    decoded = decode(text.split(), strict=strict)
    write_midi(decoded.score, output)
    for repair in decoded.repairs:
        print(repair, file=sys.stderr)
    _say(f"{output}: {len(decoded.score.notes)} notes, {len(decoded.repairs)} repairs")


@app.command()
def roundtrip(
    files: Annotated[list[Path], typer.Argument(help="MIDI files, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="One object with a row a file and totals.")] = False,
) -> None:
    """What a round trip through words loses, file by file."""
    from plagal.tokens.roundtrip import as_table, roundtrip_report

    report = roundtrip_report(files)
    if as_json:
        _show_json(report)
    else:
        _say(as_table(report))


@app.command()
def arrange(
    output: Annotated[Path, typer.Option("-o", "--output", help="MIDI to write.")],
    tune: Annotated[str | None, typer.Argument(help="A tune of the book; the seed picks one where none.")] = None,
    style: Annotated[str, typer.Option(help="As in `plagal styles`.")] = "traditional_gospel",
    key: Annotated[str | None, typer.Option(help="As in Db or F#m; the tune's own where none.")] = None,
    tempo: Annotated[float | None, typer.Option(min=20, max=300, help="Quarter notes a minute.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """A rule-based gospel arrangement of a tune."""
    from plagal.music.arranger.arrange import arrange as arranged
    from plagal.music.midi import write_midi

    score = arranged(tune, style, key=key, tempo=tempo, seed=seed)
    write_midi(score, output)
    _say(f"{output}: {score.title}, {len(score.notes)} notes")


@app.command()
def styles() -> None:
    """The arranger's styles and tunes."""
    from plagal.music.arranger.arrange import STYLES
    from plagal.music.arranger.tunebook import tune_book

    _say("styles: " + ", ".join(STYLES))
    for tune in tune_book():
        _say(f"  {tune.name:<36} {tune.title} ({tune.composer}, {tune.year})")


cli_play.register(app)
app.command()(cli_beats.beats)


@app.command()
def profile(name: Annotated[str, typer.Argument(help="A file of profiles/, without its ending.")]) -> None:
    """Lay a profile over params.yaml and show the difference."""
    from plagal.plumbing.profiles import apply_profile, profile_path

    _say(apply_profile(profile_path(name)) or "nothing to change")


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="config.json of the base, or its folder.")] = Path("models/base"),
) -> None:
    """The memory that training, fusing and evaluating need, and the longest sequence that fits each size of Mac."""
    from plagal.cli_doctor import plan_lines
    from plagal.plumbing.params import load_params

    for line in plan_lines(config, load_params()):
        _say(line)


@app.command()
def mend() -> None:
    """Make DVC's own notes whole again after a kill; `make repro` does it before anything else."""
    from plagal.plumbing.dvc_cache import mend as mended

    for line in mended():
        _say(line)


@app.command()
def doctor() -> None:
    """What this machine offers, and what to do where it is poor."""
    from plagal.cli_doctor import examine

    for line in examine():
        _say(line)


@metrics_app.command("show")
def metrics_show(folder: Annotated[Path, typer.Argument(help="Folder with metrics.json.")] = Path("metrics")) -> None:
    """The metrics against their targets, and where the samples are."""
    from plagal.evaluation.report import terminal_table
    from plagal.plumbing.files import read_json

    _say(terminal_table(read_json(folder / "metrics.json")))
    for sample in sorted((folder / "samples").glob("*.mid")):
        _say(str(sample))


@metrics_app.command("diff")
def metrics_diff(
    revision: Annotated[str, typer.Argument(help="Commit to compare with.")] = "main",
) -> None:
    """The Markdown table that a reviewer pastes: old, new, better or worse."""
    from plagal.evaluation.report import diff_against

    _say(diff_against(revision))


@metrics_app.command("ratings")
def metrics_ratings(
    file: Annotated[Path, typer.Argument(help="JSONL that plagal serve writes.")] = Path("out/ratings.jsonl"),
) -> None:
    """What listeners said: the mean by system, and the strengths that blind pairs showed."""
    from plagal.evaluation.ratings import ratings_lines

    for line in ratings_lines(file):
        _say(line)


def main() -> None:
    """Entry point: run the command line and leave with its exit code."""
    sys.exit(terminal.run(app, "plagal"))
