"""A score as sound: rendered with a SoundFont, or played by a synthesizer of the system."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from plagal.errors import InputError
from plagal.files import atomic_path
from plagal.music.midi import to_midi_bytes
from plagal.music.score import Score

SAMPLE_RATE = 44_100
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
    import symusic

    font = find_soundfont(soundfont)
    if font.read_bytes()[:4] != b"RIFF":
        raise InputError(f"{font} is no SoundFont (it does not begin with RIFF); --soundfont wants a .sf2 or .sf3 file")
    try:
        synthesizer = symusic.Synthesizer(sf_path=str(font), sample_rate=SAMPLE_RATE)
        sound = synthesizer.render(symusic.Score.from_midi(to_midi_bytes(score)), stereo=True)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{font}: this SoundFont cannot be played ({reason}); try another --soundfont") from None
    with atomic_path(path) as temporary:
        symusic.dump_wav(str(temporary), sound, SAMPLE_RATE, use_int16=True)


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
