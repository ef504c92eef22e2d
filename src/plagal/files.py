"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plagal.errors import DiskError, InputError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def disk_error(path: Path, error: OSError) -> DiskError | None:
    """What to tell the user when writing `path` failed for want of room or right; None for any other reason."""
    if error.errno in _NO_ROOM:
        return DiskError(f"{path}: no room left on the disk; free some and run again, what was there is untouched")
    if error.errno in _NO_RIGHT:
        return DiskError(f"{path}: cannot be written ({error.strerror}); check who owns the folder")
    return None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; write a file or make a folder there. It takes the name `path` (whatever
    stood there is replaced) when the block ends well, and is removed when it does not. Raises DiskError for a full or
    read-only disk, InputError where a file would take the place of a folder or the path has no name of its own."""
    path = Path(path)
    if path.name in ("", ".."):
        raise InputError(f"{str(path)!r} has no name of its own; name the file or folder to write")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _fsync(temporary)
        _take_the_name(temporary, path)
    except OSError as error:
        if (told := disk_error(path, error)) is not None:
            raise told from error
        raise
    finally:
        _remove(temporary)


def _take_the_name(temporary: Path, path: Path) -> None:
    if path.is_dir() and not temporary.is_dir():
        raise InputError(f"{path} is a folder, which stays; name a file to write")
    if path.is_dir() and not path.is_symlink():
        # A folder cannot be replaced in one step: move the old one aside first, so that a kill leaves one or none.
        old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
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


def _fsync(path: Path) -> None:
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Indented, in the order given, ending in a newline; NaN is refused (it is no JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Raises InputError that names the file where it is missing or no JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None


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
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}:{number} is no JSON: {error.msg}") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number} is no JSON object")
                yield row
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text") from None
