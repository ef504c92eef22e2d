"""A score as sound: by a SoundFont where there is one, by a piano made of numbers where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.piano import rendered, to_mp3
from plagal.music.score import Score
from plagal.plumbing.errors import InputError
from plagal.plumbing.files import atomic_path

SAMPLE_RATE = 48_000
"""[Hz]"""
PLAYERS = ("fluidsynth", "timidity")
"""Of MIDI."""
WAV_PLAYERS = (
    ["afplay"],
    ["paplay"],
    ["pw-play"],
    ["aplay", "-q"],
    ["ffplay", "-autoexit", "-nodisp", "-loglevel", "error"],
)
"""Of sound files: macOS brings afplay, a Linux desktop one of the others."""
_SOUNDFONT_FOLDERS = (
    "/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts", "/usr/local/share/soundfonts",
    "/usr/local/share/sounds/sf2", "/usr/share/mscore/sound", "/opt/homebrew/share/soundfonts",
    "/opt/homebrew/share/sounds/sf2", "~/.local/share/soundfonts", "~/.local/share/sounds/sf2",
    "~/Library/Audio/Sounds/Banks",
)  # fmt: skip
"""Where Debian, Fedora, Arch, Homebrew, MuseScore and people keep them."""
_PREFERRED = re.compile(r"salamander|piano|default|fluidr3|musescore|general", re.IGNORECASE)


def find_soundfont(soundfont: Path | None) -> Path | None:
    """The one given, or the likeliest of those that the system keeps; None where it keeps none. Raises InputError where
    the one given is not there."""
    if soundfont is not None:
        if not soundfont.is_file():
            raise InputError(f"{soundfont}: no such SoundFont; give --soundfont a .sf2 or .sf3 file")
        return soundfont
    folders = [Path(name).expanduser() for name in _SOUNDFONT_FOLDERS]
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.sf[23]"))]
    return min(found, key=lambda path: not _PREFERRED.search(path.name), default=None)


def write_sound(score: Score, path: str | Path, soundfont: Path | None = None) -> None:
    """Render a score into a file, whole or not at all: MP3 where `path` ends with .mp3, else WAV; with the SoundFont
    given or found, else by `plagal.music.piano`. Raises InputError for a SoundFont that is missing or damaged,
    DiskError."""
    sound = wav_bytes(score, soundfont)
    if Path(path).suffix.lower() == ".mp3":
        sound = to_mp3(sound)
    with atomic_path(path) as temporary:
        temporary.write_bytes(sound)


def wav_bytes(score: Score, soundfont: Path | None = None) -> bytes:
    """The WAV file that `write_sound` writes, as bytes."""
    font = find_soundfont(soundfont)
    if font is None:
        return rendered(score)
    midi = to_midi_bytes(score)
    try:
        import midirenderer
    except ImportError:  # there is no wheel for every machine
        return _rendered_by_fluidsynth(midi, font)
    try:
        return bytes(midirenderer.render_wave_from(font.read_bytes(), midi))
    except RuntimeError as error:
        raise InputError(f"{font} cannot be played ({error}); give --soundfont an intact .sf2 file") from None


def _rendered_by_fluidsynth(midi: bytes, font: Path) -> bytes:
    if shutil.which("fluidsynth") is None:
        raise InputError("--wav needs fluidsynth on this machine; install it")
    with tempfile.TemporaryDirectory() as folder:
        source, sound = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        source.write_bytes(midi)
        done = subprocess.run(
            ["fluidsynth", "-ni", "-F", str(sound), "-r", str(SAMPLE_RATE), str(font), str(source)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not sound.is_file():
            raise InputError(f"{font} cannot be played by fluidsynth; give --soundfont an intact .sf2 file")
        return sound.read_bytes()


def find_player(soundfont: Path | None = None) -> list[str]:
    """The command that plays: a synthesizer where one is and a SoundFont with it, else a player of sound files, for
    what `write_sound` makes. Raises InputError where there is neither."""
    font = find_soundfont(soundfont)
    if shutil.which("fluidsynth") and font is not None:
        return ["fluidsynth", "-ni", str(font)]
    if shutil.which("timidity"):
        return ["timidity"]
    player = next((command for command in WAV_PLAYERS if shutil.which(command[0])), None)
    if player is None:
        names = " or ".join(["fluidsynth", "timidity", *(command[0] for command in WAV_PLAYERS)])
        raise InputError(f"--play needs a player ({names}); install one, or write a file with --wav")
    return list(player)


def play(command: list[str], midi: Path) -> None:
    """Play a MIDI file to its end. Raises InputError where the player fails."""
    if command[0] in PLAYERS:
        _play(command, midi)
        return
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / f"{midi.stem}.wav"
        write_sound(read_midi(midi), sound)
        _play(command, sound)


def _play(command: list[str], file: Path) -> None:
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())[-120:]
        raise InputError(f"{command[0]} could not play {file}: {reason or f'exit code {done.returncode}'}")
