"""Our own code, read as syntax: nothing that unpickles, evals, trusts a model's code or starts a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from faults.campaign import Row

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "benchmarks", "tests", "examples")
PICKLES = {
    *(f"{module}.{name}" for module in ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal")
      for name in ("load", "loads", "Unpickler")),
    "shelve.open", "torch.load", "joblib.load", "numpy.load", "np.load", "pandas.read_pickle", "pd.read_pickle",
}  # fmt: skip
MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
EVALS = {"eval", "exec", "compile"}
YAMLS = {"yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn", "os.spawnl"}
SHELL_NAMES = {"sh", "bash", "zsh", "dash", "cmd", "cmd.exe", "powershell"}
STARTS = {"run", "Popen", "call", "check_call", "check_output"}
_RUN_DOCUMENTS = ("tests/pipeline/document_runner.py", "tests/pipeline/test_examples.py", "tests/unit/test_lesson.py")
"""Run the commands and the code of our own documents and examples as readers do, in a shell and in a notebook's way."""


def code_rows() -> Iterator[Row]:
    files = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    calls: list[tuple[str, str, ast.Call]] = []
    imports: list[tuple[str, str]] = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name in _RUN_DOCUMENTS:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call):
                calls.append((name, _dotted(node.func), node))
            elif isinstance(node, ast.Import):
                imports += [(name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imports += [(name, f"{node.module}.{alias.name}") for alias in node.names]
    ours = [f"{file}: {name}" for file, name in imports if file.startswith("src/") and name.split(".")[0] in MODULES]
    yield _row("unpickle", len(calls), [*_named(calls, imports, PICKLES), *ours])
    yield _row("eval, exec or compile text", len(calls), _named(calls, [], EVALS))
    yield _row(
        "load YAML in an unsafe way", len(calls), [*_named(calls, imports, YAMLS), *_unsafe_yaml(calls, imports)]
    )
    yield _row("trust a model's own code", len(calls), _given(calls, "trust_remote_code", ast.Constant))
    shells = [*_named(calls, imports, SHELLS), *_given(calls, "shell", ast.AST), *_started_shells(calls)]
    yield _row("start a shell or a command made of text", len(calls), shells)


def _row(what: str, tried: int, found: list[str]) -> Row:
    happened = ", ".join(found) or "none"
    return Row(
        f"calls and imports in our code that {what}",
        tried,
        f"none in {', '.join(FOLDERS)}, but where tests run our documents",
        happened,
        len(found),
    )


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _named(calls: list[tuple[str, str, ast.Call]], imports: list[tuple[str, str]], names: set[str]) -> list[str]:
    """Calls of these names or of what is in these modules, and their imports."""
    return sorted({f"{file}: {name}" for file, name in [*((f, n) for f, n, _ in calls), *imports] if name in names})


def _unsafe_yaml(calls: list[tuple[str, str, ast.Call]], imports: list[tuple[str, str]]) -> list[str]:
    """PyYAML's `load` without a safe loader; ruamel's YAML with a typ that is neither its round trip nor safe."""
    pyyaml = {file for file, name in imports if name == "yaml"}
    found = []
    for file, name, node in calls:
        given = " ".join(ast.unparse(each) for each in (*node.args[1:], *(word.value for word in node.keywords)))
        if name in ("yaml.load", "yaml.load_all") and file in pyyaml and "SafeLoader" not in given + _constants(file):
            found.append(f"{file}: {name}({given})")
        if name.split(".")[-1] == "YAML" and given not in ("", "'rt'", "'safe'"):
            found.append(f"{file}: YAML({given})")
    return found


def _constants(file: str) -> str:
    """What the capital names of a file are set to."""
    held = ast.parse((ROOT / file).read_bytes()).body
    values = [node.value for node in held if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None]
    return " ".join(ast.unparse(value) for value in values)


def _given(calls: list[tuple[str, str, ast.Call]], option: str, kind: type[ast.AST]) -> list[str]:
    """Calls that give an option anything but False."""
    return [
        f"{file}: {name}({option}={ast.unparse(keyword.value)})"
        for file, name, node in calls for keyword in node.keywords
        if keyword.arg == option and isinstance(keyword.value, kind) and ast.unparse(keyword.value) != "False"
    ]  # fmt: skip


def _started_shells(calls: list[tuple[str, str, ast.Call]]) -> list[str]:
    """subprocess with a text instead of a list, or with a shell as the command."""
    found = []
    for file, name, node in calls:
        if not (name.startswith("subprocess.") and name.split(".")[-1] in STARTS and node.args):
            continue
        first = node.args[0]
        if isinstance(first, ast.JoinedStr) or (isinstance(first, ast.Constant) and isinstance(first.value, str)):
            found.append(f"{file}: {name}({ast.unparse(first)})")
        elif isinstance(first, ast.List) and first.elts and isinstance(first.elts[0], ast.Constant):
            command = str(first.elts[0].value).rpartition("/")[2]
            found += [f"{file}: {name}({command})"] * (command in SHELL_NAMES)
    return found
