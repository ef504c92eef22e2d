"""Music that neither git nor DVC has: missing, it stops a stage; lying where nobody looks, it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from plagal.plumbing.dvc_cache import check_inputs, stages_of, unread_music
from plagal.plumbing.errors import InputError

ROOT = Path(__file__).parents[2]
STAGE = "collect: {cmd: a, deps: [data/midi_sources/gospel, data/midi_sources/jazz], outs: [data/a]}"
LOCK = """schema: '2.0'
stages:
  collect:
    cmd: a
    deps:
    - {path: data/midi_sources/gospel, hash: md5, md5: 0123456789abcdef0123456789abcdef.dir, size: 9, nfiles: 2}
    - {path: data/midi_sources/jazz, hash: md5, md5: d751713988987e9331980363e24189ce.dir, size: 0, nfiles: 0}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return a_project(tmp_path / "project")


def a_project(root: Path) -> Path:
    for genre in ("gospel", "jazz"):
        (root / "data/midi_sources" / genre).mkdir(parents=True)
        (root / "data/midi_sources" / genre / ".gitkeep").touch()
    (root / "dvc.yaml").write_text(f"stages: {{{STAGE}}}")
    (root / "dvc.lock").write_text(LOCK)
    return root


def test_music_that_the_models_were_made_with_stops_a_stage_where_it_is_missing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"gospel: the 2 files that dvc\.lock was made with are missing") as error:
        check_inputs("collect", project)
    assert "PLAGAL_WITHOUT_MUSIC=1" in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setenv("PLAGAL_WITHOUT_MUSIC", "1")
    check_inputs("collect", project)


def test_one_file_fewer_is_an_edit_like_any_other(project: Path) -> None:
    (project / "data/midi_sources/gospel/a.mid").touch()
    check_inputs("collect", project)


def test_an_experiment_that_works_on_a_copy_stops_where_the_project_has_more_music(project: Path) -> None:
    (project / "data/midi_sources/jazz/mine.mid").touch()
    copy = a_project(project / ".dvc/tmp/exps/tmp1234")
    (copy / "data/midi_sources/gospel/a.mid").touch()
    with pytest.raises(InputError, match="jazz: 1 files of the project are not in this experiment"):
        check_inputs("collect", copy)


def test_loose_files_and_genres_that_nobody_reads_are_said(project: Path) -> None:
    sources = project / "data/midi_sources"
    (sources / "gosple").mkdir()
    (sources / "loose.mid").touch()
    assert [line.partition(":")[0] for line in unread_music(stages_of(project / "dvc.yaml"), project)] == [
        "data/midi_sources"
    ]
    (sources / "gosple/a.mid").touch()
    said = list(unread_music(stages_of(project / "dvc.yaml"), project))
    assert "loose.mid" in said[0] and said[1].startswith("data/midi_sources/gosple: 1 files are read by no stage")
    assert "gospel, jazz" in said[1]


def _git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_metrics_are_compared_with_origin_main_where_there_is_no_main_and_else_it_is_said_what_to_fetch(
    tmp_path: Path,
) -> None:
    origin = tmp_path / "origin"
    (origin / "metrics").mkdir(parents=True)
    (origin / "metrics/metrics.json").write_text('{"plan": {"perplexity": 2.0}}')
    _git(origin, "init", "-q", "-b", "main")
    _git(origin, "add", "-A")
    _git(origin, "commit", "-qm", "Start")
    _git(origin, "checkout", "-qb", "change")
    (origin / "metrics/metrics.json").write_text('{"plan": {"perplexity": 3.0}}')
    _git(origin, "commit", "-qam", "Change")
    command = [sys.executable, "-c", "from plagal.cli import main; main()", "metrics", "diff"]
    for options, says in (((), "worse"), (("--depth", "1"), "git fetch --depth 1 origin main")):
        clone = tmp_path / f"clone{len(options)}"
        _git(tmp_path, "clone", "-q", *options, "--branch", "change", origin.as_uri(), str(clone))
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
        assert says in done.stdout + done.stderr and done.returncode == (1 if options else 0)


def test_make_takes_no_wishes_of_pip_and_one_stage_at_a_time_and_makes_a_moved_environment_anew(tmp_path: Path) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert ".NOTPARALLEL:" in text and "unexport PIP_USER" in text and "unexport PIP_TARGET" in text
    (tmp_path / "Makefile").write_text(text)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/.place").write_text(f"{tmp_path}\n")
    stays = subprocess.run(["make", "help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "moved" not in stays and (tmp_path / ".venv/bin").exists()
    (tmp_path / ".venv/.place").write_text("/elsewhere\n")
    goes = subprocess.run(["make", "help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "The project was moved" in goes and not (tmp_path / ".venv").exists()
