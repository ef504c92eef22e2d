"""`plagal rehearse`: minutes before days."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from plagal.plumbing.params import ModelSettings

REPORT = Path("logs/rehearsal.json")
ASKED = Path("logs/rehearsal_asked.json")
"""That `make repro` has asked for a rehearsal once: {"base": ...}."""
_LARGE_BILLIONS = 1.0


def rehearse(
    profile: Annotated[str, typer.Option(help="A file of profiles/, laid over params.yaml for this once.")] = "",
    minutes: Annotated[float, typer.Option(min=0.0, help="For timing steps; loading and compiling come on top.")] = 5.0,
    config: Annotated[
        Path | None, typer.Option(help="config.json of a base that is not here: random weights of its shape.")
    ] = None,
    layers: Annotated[int, typer.Option(min=0, help="Random weights, cut to so many layers; 0: all.")] = 0,
    if_large: Annotated[
        bool, typer.Option("--if-large", help="Do nothing but ask, once, where the base has over 1 B weights.")
    ] = False,
) -> None:
    """Try a few steps of all that a long run does, then say "go" or what to change: memory, hours, disk, speed."""
    from plagal.plumbing.files import read_json, write_json
    from plagal.plumbing.params import check_params, load_params, profile_path, with_profile

    params = load_params()
    if profile:
        params = check_params(with_profile(profile_path(profile)), f"params.yaml with profile {profile}")
    if if_large:
        _ask_once(params.model)
        return
    import plagal.model  # noqa: F401  (the fast BLAS goes before everything that loads another)
    from plagal.rehearsal.report import report_lines
    from plagal.rehearsal.run import rehearse as run

    shape = read_json(config / "config.json" if config.is_dir() else config) if config else None
    report = {"profile": profile, **run(params, minutes, shape, layers)}
    write_json(REPORT, report)
    for line in report_lines(report):
        print(line)
    print(f"{REPORT} has all of it, and names no user, host or folder")


def _ask_once(model: ModelSettings) -> None:
    """For `make repro`. Raises InputError where a large base was neither rehearsed nor asked about."""
    from plagal.plumbing.errors import InputError
    from plagal.plumbing.files import read_json, write_json
    from plagal.rehearsal.shapes import billions

    base, size = model.base, billions(model)
    if size <= _LARGE_BILLIONS:
        return
    if REPORT.exists() and read_json(REPORT).get("base", {}).get("name") == base:
        return
    if ASKED.exists() and read_json(ASKED) == {"base": base}:
        return
    write_json(ASKED, {"base": base})
    raise InputError(
        f"{base} has {size:.1f} billion weights, so its run takes days. `plagal rehearse` tells you in minutes whether"
        " it fits here; run `make repro` again to start without it"
    )
