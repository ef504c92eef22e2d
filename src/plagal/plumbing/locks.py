"""One worker at a time at each piece of work, and none that works on when DVC, which started it, is gone.

Who holds a lock says so in a file beside it: {"pid": ..., "parent": ..., "host": ...}. A holder whose parent has died
is an orphan: nobody waits for what it makes, so whoever comes next waits for it to end and takes over.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from plagal.plumbing.errors import LockedError
from plagal.plumbing.files import is_alive, write_json

_POLL_SECONDS = 0.2
_NAMED_SECONDS = 5.0
"""A holder that has just come has had the time to say who it is."""
_UNWIND_SECONDS = 60.0
"""For an orphan to remove what it has half written; then it ends in any case."""
_STARTED_BY_DVC = "DVC_STAGE"

ASKED_TO_END = threading.Event()
"""Set when this process is to save what it has and end."""


def whoami() -> dict[str, Any]:
    """What a holder writes beside its lock."""
    return {"pid": os.getpid(), "parent": os.getppid(), "host": socket.gethostname()}


def read_owner(path: Path) -> dict[str, Any]:
    """Who holds the lock; empty where nobody has said so."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return owner if isinstance(owner, dict) else {}
    except (OSError, ValueError):
        return {}


def is_orphan(owner: dict[str, Any]) -> bool:
    """Whether the process that started the holder is gone. Only then may anybody else end it."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("parent"), int):
        return False
    return owner["parent"] > 1 and not is_alive(owner["parent"]) and is_alive(owner["pid"])


def is_abandoned(starter: int) -> bool:
    """Whether DVC started this process, was `starter`, and is gone: no output of ours will be saved. Run by hand (in a
    shell that was closed, under nohup) a stage goes on without its starter."""
    return _STARTED_BY_DVC in os.environ and (os.getppid() != starter or _lost_at_birth(starter))


def _lost_at_birth(starter: int) -> bool:
    """Whether the parent that we came to know is only init, which takes orphans in. In a container, init may be DVC."""
    if starter != 1:
        return False
    try:
        return b"dvc" not in Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return True


def end_with_parent() -> None:
    """For a worker process that only computes: end it when the process that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def sole_worker(
    folder: Path, work: str, starter: int, grace_seconds: float = 0.0, wait_seconds: float = 240.0
) -> Iterator[None]:
    """Hold the lock `folder`/`work`.lock. Raises LockedError, which names the holder, unless that is an orphan: that
    is asked to end, and waited for.

    When this process, which `starter` started, is itself abandoned or such an orphan, ASKED_TO_END is set, and after
    `grace_seconds` the process ends as SIGTERM would end it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner, wanted = (folder / f"{work}.{kind}" for kind in ("lock", "json", "wanted"))
    over = threading.Event()
    threading.Thread(target=_watch, args=(starter, wanted, grace_seconds, over), daemon=True).start()
    held = filelock.FileLock(str(lock))
    _wait_for(held, work, owner, wanted, wait_seconds)
    try:
        wanted.unlink(missing_ok=True)
        write_json(owner, whoami() | {"parent": starter})
        yield
    finally:
        over.set()
        owner.unlink(missing_ok=True)
        held.release()


def _watch(starter: int, wanted: Path, grace_seconds: float, over: threading.Event) -> None:
    while not (is_abandoned(starter) or (os.getppid() != starter and wanted.exists())):
        if over.wait(_POLL_SECONDS):
            return
    ASKED_TO_END.set()
    if over.wait(grace_seconds):
        return
    os.kill(os.getpid(), signal.SIGTERM)
    if not over.wait(_UNWIND_SECONDS):
        os._exit(143)


def _wait_for(lock: filelock.BaseFileLock, work: str, owner: Path, wanted: Path, seconds: float) -> None:
    began = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=_POLL_SECONDS)
            return
        except filelock.Timeout:
            holder, waited = read_owner(owner), time.monotonic() - began
        pid = holder.get("pid", "unknown")
        unnamed = not isinstance(pid, int) or not is_alive(pid)
        if is_orphan(holder):
            wanted.touch()
        if waited > seconds or not (is_orphan(holder) or (unnamed and waited < _NAMED_SECONDS)):
            raise LockedError(f"{work} is being run by process {pid}; wait for it, or end it with `kill {pid}`")
