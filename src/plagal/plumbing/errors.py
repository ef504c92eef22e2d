"""Every error that Plagal raises on purpose.

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

Messages are one line: the file or key, the value, and the way out. The command line prints them
without a traceback and exits with 1.
"""

from __future__ import annotations

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
