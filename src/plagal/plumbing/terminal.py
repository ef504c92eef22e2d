"""How a command ends: an error of ours is one line and exit code 1, never a traceback unless asked for."""

from __future__ import annotations

import codecs
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plagal.plumbing.errors import PlagalError
from plagal.plumbing.files import disk_error

DEBUG_VARIABLE = "PLAGAL_DEBUG"
"""Set to 1 (or pass --debug) to see the traceback behind a one-line error."""


def run(command: Callable[[], None], name: str) -> int:
    """Call `command` and return the exit code; what went wrong goes to stderr as one line that begins with `name`.
    Ctrl-C gives 130; SIGTERM raises SystemExit(143), as an exception so that temporary files go."""
    _write_what_it_can()
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.INFO, stream=sys.stderr)
    told = ""
    try:
        with _sigterm_unwinds():
            command()
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; writing the rest would only fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PlagalError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        told = f"{name}: error: {_one_line(error)}"
    # Said only now, when the error's frames are gone, and with them the progress bars that they left unfinished.
    if told:
        print(told, file=sys.stderr)  # noqa: T201
    return 1 if told else 0


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit(143), as Ctrl-C raises KeyboardInterrupt, so that what is half written goes.
    Ignored by whoever started this process (nohup), it stays ignored. A signal that a library swallows is lost, as in
    any Python program: each such instant was guarded once, and nobody had met one."""
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_what_it_can() -> None:
    """Output that only knows ASCII gets "\\xe9" for an e with an accent, instead of a traceback. Input is read as UTF-8
    where it only knows ASCII, and what is not text never ends the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        ascii_only = codecs.lookup(sys.stdin.encoding).name == "ascii"
        sys.stdin.reconfigure(encoding="utf-8" if ascii_only else None, errors="replace")


def _one_line(error: PlagalError | OSError) -> str:
    if isinstance(error, OSError):
        told = disk_error(Path(error.filename or "."), error)
        return str(told) if told else f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    return " ".join(str(error).split())
