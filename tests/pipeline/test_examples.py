"""Examples in the documents work, and what the documents name is there.

Blocks of commands run where they can, in one folder with a small model; `NOT_RUN` says which do not, and why. What
stands in the midst of a sentence is looked up: commands and their options, targets of make, files, modules.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from pipeline.document_runner import Block, blocks
from pipeline.project import ROOT, Project, copy_of_this_project
from plagal.cli import app
from plagal.model.base import make_embedded
from plagal.plumbing.params import EmbeddedShape
from plagal.tokens.codec import decode, encode
from unit.tiny_soundfont import sine_soundfont

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
MADE = ("data/", "models/", "metrics/", "out/", "logs/", "dist/", ".checkpoints/", ".venv/", "src/plagal/serving/page/")
"""What is written here and not in git."""
KEYS = {"plagal.window"}
"""Keys of JSON that look like modules."""

NOT_RUN = {
    "make repro": "a quarter of an hour; the tutorial runs the same, made small",
    "make test": "it is what runs here",
    "make setup": "needs a registry of packages; CI begins with it",
    "make check": "CI's first step",
    "make web-test": "needs Node and a browser",
    ". .venv/bin/activate": "a clone of the files has no environment of its own",
    ".venv/bin/uv pip install": "needs a registry of packages",
    "dvc": "test_stages.py pushes and pulls through a folder; here they are read by DVC's own parser",
    "mlx_lm.": "test_stock_road.py and test_stages.py run them; here their options are looked up",
    "mlx.launch": "needs two machines; test_launch.py runs two processes",
    "curl -s localhost:8081": "asks mlx_lm.server, which holds a port until it is killed",
    "plagal beats recording.mid": "needs a recording; test_beats_heard.py walks that page with a made one",
    "plagal sources fetch": "needs the archive's own server; test_sources.py fetches one from a loopback server",
    "make wheel": "test_wheel.py builds it",
    "make web": "needs Node and a registry of packages",
    "git ": "names a release or keeps a change, in the reader's own repository",
    "python tools/llama_cpp_check.py": "needs llama.cpp, which has a lock of its own",
    "pipx install": "test_wheel.py installs the wheel, without a registry",
    "uv tool install": "test_wheel.py installs the wheel, without a registry",
    "plagal generate --model FOLDER": "test_wheel.py does this with the wheel",
    ".ci/run": "runs all this",
    "cp -r ../shared": "needs a hymnal that lies outside the repository",
    "plagal export": "needs adapters; test_export.py makes some and runs it",
    "plagal serve": "runs in a thread while its page's commands are tried",
}


def commands(block: Block) -> list[str]:
    """The commands of a block that holds nothing else; [] for one that is a tree, a table or words."""
    found: list[str] = []
    here = ""
    for line in block.lines:
        text = f"{found.pop()}\n{line}" if here or (found and _open(found[-1])) else line
        heredoc = re.search(r"<<'(\w+)'", line)
        here = heredoc[1] if heredoc else ("" if line.strip() == here else here)
        if text.strip():
            found.append(text)
    programs = r"(\. |\.venv/|\.ci/|plagal |make |dvc |mlx|curl |uv |pipx |cp |cat |python |npm |git )"
    return found if all(re.match(programs, command) for command in found) else []


def _open(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return command.endswith("\\")


def indented_blocks(path: Path) -> Iterator[Block]:
    """Markdown's older form of a block: four spaces."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"(?<=\n\n)(?: {4}.*\n)+", text):
        first = text[: match.start()].count("\n") + 1
        yield Block(path.name, "", "", first, tuple(line[4:] for line in match[0].splitlines()))


