"""Music of one's own under data/midi_sources: neither git nor DVC has it, so it can be missing, or lie where no stage
looks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import InputError

SOURCES = Path("data") / "midi_sources"
WITHOUT = "PLAGAL_WITHOUT_MUSIC"
"""Set to 1: go on although music is missing that was there before."""
_EXPERIMENTS = (".dvc", "tmp", "exps")
"""Below the project: where `dvc exp run --temp` and `--queue` work, on a copy of what git and DVC track."""
_KEEP = ".gitkeep"


def check_music(stage: str, stages: dict[str, Any], locked: dict[str, Any], folder: Path = Path()) -> None:
    """Raises InputError where a folder of own music that `stage` reads is empty and was not: when dvc.lock was written,
    or in the project whose experiment this is."""
    if os.environ.get(WITHOUT) == "1":
        return
    before = {dep["path"]: dep.get("nfiles", 0) for dep in locked.get(stage, {}).get("deps", [])}
    for need in stages.get(stage, {}).get("deps", []):
        if not Path(need).is_relative_to(SOURCES) or _files(folder / need):
            continue
        project = _project_of_experiment(folder)
        if project is not None and (missing := _files(project / need)):
            raise InputError(
                f"{need}: {missing} files of the project are not in this experiment, for neither git nor DVC tracks"
                f" them; `dvc add` them (docs/dvc.md), or leave out --temp and --queue; {WITHOUT}=1 goes on without"
            )
        if before.get(need):
            raise InputError(
                f"{need}: the {before[need]} files that dvc.lock was made with are missing; get them (docs/dvc.md), or"
                f" keep the models as they are; {WITHOUT}=1 goes on without"
            )


def unread_music(stages: dict[str, Any], folder: Path = Path()) -> Iterator[str]:
    """A line for what lies under data/midi_sources where none of dvc.yaml's `stages` reads it."""
    sources = folder / SOURCES
    needs = [Path(need) for stage in stages.values() for need in stage.get("deps", [])]
    genres = {need.name for need in needs if need.parent == SOURCES}
    if not sources.is_dir() or not genres:
        return
    loose = sorted(path.name for path in sources.iterdir() if path.is_file() and not path.name.startswith("."))
    if loose:
        yield f"{SOURCES}: {len(loose)} files are read by no stage ({loose[0]}); put them into a genre's folder"
    for other in sorted(path for path in sources.iterdir() if path.is_dir() and path.name not in genres):
        if count := _files(other):
            yield (
                f"{SOURCES / other.name}: {count} files are read by no stage; the genres are"
                f" {', '.join(sorted(genres))}. Another wants a source in sources/, a quota in params.yaml and a"
                " dependency in dvc.yaml"
            )


def _files(folder: Path) -> int:
    return sum(path.is_file() and path.name != _KEEP for path in folder.rglob("*")) if folder.is_dir() else 0


def _project_of_experiment(folder: Path) -> Path | None:
    parts = folder.resolve().parts
    for place in range(len(parts) - len(_EXPERIMENTS)):
        if parts[place : place + len(_EXPERIMENTS)] == _EXPERIMENTS:
            return Path(*parts[:place])
    return None
