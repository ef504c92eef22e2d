"""Ctrl-C at each instant at which a library may lose it, while pieces are read.

    python tests/faults/lost_signals.py FOLDER [--every 1]  # in a project, with `tests` on PYTHONPATH

Python code that others call (a class' `__set_name__` on import, `__del__`, a key's `__eq__`) may raise what its caller
makes something else of, or drops. At the beginning of each such call this process forks; the child gets a SIGINT there
and goes on. Of calls other than `__set_name__` and `__del__`, one in `every` is tried. Prints how many
children ended with each code. In a process of its own: each import in it is to be a first one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from types import FrameType

from faults.campaign import Row
from faults.terminal import Terminal

_ALWAYS = ("__set_name__", "__del__")
_CALLED_BY_OTHERS = (
    "__init_subclass__", "__getattr__", "__get__", "__missing__", "__new__", "__call__", "__hash__", "__eq__",
    "<lambda>",
)  # fmt: skip
_ENDED, _ENDED_LATER, _WENT_ON = 30, 31, 32
"""Ended where the signal came; ended, though a library had lost it; did not, or brought a result. No codes that Python
ends with by itself: a child that crashes is none of the first two."""


def row(terminal: Terminal, every: int) -> Row:
    """In a new process, in the terminal's project."""
    tests = str(Path(__file__).parents[1])
    beside = Terminal(terminal.root, PYTHONPATH=os.pathsep.join((str(terminal.root / "src"), tests)))
    said = beside.run(sys.executable, __file__, str(terminal.root / "out"), "--every", str(every)).said
    ended = {int(code): children for code, children in json.loads(said.splitlines()[-1]).items()}
    tried, later = sum(ended.values()), ended.get(_ENDED_LATER, 0)
    promised = ended.get(_ENDED, 0) + later
    return Row(
        "Ctrl-C where Python or a library may lose it, while pieces are read",
        tried,
        "the command ends, nothing is written",
        f"{promised} as promised, {later} of them though it was lost where it came",
        tried - promised,
    )


class _Forks:
    """Forks at each instant to try, and counts the codes that the children ended with."""

    def __init__(self, every: int) -> None:
        self.every, self.calls = every, 0
        self.ended: Counter[int] = Counter()
        self.child = self.busy = False

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_name
        if event != "call" or self.child or self.busy or name not in (*_ALWAYS, *_CALLED_BY_OTHERS):
            return
        self.calls += 1
        if name in _ALWAYS or self.calls % self.every == 0:
            self.busy = True
            self._fork()
            self.busy = False

    def _fork(self) -> None:
        child = os.fork()
        if child == 0:
            self.child = True
            for stream in (1, 2):  # what it says on its way out is no result
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            signal.raise_signal(signal.SIGINT)
            return
        self.ended[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    forks, out = _Forks(given.every), given.folder / "pieces.txt"
    code, lost = _read_pieces(out, forks)
    if forks.child:
        went_on = out.exists() or code != 130
        out.unlink(missing_ok=True)  # the next child's is judged by it, too
        os._exit(_WENT_ON if went_on else _ENDED_LATER if lost else _ENDED)
    if code or not out.exists():
        raise AssertionError("reading ended before its end")
    print(json.dumps(forks.ended))


def _read_pieces(out: Path, forks: _Forks) -> tuple[int, bool]:
    """-> the exit code, and whether all was read though a signal came."""
    from plagal.corpus.quality import Limits
    from plagal.corpus.reading import read_candidate
    from plagal.corpus.sources import candidates, load_sources
    from plagal.plumbing import terminal
    from plagal.plumbing.files import atomic_path

    sources = load_sources(Path("sources/stage1.yaml"))
    offered = [candidate for source in sources for candidate in islice(candidates(source, 1), 1)]
    read: list[object] = []

    def command() -> None:
        with atomic_path(out) as temporary:
            sys.setprofile(forks.profile)
            read.extend(read_candidate(candidate, Limits(1, 10**6, 1, 10**4)) for candidate in offered)
            sys.setprofile(None)  # a child that unwound from here on would take its parent's file with it
            temporary.write_text(str(len(read)), encoding="utf-8")

    return terminal.run(command, "plagal"), len(read) == len(offered)


if __name__ == "__main__":
    main()
