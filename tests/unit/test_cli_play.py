"""Playing in the terminal: options, JSON, batches, sound, conversation, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from model_helpers import tiny_base
from tiny_soundfont import sine_soundfont
from typer.testing import CliRunner, Result

from plagal.cli import app
from plagal.music.midi import read_midi
from plagal.plumbing.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def generate(model: Path, *arguments: object, **more: Any) -> Result:
    return CliRunner().invoke(app, ["generate", "--model", str(model), *map(str, arguments)], **more)


def test_a_prompt_and_options_become_a_midi_file_with_its_picture(model: Path, tmp_path: Path) -> None:
    done = generate(model, "slow worship in Db", "--bars", 2, "-o", tmp_path / "a.mid", "--roll", tmp_path / "a.png")
    assert done.exit_code == 0, done.output
    score = read_midi(tmp_path / "a.mid")
    assert score.keys[0].fifths == -5 and score.tempos[0].quarters_per_minute == 66
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert "2 bars" in done.output and "seed 0" in done.output


def test_options_win_over_json_and_json_over_the_prompt(model: Path, tmp_path: Path) -> None:
    (tmp_path / "wish.json").write_text(json.dumps({"prompt": "fast blues in F", "key": "G", "tempo": 60, "bars": 2}))
    done = generate(model, "--json", tmp_path / "wish.json", "--tempo", 90, "-o", tmp_path / "a.mid")
    assert done.exit_code == 0, done.output
    score = read_midi(tmp_path / "a.mid")
    assert score.keys[0].fifths == 1 and score.tempos[0].quarters_per_minute == 90


def test_several_pieces_have_the_next_seeds(model: Path, tmp_path: Path) -> None:
    assert generate(model, "gospel", "--bars", 1, "--count", 3, "--seed", 5, "-o", tmp_path / "a.mid").exit_code == 0
    assert generate(model, "gospel", "--bars", 1, "--seed", 7, "-o", tmp_path / "b.mid").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.mid", "a-2.mid", "a-3.mid", "b.mid"]
    assert read_midi(tmp_path / "a-3.mid") == read_midi(tmp_path / "b.mid") != read_midi(tmp_path / "a-1.mid")


def test_a_tune_is_harmonised_and_a_piece_gone_on_from(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.abc").write_text("X:1\nM:3/4\nL:1/4\nK:G\nG2 B|A3|\n")
    assert generate(model, "--melody", tmp_path / "t.abc", "-o", tmp_path / "a.mid").exit_code == 0
    metre = read_midi(tmp_path / "a.mid").metres[0]
    assert (metre.numerator, metre.denominator) == (3, 4)
    done = generate(model, "--continue", tmp_path / "a.mid", "--keep-bars", 1, "--bars", 2, "-o", tmp_path / "b.mid")
    assert done.exit_code == 0 and "3 bars" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing is asked for"),
        (["--chords", "Dbmaj9 | Hx"], "'Hx'"),
        (["gospel", "--bars", "65"], "64"),
        (["gospel", "--key", "H"], "F# minor"),
        (["gospel", "--json", "nowhere.json"], "nowhere.json"),
        (["gospel", "--melody", "nowhere.mid"], "nowhere.mid"),
        (["gospel", "--keep-bars", "2"], "--continue"),
        (["--refill-bars", "2"], "--refill"),
        (["gospel", "--wav", "a.wav", "--soundfont", "nowhere.sf2"], "nowhere.sf2"),
        (["gospel", "--density", "thick"], "sparse"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = generate(model, "-o", "a.mid", *arguments)
    assert isinstance(done.exception, InputError) and says in str(done.exception)
    assert not any(tmp_path.iterdir())


def test_play_without_a_synthesizer_says_what_to_do(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = generate(model, "gospel", "--play", "-o", tmp_path / "a.mid")
    assert "fluidsynth" in str(done.exception) and "--wav" in str(done.exception)


def test_play_hands_the_file_to_the_synthesizer(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = tmp_path / "timidity"
    player.write_text(f'#!/bin/sh\nhead -c 4 "$1" > {tmp_path}/heard\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr("plagal.serving.sound.PLAYERS", ("timidity",))
    assert generate(model, "gospel", "--bars", 1, "--play", "-o", tmp_path / "a.mid").exit_code == 0
    assert (tmp_path / "heard").read_bytes() == b"MThd"


def test_an_arrangement_is_played_too_and_only_as_midi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = tmp_path / "timidity"
    player.write_text(f'#!/bin/sh\nhead -c 4 "$1" > {tmp_path}/heard\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr("plagal.serving.sound.PLAYERS", ("timidity",))
    call = ["arrange", "amazing_grace", "--style", "shout", "--bars", "4", "--play", "-o"]
    assert CliRunner().invoke(app, [*call, str(tmp_path / "a.mid")]).exit_code == 0
    assert (tmp_path / "heard").read_bytes() == b"MThd"
    refused = CliRunner().invoke(app, [*call, str(tmp_path / "a.pdf")])
    assert "--play plays the MIDI file" in str(refused.exception)


def test_a_wav_file_sounds_as_long_as_the_piece(model: Path, tmp_path: Path) -> None:
    (tmp_path / "sine.sf2").write_bytes(sine_soundfont())
    done = generate(model, "at 120 bpm", "--bars", 2, "-o", tmp_path / "a.mid", "--wav", tmp_path / "a.wav",
                    "--soundfont", tmp_path / "sine.sf2")  # fmt: skip
    assert done.exit_code == 0, done.output
    with wave.open(str(tmp_path / "a.wav")) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype=np.int16)
        assert sound.getnframes() / sound.getframerate() > 1
    assert np.abs(samples).max() > 100


def test_a_file_that_is_no_soundfont_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.sf2").write_bytes(b"RIFF\x04\0\0\0sfbk")
    (tmp_path / "text.sf2").write_text("hello")
    for name in ("bad.sf2", "text.sf2"):
        done = generate(model, "gospel", "--bars", 1, "-o", tmp_path / "a.mid", "--wav", tmp_path / "a.wav",
                        "--soundfont", tmp_path / name)  # fmt: skip
        assert isinstance(done.exception, InputError) and name in str(done.exception)
    assert not (tmp_path / "a.wav").exists()


def test_a_conversation_writes_a_piece_a_line_and_survives_mistakes(model: Path, tmp_path: Path) -> None:
    lines = "again\nslow worship in Db, 3 bars, easy\nin G\n99 bars\ngo on\nquit\nnever read\n"
    done = CliRunner().invoke(app, ["chat", "--model", str(model), "-o", str(tmp_path)], input=lines)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["001-slow-worship-in-db-3-bars-easy.mid", "002-in-g.mid", "003-go-on.mid"]
    assert done.output.count("! ") == 2 and "none yet" in done.output and "64" in done.output
    assert read_midi(tmp_path / "002-in-g.mid").keys[0].fifths == 1


# Random weights strike the whole piano, and then no other key holds the piece: an easy one stays in two hands' reach.
def test_a_conversation_changes_the_piece_that_is_there_and_goes_back(model: Path, tmp_path: Path) -> None:
    lines = "slow worship in Db, 3 bars, easy\nup a half step\nslower\nundo\nin F\nhelp\nwhat a day\nundo\nundo\nundo\n"
    done = CliRunner().invoke(app, ["chat", "--model", str(model), "-o", str(tmp_path)], input=lines)
    assert done.exit_code == 0, done.output
    first, up, slower, low = (read_midi(path) for path in sorted(tmp_path.iterdir()))
    for later, semitones in ((up, 1), (slower, 1), (low, 4)):
        assert len(set((later.notes[:, 1] - first.notes[:, 1]).tolist())) == 1
        assert (later.notes[0, 1] - first.notes[0, 1] - semitones) % 12 == 0
    assert [score.tempos[0].quarters_per_minute for score in (up, slower, low)] == pytest.approx([66, 56, 66], abs=0.5)
    said = done.output.splitlines()
    assert sum(line.startswith("back to ") for line in said) == 3 and said[-1] == "! there is no piece to go back to"
    assert any(line.startswith("! not understood: what a day") for line in said) and said.count(said[0]) == 2


def test_without_a_name_a_piece_goes_to_out_under_its_prompt_and_replaces_none(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert generate(model, "slow worship in Db", "--bars", 1).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "slow-worship-in-db-2.mid", "slow-worship-in-db.mid",
    ]  # fmt: skip


def test_without_a_model_the_arranger_is_named_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["generate", "gospel in C"])
    assert "`make repro`, or use `plagal generate --writer arranger`" in str(done.exception) and not any(
        tmp_path.iterdir()
    )
    done = CliRunner().invoke(app, ["generate", "gospel in C, 8 bars, modulate up a half step", "--writer", "arranger"])
    assert done.exit_code == 0 and "not understood" not in done.output
    done = CliRunner().invoke(app, ["chat", "-o", "talk"], input="shout in Ab, 8 bars\nin F\ngo on\n")
    assert done.exit_code == 0 and "the arranger writes" in done.output and "make repro" in done.output
    assert [read_midi(path).keys[0].fifths for path in sorted(Path("talk").iterdir())] == [-4, -1]


def test_serve_says_where_it_is_and_stops_on_a_signal(model: Path, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", "from plagal.cli import main; main()", "serve", "--port", "0", "--model", str(model)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        address = re.findall(r"http://\S+", server.stdout.readline())[0]
        assert httpx.get(f"{address}/api/health").json()["status"] == "ok"
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors and "terminate called" not in errors
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--token-file"),  # noqa: S104  # refused, which is the point
        (["--token-file", "nowhere"], "nowhere"),
        (["--host", "192.0.2.1", "--token-file", "token"], "192.0.2.1"),
    ],
)
def test_serve_refuses_what_is_unsafe_or_impossible(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("s3cret\n")
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--model", str(model), *arguments])
    assert isinstance(done.exception, InputError) and says in str(done.exception)
