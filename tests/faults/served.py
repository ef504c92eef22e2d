"""`plagal serve` as a process of its own, and clients that behave badly."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
_START_SECONDS = 400.0
_SCRIPT = "from plagal.cli import main; main()"
_LOUD = """
import logging, uvicorn
logging.basicConfig(level=logging.DEBUG)
class Loud(uvicorn.Config):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **{**named, "log_level": "trace", "access_log": True})
uvicorn.Config = Loud
"""


def model_for(folder: Path) -> Path:
    """The trained model where there is one, else one with random weights: the grammar makes its pieces valid."""
    trained = ROOT / "models" / "fused"
    if (trained / "model.safetensors").is_file():
        return trained
    from plagal.model.base import make_embedded
    from plagal.plumbing.params import EmbeddedShape

    shape = EmbeddedShape(hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=48)
    return make_embedded(folder / "model", shape, 1)


class Served:
    """A running server; `log` holds all that it said."""

    def __init__(self, model: Path, folder: Path, *options: str, port: int = 0, token: str = "", loud: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        self.output, self.log, self.token = folder / "out", folder / f"log-{time.monotonic_ns()}.txt", token
        environment = {name: value for name, value in os.environ.items() if name != "PLAGAL_TOKEN"}
        environment |= {"OMP_NUM_THREADS": "2"} | ({"PLAGAL_TOKEN": token, "PLAGAL_DEBUG": "1"} if token else {})
        script = f"{_LOUD}{_SCRIPT}" if loud else _SCRIPT
        command = [sys.executable, "-c", script, "serve", "--port", str(port), "--model", str(model)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--output", str(self.output), *options], stdout=log, stderr=log, env=environment
            )
        self.address = self._wait_for_address()
        self.port = int(self.address.rpartition(":")[2])

    def _wait_for_address(self) -> str:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"plagal serves .* at (http://\S+)", self.said):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self.said[-500:]}")

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def client(self, timeout: float = 60.0, **headers: str) -> httpx.Client:
        if self.token:
            headers = {"Authorization": f"Bearer {self.token}"} | headers
        return httpx.Client(base_url=self.address, timeout=timeout, headers=headers, verify=False)  # noqa: S501  # no TLS

    def ask(self, **asked: Any) -> str:
        with self.client() as client:
            answer = client.post("/api/pieces", json=asked)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

    def status(self, piece: str) -> str:
        with self.client() as client:
            return str(client.get(f"/api/pieces/{piece}").json()["status"])

    def answers(self, seconds: float = 20.0) -> bool:
        """Whether an ordinary client is answered in time."""
        try:
            with self.client(timeout=seconds) as client:
                return client.get("/api/styles").status_code == 200
        except httpx.HTTPError:
            return False

    def works(self) -> bool:
        """Whether a new piece is written to its end."""
        try:
            return self.events(self.ask(prompt="gospel in G", bars=1, seed=1))[-1][1] == "done"
        except (AssertionError, httpx.HTTPError, IndexError):
            return False

    def events(self, piece: str, **headers: str) -> list[tuple[int, str, dict[str, Any]]]:
        """(id, kind, data) of each event to the last."""
        with self.client(timeout=180) as client:
            answer = client.get(f"/api/pieces/{piece}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        return parse_events(answer.text)

    def counted(self, what: str) -> float:
        """The sum of a measure over its labels, as Prometheus is told."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{re.escape(what)}[{{ ]", line))

    def resident_bytes(self) -> int:
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024

    def processor_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def open_files(self) -> int:
        folder = Path(f"/proc/{self.process.pid}/fd")
        return len(list(folder.iterdir())) if folder.is_dir() else 0

    def stop(self, kind: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> bool:
        """End it; False where it did not end in time and had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(kind)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
            return False
        return True


@contextmanager
def serving(model: Path, folder: Path, *options: str, **named: Any) -> Iterator[Served]:
    server = Served(model, folder, *options, **named)
    try:
        yield server
    finally:
        server.stop()


def parse_events(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    found = []
    for frame in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def is_problem(answer: httpx.Response, *statuses: int) -> bool:
    """A problem in words, of one of these statuses (any from 400 to 507 but 500 where none is named)."""
    if answer.headers.get("content-type") != "application/problem+json":
        return False
    told = answer.json()
    known = answer.status_code in statuses if statuses else 400 <= answer.status_code <= 507 != answer.status_code
    return known and answer.status_code != 500 and told["status"] == answer.status_code and bool(told["detail"])


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def head_of(method: str, target: str, server: Served, *lines: str) -> bytes:
    host = f"Host: 127.0.0.1:{server.port}"
    bearer = [f"Authorization: Bearer {server.token}"] if server.token else []
    return ("\r\n".join([f"{method} {target} HTTP/1.1", host, *bearer, *lines]) + "\r\n\r\n").encode("latin-1")


def post_head(server: Served, length: int, target: str = "/api/pieces") -> bytes:
    return head_of("POST", target, server, "Content-Type: application/json", f"Content-Length: {length}")


def read_all(taken: socket.socket, seconds: float, until: bytes = b"") -> tuple[bytes, bool]:
    """What comes until the other side closes (or until such an end), and whether it did in time."""
    end, got = time.monotonic() + seconds, b""
    try:
        while (left := end - time.monotonic()) > 0:
            taken.settimeout(left)
            part = taken.recv(1 << 16)
            if not part:
                return got, True
            got += part
            if until and got.endswith(until):
                return got, True
    except TimeoutError:
        return got, False
    except OSError:
        return got, True
    return got, False


def cut(taken: socket.socket) -> None:
    """Close with a reset, as a broken line does."""
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    taken.close()
