"""The wheel, installed where neither this repository nor a tool for its developers can be imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import mido
import pytest
from packaging.requirements import Requirement

import plagal
from pipeline.project import ROOT, copy_of_this_project
from plagal.tokens.vocabulary import ID_OF


@dataclass(frozen=True)
class Bare:
    """An environment with the wheel and what it asks for, and a folder that is not a repository."""

    environment: Path
    folder: Path

    def run(self, *command: str) -> str:
        kept = {"PATH": f"{self.environment / 'bin'}{os.pathsep}{os.defpath}", "HOME": str(self.folder / "home")}
        done = subprocess.run(command, cwd=self.folder, env=kept, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


OWN = (
    ".dvc/config.local", ".dvc/cache/files/md5/00/0", "data/stage1/pieces.jsonl", "data/midi_sources/gospel/mine.mid",
    "out/ratings.jsonl", "models/fused/model.safetensors", "logs/train.jsonl",
)  # fmt: skip
"""What whoever builds may have beside the repository's files: keys to a remote, music, ratings, models."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` does, through the source distribution, with a page as `make web` would leave one."""
    project = copy_of_this_project(tmp_path_factory.mktemp("built") / "plagal")
    page = project.root / "src" / "plagal" / "serving" / "page"
    page.mkdir(exist_ok=True)
    (page / "index.html").write_text("<title>Plagal</title>")
    for own in OWN:
        (project.root / own).parent.mkdir(parents=True, exist_ok=True)
        (project.root / own).write_text("mine")
    project.run("python", "-m", "build", "--no-isolation", "--outdir", str(project.root.parent / "dist"))
    (found,) = (project.root.parent / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    root = tmp_path_factory.mktemp("bare")
    venv.create(root / "environment", symlinks=True)
    (packages,) = (root / "environment").glob("lib/python*/site-packages")
    _link_dependencies("plagal", root / "dependencies")
    (packages / "dependencies.pth").write_text(f"{root / 'dependencies'}\n")
    install = ["uv", "pip", "install", "--quiet", "--offline", "--no-index", "--no-deps", "--no-cache"]
    subprocess.run(
        [*install, "--python", str(root / "environment" / "bin" / "python"), str(wheel)],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}, check=True,
    )  # fmt: skip
    (root / "folder" / "home").mkdir(parents=True)
    return Bare(root / "environment", root / "folder")


def _link_dependencies(package: str, folder: Path) -> None:
    """Links to what a package's runtime dependencies installed here, theirs included, and to nothing else."""
    folder.mkdir()
    wanted, seen = [(package, "")], set()
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another system; what is missing in truth will be missed
        if name != package:
            _link(found, folder)
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                wanted += [(requirement.name, each) for each in ("", *requirement.extras)]


def _link(found: Distribution, folder: Path) -> None:
    for name in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "/", "__pycache__")}:
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(str(found.locate_file(name))))


def test_the_wheel_holds_every_file_of_the_package_and_the_built_page(wheel: Path):
    tracked = subprocess.run(
        ["git", "ls-files", "src/plagal"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name.removeprefix("src/") for name in tracked if (ROOT / name).is_file()} | {
        "plagal/serving/page/index.html"
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert wanted <= inside
    assert {Path(name).parts[0] for name in inside} == {"plagal"}
    assert sum(name.startswith("plagal/music/arranger/tunes/") and name.endswith(".abc") for name in inside) >= 75


def test_what_is_installed_is_the_wheel_and_no_tool_of_its_developers(bare: Bare):
    script = (
        "import plagal, importlib.util as u; print(plagal.__file__, u.find_spec('pytest'), u.find_spec('hypothesis'))"
    )
    where, *tools = bare.run("python", "-c", script).split()
    assert Path(where).is_relative_to(bare.environment)
    assert tools == ["None", "None"]


def test_without_a_repository_it_arranges_reads_and_looks_at_the_machine(bare: Bare):
    assert "Amazing Grace" in bare.run("plagal", "arrange", "amazing_grace", "--style", "worship", "-o", "a.mid")
    words = bare.run("plagal", "tokenize", "a.mid").split()
    assert words[0] == "SONG_START" and words[-1] == "SONG_END" and set(words) <= set(ID_OF)
    assert "MLX" in bare.run("plagal", "doctor")


def test_without_a_repository_it_writes_a_piece_with_a_model_folder(bare: Bare, tmp_path: Path):
    from plagal.model.base import make_embedded
    from plagal.plumbing.params import EmbeddedShape

    shape = EmbeddedShape(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64)
    make_embedded(tmp_path / "model", shape, seed=1)
    shutil.copytree(tmp_path / "model", bare.folder / "model")
    said = bare.run(
        "plagal", "generate", "worship in Db", "--bars", "2", "--model", "model", "-o", "b.mid", "--roll", "b.png"
    )
    assert "Db major" in said and "2 bars" in said
    assert mido.MidiFile(bare.folder / "b.mid").length > 0
    assert (bare.folder / "b.png").read_bytes().startswith(b"\x89PNG")


def test_neither_archive_holds_anything_of_whoever_built_it_and_the_source_makes_the_same_wheel(wheel: Path):
    with zipfile.ZipFile(wheel) as packed:
        in_wheel = {name for name in packed.namelist() if not name.startswith("plagal-")}
    with tarfile.open(wheel.with_name(f"plagal-{plagal.__version__}.tar.gz")) as source:
        in_source = {name.split("/", 1)[1] for name in source.getnames()}
    assert not in_source & set(OWN) and not in_wheel & set(OWN)
    assert {name.removeprefix("src/") for name in in_source if name.startswith("src/")} == in_wheel
    assert {name.split("/")[0] for name in in_source} <= {
        "src", "docs", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md",
        "PKG-INFO", ".gitignore",
    }  # fmt: skip


def test_the_version_is_the_same_wherever_it_stands(wheel: Path):
    version = plagal.__version__
    assert wheel.name == f"plagal-{version}-py3-none-any.whl"
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None and newest[1] in (version, "Unreleased")
