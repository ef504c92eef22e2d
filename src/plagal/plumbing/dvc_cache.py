"""What DVC keeps, held against its hashes, its own notes made whole again (`plagal mend`), and music of one's own,
which neither git nor DVC has.

DVC trusts its cache: a file that has rotted there is handed out as it is, and a stage would go on from it without a
word. And it writes its notes in place: a kill while it does leaves them cut off, and then every `dvc` command ends with
an error until somebody deletes them.

Hashing all of a cache that holds versions of a 14 B model takes minutes, so only what dvc.lock names is looked at, and
only where its time or size is not what it was when it was last hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import InputError
from plagal.plumbing.files import parse_yaml, write_text

LOCK_FILE, PIPELINE_FILE = Path("dvc.lock"), Path("dvc.yaml")
CACHE = Path(".dvc") / "cache"
LOCKS_OF_PATHS = Path(".dvc") / "tmp" / "rwlock"
REMEMBERED = Path(".dvc") / "tmp" / "plagal_md5.json"
"""Path -> [size, time (ns), md5]: what files were when they were last hashed. Lost, it is made anew."""
_WRITING_SECONDS = 2.0
"""A living DVC has written its few lines by then."""
_STAGE = re.compile(r"^  \S+:$", re.MULTILINE)
_NO_STAGE = "schema: '2.0'\nstages: {}\n"


def md5_of(path: Path, known: dict[str, Any] | None = None) -> str:
    """As dvc.lock writes it, of a file or a folder. `known`: what REMEMBERED holds; a file that has changed neither its
    time nor its size is not read again. Raises OSError."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        rows = [{"md5": md5_of(file, known), "relpath": file.relative_to(path).as_posix()} for file in files]
        text = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
        return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"
    name, status = os.path.abspath(path), path.stat()  # noqa: PTH100 (a link is not its target)
    before = (known or {}).get(name)
    if before and before[:2] == [status.st_size, status.st_mtime_ns]:
        return str(before[2])
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if known is not None:
        known[name] = [status.st_size, status.st_mtime_ns, md5]
    return md5


def check_inputs(stage: str, folder: Path = Path()) -> None:
    """Raises InputError where something that `stage` depends on is another than the stage before wrote, as dvc.lock has
    it, or where own music is missing. What is not a stage's output, or not in dvc.lock, is nobody's promise."""
    stages = stages_of(folder / PIPELINE_FILE)
    check_music(stage, stages, stages_of(folder / LOCK_FILE), folder)
    needs = stages.get(stage, {}).get("deps", [])
    written, known = outputs(folder), _remembered(folder)
    for path in sorted({path for path in written for need in needs if f"{need}/".startswith(f"{path}/")}):
        if (folder / path).exists() and md5_of(folder / path, known) != written[path]:
            raise InputError(
                f"{path} differs from what the stage before wrote (dvc.lock: {written[path]}); `plagal mend` removes"
                f" what is damaged, then run `dvc repro` again; `dvc commit` keeps what you changed yourself"
            )
    _remember(folder, known)


def outputs(folder: Path = Path()) -> dict[str, str]:
    """Path -> md5 of all that stages wrote, by dvc.lock."""
    stages = stages_of(folder / LOCK_FILE).values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}


