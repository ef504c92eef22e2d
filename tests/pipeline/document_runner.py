"""The commands of a document, run in order in one shell, each with what it printed beneath it.

In a ```console block a line that begins with `$ ` is a command (`> ` goes on with it); under it stands its output.
A comment straight above a block says what a comparison leaves out:

    <!-- numbers vary -->           figures, verdicts on them and random ids are a model's, a clock's, this machine's
    <!-- lines 12 + 3 -->           only the first 12 and the last 3 lines are shown, with "..." between them

`python tests/pipeline/document_runner.py --write docs/tutorial.md` runs a document in a throw-away clone and puts the
outputs in; `test_documents.py` compares them.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

PORT = "8000"
"""Where documents serve; here a free port takes its place, in commands and, backwards, in outputs."""
TIMEOUT_SECONDS = 900
_FENCE = re.compile(r"^( *)```(\w*)")
_END = "end-of-command-7f3a"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and the comment straight above it. `line` is the first one's, from 1."""

    document: str
    language: str
    comment: str
    line: int
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Step:
    """A command and the output that stands, or should stand, beneath it."""

    command: str
    output: tuple[str, ...]


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a Markdown file."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    opened: int | None = None
    for number, line in enumerate(lines, 1):
        if not _FENCE.match(line):
            continue
        if opened is None:
            opened = number
            continue
        fence = _FENCE.match(lines[opened - 1])
        assert fence is not None
        above = lines[opened - 2].strip() if opened > 1 else ""
        comment = above[4:-3].strip() if above.startswith("<!--") and above.endswith("-->") else ""
        inside = tuple(each.removeprefix(fence[1]) for each in lines[opened : number - 1])
        found.append(Block(path.name, fence[2], comment, opened + 1, inside))
        opened = None
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block with what is shown of their outputs."""
    found: list[Step] = []
    for line in block.lines:
        if line.startswith("$ "):
            found.append(Step(line[2:], ()))
        elif line.startswith("> ") and found and not found[-1].output:
            found[-1] = replace(found[-1], command=f"{found[-1].command}\n{line[2:]}")
        elif found:
            found[-1] = replace(found[-1], output=(*found[-1].output, line))
    return found


def shown(output: str, comment: str) -> tuple[str, ...]:
    """What a document shows of an output."""
    lines = [line.rstrip() for line in output.rstrip().expandtabs().splitlines()]
    cut = re.search(r"lines (\d+) \+ (\d+)", comment)
    if cut and len(lines) > int(cut[1]) + int(cut[2]):
        lines = [*lines[: int(cut[1])], "...", *lines[len(lines) - int(cut[2]) :]]
    return tuple(lines)


def compared(lines: tuple[str, ...], comment: str) -> list[str]:
    """What of shown lines a comparison sees."""
    if "numbers vary" not in comment:
        return list(lines)
    text = re.sub(r'"[\w-]{12}"', '"id"', "\n".join(lines))
    text = re.sub(r"\d+(?:\.\d+)?(?:/\d+)?|–(?= )", "#", text)
    text = re.sub(r"\b(?:pass|FAIL|no figure yet)\b", "verdict", text)
    text = re.sub(r"[ ─]+", " ", re.sub(r"# +to +#|-(?=#)", "", text))
    return [line.strip() for line in text.splitlines()]


class Shell:
    """One bash in a folder: variables and background jobs live from one command to the next. Use as a context."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.port = str(_free_port())
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed with the shell
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self._watch = threading.Timer(TIMEOUT_SECONDS, self._end)

    def __enter__(self) -> Shell:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.cancel()
        self._end()
        self._process.communicate()
        self._errors.close()

    def _end(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def run(self, command: str) -> str:
        """What a command prints to its standard output. Raises AssertionError where it fails."""
        assert self._process.stdin is not None and self._process.stdout is not None
        typed = command.replace(PORT, self.port)
        self._process.stdin.write(f"{{ {typed}\n}} </dev/null\nprintf '\\n{_END} %s\\n' $?\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line.startswith(_END):
                break
            lines.append(line)
        else:
            raise AssertionError(f"{command}: the shell has ended\n{self._said()}")
        output = "".join(lines).replace(self.port, PORT)
        if line.split()[1] != "0":
            raise AssertionError(f"{command} ended with {line.split()[1]}\n{output}\n{self._said()}")
        return output.removesuffix("\n")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:]


def run_document(path: Path, shell: Shell) -> Iterator[tuple[Block, Step, tuple[str, ...]]]:
    """Each step of a document with what its command now shows."""
    for block in blocks(path):
        if block.language == "console":
            for step in steps(block):
                yield block, step, shown(shell.run(step.command), block.comment)


def written(path: Path, shell: Shell) -> str:
    """The document with the outputs that its commands have now."""
    lines = path.read_text(encoding="utf-8").splitlines()
    new: dict[int, list[str]] = {}
    sizes: dict[int, int] = {}
    for block, step, now in run_document(path, shell):
        typed = step.command.splitlines()
        new.setdefault(block.line, []).extend([f"$ {typed[0]}", *(f"> {line}" for line in typed[1:]), *now])
        sizes[block.line] = len(block.lines)
        print(f"{block.name}: {step.command}", file=sys.stderr)
    for line in sorted(new, reverse=True):
        lines[line - 1 : line - 1 + sizes[line]] = new[line]
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def main() -> None:
    from pipeline.project import copy_of_this_project

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, required=True, metavar="DOCUMENT")
    document = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        project = copy_of_this_project(Path(folder) / "plagal")
        project.commit("Start")
        with Shell(project.root, project.environment()) as shell:
            text = written(document, shell)
        pictures = {name: (project.root / "out" / name).read_bytes() for name in ("tutorial.png",)}
    document.write_text(text, encoding="utf-8")
    for name, content in pictures.items():
        (document.parent / "images" / name).write_bytes(content)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
