"""What the documents show is what happens."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from pipeline.document_runner import Shell, compared, run_document
from pipeline.project import ROOT, copy_of_this_project


def test_the_tutorials_commands_print_what_it_shows(tmp_path: Path):
    project = copy_of_this_project(tmp_path / "plagal")
    for steps in (70, 40):  # figures vary anyhow: fewer steps print the same
        project.edit("profiles/tutorial.yaml", f"steps: {steps},", "steps: 6,")
    project.commit("Start")
    ran = 0
    with Shell(project.root, project.environment()) as shell:
        for block, step, now in run_document(ROOT / "docs" / "tutorial.md", shell):
            assert compared(now, block.comment) == compared(step.output, block.comment), f"{block.name}: {step.command}"
            ran += 1
    assert ran > 15
    assert (project.root / "out" / "tutorial.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_page_is_short_and_what_it_lets_one_hear_is_small():
    above, _, below = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Where to read on")
    assert len(above.split()) <= 700 and below
    heard = {name: (ROOT / name).stat().st_size for name in re.findall(r"docs/music/\w+\.mp3", above)}
    assert len(heard) == 2 and max(heard.values()) < 300_000


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_each_page_opens_with_what_one_can_do_after_it(path: Path):
    second = path.read_text(encoding="utf-8").split("\n\n")[1]
    assert second.startswith(("After this page", "Each page begins with what you can do"))


def test_prompts_are_understood_as_the_page_of_prompts_says_and_every_word_of_the_reader_is_on_it():
    spec = importlib.util.spec_from_file_location("write_prompts", ROOT / "tools" / "write_prompts.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    assert tool.written(page) == page, "run python tools/write_prompts.py"
    assert page.count("\n| ") > 80


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("plan.coherence      7.1  6.9 to 7.3   ≥ 7   pass", "plan.coherence  3.25   3.1 to 4.3  ≥ 7  FAIL", True),
        ("out/a.mid: Eb major, 4 bars, 40 notes", "out/a.mid: Eb major, 4 bars, 7 notes", True),
        ("out/a.mid: Eb major, 4 bars, 40 notes", "out/a.mid: F major, 4 bars, 40 notes", False),
        ('{"piece":"E7zv6E5gLhUo","rating":4}', '{"piece":"a_-v6E5gLhUo","rating":4}', True),
        ('{"piece":"E7zv6E5gLhUo","rating":4}', '{"song":"E7zv6E5gLhUo","rating":4}', False),
    ],
)
def test_where_numbers_vary_nothing_else_may(before: str, after: str, same: bool):
    assert (compared((before,), "numbers vary") == compared((after,), "numbers vary")) is same
    assert (compared((before,), "") == compared((after,), "")) is (before == after)
