"""A small file system in memory that can be filled, emptied and made read-only; needs the right to mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WHY_NOT = "no right to mount a small file system here"


class SmallDisk:
    """`folder` is where it is mounted."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._ballast = folder / ".ballast"

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def fill(self, leave: int = 0) -> None:
        """Take all room but `leave` bytes (rounded down to pages)."""
        take = max(self.free_bytes() - leave, 0)
        with self._ballast.open("ab") as file:
            start = file.tell()
            try:
                os.posix_fallocate(file.fileno(), start, take) if take else None
            except OSError:  # somebody else took some meanwhile
                self._take_what_is_left(file.fileno(), start)

    def _take_what_is_left(self, file: int, start: int) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while (left := self.free_bytes()) >= page:
            try:
                os.posix_fallocate(file, start, left // 2 if left >= 2 * page else page)
                start += left // 2 if left >= 2 * page else page
            except OSError:
                return

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def read_only(self, yes: bool = True) -> None:
        subprocess.run(["mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk | None]:
    """None where this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        for _ in range(20):
            if subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0:
                break
        else:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)
