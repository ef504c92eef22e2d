"""Where pieces come from: a YAML file that lists sources, and the candidates that each source offers.

Kinds: `folder` (a user's own files), `music21` (files of the corpus in music21's wheel, by an explicit list),
`arranger` (synthetic pieces from the tune book) and `archive` (downloads, off unless `enabled: true`). A candidate is
one piece, not yet read: a file that holds many tunes offers many.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from plagal.corpus.archives import printable, unpacked
from plagal.music.notation import NOTATION_SUFFIXES, read_text, split_tunes
from plagal.plumbing.errors import CorpusError, InputError
from plagal.plumbing.files import parse_yaml

MIDI_SUFFIXES = (".mid", ".midi", ".kar")
MAX_MIDI_BYTES = 16_000_000
"""A piano piece is some hundred kB at most; what is larger is not a single piece and would eat memory."""
_HIDDEN = (".", "~")
_SILENT_NAMES = ("readme", "readme.md", "readme.txt", "license", "license.txt", "thumbs.db")


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    genre: str = Field(min_length=1)
    style: str = ""
    """What a prompt calls it; the genre where empty."""
    licence: str = Field(min_length=1)
    attribution: str = Field(min_length=1)
    commercial: bool = True
    """Whether the licence allows commercial use, as far as it says."""
    tempo: Annotated[float, Field(gt=0)] | None = None
    """Quarters a minute for files without a tempo mark; 120 where this is empty too."""
    must_state: str = ""
    """What a file itself must say of its rights, as "Public Domain"; one that does not is left out."""
    reduce: bool = False
    """Whether a MIDI file that has no piano part is reduced to two hands, instead of being left out."""


class FolderSource(_Source):
    kind: Literal["folder"]
    path: str


class Music21Source(_Source):
    kind: Literal["music21"]
    files: tuple[str, ...] = Field(min_length=1)
    """Paths or globs below music21's `corpus` folder."""
    leave_out: tuple[str, ...] = ()
    """Globs among them that are not wanted."""


class ArrangerSource(_Source):
    kind: Literal["arranger"]
    keys: tuple[str, ...] = ()
    """Tonics to draw from ("Db"); the tune's own key where empty. A minor tune stays minor."""
    in_turn: Annotated[int, Field(ge=1)] = 1
    """Pieces taken at each turn, where several arrangers serve one genre."""


class ArchiveSource(_Source):
    kind: Literal["archive"]
    url: str
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")
    """Empty where none is known: the archive is fetched then and its sum told, to be compared and written here."""
    files: tuple[str, ...] = ("*.mid", "*.midi")
    """Globs of the members wanted, matched on whole names without regard to case; `*` matches slashes, too."""
    megabytes: Annotated[float, Field(gt=0)] | None = None
    """To download, about, where that is known."""
    enabled: bool = False
    pins: str = ""
    """File of the sha256 of each member, NAME.sha256 beside the list of sources: set on loading."""


Source = Annotated[FolderSource | Music21Source | ArrangerSource | ArchiveSource, Field(discriminator="kind")]
_SOURCES = TypeAdapter(tuple[Source, ...])


@dataclass(frozen=True, slots=True)
class Candidate:
    """One piece that a source offers, not yet read. `problem` says why it can't even be tried."""

    source: str
    kind: str
    path: str
    """As shown in manifests: no path of this machine."""
    file: str
    """Where it is on this machine; empty for the arranger."""
    genre: str
    style: str
    licence: str
    attribution: str
    commercial: bool
    tempo: float | None = None
    must_state: str = ""
    reduce: bool = False
    part: int = 0
    """Which tune of an ABC file."""
    tune: str = ""
    key: str = ""
    seed: int = 0
    problem: str = ""

    @property
    def synthetic(self) -> bool:
        return self.kind == "arranger"


