"""A real server with a tiny model, and what its clients need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from model_helpers import tiny_base

from faults.served import parse_events
from plagal.serving.api import listen
from plagal.serving.desk import Desk, Limits


@contextmanager
def running(
    folder: Path, token: str | None = None, public_hosts: tuple[str, ...] = (), root_path: str = "",
    with_model: bool = True, **limits: Any,
) -> Iterator[tuple[httpx.Client, Desk]]:  # fmt: skip
    """A server on loopback around a tiny model with random weights, or none, and a client of it."""
    desk = Desk(tiny_base(folder) if with_model else None, folder / "out", limits=Limits(**limits))
    listening = listen(desk, port=0, token=token, public_hosts=public_hosts, root_path=root_path)
    thread = threading.Thread(target=listening.run)
    thread.start()
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
        with httpx.Client(base_url=listening.address, headers=headers, timeout=60) as client:
            yield client, desk
    finally:
        listening.stop()
        thread.join(30)


def ask(client: httpx.Client, **asked: Any) -> str:
    """The id of a piece that is being written."""
    answer = client.post("/api/pieces", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def events(client: httpx.Client, piece: str, last: int | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """(id, kind, data) of each event to the last."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with client.stream("GET", f"/api/pieces/{piece}/events", headers=headers) as answer:
        assert answer.status_code == 200
        return parse_events("".join(answer.iter_text()))


def done(client: httpx.Client, **asked: Any) -> dict[str, Any]:
    """A piece once it is written."""
    piece = ask(client, **asked)
    assert events(client, piece)[-1][1] == "done"
    return dict(client.get(f"/api/pieces/{piece}").json())
