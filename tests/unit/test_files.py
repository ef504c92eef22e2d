"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plagal.plumbing import files
from plagal.plumbing.errors import DiskError, InputError


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


def test_a_symbolic_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path):
    (tmp_path / "far").mkdir()
    link, end = tmp_path / "link.mid", tmp_path / "far" / "real.mid"
    link.symlink_to("far/real.mid")
    for text in ("first", "second"):  # the first time the link leads to nothing yet
        files.write_text(link, text)
        assert link.is_symlink() and end.read_text() == text
    assert names(tmp_path / "far") == ["real.mid"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with files.atomic_path(tmp_path / "link") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "disk") == ["new"]


def test_a_write_protected_file_behind_a_link_never_changes_for_it_lies_in_dvcs_cache(tmp_path: Path):
    cached, out = tmp_path / "cached", tmp_path / "metrics.json"
    cached.write_text("cached")
    cached.chmod(0o444)
    out.symlink_to(cached)
    files.write_text(out, "new")
    assert cached.read_text() == "cached" and out.read_text() == "new" and not out.is_symlink()


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path):
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(InputError, match="leads back to itself"):
        files.write_text(tmp_path / "round", "x")
    assert (tmp_path / "round").is_symlink()


def test_a_pipe_and_a_device_are_written_into_and_stay_what_they_are(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    files.write_text(pipe, "through the pipe")
    assert reader.communicate(timeout=20)[0] == b"through the pipe" and pipe.is_fifo()
    (tmp_path / "null").symlink_to("/dev/null")
    for device in ("/dev/null", tmp_path / "null"):
        files.write_text(device, "nobody reads this")
    assert Path("/dev/null").is_char_device()
    assert sorted(names(tmp_path)) == ["null", "pipe"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_device_without_room_is_a_disk_error():
    with pytest.raises(DiskError, match="/dev/full"):
        files.write_text("/dev/full", "x" * 100_000)


def test_no_folder_takes_the_place_of_a_pipe(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe"), files.atomic_path(tmp_path / "pipe") as temporary:
        temporary.mkdir()
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("nameless", [".", "..", "/"])
def test_a_path_without_a_name_of_its_own_is_refused(nameless: str):
    with pytest.raises(InputError, match="name"), files.atomic_path(nameless):
        pass


def test_a_read_only_disk_is_told_with_the_name_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, **_: object) -> None:  # as Linux does even where there is no such file
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    told = pytest.raises(DiskError, match=r"/out\.txt: the disk is read-only; make it writable")
    with told, files.atomic_path(tmp_path / "out.txt"):
        raise OSError(errno.EROFS, "Read-only file system")


def test_a_kill_while_writing_leaves_nothing_under_the_name(tmp_path: Path):
    script = (
        "import os, sys; from plagal.plumbing.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n    t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "out.txt")], check=False)
    assert not (tmp_path / "out.txt").exists()


def killed_while_it_writes(target: Path, before: str = "") -> None:
    script = (
        "import os, sys; from pathlib import Path; from plagal.plumbing import files\n"
        f"{before}\n"
        "with files.atomic_path(sys.argv[1]) as t:\n    t.mkdir(); (t / 'new').write_text('new')\n"
        "    (before_end := os.environ.get('END')) or os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(target)], check=False, env=os.environ | {"END": before})


def test_what_a_killed_writer_left_goes_with_the_next_write_into_the_folder(tmp_path: Path):
    killed_while_it_writes(tmp_path / "folder")
    assert len(names(tmp_path)) == 1
    files.write_text(tmp_path / "other.txt", "x")
    assert names(tmp_path) == ["other.txt"]


def test_a_living_writer_keeps_its_half_written_file(tmp_path: Path):
    with files.atomic_path(tmp_path / "one.txt") as one:
        one.write_text("one")
        files.write_text(tmp_path / "two.txt", "two")
        subprocess.run(
            [sys.executable, "-c", "import sys; from plagal.plumbing import files; files.write_text(sys.argv[1], 'x')",
             str(tmp_path / "three.txt")], check=True,
        )  # fmt: skip
    assert sorted(names(tmp_path)) == ["one.txt", "three.txt", "two.txt"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says so in /proc")
def test_what_a_writer_left_goes_even_while_nobody_has_waited_for_the_dead_one(tmp_path: Path):
    with files.atomic_path(tmp_path / "x") as half:
        half.write_text("half")
        kept = half.name
    dead = subprocess.Popen([sys.executable, "-c", ""])
    while Path(f"/proc/{dead.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    (tmp_path / "x").rename(tmp_path / kept.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    files._swept.clear()
    files.write_text(tmp_path / "y", "whole")
    assert names(tmp_path) == ["y"]
    dead.wait()


def test_a_folder_has_its_old_or_its_new_contents_at_every_instant(tmp_path: Path):
    if sys.platform not in ("linux", "darwin"):
        pytest.skip("this system exchanges no names")
    target, script = tmp_path / "folder", (
        "import sys; from plagal.plumbing.files import atomic_path\n"
        "for n in range(100):\n"
        "    with atomic_path(sys.argv[1]) as t:\n        t.mkdir(); (t / 'a').write_text('whole')"
    )  # fmt: skip
    target.mkdir()
    (target / "a").write_text("whole")
    seen = []
    with subprocess.Popen([sys.executable, "-c", script, str(target)]) as writer:
        while writer.poll() is None:
            seen.append((target / "a").exists())
    assert writer.returncode == 0 and len(seen) > 100 and all(seen)


def test_a_folder_that_a_kill_left_aside_gets_its_name_back(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    # As where the system cannot exchange names: killed between the two renames.
    killed_while_it_writes(
        tmp_path / "folder",
        "files._swap = lambda *_: False; rename = Path.rename\n"
        "Path.rename = lambda self, to: (rename(self, to), os.kill(os.getpid(), 9))",
    )
    assert not (tmp_path / "folder").exists()
    files.write_text(tmp_path / "other.txt", "x")
    assert sorted(names(tmp_path)) == ["folder", "other.txt"]
    assert (tmp_path / "folder" / "mine").read_text() == "mine"


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


def test_a_message_is_one_printable_line_whatever_it_quotes():
    told = str(InputError("a\nb\x1b[2J\0 \u2028c \ud800" + "x" * 5000 + "the way out"))
    assert told.isprintable() and told.startswith("a b\\x1b[2J") and told.endswith("the way out") and len(told) <= 1000
    assert str(InputError("plain: é, Db♭")) == "plain: é, Db♭"
