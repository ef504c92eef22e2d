"""What the documents show is what happens."""

from __future__ import annotations

from pathlib import Path

from pipeline.document_runner import Shell, compared, run_document
from pipeline.project import ROOT, copy_of_this_project


def test_the_tutorials_commands_print_what_it_shows(tmp_path: Path):
    project = copy_of_this_project(tmp_path / "plagal")
    project.commit("Start")
    ran = 0
    with Shell(project.root, project.environment()) as shell:
        for block, step, now in run_document(ROOT / "docs" / "tutorial.md", shell):
            assert compared(now, block.comment) == compared(step.output, block.comment), f"{block.name}: {step.command}"
            ran += 1
    assert ran > 15
    assert (project.root / "out" / "tutorial.png").read_bytes().startswith(b"\x89PNG")
