"""What starting costs, told by what is imported: a module that is not loaded takes no time on any machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, json, sys
before = {name.split(".")[0] for name in sys.modules}
def tell():
    after = {name.split(".")[0] for name in sys.modules}
    print(json.dumps(sorted(after - before - set(sys.stdlib_module_names))), file=sys.stderr)
atexit.register(tell)
"""
TYPERS_OWN = {"typer", "annotated_doc", "shellingham"}
TYPERS_READING_OPTIONS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}


def imported(code: str) -> set[str]:
    """The packages that `code` imports, the standard library's left out."""
    done = subprocess.run([sys.executable, "-c", SCRIPT + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name for name in json.loads(done.stderr) if not name.startswith("_sysconfigdata")}


def imported_by_command(*arguments: str) -> set[str]:
    return imported(f"sys.argv = ['plagal', *{list(arguments)}]; from plagal.cli import main; main()")


def test_importing_plagal_imports_nothing_but_the_standard_library():
    assert imported("import plagal") == {"plagal"}


def test_the_list_of_commands_imports_nothing_but_the_command_lines_own_package():
    assert imported_by_command("--help") <= {"plagal", *TYPERS_OWN}


@pytest.mark.parametrize("arguments", [["generate", "--help"], ["serve", "--help"], ["vocab", "NOTE_ON_60"]])
def test_help_and_words_import_nothing_that_reads_draws_or_learns(arguments: list[str]):
    assert imported_by_command(*arguments) <= {"plagal", "numpy", *TYPERS_OWN, *TYPERS_READING_OPTIONS}
