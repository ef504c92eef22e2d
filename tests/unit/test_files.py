"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plagal import files
from plagal.errors import DiskError, InputError


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    target = tmp_path / "a.json"
    files.write_json(target, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(target, {"new": float("nan")})
    assert files.read_json(target) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path):
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with files.atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert names(target) == ["second"]
    assert names(tmp_path) == ["folder"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="letters is a folder"):
        files.write_text(tmp_path / "letters", "x")
    assert (tmp_path / "letters" / "mine.txt").read_text() == "mine"
    assert names(tmp_path) == ["letters"]


@pytest.mark.parametrize("nameless", [".", "..", "/"])
def test_a_path_without_a_name_of_its_own_is_refused(nameless: str):
    with pytest.raises(InputError, match="name"), files.atomic_path(nameless):
        pass


def test_a_kill_while_writing_leaves_nothing_under_the_name(tmp_path: Path):
    script = (
        "import os, sys; from plagal.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n    t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "out.txt")], check=False)
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_is_a_disk_error_that_names_the_file(tmp_path: Path, number: int):
    with pytest.raises(DiskError, match=r"out\.txt"), files.atomic_path(tmp_path / "out.txt"):
        raise OSError(number, os.strerror(number))


def test_a_disk_that_is_really_full_is_a_disk_error(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(DiskError, match="no room"), files.atomic_path(tmp_path / "out.txt"):
        Path("/dev/full").write_text("x")


def test_a_broken_line_is_named_with_its_number(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": \n')
    rows = files.read_jsonl(tmp_path / "rows.jsonl")
    assert next(rows) == {"a": 1}
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        next(rows)
