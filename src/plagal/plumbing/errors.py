"""Every error that Plagal raises on purpose, and how a command ends with one: in a line, with exit code 1.

    PlagalError
    ├── InputError          a file that a user gave: path, what is wrong, what to do
    │   ├── MidiError
    │   ├── AbcError
    │   └── RecordError     a line of a JSONL file
    ├── WordsError          a word where it may not stand
    ├── ChordError          a chord symbol that does not parse
    ├── ParamsError         an unknown key or a value out of range in params.yaml
    ├── CorpusError         sources, downloads, quotas
    ├── ModelError          a model folder that is missing, half written or of the wrong kind
    │   └── CheckpointError
    ├── TrainingError       a loss that left the numbers, a run that cannot fit
    ├── LockedError         somebody else is writing here
    ├── BusyError           a service that cannot take or finish a piece now
    └── DiskError           no room, or no right to write

Messages are one line: the file or key, the value, and the way out. A traceback is only shown to who asks for it.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_CHARACTERS = 1000
"""Of a message; it may quote what a stranger wrote."""


class PlagalError(Exception):
    """Base of all errors that Plagal raises on purpose. Whatever the message quotes, it is one line of printable
    characters: what is not is written out ("\\x1b"), and the middle of an endless one is left out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_plain(message))


def _plain(message: str) -> str:
    if not message.isprintable():
        line = " ".join(message.splitlines())
        message = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
    if len(message) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2 - 10
        message = f"{message[:half]} [...] {message[-half:]}"
    return message


class InputError(PlagalError):
    """A file that a user gave cannot be used."""


class MidiError(InputError):
    """Bytes that are no MIDI, or MIDI without anything to play."""


class AbcError(InputError):
    """ABC text that does not parse."""


class RecordError(InputError):
    """A line of a JSONL file that does not hold what it should."""


class WordsError(PlagalError):
    """A word that may not stand where it stands.

    Attributes: `position` (index in the sequence), `word`, `allowed` (some words that could have stood there),
    `known` (whether the language has the word at all).
    """

    def __init__(self, position: int, word: str, allowed: list[str], known: bool = True):
        self.position = position
        self.word = word
        self.allowed = allowed
        self.known = known
        shown = ", ".join(allowed[:8]) + (" ..." if len(allowed) > 8 else "")
        wrong = "but" if known else "which is not a word of the language;"
        super().__init__(f"word {position} is {word!r}, {wrong} here could stand only: {shown or 'nothing'}")

    def at(self, position: int) -> WordsError:
        """The same error, told with the place that only the caller knows."""
        return WordsError(position, self.word, self.allowed, self.known)

    def __reduce__(self) -> tuple[type[WordsError], tuple[int, str, list[str], bool]]:
        return WordsError, (self.position, self.word, self.allowed, self.known)  # it crosses from a worker's process


class ChordError(PlagalError):
    """A chord symbol that does not parse."""


class ParamsError(PlagalError):
    """An unknown key or a value out of range in params.yaml."""


class CorpusError(PlagalError):
    """A source, a download or a quota that cannot be served."""


class ModelError(PlagalError):
    """A model folder that is missing, half written or of the wrong kind."""


class CheckpointError(ModelError):
    """A checkpoint that is damaged or belongs to another run."""


class TrainingError(PlagalError):
    """A training run that cannot start or must stop."""


class LockedError(PlagalError):
    """Another process holds the lock."""


class BusyError(PlagalError):
    """A queue that is full, a time limit that is over, a service that stops: the same may work later."""


class DiskError(PlagalError):
    """No room on the disk, or no right to write there."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM}


def disk_error(path: Path, error: OSError) -> DiskError | None:
    """What to tell the user when writing `path` failed for want of room or right; None for any other reason."""
    if error.errno in _NO_ROOM:
        return DiskError(f"{path}: no room on the disk; free some and run again (the old file is unchanged)")
    if error.errno == errno.EROFS:
        return DiskError(f"{path}: the disk is read-only; make it writable and run again (the old file is unchanged)")
    if error.errno in _NO_RIGHT:
        return DiskError(f"{path}: cannot be written ({error.strerror}); check who owns the folder")
    return None


# --- how a command ends


DEBUG_VARIABLE = "PLAGAL_DEBUG"
"""Set to 1 (or pass --debug) to see the traceback behind a one-line error."""


def run(command: Callable[[], None], name: str) -> int:
    """Call `command` and return the exit code; what went wrong goes to stderr as one line that begins with `name`.
    Ctrl-C gives 130; SIGTERM raises SystemExit(143), as an exception so that temporary files go."""
    _write_what_it_can()
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells whom it meets first that it looked for fonts
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
