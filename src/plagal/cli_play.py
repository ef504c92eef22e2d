"""The commands that play: generate, chat, serve. Each is one call into `plagal.serving`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

MODEL = Path("models/fused")
TOKEN_VARIABLE = "PLAGAL_TOKEN"  # noqa: S105  # the name of a variable, not a token

ModelOption = Annotated[Path, typer.Option(help="Model folder.")]


def _say(text: str) -> None:
    print(text, flush=True)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    model: ModelOption = MODEL,
    previous: Annotated[
        Path | None, typer.Option(help="Model to compare with in blind pairs; else the arranger.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for ratings.jsonl; nothing else is written.")] = Path("out"),
    token_file: Annotated[Path | None, typer.Option(help=f"File with a token; or set {TOKEN_VARIABLE}.")] = None,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Pieces that may wait.")] = 64,
) -> None:
    """A prompt in a browser or an app, music as it is written: HTTP, and the page."""
    from plagal.serving import api

    desk = api.Desk(model, output, previous, api.Limits(queue=queue))
    api.serve(desk, host, port, _token(token_file), lambda address: _say(f"plagal serves {model} at {address}"))


def _token(file: Path | None) -> str | None:
    from plagal.errors import InputError

    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: no token can be read there ({error})") from None
    if not token:
        raise InputError(f"{file} is empty; write a token into it")
    return token


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(serve)