def stages_of(file: Path) -> dict[str, Any]:
    """Of dvc.yaml or dvc.lock; none where it is missing."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict((parse_yaml(text, str(file), InputError) or {}).get("stages") or {})


def _remembered(folder: Path) -> dict[str, Any]:
    try:
        known = json.loads((folder / REMEMBERED).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}


def _remember(folder: Path, known: dict[str, Any]) -> None:
    if (folder / REMEMBERED).parent.is_dir():  # else DVC has not run here
        write_text(folder / REMEMBERED, json.dumps({name: row for name, row in known.items() if os.path.exists(name)}))  # noqa: PTH110


def cache_folder(folder: Path = Path()) -> Path:
    """Where DVC keeps files by their md5: below .dvc, or where `dvc cache dir` put it, shared with other projects."""
    config = [folder / ".dvc" / name for name in ("config", "config.local")]
    told = any("[cache]" in file.read_text(encoding="utf-8", errors="replace") for file in config if file.is_file())
    if not told and (folder / CACHE).is_dir():  # the usual; asking DVC takes half a second
        return folder / CACHE / "files" / "md5"
    from dvc.config import Config, ConfigError

    try:
        return Path(Config(dvc_dir=str(folder / ".dvc"))["cache"].get("dir") or folder / CACHE) / "files" / "md5"
    except ConfigError as error:
        raise InputError(f"{folder / '.dvc' / 'config'}: {' '.join(str(error).split())}") from None


def mend(folder: Path = Path()) -> Iterator[str]:
    """Mend what is cut off under `folder`, throw out of DVC's cache what is damaged, and yield what was done, a line
    each. A stage whose entry is lost is in DVC's run cache: the next `dvc repro` finds it there."""
    locks = folder / LOCKS_OF_PATHS
    if _is_cut_off(locks):
        locks.unlink(missing_ok=True)
        yield f"{LOCKS_OF_PATHS} was cut off by a kill; removed it, DVC will make a new one"
    lock = folder / LOCK_FILE
    if lock.exists() and (whole := whole_entries(lock.read_text(encoding="utf-8", errors="replace"))) is not None:
        write_text(lock, whole)
        yield f"{LOCK_FILE} was cut off by a kill; dropped its last entry, which DVC gets back from its run cache"
    written, known = outputs(folder), _remembered(folder)
    yield from _throw_out_damaged(cache_folder(folder), written, known)
    # Where an output is not what dvc.lock says, only its time is changed, for it may be somebody's work: then DVC
    # looks at it again, instead of remembering what it was.
    for path, md5 in written.items():
        output = folder / path
        if output.exists() and md5_of(output, known) != md5:
            for file in [output, *output.rglob("*")] if output.is_dir() else [output]:
                os.utime(file)
            yield f"{path} differs from dvc.lock; `dvc repro` makes it again, `dvc commit` keeps your change"
    _remember(folder, known)


def _throw_out_damaged(cache: Path, written: dict[str, str], known: dict[str, Any]) -> Iterator[str]:
    from tqdm import tqdm

    entries = [cache / md5[:2] / md5[2:] for md5 in written.values()]
    for entry in tqdm(entries, desc="check DVC's cache", unit="entry", delay=2, disable=None, leave=False):
        listed = [entry]
        if entry.name.endswith(".dir") and entry.exists() and not is_damaged(entry, known):
            rows = json.loads(entry.read_text(encoding="utf-8"))
            listed += [cache / row["md5"][:2] / row["md5"][2:] for row in rows]
        for file in listed:
            if file.exists() and is_damaged(file, known):
                file.unlink()
                yield f"{file} was damaged and is removed; `dvc repro` makes it again (or `dvc pull`, from a remote)"


def is_damaged(entry: Path, known: dict[str, Any] | None = None) -> bool:
    """Whether a file of DVC's cache holds something else than its name says."""
    named = f"{entry.parent.name}{entry.name}".removesuffix(".dir")
    return re.fullmatch(r"[0-9a-f]{32}", named) is not None and md5_of(entry, known) != named


def _is_cut_off(locks: Path) -> bool:
    end = time.monotonic() + _WRITING_SECONDS
    while time.monotonic() < end:
        try:
            json.loads(locks.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            time.sleep(0.1)
        else:
            return False
    return True


def whole_entries(text: str) -> str | None:
    """A dvc.lock without the entry in which it was cut off; None where it is whole. Raises InputError for one that a
    merge left with its conflict marks: which side counts, only people know."""
    if re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE):
        raise InputError(f"{LOCK_FILE} has both sides of a merge; choose one: `git checkout --theirs {LOCK_FILE}`")
    if text.endswith("\n") and _reads(text):
        return None
    starts = [match.start() for match in _STAGE.finditer(text)]
    while starts:
        text = text[: starts.pop()]
        if starts and _reads(text):
            return text
    return _NO_STAGE


def _reads(text: str) -> bool:
    """Whether DVC would take it: each path of each stage with the hash that its kind names."""
    import yaml

    try:
        stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506
        entries = [entry for stage in stages.values() for kind in ("deps", "outs") for entry in stage.get(kind, [])]
        return all(len(str(entry[entry.get("hash", "md5")])) >= 32 and entry["path"] for entry in entries) and all(
            stage["cmd"] and stage["outs"] for stage in stages.values()
        )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False


# --- music of one's own


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
