"""One tiny project whose seven stages have run, shared by the tests of this folder: each leaves it as it found it."""

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
    """The project as committed, and put back so afterwards."""
    yield reproduced
    reproduced.run("git", "checkout", "-q", "--", ".")
    new_file(reproduced).unlink(missing_ok=True)
    ran, _ = reproduced.repro()
    assert ran == set(), f"going back to the first state trained again: {ran}"


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]
