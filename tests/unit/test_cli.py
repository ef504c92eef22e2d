"""The command line's manners: quick, one-line errors, no MLX where no model is asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plagal.cli import app, main
from plagal.music.chords import parse_chord
from plagal.music.edits import bar_edges
from plagal.music.load import load
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.plumbing import __version__
from plagal.plumbing.errors import InputError
from plagal.sheet import to_musicxml


def plagal(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from plagal.cli import main; main()", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=120, check=False,
    )  # fmt: skip


def test_importing_plagal_loads_neither_mlx_nor_any_heavy_package():
    heavy = "mlx,music21,sklearn,matplotlib,symusic,miditok,transformers,pandas,numpy,pydantic"
    script = f"import sys, plagal, plagal.cli; print([m for m in '{heavy}'.split(',') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vocab", "NOTE_ON_7"], "NOTE_ON_7"),
        (["tokenize", "nowhere.mid"], "nowhere.mid"),
        (["collect", "stage1"], "params.yaml"),
        (["metrics", "show"], "metrics.json"),
        (["profile", "enormous"], "enormous"),
        (["generate", "x", "-o", "x.mid"], "models/fused: no such model folder; run `make repro`"),
        (["detokenize", "latin.txt", "-o", "x.mid"], "latin.txt"),
        (["detokenize", "nowhere.txt", "-o", "x.mid"], "nowhere.txt"),
        (["arrange", "-o", "letters"], "letters is a folder"),
        (["arrange", "-o", "."], "name"),
        (["roundtrip", "letters"], "letters"),
    ],
)
def test_an_error_is_one_line_with_exit_code_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
):
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (tmp_path / "letters").mkdir()
    said = error_of(arguments, tmp_path, monkeypatch, capsys)
    assert says in said and said.startswith("plagal: error: ") and said.count("\n") == 1


def error_of(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What the program says on stderr, here instead of in a process of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["plagal", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_an_error_stands_on_a_line_of_its_own_even_where_a_progress_bar_was_drawn():
    script = """
from tqdm import tqdm
from plagal.plumbing import errors
from plagal.plumbing.errors import InputError
def command():
    bar = tqdm(total=3, desc="read")
    bar.update(1)
    raise InputError("it is odd")
errors.run(command, "plagal")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stderr.startswith(b"\rread:") and done.stderr.endswith(b"]\nplagal: error: it is odd\n")


def test_debug_shows_the_traceback(tmp_path: Path):
    plain, debug = (plagal(*option, "tokenize", "nowhere.mid", cwd=tmp_path) for option in ([], ["--debug"]))
    assert plain.returncode == 1 and plain.stderr.startswith("plagal: error: ") and plain.stderr.count("\n") == 1
    assert debug.returncode == 1 and "Traceback" in debug.stderr


@pytest.mark.parametrize("content", [b"", b"not midi", b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0", b"%PDF-1.7"])
def test_a_file_that_is_no_music_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
):
    (tmp_path / "broken.mid").write_bytes(content)
    said = error_of(["tokenize", "broken.mid"], tmp_path, monkeypatch, capsys)
    assert "broken.mid" in said and said.count("\n") == 1


def test_vocab_prints_a_definition_for_every_word():
    lines = plagal("vocab").stdout.splitlines()
    assert len(lines) > 600
    assert all(len(line.split(maxsplit=2)) == 3 for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_that_knows_few_letters_gets_no_traceback(encoding: str):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", "from plagal.cli import main; main()", "styles"], env=environment,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0 and done.stderr == b""
    assert "Nägeli".encode(encoding, "backslashreplace") in done.stdout


def test_words_go_through_a_terminal_and_back(tmp_path: Path):
    words = "SONG_START KEY_C TIMESIG_4_4 TEMPO_120 BAR_START BEAT_0 NOTE_ON_60 DUR_QUARTER VEL_MF SONG_END"
    (tmp_path / "words.txt").write_text(words)
    assert plagal("detokenize", "words.txt", "-o", "x.mid", "--strict", cwd=tmp_path).returncode == 0
    assert plagal("tokenize", "x.mid", "--no-chords", cwd=tmp_path).stdout.strip() == words


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_version_is_said() -> None:
    assert run("--version").output == f"plagal {__version__}\n"


def test_help_names_every_command_in_the_order_of_use_with_its_whole_first_sentence() -> None:
    said = run("--help").output
    names = re.findall(r"^  ([a-z]+)  ", said.partition("Commands:")[2], re.MULTILINE)
    assert set(names) == {command.name or command.callback.__name__ for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }  # fmt: skip
    assert (
        names[:6] == ["doctor", "arrange", "styles", "understand", "generate", "chat"]
        and "..." not in said.partition("Commands:")[2]
    )


@pytest.mark.parametrize(
    ("typed", "found"),
    [("CHORD_Dbmaj9", ["CHORD_Dbmaj9"]), ("Dbmaj9", ["CHORD_Dbmaj9"]), ("C#m7/E", ["CHORD_Dbmin7", "BASS_E"]),
     ("fermata", ["FERMATA"])],
)  # fmt: skip
def test_vocab_finds_words_by_what_they_name(typed: str, found: list[str]) -> None:
    assert [line.split()[1] for line in run("vocab", typed).output.splitlines()] == found


def test_profile_alone_lists_them() -> None:
    said = run("profile").output.splitlines()
    assert [line.split()[0] for line in said] == sorted(path.stem for path in Path("profiles").glob("*.yaml"))


@pytest.mark.parametrize("ending", [".mid", ".musicxml", ".svg", ".txt"])
def test_an_arrangement_is_written_as_what_its_name_says(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"a{ending}"
    done = run("arrange", "Amazing Grace", "--style", "worship", "--bars", 8, "--key", "F", "-o", output)
    assert done.exit_code == 0, done.output
    begins = {".mid": b"MThd", ".musicxml": b"<?xml", ".svg": b"<", ".txt": b"SONG_START KEY_F"}[ending]
    assert output.read_bytes().startswith(begins)


def test_a_name_that_says_no_form_of_music_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = run("arrange", "-o", tmp_path / "a.mp5")
    assert isinstance(done.exception, InputError) and ".mid, .wav, .mp3, .musicxml" in str(done.exception)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["abc", "mid", "musicxml"])
def test_an_own_tune_is_arranged_with_and_without_own_chords(tmp_path: Path, form: str) -> None:
    tune = tmp_path / "tune.abc"
    tune.write_text("X:1\nT:Own\nM:4/4\nL:1/4\nK:G\nGABc|d2B2|c2A2|G4|\n")
    if form != "abc":
        (tmp_path / "tune.abc").rename(tmp_path / "source.abc")
        tune = tmp_path / f"tune.{form}"
        score = load(tmp_path / "source.abc")
        tune.write_bytes(to_midi_bytes(score) if form == "mid" else to_musicxml(score).encode())
    for more in ([], ["--chords", "G | Em7 | Am7 D7 | G"]):
        done = run("arrange", tune, *more, "--style", "jazz-gospel", "--bars", 8, "-o", tmp_path / "a.mid")
        assert done.exit_code == 0, done.output
        score = read_midi(tmp_path / "a.mid")
        assert score.keys[0].fifths == 1 and len(bar_edges(score)) - 1 == 8
    named = [marker.text for marker in score.markers if marker.kind == "chord"]
    assert {parse_chord(name).root for name in named} <= {7, 4, 9, 2}
