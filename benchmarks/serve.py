"""`plagal serve` under load, compared with stock `mlx_lm.server` on the same model folder.

    python benchmarks/serve.py [--model models/fused] [--json]

- clients_answered: 50 clients at once, each asks for eight bars and reads its events to the end; answered is who gets a
  whole grammatical piece. The peer's clients ask `/v1/completions` for as many tokens as such a piece takes; its figure
  is those of its answers that are whole grammatical pieces.
- first_event_ms: from the request to the first event of music ("start") of an idle server; the median.
- memory_growth: resident memory after 1,000 pieces over that after the first 100.
- clients_seconds: until the last of the 50 has all.
- queue_p99_s: from asking to the start of writing, 99th percentile of the 50 clients; beside it in results/ the median.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from plagal.tokens import grammar
from plagal.tokens.vocabulary import prompt_text
from shared.rows import Row, finish, parser, row

CLIENTS, BARS = 50, 8
PROMPT = f"Generate {BARS} bars of worship in Db major at 66 BPM in 4/4"
PEER_TOKENS = 700
"""The longest of fifty such pieces has about so many words."""
PATIENCE_SECONDS = 400.0
STOCK = "mlx_lm.server"


@dataclass(frozen=True)
class Answer:
    """`waited`: seconds to the start of writing; `first`: to the first event of music; `words`: of the whole piece."""

    waited: float
    first: float
    words: list[str]

    @property
    def valid(self) -> bool:
        return grammar.accepts(self.words)


@contextmanager
def plagal_server(model: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Its address and process id."""
    command = [
        sys.executable,
        "-c",
        "from plagal.cli import main; main()",
        "serve",
        "--port",
        "0",
        "--model",
        str(model),
    ]
    with subprocess.Popen([*command, "--output", str(folder)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield re.findall(r"http://\S+", server.stdout.readline())[0], server.pid
        finally:
            server.terminate()


@contextmanager
def stock_server(model: Path) -> Iterator[str]:
    """mlx_lm.server; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = "import plagal.model; from mlx_lm.server import main; main()"  # the same fast BLAS as ours
    command = [sys.executable, "-c", script, "--model", str(model), "--port", str(port), "--log-level", "ERROR"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                try:
                    httpx.get(f"{address}/v1/models", timeout=2)
                    break
                except httpx.HTTPError:
                    time.sleep(0.25)
            yield address
        finally:
            server.terminate()


def ask(address: str, seed: int, bars: int = BARS) -> Answer:
    """One client of ours, from the request to the last event."""
    began = time.perf_counter()
    first = 0.0
    with httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        made = client.post("/api/pieces", json={"prompt": PROMPT, "bars": bars, "seed": seed}).raise_for_status().json()
        with client.stream("GET", made["links"]["events"]) as events:
            for line in events.iter_lines():
                if line == "event: start" and not first:
                    first = time.perf_counter() - began
    # On a connection of its own: a server may close one that was kept while a slow client was late.
    words = httpx.get(f"{address}{made['links']['words']}", timeout=PATIENCE_SECONDS).json()["words"]
    return Answer(first, first, words)


def ask_stock(address: str, seed: int) -> str:
    """One client of mlx_lm.server: the text of its answer, empty where there was none."""
    asked = {"prompt": prompt_text(PROMPT), "max_tokens": PEER_TOKENS, "temperature": 0.9, "top_p": 0.95, "seed": seed}
    try:
        answer = httpx.post(f"{address}/v1/completions", json=asked, timeout=PATIENCE_SECONDS)
        return str(answer.json()["choices"][0]["text"]) if answer.status_code == 200 else ""
    except (httpx.HTTPError, KeyError, IndexError, ValueError):
        return ""


def at_once(task: Any, address: str) -> tuple[list[Any], float]:
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda seed: _kept(task, address, seed), range(CLIENTS)))
    return answers, time.perf_counter() - began


def _kept(task: Any, address: str, seed: int) -> Any:
    try:
        return task(address, seed)
    except httpx.HTTPError:
        return None


def resident_bytes(pid: int) -> int:
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def memory_growth(address: str, pid: int, pieces: int) -> tuple[float, list[int]]:
    """Memory after all pieces over that after the first tenth, and its course [bytes] by tenths."""
    course = []
    with ThreadPoolExecutor(16) as pool:
        for tenth in range(10):
            seeds = range(tenth * pieces // 10, (tenth + 1) * pieces // 10)
            answers = list(pool.map(lambda seed: ask(address, seed, bars=1), seeds))
            assert all(answer.valid for answer in answers)
            course.append(resident_bytes(pid))
    return course[-1] / course[0], course


def measure(model: Path, pieces: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch, plagal_server(model, Path(scratch)) as (address, pid):
        ask(address, 0, bars=1)
        firsts = [1000 * ask(address, seed, bars=1).first for seed in range(15)]
        answers, seconds = at_once(ask, address)
        growth, course = memory_growth(address, pid, pieces)
    with stock_server(model) as address:
        ask_stock(address, 0)
        texts, stock_seconds = at_once(ask_stock, address)
    answered = sum(answer is not None and answer.valid for answer in answers)
    valid, told = sum(grammar.accepts(text.split()) for text in texts), sum(map(bool, texts))
    yield row("clients_answered", answered, valid, f"whole valid pieces of {CLIENTS}; the peer answered {told}",
              against=STOCK, at_least=CLIENTS, judge="ours")  # fmt: skip
    yield row("clients_seconds", seconds, stock_seconds, f"s for all {CLIENTS}", against=STOCK)
    yield row("first_event_ms", firsts, unit="ms", at_most=200)
    unit = f"times, over {pieces} pieces; {course[0] >> 20} to {course[-1] >> 20} MiB"
    yield row("memory_growth", growth, unit=unit, at_most=1.05)
    waits = sorted(answer.waited for answer in answers if answer is not None)
    yield row(
        "queue_p99_s", waits[min(len(waits) - 1, int(0.99 * len(waits)))], unit="s", median_s=waits[len(waits) // 2]
    )


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--model", type=Path, default=Path("models/fused"))
    wishes.add_argument("--pieces", type=int, default=1000, help="for memory_growth")
    options = wishes.parse_args()
    finish("serve", measure(options.model, options.pieces), options.json)


if __name__ == "__main__":
    main()
