"""One tiny project whose seven stages have run: those tests alone that change it pay for putting it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.project import Project, new_file, tiny_project


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All stages have run once, and the result is committed."""
    project = tiny_project(tmp_path_factory.mktemp("tiny") / "project")
    project.first_run = project.repro()
    project.commit("Run the pipeline")
    return project


@pytest.fixture
def project(reproduced: Project) -> Iterator[Project]:
    """For a test that changes it: the project as committed, and put back so afterwards."""
    yield reproduced
    other_outputs = reproduced.run("git", "diff", "--name-only", "dvc.lock").stdout
    reproduced.run("git", "checkout", "-q", "--", ".")
    new_file(reproduced).unlink(missing_ok=True)
    if other_outputs:
        ran, _ = reproduced.repro()
        assert ran == set(), f"going back to the first state trained again: {ran}"


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]
