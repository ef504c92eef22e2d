"""A folder that goes with its process, however that ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plagal.plumbing.files import is_alive

_NAME = re.compile(r"rehearsal-(?P<pid>\d+)-[0-9a-f]{8}")
_REAPER = """
import os, shutil, sys
sys.stdin.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
for empty in sys.argv[2:]:
    try:
        os.rmdir(empty)
    except OSError:
        break
"""
"""Reads until nobody can write any more (the system closes a dead process's end of the pipe, whatever killed it), then
removes the folder, and those above it that were made for it and hold nothing else."""


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder under `parent`, on whose disk a run would write. It goes when the block ends; where this process is
    killed, a child that outlives it removes it; where the power fails, the next call does."""
    made = [str(path) for path in (parent.resolve(), *parent.resolve().parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("rehearsal-*"):
        match = _NAME.fullmatch(left.name)
        if match and not is_alive(int(match["pid"])):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"rehearsal-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    # A session of its own: what kills this process's group leaves it.
    command = [sys.executable, "-I", "-c", _REAPER, str(folder.resolve()), *made]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        folder.mkdir()
        yield folder
    finally:
        reaper.communicate()
