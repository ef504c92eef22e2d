"""Clients that are too slow, too many or too big."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from faults.campaign import Row
from faults.served import Served, connect, cut, head_of, is_problem, post_head, read_all
from faults.tally import Tally
from plagal.serving.api import most_connections
from plagal.serving.guards import BODY_SECONDS, MOST_BODY_BYTES

SPARE_SECONDS = 15.0
"""For two busy cores."""


def drip(server: Served, begin: bytes, drop: bytes, most_seconds: float) -> tuple[float, bytes]:
    """Send `begin`, then `drop` each half second. -> seconds until the server cut it (inf where it did not), answer."""
    began, got = time.monotonic(), b""
    with connect(server) as taken:
        taken.sendall(begin)
        taken.settimeout(0.5)
        while time.monotonic() - began < most_seconds:
            try:
                part = taken.recv(1 << 16)
                if not part:
                    return time.monotonic() - began, got
                got += part
            except TimeoutError:
                pass
            except OSError:
                return time.monotonic() - began, got
            try:
                taken.sendall(drop)
            except OSError:
                return time.monotonic() - began, got
    return float("inf"), got


def slow_bodies(server: Served, count: int) -> Row:
    tally = Tally()

    def one(number: int) -> None:
        begin, most = post_head(server, 100_000) + b'{"prompt":"', BODY_SECONDS + SPARE_SECONDS
        seconds, got = drip(server, begin, b"a", most)
        tally.check(seconds < float("inf") and b" 408 " in got[:20], f"after {seconds:.0f} s: {got[:60]!r} ({number})")

    slowest = _meanwhile(server, tally, one, count)
    return tally.row(
        "request bodies that never end, a byte each half second, at once",
        f"408 in words after {BODY_SECONDS:g} s, then cut; others are answered",
        f"all told so and cut; others answered within {slowest:.1f} s",
        count,
    )


def _meanwhile(server: Served, tally: Tally, one: object, count: int) -> float:
    """Run `one` in `count` threads; meanwhile an ordinary client asks. -> the longest that it waited [s]."""
    slowest = 0.0
    with ThreadPoolExecutor(count) as pool:
        waits = [pool.submit(one, number) for number in range(count)]  # type: ignore[arg-type]
        while not all(wait.done() for wait in waits):
            began = time.monotonic()
            tally.check(server.answers(), "an ordinary client was not answered meanwhile")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(1)
        for wait in waits:
            wait.result()
    return slowest


def flood(server: Served, count: int) -> Row:
    tally, seen = Tally(), Counter[str]()

    def one(seed: int) -> None:
        try:
            with server.client(timeout=120) as client:
                answer = client.post("/api/pieces", json={"prompt": "gospel in G", "bars": 1, "seed": seed})
                seen[str(answer.status_code)] += 1
                if answer.status_code == 202:
                    told = client.get(answer.json()["links"]["events"]).text
                    tally.check("event: done" in told, f"ended with {told[-200:]!r}")
                else:
                    tally.check(is_problem(answer, 429, 503), f"{answer.status_code} {answer.text[:200]}")
        except httpx.HTTPError as error:
            tally.check(False, f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
    tally.check(server.works(), "no piece was written after the flood")
    told = ", ".join(f"{number} times {status}" for status, number in sorted(seen.items()))
    return tally.row(f"a flood of {count} clients at once, each asking for a piece",
                     "written whole or refused in words (429, 503); works afterwards", told, count)  # fmt: skip


def too_many_connections(server: Served, count: int) -> Row:
    """More open connections than may be: uvicorn tells whoever asks so, and answers again when they have gone."""
    tally, seen, takers = Tally(), Counter[str](), []
    for _ in range(count):
        taken = connect(server)
        takers.append(taken)
    for taken in takers:
        taken.sendall(head_of("GET", "/api/styles", server, "Connection: close"))
    for taken in takers:
        got, closed = read_all(taken, 60)
        status = got[9:12].decode("latin-1")
        seen[status] += 1
        tally.check(closed and status in ("200", "503"), f"{status or 'no answer'} {got[:100]!r}")
        taken.close()
    tally.check(server.works(), "no piece was written afterwards")
    told = ", ".join(f"{number} times {status}" for status, number in sorted(seen.items()))
    return tally.row(f"{count} connections held open at once (at most {most_connections()} are answered)",
                     "answered, or told 503; works afterwards", told, count)  # fmt: skip


def uploads(server: Served, count: int, seed: int) -> Iterator[Row]:
    yield _huge(server, count)
    yield _half(server, count, random.Random(seed))


def _huge(server: Served, count: int) -> Row:
    tally, before = Tally(), server.resident_bytes()
    chunked = head_of("POST", "/api/pieces", server, "Content-Type: application/json", "Transfer-Encoding: chunked")
    piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    for number in range(count):
        with connect(server) as taken:
            try:
                if number % 2:
                    taken.sendall(post_head(server, 10**12) + b"a" * 65536)
                else:
                    taken.sendall(chunked)
                    for _ in range(MOST_BODY_BYTES // 65536 + 3):
                        taken.sendall(piece)
            except OSError:
                pass
            got, _ = read_all(taken, 20, b"}")
            tally.check(b" 413 " in got[:20] and b"problem+json" in got, f"{got[:80]!r}")
    grown = (server.resident_bytes() - before) / 2**20
    tally.check(grown < 64, f"memory grew by {grown:.0f} MiB")
    tally.check(server.works(), "no piece was written afterwards")
    return tally.row("uploads of a terabyte, told beforehand or in chunks without end",
                     "413 in words, unread; memory stays",
                     f"refused; memory grew by {max(grown, 0):.0f} MiB", count)  # fmt: skip


def _half(server: Served, count: int, draw: random.Random) -> Row:
    """Bodies that are whole JSON already, but shorter than was told: nothing may be made of them."""
    tally, made = Tally(), _made(server)
    body = json.dumps({"prompt": "gospel", "bars": 1}).encode()
    for _ in range(count):
        with connect(server) as taken:
            taken.sendall(
                post_head(server, len(body) + draw.randint(1, 10_000)) + body[: draw.randint(0, 2 * len(body))]
            )
            if draw.random() < 0.5:
                cut(taken)
            else:
                taken.shutdown(socket.SHUT_WR)
                read_all(taken, 2)
    time.sleep(0.5)
    kept = _made(server) == made
    for _ in range(count):
        tally.check(kept, "half an upload was acted on")
    tally.check(server.works(), "no piece was written afterwards")
    return tally.row(
        "uploads cut off halfway, closed or reset",
        "nothing is made of them; works afterwards",
        "nothing was made",
        count,
    )


def _made(server: Served) -> float:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines
               if line.startswith("plagal_http_requests_total") and 'status="202"' in line)  # fmt: skip
