"""What DVC keeps, held against its hashes: damage is named before anybody goes on from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from plagal.plumbing.dvc_cache import cache_folder, check_inputs, is_damaged, md5_of, mend
from plagal.plumbing.errors import InputError

CACHE_FILES = Path(".dvc/cache/files/md5")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two stages: `first` wrote the folder data/a, on which `second` depends."""
    files = {"x": b"one", "sub/y": b"two"}
    for name, data in files.items():
        (tmp_path / "data/a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/a" / name).write_bytes(data)
        entry = tmp_path / CACHE_FILES / md5(data)[:2] / md5(data)[2:]
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_bytes(data)
    rows = [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)]
    whole = f"{md5(json.dumps(rows).encode())}.dir"
    entry = tmp_path / CACHE_FILES / whole[:2] / whole[2:]
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(json.dumps(rows))
    (tmp_path / ".dvc/tmp").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {first: {cmd: a, outs: [data/a]}, second: {cmd: b, deps: [data/a/x]}}")
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  first:\n    cmd: a\n    outs:\n"
        f"    - path: data/a\n      hash: md5\n      md5: {whole}\n"
    )
    return tmp_path


def test_a_stage_goes_on_from_nothing_but_what_the_stage_before_wrote(project: Path) -> None:
    check_inputs("second", project)
    check_inputs("first", project)
    (project / "data/a/x").write_bytes(b"onf")
    check_inputs("first", project)
    with pytest.raises(InputError, match="data/a differs from what the stage before wrote") as error:
        check_inputs("second", project)
    assert "plagal mend" in str(error.value) and "\n" not in str(error.value)


def test_a_file_too_few_or_too_many_is_seen(project: Path) -> None:
    (project / "data/a/z").write_bytes(b"")
    with pytest.raises(InputError, match="data/a"):
        check_inputs("second", project)
    (project / "data/a/z").unlink()
    (project / "data/a/sub/y").unlink()
    with pytest.raises(InputError, match="data/a"):
        check_inputs("second", project)


def test_what_dvc_lock_does_not_hold_is_not_checked(project: Path) -> None:
    (project / "dvc.lock").unlink()
    (project / "data/a/x").write_bytes(b"onf")
    check_inputs("second", project)
    check_inputs("no stage", project)


def test_mending_throws_out_what_is_damaged_and_nothing_else(project: Path) -> None:
    assert list(mend(project)) == []
    good, bad = (project / CACHE_FILES / md5(data)[:2] / md5(data)[2:] for data in (b"one", b"two"))
    bad.write_bytes(b"twp")
    assert is_damaged(bad) and not is_damaged(good)
    (told,) = mend(project)
    assert str(bad) in told and "dvc repro" in told
    assert good.exists() and not bad.exists()


def test_mending_keeps_what_somebody_changed_but_has_dvc_look_at_it(project: Path) -> None:
    changed = project / "data/a/x"
    changed.write_bytes(b"mine")
    before = changed.stat().st_mtime_ns
    (told,) = mend(project)
    assert "data/a" in told and changed.read_bytes() == b"mine" and changed.stat().st_mtime_ns > before


def test_the_hash_of_a_folder_is_dvc_s(tmp_path: Path) -> None:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    for name in ("b", "a/c", "a-b", "\u00e9"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
    files = LocalFileSystem()
    _, _, made = build(HashFileDB(files, str(tmp_path / "odb")), str(tmp_path / "folder"), files, "md5")
    assert md5_of(tmp_path / "folder") == made.hash_info.value


def test_what_has_changed_neither_time_nor_size_is_not_read_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    assert list(mend(project)) == [] and len(read) == 5  # two files, their two entries, and the list of the folder
    read.clear()
    assert list(mend(project)) == []
    check_inputs("second", project)
    assert read == []
    (project / "data/a/x").touch()
    assert list(mend(project)) == []
    assert read == [str(project / "data/a/x")]


def test_old_versions_in_the_cache_are_not_looked_at(project: Path) -> None:
    old = project / CACHE_FILES / "00" / ("0" * 30)
    old.parent.mkdir()
    old.write_bytes(b"a version that nothing refers to")
    assert list(mend(project)) == [] and old.exists()


@pytest.mark.parametrize("note", ["config", "config.local"])
def test_a_damaged_entry_goes_from_a_cache_that_was_moved(project: Path, tmp_path: Path, note: str) -> None:
    moved = tmp_path / "shared cache"
    (project / ".dvc/cache").rename(moved)
    (project / ".dvc" / note).write_text(f"[cache]\n    dir = {moved}\n")
    assert cache_folder(project) == moved / "files" / "md5"
    bad = moved / "files/md5" / md5(b"two")[:2] / md5(b"two")[2:]
    bad.write_bytes(b"twp")
    (line,) = mend(project)
    assert str(bad) in line and not bad.exists()
    assert list(mend(project)) == [], "no endless round"


def test_a_list_of_files_that_is_damaged_goes_as_a_whole(project: Path) -> None:
    (entry,) = (project / CACHE_FILES).glob("??/*.dir")
    entry.write_text("[")
    (line,) = mend(project)
    assert str(entry) in line and not entry.exists()
