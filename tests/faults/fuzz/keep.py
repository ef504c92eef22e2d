"""The few inputs of a grown corpus that reach every line of ours that it reaches, the smallest first, put beside those
in tests/fixtures/fuzz/: `python tests/faults/fuzz/keep.py [TARGET ...]`."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from faults.fuzz.run import KEPT, WORK  # noqa: E402
from faults.fuzz.targets import TARGETS  # noqa: E402

MOST_BYTES, MOST_SECONDS = 20_000, 15.0
OURS = str(ROOT / "src")
Line = tuple[CodeType, int]


def lines_of(act: Callable[[], Any]) -> set[Line]:
    """Lines of ours that run."""
    seen: set[Line] = set()

    def inside(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            seen.add((frame.f_code, frame.f_lineno))
        return inside

    def calls(frame: FrameType, _event: str, _: Any) -> Any:
        return inside if frame.f_code.co_filename.startswith(OURS) else None

    sys.settrace(calls)
    try:
        act()
    finally:
        sys.settrace(None)
    return seen


def keep(name: str) -> tuple[int, int]:
    """Number of inputs kept, and their bytes."""
    try_one = TARGETS[name].prepare()
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    old = sorted(folder.iterdir())
    grown = sorted(
        (path for path in (WORK / name / "corpus").iterdir()), key=lambda path: (path.stat().st_size, path.name)
    )
    reached: set[Line] = set()
    end, size = time.process_time() + MOST_SECONDS, 0
    for path in [*old, *grown]:
        data = path.read_bytes()
        try:
            new = lines_of(lambda data=data: try_one(data)) - reached
        except Exception as error:
            print(f"{name}: {path}: {error}")
            continue
        reached |= new
        if path in old:
            size += len(data)
        elif new and size + len(data) <= MOST_BYTES:
            (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
            size += len(data)
        if time.process_time() > end:
            break
    return len(list(folder.iterdir())), size


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for chosen in sys.argv[1:] or TARGETS:
        print(chosen, *keep(chosen))
