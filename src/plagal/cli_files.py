"""Where the commands write music, and as what: the name's ending says it."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plagal.music.score import Score

FOLDER = Path("out")
MIDI = ("", ".mid", ".midi")
"""A device or a pipe has no ending."""
SOUNDS = (".wav", ".mp3")
SHEETS = (".musicxml", ".xml", ".pdf", ".svg")


def check_output(path: Path, soundfont: Path | None = None) -> None:
    """Before anything is written: raises InputError for an ending that stands for no form of music."""
    from plagal.plumbing.errors import InputError

    ending = path.suffix.lower()
    if ending in SOUNDS:
        from plagal.serving.sound import find_soundfont

        find_soundfont(soundfont)
    elif ending not in (*MIDI, *SHEETS, ".txt"):
        raise InputError(
            f"{path}: music is written as .mid, .wav, .mp3, .musicxml, .pdf, .svg or .txt (its words); for a picture "
            "of the piano roll add --roll"
        )


def write_music(score: Score, path: Path, soundfont: Path | None = None) -> list[Path]:
    """The files written, each whole or not at all: MIDI, sound, sheet music or words."""
    ending = path.suffix.lower()
    if ending in SHEETS:
        from plagal.sheet import write_sheet

        return write_sheet(score, path)
    if ending in SOUNDS:
        from plagal.serving.sound import write_sound

        write_sound(score, path, soundfont)
    elif ending == ".txt":
        from plagal.plumbing.files import write_text
        from plagal.tokens.codec import encode

        write_text(path, " ".join(encode(score)) + "\n")
    else:
        from plagal.music.midi import write_midi

        write_midi(score, path)
    return [path]


def free_path(title: str) -> Path:
    """out/TITLE.mid, numbered where that is taken."""
    name = "-".join(re.findall(r"[a-z0-9#]+", title.lower()))[:40].strip("-") or "piece"
    names = (FOLDER / (f"{name}.mid" if number == 1 else f"{name}-{number}.mid") for number in count(1))
    return next(path for path in names if not path.exists())
