"""One worker at a time at each piece of work (a stage, a run's checkpoints), and none that works on when the DVC that
started it is gone.

    NAME.lock    held by the worker; the system drops it with the process (filelock), so a kill leaves nothing to remove
    NAME.json    who that is: {"pid", "parent", "host"}, for the one line that the next worker shows; parent: null where
                 it was gone before the worker could ask
    NAME.wanted  made by the next worker when the holder is an orphan: end in good order, I am waiting

A holder whose parent has died is an orphan: nobody waits for what it makes, so the next one asks it to end and waits.
A pid in a file alone would not do: pids are given out anew, and a kill leaves the file behind.
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

_BY_DVC = "DVC_STAGE"
"""DVC sets this variable for the stages that it starts."""
_POLL_SECONDS = 0.2
_NAMED_SECONDS = 5.0
"""A holder that has just come has had the time to say who it is."""
_UNWIND_SECONDS = 60.0
"""For an orphan to remove what it has half written; then it ends in any case."""

ASKED_TO_END = threading.Event()
"""Set when this process is to save what it has and end."""


@contextmanager
def hold(
    path: Path, work: str, starter: int = 0, grace_seconds: float = 0.0, wait_seconds: float = 240.0
) -> Iterator[None]:
    """Hold `path`.lock. `work`: what the lock is for, in messages. Raises LockedError, which names the holder and how
    to end it; an orphan is asked to end, and waited for at most `wait_seconds`.

    `starter`: pid of the process that started this one. When it is gone, and was DVC or another worker wants the place,
    ASKED_TO_END is set, and after `grace_seconds` this process ends as SIGTERM would end it. 0: nobody watches.
    """
    lock, owner, wanted = (path.with_name(f"{path.name}.{kind}") for kind in ("lock", "json", "wanted"))
    path.parent.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    if starter:  # already while it waits: a stage whose DVC has gone must not start when its turn comes
        threading.Thread(target=_watch, args=(starter, wanted, grace_seconds, over), daemon=True).start()
    held = filelock.FileLock(str(lock))
    try:
        _wait_for(held, work, owner, wanted, wait_seconds)
        wanted.unlink(missing_ok=True)
        parent = None if _lost_at_birth(starter) else starter
        write_json(owner, {"pid": os.getpid(), "parent": parent, "host": socket.gethostname()})
        yield
    finally:
        over.set()
        if held.is_locked:  # else the note is another's
            owner.unlink(missing_ok=True)
            held.release()


def _wait_for(lock: filelock.BaseFileLock, work: str, owner: Path, wanted: Path, seconds: float) -> None:
    began = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=_POLL_SECONDS)
            return
        except filelock.Timeout:
            holder, waited = _read_owner(owner), time.monotonic() - began
        pid = holder.get("pid", "unknown")
        unnamed = not isinstance(pid, int) or not is_alive(pid)
        orphan = _is_orphan(holder)
        if orphan:
            wanted.touch()
        if waited > seconds or not (orphan or (unnamed and waited < _NAMED_SECONDS)):
            raise LockedError(f"{work} is being run by process {pid}; wait for it, or end it with `kill {pid}`")


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return owner if isinstance(owner, dict) else {}
    except (OSError, ValueError):  # nobody has said so yet, or a kill cut it off
        return {}


def _is_orphan(owner: dict[str, Any]) -> bool:
    """Whether the process that started the holder is gone. Only then may anybody else end it."""
    parent = owner.get("parent", 0)
    if owner.get("host") != socket.gethostname() or not is_alive(owner["pid"]):
        return False
    return parent is None or (isinstance(parent, int) and parent > 1 and not is_alive(parent))


def _watch(starter: int, wanted: Path, grace_seconds: float, over: threading.Event) -> None:
    # Run by hand (in a shell that was closed, under nohup) a stage goes on without its starter until it is wanted.
    lost = _lost_at_birth(starter)
    while not lost and not (os.getppid() != starter and (_BY_DVC in os.environ or wanted.exists())):
        if over.wait(_POLL_SECONDS):
            return
    ASKED_TO_END.set()
    if over.wait(grace_seconds):
        return
    os.kill(os.getpid(), signal.SIGTERM)
    if not over.wait(_UNWIND_SECONDS):
        os._exit(143)


def _lost_at_birth(starter: int) -> bool:
    """Whether DVC started this process and was gone before the process asked who its parent is. `starter` is then
    whoever takes orphans in: init, or a container's supervisor, which is of another process group than DVC's child."""
    if not starter or _BY_DVC not in os.environ:
        return False
    try:
        if starter != 1 and os.getpgid(starter) == os.getpgrp():
            return False
        return b"dvc" not in Path(f"/proc/{starter}/cmdline").read_bytes()  # a DVC that puts each stage in a group
    except OSError:  # gone by now, or no /proc (macOS)
        return True


def end_with_parent() -> None:
    """For a worker process that only computes: end it when the process that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
