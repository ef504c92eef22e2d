"""A score as sound: rendered with a SoundFont, or played by a synthesizer of the system."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from plagal.music.midi import to_midi_bytes
from plagal.music.score import Score
from plagal.plumbing.errors import InputError
from plagal.plumbing.files import atomic_path

SAMPLE_RATE = 48_000
"""[Hz]"""
PLAYERS = ("fluidsynth", "timidity")
_USUAL_SOUNDFONTS = (
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/soundfonts/default.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/opt/homebrew/share/soundfonts/default.sf2",
)


def find_soundfont(soundfont: Path | None) -> Path:
    """The one given, or one where systems keep them. Raises InputError where there is none."""
    if soundfont is not None:
        if not soundfont.is_file():
            raise InputError(f"{soundfont}: no such SoundFont; --soundfont wants a .sf2 or .sf3 file")
        return soundfont
    found = next((path for name in _USUAL_SOUNDFONTS if (path := Path(name)).is_file()), None)
    if found is None:
        raise InputError("no SoundFont is known here: name one with --soundfont FILE.sf2")
    return found


def write_wav(score: Score, path: str | Path, soundfont: Path | None = None) -> None:
    """Render a score, whole or not at all. Raises InputError for a SoundFont that is missing or damaged, DiskError."""
    font = find_soundfont(soundfont)
    midi = to_midi_bytes(score)
    try:
        import midirenderer
    except ImportError:  # there is no wheel for every machine
        sound = _rendered_by_fluidsynth(midi, font)
    else:
        try:
            sound = bytes(midirenderer.render_wave_from(font.read_bytes(), midi))
        except RuntimeError as error:
            raise InputError(f"{font} cannot be played ({error}); --soundfont wants an intact .sf2 file") from None
    with atomic_path(path) as temporary:
        temporary.write_bytes(sound)


def _rendered_by_fluidsynth(midi: bytes, font: Path) -> bytes:
    if shutil.which("fluidsynth") is None:
        raise InputError("--wav needs fluidsynth on PATH on this machine; install it")
    with tempfile.TemporaryDirectory() as folder:
        source, sound = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        source.write_bytes(midi)
        done = subprocess.run(
            ["fluidsynth", "-ni", "-F", str(sound), "-r", str(SAMPLE_RATE), str(font), str(source)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not sound.is_file():
            raise InputError(f"{font} cannot be played by fluidsynth; --soundfont wants an intact .sf2 file")
        return sound.read_bytes()


def find_player(soundfont: Path | None = None) -> list[str]:
    """The command that plays a MIDI file. Raises InputError where there is none."""
    player = next((name for name in PLAYERS if shutil.which(name)), None)
    if player is None:
        raise InputError(
            f"--play needs a synthesizer on PATH ({' or '.join(PLAYERS)}); install one, or use --wav with --soundfont"
        )
    if player == "fluidsynth":
        return [player, "-ni", str(find_soundfont(soundfont))]
    return [player]


def play(command: list[str], midi: Path) -> None:
    """Play a MIDI file to its end. Raises InputError where the player fails."""
    done = subprocess.run([*command, str(midi)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())[-120:]
        raise InputError(f"{command[0]} could not play {midi}: {reason or f'exit code {done.returncode}'}")