def load_sources(path: str | Path) -> tuple[Source, ...]:
    """The sources that a YAML file lists under `sources`. Raises CorpusError that names the file and the entry."""
    path = Path(path)
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"), str(path), CorpusError)
    except FileNotFoundError:
        raise CorpusError(f"{path} is missing; name another file under `sources` in params.yaml") from None
    except UnicodeDecodeError:
        raise CorpusError(f"{path} is not UTF-8 text") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("sources"), list):
        raise CorpusError(f"{path} must hold a list under the key `sources`")
    try:
        sources = _SOURCES.validate_python(raw["sources"])
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise CorpusError(f"{path}: sources.{where}: {problem['msg']}") from None
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"{path}: the source name {twice[0]!r} appears twice")
    return tuple(
        source.model_copy(update={"pins": str(path.with_name(f"{source.name}.sha256"))})
        if isinstance(source, ArchiveSource)
        else source
        for source in sources
    )


def fetch_source(name: str, lists: Iterable[str | Path]) -> str:
    """Bring the archive `name` of these lists, on or off, and say what came. Where no sum of it is known, those of its
    files are noted beside the list. Raises CorpusError for another name, and where the archive cannot be had."""
    archives = [source for path in lists for source in load_sources(path) if isinstance(source, ArchiveSource)]
    source = next((source for source in archives if source.name == name), None)
    if source is None:
        names = ", ".join(source.name for source in archives)
        raise CorpusError(f"{name!r} is not a source that can be fetched; choose one of {names}")
    known = bool(source.sha256) or Path(source.pins).exists()
    folder, left_out = unpacked(name, source.url, source.sha256, source.files, Path(source.pins), pin=True)
    count = sum(file.is_file() for file in folder.rglob("*"))
    told = f"{name}: {count} files, {len(left_out)} left out; {source.licence}"
    if not known:
        told += f"; their sums are noted in {source.pins}: compare them with the publisher's, and keep that file"
    return told if source.enabled else f"{told}; `enabled: true` takes them into the corpus"


def sources_table(lists: Iterable[str | Path]) -> list[tuple[str, ...]]:
    """A row for each source: list, name, kind, genre, licence, size, on or off. Fetches nothing."""
    return [
        (Path(path).stem, source.name, source.kind, source.genre, source.licence, *_size_and_state(source))
        for path in lists
        for source in load_sources(path)
    ]


def _size_and_state(source: Source) -> tuple[str, str]:
    if isinstance(source, ArrangerSource):
        return "any", "on"
    if isinstance(source, ArchiveSource):
        size = "not known" if source.megabytes is None else f"{source.megabytes:g} MB to fetch"
        return size, "on" if source.enabled else "off"
    files = {candidate.file for candidate in candidates(source, 0) if candidate.file and not candidate.problem}
    return f"{len(files)} files, {sum(Path(file).stat().st_size for file in files) / 1e6:.1f} MB", "on"


def candidates(source: Source, seed: int) -> Iterator[Candidate]:
    """What a source offers, in an order drawn by `seed`, so that a part of it is a fair sample, and by each path alone,
    so that a new file changes no other's place. Endless for an arranger."""
    if isinstance(source, ArrangerSource):
        yield from _arranged(source, seed)
        return
    if isinstance(source, FolderSource):
        found = list(folder_candidates(source, Path(source.path)))
    elif isinstance(source, Music21Source):
        found = list(_music21_candidates(source))
    else:
        found = list(_archive_candidates(source)) if source.enabled else []
    yield from sorted(
        found, key=lambda candidate: hashlib.blake2b(f"{seed}:{candidate.path}".encode(), digest_size=16).digest()
    )


def _blank(source: _Source, kind: str) -> Candidate:
    """A candidate with what its source knows of it."""
    told = ("genre", "licence", "attribution", "commercial", "tempo", "must_state", "reduce")
    known = {name: getattr(source, name) for name in told}
    return Candidate(source=source.name, kind=kind, path="", file="", style=source.style or source.genre, **known)


