"""What DVC keeps, held against its hashes: damage is named before anybody goes on from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from plagal.plumbing.dvc_cache import CACHE, check_inputs, is_damaged, md5_of
from plagal.plumbing.dvc_repair import mend
from plagal.plumbing.errors import InputError


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two stages: `first` wrote the folder data/a, on which `second` depends."""
    files = {"x": b"one", "sub/y": b"two"}
    for name, data in files.items():
        (tmp_path / "data/a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/a" / name).write_bytes(data)
        entry = tmp_path / CACHE / md5(data)[:2] / md5(data)[2:]
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_bytes(data)
    rows = [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)]
    whole = f"{md5(json.dumps(rows).encode())}.dir"
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
    with pytest.raises(InputError, match="data/a is not what the stage before wrote") as error:
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
    good, bad = (project / CACHE / md5(data)[:2] / md5(data)[2:] for data in (b"one", b"two"))
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
