"""Sound without a SoundFont, and which SoundFont is found where there are some."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from tiny_soundfont import sine_soundfont

from plagal.music.midi import write_midi
from plagal.music.score import Pedal, Score, Tempo
from plagal.plumbing.errors import InputError
from plagal.serving import sound
from plagal.serving.sound import find_player, find_soundfont, play, wav_bytes, write_sound


def played(*notes: tuple[int, int, int, int], pedals: tuple[Pedal, ...] = ()) -> Score:
    return Score(np.array(notes, dtype=np.int32).reshape(-1, 4), tempos=(Tempo(0, 60.0),), pedals=pedals)


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without SoundFonts or players; the folder in which it would keep both."""
    monkeypatch.setattr(sound, "_SOUNDFONT_FOLDERS", (str(tmp_path / "fonts"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def heard(data: bytes) -> tuple[np.ndarray, int]:
    """Samples of both sides together, from -1 to 1, and their rate."""
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return samples.reshape(-1, file.getnchannels()).mean(axis=1) / 32768, file.getframerate()


def test_a_machine_with_nothing_installed_sounds(nothing_installed: Path) -> None:
    write_sound(played((0, 69, 48, 80)), nothing_installed / "a.wav")
    samples, rate = heard((nothing_installed / "a.wav").read_bytes())
    spectrum = np.abs(np.fft.rfft(samples[:rate]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert 0.5 < np.abs(samples).max() < 1.0, "loud, and not clipped"
    assert np.abs(samples[: rate // 2]).max() > 2 * np.abs(samples[rate : rate + rate // 2]).max(), "it dies away"
    assert np.abs(samples[-100:]).max() < 0.01, "it ends in silence"


def test_an_mp3_lasts_as_long_as_the_wav_and_takes_a_tenth_of_its_room(nothing_installed: Path) -> None:
    wav, mp3 = nothing_installed / "a.wav", nothing_installed / "a.MP3"
    for file in (wav, mp3):
        write_sound(played((0, 69, 480, 80), (0, 45, 480, 80)), file)
    samples, rate = heard(wav.read_bytes())
    found, at, frames = mp3.read_bytes(), 0, 0
    while at < len(found):  # MPEG 2, layer 3: 64 kbit/s, 24,000 samples a second and 576 of them a frame
        assert found[at : at + 3] == b"\xff\xf3\x84"
        at, frames = at + 72 * 64_000 // 24_000, frames + 1
    assert 0 <= frames * 576 / 24_000 - len(samples) / rate < 0.2
    assert len(found) < wav.stat().st_size / 10


def test_a_hard_stroke_is_brighter_and_the_pedal_holds(nothing_installed: Path) -> None:
    def brightness(velocity: int) -> float:
        samples, rate = heard(wav_bytes(played((0, 60, 24, velocity))))
        spectrum = np.abs(np.fft.rfft(samples[:rate]))
        return float((spectrum * np.arange(len(spectrum))).sum() / spectrum.sum())

    assert brightness(120) > 1.2 * brightness(35)
    short, _ = heard(wav_bytes(played((0, 60, 24, 80))))
    held, _ = heard(wav_bytes(played((0, 60, 24, 80), pedals=(Pedal(0, "on"), Pedal(96, "off")))))
    assert len(held) > 2 * len(short)


def test_a_soundfont_that_the_system_keeps_comes_first(nothing_installed: Path) -> None:
    assert find_soundfont(None) is None
    (nothing_installed / "fonts").mkdir()
    for name in ("a_drum_kit.sf2", "Grand Piano.sf3"):
        (nothing_installed / "fonts" / name).write_bytes(sine_soundfont())
    found = find_soundfont(None)
    assert found is not None and found.name == "Grand Piano.sf3"
    with pytest.raises(InputError, match=r"nowhere\.sf2"):
        find_soundfont(Path("nowhere.sf2"))


def test_a_player_of_sound_files_is_given_a_sound_file(nothing_installed: Path) -> None:
    with pytest.raises(InputError, match="--wav"):
        find_player()
    player = nothing_installed / "aplay"
    player.write_text(f'#!/bin/sh\nread -r first < "$2" 2>/dev/null; echo "$2" > {nothing_installed}/heard\n')
    player.chmod(0o755)
    write_midi(played((0, 60, 24, 80)), nothing_installed / "a.mid")
    play(find_player(), nothing_installed / "a.mid")
    assert (nothing_installed / "heard").read_text().strip().endswith("a.wav")