def folder_candidates(source: _Source, folder: Path, shown: str = "") -> Iterator[Candidate]:
    """Every music file below `folder`, by name; what is not music, too large or unreadable comes with its problem.
    Links are followed, each folder is visited once."""
    base = _blank(source, getattr(source, "kind", "folder"))
    shown = shown or (folder.name if folder.is_absolute() else folder.as_posix())  # no path of this machine
    for file, problem in _walk(folder):
        name = printable(f"{shown}/{file.relative_to(folder).as_posix()}")
        found = replace(base, path=name, file=str(file), problem=problem or _file_problem(file))
        yield from _pieces(found, file)


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    if not folder.exists():
        return
    visited: set[tuple[int, int]] = set()
    errors: list[OSError] = []
    for root, folders, files in os.walk(folder, followlinks=True, onerror=errors.append):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
        for name in sorted(files):
            if not name.startswith(_HIDDEN) and name.lower() not in _SILENT_NAMES:
                yield Path(root, name), ""
    for error in errors:
        yield Path(error.filename), "unreadable"


def _file_problem(file: Path) -> str:
    if file.suffix.lower() not in MIDI_SUFFIXES + NOTATION_SUFFIXES:
        return "no music file"
    try:
        size = file.stat().st_size
    except OSError:
        return "unreadable"
    if not file.is_file() or not os.access(file, os.R_OK):
        return "unreadable"
    if size == 0:
        return "empty file"
    return "too large" if size > MAX_MIDI_BYTES else ""


def _pieces(candidate: Candidate, file: Path) -> Iterator[Candidate]:
    """One candidate for each tune of an ABC file, one for any other file."""
    if candidate.problem or file.suffix.lower() != ".abc":
        yield candidate
        return
    try:
        count = len(split_tunes(read_text(file)))
    except InputError:
        count = 0
    if count == 0:
        yield replace(candidate, problem="unreadable")
    for part in range(count):
        shown = candidate.path if count == 1 else f"{candidate.path}#{part + 1}"
        yield replace(candidate, path=shown, part=part)


def music21_folder() -> Path:
    """Where music21 keeps its corpus, found without importing music21 (which takes seconds)."""
    from importlib.util import find_spec

    spec = find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise CorpusError("music21 is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "corpus"


def _music21_candidates(source: Music21Source) -> Iterator[Candidate]:
    root = music21_folder()
    base = _blank(source, "music21")
    left_out = {file for pattern in source.leave_out for file in root.glob(pattern)}
    for pattern in source.files:
        files = sorted(root.glob(pattern))
        if not files:
            yield replace(base, path=f"music21/{pattern}", problem="not in this music21")
        for file in files:
            if file not in left_out:
                name = f"music21/{file.relative_to(root).as_posix()}"
                yield from _pieces(replace(base, path=name, file=str(file)), file)


def _archive_candidates(source: ArchiveSource) -> Iterator[Candidate]:
    pins = Path(source.pins) if source.pins else None
    folder, left_out = unpacked(source.name, source.url, source.sha256, source.files, pins)
    shown = {f"{source.name}/{printable(name)}": problem for name, problem in left_out}
    base = _blank(source, "archive")
    yield from (replace(base, path=path, problem=problem) for path, problem in shown.items())
    for candidate in folder_candidates(source, folder, shown=source.name):
        if candidate.path.partition("#")[0] not in shown:
            yield replace(candidate, kind="archive")


def _arranged(source: ArrangerSource, seed: int) -> Iterator[Candidate]:
    """Arrangements without end: every tune of the book once in random order, then again with other seeds and keys."""
    from plagal.music.arranger.tunebook import tune_book

    base = _blank(source, "arranger")
    random_number = random.Random(f"{seed}:{source.name}")
    tunes = list(tune_book())
    number = 0
    while tunes:
        random_number.shuffle(tunes)
        for tune in tunes:
            tonic = random_number.choice(source.keys) if source.keys else ""
            key = f"{tonic}m" if tonic and tune.key.minor else tonic
            draw = random_number.randrange(2**31)
            path = f"arranger/{source.style or source.genre}/{tune.name}/{number}"
            yield replace(base, path=path, tune=tune.name, key=key, seed=draw)
            number += 1