def command_blocks() -> list[Block]:
    found = [block for path in DOCUMENTS for block in (*blocks(path), *indented_blocks(path))]
    return [block for block in found if block.language in ("", "bash", "sh") and commands(block)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with a small, untrained model, a tune, a SoundFont, and a player of sound files that plays nothing."""
    project = copy_of_this_project(tmp_path_factory.mktemp("examples") / "plagal")
    shape = EmbeddedShape(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64)
    for name in ("base", "fused"):
        make_embedded(project.root / "models" / name, shape, seed=1)
    (project.root / "tune.abc").write_bytes((ROOT / "src/plagal/music/arranger/tunes/kum_ba_yah.abc").read_bytes())
    (project.root / "piano.sf2").write_bytes(sine_soundfont())
    player = project.root / "player" / "aplay"
    player.parent.mkdir()
    player.write_text("#!/bin/sh\n")
    player.chmod(0o755)
    return project


def reason_not_run(command: str) -> str | None:
    return next((reason for beginning, reason in NOT_RUN.items() if command.startswith(beginning)), None)


@pytest.mark.parametrize("block", command_blocks(), ids=lambda block: block.name)
def test_every_command_of_a_block_runs_or_is_one_that_the_list_excuses(
    project: Project, monkeypatch: pytest.MonkeyPatch, block: Block
):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("PATH", f"{project.root / 'player'}{os.pathsep}{os.environ['PATH']}")
    made = ""
    for line in commands(block):
        for command in map(str.strip, line.split("&&")):
            words = shlex.split(command, comments=True)
            if words[0].startswith(("mlx_lm.", "mlx.")):
                look_up_options(words)
            elif words[0] == "dvc":
                read_by_dvc(words[1:])
            elif words[0] == "curl" and ":8000" in command:
                made = ask_the_service(project, command.replace("/ID", f"/{made}")) or made
            elif words[0] == "cat":
                subprocess.run(["bash", "-c", command], cwd=project.root, check=True)
            elif words[0] == "plagal" and reason_not_run(command) is None:
                done = CliRunner().invoke(app, words[1:])
                assert done.exit_code == 0, f"{block.name}: {command}\n{done.output}{done.exception}"
            else:
                assert reason_not_run(command), f"{block.name}: {command}: run it here, or say in NOT_RUN why not"


def look_up_options(words: list[str]) -> None:
    """Each option stands in the tool's own source: to import it would take seconds."""
    found = {"mlx.launch": ("mlx", "_distributed_utils/launch.py")}.get(
        words[0], ("mlx-lm", words[0].replace(".", "/") + ".py")
    )
    (file,) = [file for file in distribution(found[0]).files or () if str(file).endswith(found[1])]
    source = Path(str(file.locate())).read_text(encoding="utf-8")
    for option in words[1 : words.index("--") if "--" in words else None]:
        if option.startswith("--"):
            assert f'"{option}"' in source, f"{words[0]} knows no {option}"


def read_by_dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args(words)


_served: dict[Path, str] = {}


@pytest.fixture(scope="module", autouse=True)
def served(project: Project) -> Iterator[None]:
    """The service on a free port, for the commands that ask it."""
    from plagal.serving.api import listen
    from plagal.serving.desk import Desk

    listening = listen(Desk(project.root / "models" / "fused", project.root / "out"), port=0)
    thread = threading.Thread(target=listening.run)
    thread.start()
    _served[project.root] = listening.address
    yield
    listening.stop()
    thread.join(30)


def ask_the_service(project: Project, command: str) -> str | None:
    """Run a curl command; the id of the piece that it asked for, if it did."""
    typed = command.replace("curl ", "curl -f --retry 5 ", 1).replace("localhost:8000", _served[project.root][7:])
    done = subprocess.run(["bash", "-c", typed], cwd=project.root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    found = re.match(r'\{"id":"([^"]+)"', done.stdout)
    return found[1] if found else None


# The blocks of the page on lessons go on from each other; test_lesson.py runs it from top to bottom.
PYTHON_BLOCKS = [
    block for path in DOCUMENTS if path.name != "lessons.md" for block in blocks(path) if block.language == "python"
]


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=lambda block: block.name)
def test_every_python_example_runs_as_it_stands(project: Project, monkeypatch: pytest.MonkeyPatch, block: Block):
    monkeypatch.chdir(project.root)
    exec(compile("\n".join(block.lines), block.name, "exec"), {"__name__": "__main__"})  # noqa: S102  # our own text


def test_the_list_of_what_is_not_run_excuses_nothing_that_is_gone():
    everything = [part.strip() for block in command_blocks() for line in commands(block) for part in line.split("&&")]
    unused = [beginning for beginning in NOT_RUN if not any(each.startswith(beginning) for each in everything)]
    assert unused == []


def inline_code(path: Path) -> Iterator[str]:
    """What stands between backticks in sentences and tables."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"`([^`]+)`", text):
        yield " ".join(match[1].split())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_sentences_exist_with_their_options(path: Path):
    codes = [part.strip() for code in inline_code(path) for part in code.split("&&") if part.strip()]
    wrong = [code for code in codes if not (_plagal(code) and _make(code) and _python(code))]
    assert wrong == []


def _plagal(code: str) -> bool:
    """True for another command, and for one of ours whose name and options exist."""
    words = code.split()
    if words[0] != "plagal" or len(words) == 1:
        return True
    command: click.Command = typer.main.get_command(app)
    for word in words[1:]:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        if word not in command.commands:
            return word == "..."
        command = command.commands[word]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return set(re.findall(r"--[a-z][a-z-]*", code)) <= known | {"--help", "--debug"}


def _make(code: str) -> bool:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    stages = re.search(r"^STAGES := (.*)$", makefile, re.MULTILINE)
    assert stages is not None
    targets = {*re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE), *stages[1].split()}
    words = code.split()
    return words[0] != "make" or all(word in targets or "=" in word for word in words[1:])


def _python(code: str) -> bool:
    words = code.split()
    if words[0] != "python" or len(words) == 1 or words[1].startswith("-"):
        return True
    file = ROOT / words[1]
    return file.is_file() and all(option in file.read_text() for option in words[2:] if option.startswith("--"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_modules_and_links_in_the_documents_are_there(path: Path):
    codes = list(inline_code(path))
    files = [code for code in codes if re.fullmatch(r"[\w.-]+(/[\w.-]+)+\.\w+|[\w-]+\.(py|md)", code)]
    folders = [code for code in codes if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/", code)]
    gone = [name for name in (*files, *folders) if not (name.startswith(MADE) or _tracked(name))]
    modules = [code for code in codes if re.fullmatch(r"plagal(\.\w+)+", code) and not (code in KEYS or _module(code))]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    dead = [link for link in links if not (path.parent / link).exists()]
    assert (gone, modules, dead) == ([], [], [])


def _tracked(name: str) -> bool:
    """A file of the repository, by its whole path or by its last parts."""
    return any(
        file == name or file.endswith(f"/{name}") or (name.endswith("/") and f"/{name}" in f"/{file}")
        for file in TRACKED
    )


def _module(name: str) -> bool:
    """A module of ours, or a name in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        base = ROOT / "src" / Path(*parts[:length])
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                text = file.read_text(encoding="utf-8")
                return all(re.search(rf"\b{re.escape(part)}\b", text) for part in parts[length:])
    return False


def test_the_documented_tree_is_that_of_the_repository():
    (tree,) = [
        block
        for block in blocks(ROOT / "docs" / "architecture.md")
        if any("src/plagal/" in line for line in block.lines)
    ]
    named: set[str] = set()
    for line in tree.lines:
        inside = "src/plagal/" if line.startswith("  ") else ""
        column = re.split(r" {2,}", line.strip())[0]
        named |= {inside + name for name in column.split()}
    package = {file.removeprefix("src/plagal/").split("/")[0] for file in TRACKED if file.startswith("src/plagal/")}
    written = [file for file in TRACKED if "/" in file and not file.startswith((".", "src/")) and "/." not in file]
    folders = {file.split("/")[0] for file in written}
    wanted = {name for name in package if "." not in name or (name.endswith(".py") and name[0] != "_")}
    shown = {name.removeprefix("src/plagal/").rstrip("/") for name in named if name.startswith("src/plagal/")}
    assert wanted <= shown
    assert folders <= {name.split("/")[0] for name in named}
    assert [name for name in named if not _tracked(name)] == []


def test_the_annotated_piece_is_what_the_codec_writes_of_it():
    (piece,) = [block for block in blocks(ROOT / "docs" / "words.md") if block.lines[0].startswith("SONG_START")]
    words = [word for line in piece.lines for word in line.split("#")[0].split()]
    assert encode(decode(words, strict=True).score) == words
