"""Archives of music fetched by pooch: checksum before anything is opened, retries, and cut downloads taken up again.

Nothing an archive says about paths is trusted: only plain files whose names stay below the target folder are unpacked.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from plagal.plumbing.errors import CorpusError, disk_error
from plagal.plumbing.files import atomic_path, read_json, write_json

CACHE_VARIABLE = "PLAGAL_CACHE"
"""Names the folder for downloads; without it they go to the user's own cache folder."""
ATTEMPTS = 3
MAX_MEMBER_BYTES = 16_000_000
MAX_MEMBERS = 2_000_000
_MAX_RATIO, _ANY_RATIO_BYTES = 100, 256_000_000
"""An archive may unpack to so many times its own size, which music never does, or to so many bytes in any case."""
_MAX_HEADER_BYTES = 1_000_000
"""Of what a tar file states about one member."""
_LONGEST_NAME, _LONGEST_PATH = 200, 1000
"""[bytes] of a folder's or file's name, and of all together: what every file system takes."""
_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 16
_LEFT_OUT = "left_out.json"

_M = TypeVar("_M")
Member = tuple[str, int, Any]
"""Name, size in bytes, and what the archive opens it by; None in its place where it is not a plain file."""


def cache_folder() -> Path:
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("plagal"))


def unpacked(
    name: str, url: str, sha256: str, wanted: Iterable[str], pins: Path | None = None, pin: bool = False
) -> tuple[Path, list[tuple[str, str]]]:
    """The folder with an archive's wanted files, fetched and unpacked when it isn't there yet, and the members that
    were left out, each with its problem. `name`: of the source, for messages. `pins`: a file of sums, as sha256sum
    writes them; where it is, a file whose sum it does not hold is left out. With `pin` it is written where neither sum
    is known. Raises CorpusError, also where no sum is known and none is to be: the archive is fetched then, its sum
    told, and nothing opened."""
    # The names beside the sums are for people.
    lines = pins.read_text(encoding="utf-8").splitlines() if pins is not None and pins.exists() else []
    pinned = frozenset(line.split()[0] for line in lines if line.strip())
    if not (sha256 or pinned or pin):
        file = fetch(url, "", cache_folder())
        found = _sha256(file)
        file.rename(file.with_name(_name_in_cache(url, found)))  # where `fetch` with this sum looks for it
        raise CorpusError(
            f"source {name} has no sha256 in its list; {url} has {found}. Compare it with what the publisher says and "
            f"write it into the list, or run `plagal sources fetch {name}`, which notes the sum of each file"
        )
    archive = fetch(url, sha256, cache_folder())
    patterns = sorted(set(wanted))  # another source of this archive, or other globs, unpack other files
    folder = archive.with_name(f"{archive.name}.{hashlib.sha256(repr(patterns).encode()).hexdigest()[:12]}.unpacked")
    if not (folder / _LEFT_OUT).exists():
        unpack(archive, folder, patterns)
    files, left_out = folder / "files", [(member, problem) for member, problem in read_json(folder / _LEFT_OUT)]
    sums = {file: _sha256(file) for file in sorted(files.rglob("*")) if pins and file.is_file()}
    if pins and pin and not (sha256 or pinned):
        with atomic_path(pins) as temporary:
            rows = [f"{found}  {printable(file.relative_to(files).as_posix())}\n" for file, found in sums.items()]
            temporary.write_text("".join(rows), encoding="utf-8")
    elif pinned:
        for file, found in sums.items():
            if found not in pinned:
                left_out.append((file.relative_to(files).as_posix(), "sha256 not as pinned"))
    return files, left_out


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _name_in_cache(url: str, sha256: str) -> str:
    start = sha256[:12] or f"unchecked-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    return f"{start}-{re.sub(r'[^A-Za-z0-9._-]', '_', PurePosixPath(url).name) or 'archive'}"


