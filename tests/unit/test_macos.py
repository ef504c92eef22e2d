"""What differs on macOS, as far as Linux can tell."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from plagal.plumbing import files
from plagal.rehearsal import machine

ROOT = Path(__file__).parents[2]


def test_no_two_tracked_files_are_one_on_a_disk_that_ignores_case() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = Counter(name.casefold() for name in listed.split("\0") if name)
    assert [name for name, count in names.items() if count > 1] == []


def test_on_a_mac_folders_are_exchanged_by_its_own_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = []

    class System:
        def renameatx_np(self, *arguments: object) -> int:
            called.append(arguments)
            return 0

    monkeypatch.setattr(files.sys, "platform", "darwin")
    monkeypatch.setattr(files.ctypes, "CDLL", lambda name: System())
    assert files._swap(tmp_path / "a", tmp_path / "b")
    at, swap = -2, 2  # AT_FDCWD and RENAME_SWAP of Apple's headers
    assert called == [(at, bytes(tmp_path / "a"), at, bytes(tmp_path / "b"), swap)]


def test_what_a_mac_says_of_its_swap_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    said = "total = 2048.00M  used = 1536.50M  free = 511.50M  (encrypted)"
    monkeypatch.setattr(machine, "_said", lambda *command: said)
    assert machine.swap_bytes() == int(1536.5 * (1 << 20))
    monkeypatch.setattr(machine, "_said", lambda *command: "")
    assert machine.swap_bytes() == 0


def test_make_runs_every_line_through_the_shell_and_uses_nothing_newer_than_3_81() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^SHELL := /bin//sh$", text, re.MULTILINE)
    newer = [r"^\.ONESHELL", r"\$\(file ", r"\$\(let ", r"\$\(intcmp", r"!=", r"^undefine ", r"::="]
    assert [pattern for pattern in newer if re.search(pattern, re.sub(r"test .*", "", text), re.MULTILINE)] == []
