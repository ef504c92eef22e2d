"""Files that appear whole or not at all."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import InputError, PlagalError, disk_error

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
_LEFT = re.compile(rf"\.(?P<name>.+)\.{_HOST}-(?P<pid>\d+)-[0-9a-f]{{8}}\.(?P<kind>part|old)")
_MOST_YAML_VALUES = 100_000
"""A lock file of DVC that tracks a thousand files holds 10,000."""
_swept: set[Path] = set()
"""Folders that this process has looked through once; a folder may hold 100,000 files."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; write a file or make a folder there. It takes the name `path` (whatever
    stood there is replaced) when the block ends well, and is removed when it does not; what a process that was killed
    while it wrote left in the folder goes, too. A symbolic link stays: what it leads to is replaced. A device or a pipe
    stays: the file is written into it. Raises DiskError for a full or read-only disk, InputError where a file would
    take the place of a folder or the path has no name of its own."""
    path = Path(path)
    if path.name in ("", ".."):
        raise InputError(f"{str(path)!r} has no file name; name the file or folder to write")
    if path.exists() and not (path.is_file() or path.is_dir()):
        with _written_into(path) as temporary:
            yield temporary
        return
    path = _at_the_links_end(path)
    temporary = _beside(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        yield temporary
        _fsync(temporary)
        _take_the_name(temporary, path)
    except OSError as error:
        if (told := disk_error(path, error)) is not None:
            raise told from error
        raise
    finally:
        _remove(temporary)


def _at_the_links_end(path: Path) -> Path:
    """Where a symbolic link leads, whether or not anything is there yet; the path itself where it is none."""
    if not path.is_symlink():
        return path
    # With `cache.type = symlink`, DVC's outputs are links to write-protected files of its cache. Those never change:
    # the link is replaced.
    if path.is_file() and not path.stat().st_mode & 0o222:
        return path
    end = Path(os.path.realpath(path))
    if end.is_symlink():
        raise InputError(f"{path} is a symbolic link that leads back to itself; name a file to write")
    return end


@contextmanager
def _written_into(path: Path) -> Iterator[Path]:
    """As `atomic_path` for a device, a pipe or a socket, whose name is never taken: root would replace /dev/null."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / (path.name or "part")
        yield temporary
        if temporary.is_dir():
            raise InputError(f"{path} is a device or a pipe, which cannot hold a folder; name a folder to write")
        try:
            with temporary.open("rb") as made, path.open("wb") as taken:
                shutil.copyfileobj(made, taken)
        except OSError as error:
            if (told := disk_error(path, error)) is not None:
                raise told from error
            raise


def _take_the_name(temporary: Path, path: Path) -> None:
    if path.is_dir() and not temporary.is_dir():
        raise InputError(f"{path} is a folder and is not replaced; name a file to write")
    if path.is_dir() and not path.is_symlink():
        if not _swap(temporary, path):
            # Not in one step, then. A kill between the two leaves the old one aside; `_sweep` puts it back.
            old = _beside(path, "old")
            path.rename(old)
            temporary.rename(path)
            _remove(old)
    else:
        temporary.replace(path)
    if os.name == "posix":
        parent = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _beside(path: Path, kind: str) -> Path:
    """A name that says which process of which machine writes there."""
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.{kind}")


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine left half written when they were killed, and give a folder that was moved
    aside its name back where nothing took its place."""
    if folder in _swept:
        return
    _swept.add(folder)
    for left in [entry.name for entry in os.scandir(folder)]:
        match = _LEFT.fullmatch(left)
        if match is None or is_alive(int(match["pid"])):
            continue
        if match["kind"] == "old" and not (folder / match["name"]).exists():
            (folder / left).rename(folder / match["name"])
        else:
            _remove(folder / left)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs. One that has ended, but that nobody has waited for yet, does not: where
    its parent was killed with it, the first process of the system does so in its own time, in some containers never."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # gone meanwhile, or a system without /proc
        return True
    return state not in "ZX"


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step, so that no reader finds neither; False where the system cannot."""
    here, exchange = (-2, 2) if sys.platform == "darwin" else (-100, 2)  # AT_FDCWD; RENAME_SWAP, RENAME_EXCHANGE
    name = "renameatx_np" if sys.platform == "darwin" else "renameat2"
    rename = getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _fsync(path: Path) -> None:
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # a read-only disk refuses even what is not there; the reason before it is to be told
            path.unlink(missing_ok=True)


def remove_whole(path: Path) -> None:
    """Remove a file or folder so that a kill leaves all of it, or none under its own name: what is left then has a name
    that says it may go. Raises DiskError for a read-only disk."""
    going = _beside(path, "part")
    try:
        path.rename(going)
    except FileNotFoundError:
        return
    except OSError as error:
        if (told := disk_error(path, error)) is not None:
            raise told from error
        raise
    _remove(going)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Indented, in the order given, ending in a newline; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Raises InputError that names the file where it is missing or no JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of a million digits
        raise InputError(f"{path} is not JSON: {error}") from None


def parse_yaml(text: str, name: str, kind: type[PlagalError]) -> Any:
    """Plain data from YAML; tags that would make anything else are refused, and aliases that stand for more than
    anybody would write out. Raises `kind`, which names `name`."""
    import yaml

    try:
        # Not safe_load: the nodes are counted before anything is made of them.
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _MOST_YAML_VALUES:
            raise kind(f"{name}: its aliases (*) expand to more than {_MOST_YAML_VALUES} values; write them out")
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates and numbers that are none: ValueError
        raise kind(f"{name} is not YAML: {' '.join(str(error).split())}") from None


@cache
def _loader() -> Any:
    """SafeLoader, to which 3e-3 is a number, as it is to everybody else; YAML 1.1 wants 3.0e-3."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))
    return Loader


def _written_out(node: Any, known: dict[int, float]) -> float:
    """Values below a YAML node with each alias written out; endless where it holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is known: whoever meets it meanwhile stands inside it
        below = node.value if isinstance(node.value, list) else []
        children = [child for pair in below for child in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_written_out(child, known) for child in children)
    return known[id(node)]


def write_jsonl(path: str | Path, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    """One object a line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file, one at a time. Raises InputError that names file and line."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{path}:{number} is not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number} is not a JSON object")
                yield row
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