def fetch(url: str, sha256: str, folder: Path, attempts: int = ATTEMPTS) -> Path:
    """The file at `url`, in `folder` under its checksum and name; with an empty `sha256` it is not checked. A cut
    download goes on where it stopped. Raises CorpusError that names the address, DiskError where the disk is full."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    name = _name_in_cache(url, sha256)
    registry = {name: f"sha256:{sha256}" if sha256 else None}
    pup = pooch.create(path=folder, base_url="", registry=registry, urls={name: url}, retry_if_failed=attempts - 1)
    partial = folder / f"{name}.partial"
    try:
        return Path(pup.fetch(name, downloader=functools.partial(_download, partial)))
    except (requests.exceptions.RequestException, _InterruptedError) as error:
        raise CorpusError(
            f"{url} cannot be fetched: {_one_line(error)}; try again: the download continues where it stopped"
        ) from None
    except ValueError:
        partial.unlink(missing_ok=True)
        raise CorpusError(
            f"{url} does not have the sha256 {sha256}; somebody has changed or replaced the file"
        ) from None
    except OSError as error:
        if (told := disk_error(partial, error)) is not None:
            raise told from error
        raise


class _InterruptedError(Exception):
    pass


def _download(partial: Path, url: str, output_file: str, _pooch: Any) -> None:
    """pooch's downloader: keeps what has come in a file of its own, `partial`, and asks for the rest alone."""
    import requests
    from tqdm import tqdm

    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise _InterruptedError("it redirects to an address that is not encrypted")
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            partial.unlink()
            raise requests.exceptions.ConnectionError("the server's file is shorter than what has come; starting over")
        response.raise_for_status()
        have = have if response.status_code == requests.codes.partial_content else 0
        total = have + int(response.headers.get("content-length", 0))
        bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=partial.name, delay=2)
        with partial.open("ab" if have else "wb") as out, bar:
            for chunk in response.iter_content(_CHUNK_BYTES):
                out.write(chunk)
                bar.update(len(chunk))
    partial.replace(output_file)


def unpack(archive: Path, folder: Path, wanted: Iterable[str]) -> None:
    """Unpack the plain files whose names match a glob of `wanted` into `folder`/files; members that are wanted but
    unsafe, too large or there already are listed in `folder`/left_out.json. Whole or not at all. Raises CorpusError for
    a damaged archive or one that unpacks to far more than music does."""
    patterns = tuple(wanted)
    left_out: list[tuple[str, str]] = []
    try:
        with atomic_path(folder) as temporary:
            files = temporary / "files"
            files.mkdir(parents=True)
            for (name, size, opener), read in _members(archive):
                if not any(fnmatch(name.lower(), pattern.lower()) for pattern in patterns):
                    continue
                target = files / PurePosixPath(name)
                problem = _member_problem(name, size, opener)
                # A member before may have this name, or that of one of its folders.
                if not problem and (target.exists() or any((files / p).is_file() for p in PurePosixPath(name).parents)):
                    problem = "name stands twice"
                if problem:
                    left_out.append((printable(name), problem))
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read(opener).read(MAX_MEMBER_BYTES))
            write_json(temporary / _LEFT_OUT, left_out)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the start
            raise
        raise CorpusError(f"{archive.name} is damaged or no archive: {_one_line(error)}") from None


_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError,
)  # fmt: skip


def _member_problem(name: str, size: int, opener: Any) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name or opener is None:
        return "unsafe member"
    bytes_of_parts = [len(part.encode("utf-8", "surrogateescape")) for part in path.parts]
    if not bytes_of_parts or max(bytes_of_parts) > _LONGEST_NAME or sum(bytes_of_parts) > _LONGEST_PATH:
        return "unsafe member"
    return "too large" if size > MAX_MEMBER_BYTES else ""


def printable(name: str) -> str:
    """A name that is not UTF-8 text, as disks and tar files may hold one, with its odd bytes written out: manifests
    must hold it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _members(archive: Path) -> Iterator[tuple[Member, Any]]:
    """Each member of a zip or tar file with the function that opens it."""
    most = max(_ANY_RATIO_BYTES, _MAX_RATIO * archive.stat().st_size)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in _within(opened.infolist(), most, lambda entry: entry.file_size):
                if not entry.filename.endswith("/"):  # is_dir() breaks on a name of no letter
                    # One made on Unix may be a symbolic link, a device or anything else but a plain file.
                    is_plain = (entry.external_attr >> 16) & 0o170000 in (0, 0o100000)
                    yield (entry.filename, entry.file_size, entry if is_plain else None), opened.open
        return
    with tarfile.open(archive, tarinfo=_TarMember) as tar:
        # Even a member that is not wanted has to be unpacked to get past it.
        for member in _within(tar, most, lambda member: member.size):
            if not member.isdir():
                yield (member.name, member.size, member if member.isreg() else None), tar.extractfile


def _within(members: Iterable[_M], most: int, size: Callable[[_M], int]) -> Iterator[_M]:
    total = 0
    for number, member in enumerate(members):
        total += max(size(member), 0)
        if total > most:
            raise RuntimeError(f"it unpacks to more than {most} bytes")
        if number >= MAX_MEMBERS:
            raise RuntimeError(f"it has more than {MAX_MEMBERS} members")
        yield member


class _TarMember(tarfile.TarInfo):
    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        # Such a header is read into memory as a whole.
        if self.type in _TAR_HEADERS and self.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


_TAR_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
                tarfile.GNUTYPE_LONGLINK)  # fmt: skip


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
