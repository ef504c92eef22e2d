"""Secrets: the service's token and HF_TOKEN must not come out anywhere, however much is logged."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from faults.campaign import Row

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
TOKEN, HUB_TOKEN = "s3cret-of-the-service-0123456789", "hf_s3cretOfTheHub0123456789"


def secret_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, _environment(HF_TOKEN=HUB_TOKEN, PLAGAL_TOKEN=TOKEN):
        yield _served(Path(folder))
        yield _elsewhere(Path(folder))


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _all_that_is_said() -> Iterator[io.StringIO]:
    """Logs of every logger and level, and both outputs."""
    held = io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(held)
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        with contextlib.redirect_stdout(held), contextlib.redirect_stderr(held):
            yield held
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _leaks(name: str, text: str) -> list[str]:
    return [f"{name} holds {secret[:6]}..." for secret in (TOKEN, HUB_TOKEN) if secret in text]


def _served(folder: Path) -> Row:
    from serving_helpers import done, running

    broken: list[str] = []
    with _all_that_is_said() as said, running(folder, token=TOKEN) as (client, desk):
        good = {"Authorization": f"Bearer {TOKEN}"}
        done(client, prompt="gospel in C", bars=1, seed=1)
        asks: tuple[tuple[str, str, dict[str, str], bytes | None], ...] = (
            ("GET", "/metrics", good, None), ("GET", "/api/health", good, None), ("GET", "/api/nothing", good, None),
            ("GET", f"/api/pieces?token={TOKEN}", {"Authorization": ""}, None), ("GET", "/openapi.json", good, None),
            ("GET", "/metrics", {"Authorization": f"Basic {TOKEN}"}, None),
            ("GET", "/metrics", {"Authorization": f"Bearer {TOKEN}x"}, None),
            ("GET", "/metrics", {"Authorization": f"Bearer {TOKEN} {TOKEN}"}, None),
            ("POST", "/api/pieces", good, b'{"prompt": 1}'), ("POST", "/api/pieces", good, b"{"),
            ("POST", "/api/pieces", good | {"Content-Type": f"x/{TOKEN[:3]}"}, b"x"),
            ("DELETE", "/api/pieces/none", good, None), ("GET", "/", good, None), ("PUT", "/api/pieces", good, b""),
            ("GET", "/api/pieces/..%2f..%2fetc", good, None),
            ("POST", "/api/pieces", good | {"Origin": "http://x"}, b"{}"),
        )  # fmt: skip
        for method, path, headers, body in asks:
            answer = client.request(method, path, headers=headers, content=body)
            told = answer.text + str(dict(answer.headers))
            broken += [leak for leak in _leaks(f"{method} {path} {answer.status_code}", told) if TOKEN not in path]
        broken += _leaks("representation", f"{desk!r} {vars(desk)!r}")
    # httpx, the client here, logs the address that it asks for.
    server = "\n".join(
        line for line in said.getvalue().splitlines() if "HTTP Request" not in line and "token=" not in line
    )
    broken += _leaks("log", server)
    files = [path for path in folder.rglob("*") if path.is_file()]
    broken += [leak for path in files for leak in _leaks(path.name, path.read_bytes().decode("latin-1"))]
    tried = len(asks) + len(files) + 2
    return Row("the service's token and HF_TOKEN set, everything logged, right and wrong requests", tried,
               "neither stands in an answer, a header, /metrics, a log or a file",
               "; ".join(broken) or f"neither does, in {len(asks)} answers and {len(files)} files",
               len(broken))  # fmt: skip


def _error_of_the_hub() -> str:
    from plagal.model.base import find_folder
    from plagal.plumbing.errors import ModelError

    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        find_folder("nobody/nothing")
    except ModelError as error:
        return str(error)
    finally:
        del os.environ["HF_HUB_OFFLINE"]
    return ""


def _card() -> str:
    from plagal.evaluation.report import model_card
    from plagal.plumbing.files import read_json

    provenance = ROOT / "data" / "text"
    if not any(provenance.rglob("provenance.json")):
        return ""
    return model_card(read_json(ROOT / "metrics" / "metrics.json"), provenance)


def _representation(folder: Path) -> str:
    """Of a service that other machines reach."""
    from plagal.serving.api import listen
    from plagal.serving.desk import Desk, Limits

    desk = Desk(next(folder.glob("base*")), folder / "out2", limits=Limits())
    try:
        listening = listen(desk, host="0.0.0.0", port=0, token=TOKEN)  # noqa: S104  (that is the fault)
        told = repr(listening) + str(vars(listening))
        listening.stop()
        return told
    except Exception as error:
        return str(error)


def _elsewhere(folder: Path) -> Row:
    from plagal.cli_train import examine

    acts: dict[str, Callable[[], str]] = {
        "doctor": lambda: "\n".join(examine()), "an error of the hub": _error_of_the_hub, "the model card": _card,
        "a service's representation": lambda: _representation(folder),
    }  # fmt: skip
    broken = []
    with _all_that_is_said() as said:
        for name, act in acts.items():
            broken += _leaks(name, act())
    broken += _leaks("log", said.getvalue())
    return Row("the same elsewhere: " + ", ".join(acts), len(acts) + 1, "neither stands there",
               "; ".join(broken) or "neither does", len(broken))  # fmt: skip
