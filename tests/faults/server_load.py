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
from plagal.serving.connections import HEAD_SECONDS, REST_SECONDS, STALL_SECONDS, most_connections
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


def slow_heads(server: Served, count: int) -> Row:
    tally = Tally()
    begins = [b"", b"G", b"GET /api/styles HTTP/1.1\r\n", head_of("GET", "/api/styles", server)[:-2] + b"X-A: "]
    drops = [b"", b"a"]

    def one(number: int) -> None:
        begin, drop = begins[number % len(begins)], drops[number // len(begins) % len(drops)]
        seconds, _ = drip(server, begin, drop, HEAD_SECONDS + SPARE_SECONDS)
        tally.check(seconds < float("inf"), f"a head begun with {begin[:20]!r} was waited for without end")

    slowest = _meanwhile(server, tally, one, count)
    return tally.row(
        "request heads that never end, a byte each half second, at once",
        f"cut after {HEAD_SECONDS:g} s; others are answered",
        f"all cut; others answered within {slowest:.1f} s",
        count,
    )  # fmt: skip


def slow_bodies(server: Served, count: int) -> Row:
    tally = Tally()

    def one(number: int) -> None:
        most = BODY_SECONDS + REST_SECONDS + SPARE_SECONDS
        seconds, got = drip(server, post_head(server, 100_000) + b'{"prompt":"', b"a", most)
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


def never_reading(server: Served, count: int) -> Row:
    """Readers that ask for the same events again and again and take none of them."""
    tally = Tally()
    piece = server.ask(prompt="gospel", bars=64, density="dense", seed=1)
    server.events(piece)
    before, takers = server.open_files(), []
    asks = head_of("GET", f"/api/pieces/{piece}/events", server) * 40
    for _ in range(count):
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taken.settimeout(30)
        taken.connect(("127.0.0.1", server.port))
        taken.sendall(asks)
        takers.append(taken)
    time.sleep(5)
    held = server.open_files() - before
    tally.check(server.works(), "no piece was written while readers did not read")
    end = time.monotonic() + STALL_SECONDS + SPARE_SECONDS + 15
    while server.open_files() > before + 2 and time.monotonic() < end:
        tally.check(server.answers(), "an ordinary client was not answered meanwhile")
        time.sleep(2)
    left = max(0, server.open_files() - before - 2)
    for number in range(count):
        tally.check(number >= left, "a reader that never reads was kept")
    for taken in takers:
        taken.close()
    return tally.row("readers that never read their events", f"cut after {STALL_SECONDS:g} s; the queue goes on",
                     f"{held} held, all cut; pieces were written meanwhile", count)  # fmt: skip


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
    """More open connections than may be: those beyond are told so, none is left without an answer."""
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
        told = b"problem+json" in got if status == "503" else status == "200"
        tally.check(closed and told, f"{status or 'no answer'} {got[:100]!r}")
        taken.close()
    tally.check(server.works(), "no piece was written afterwards")
    told = ", ".join(f"{number} times {status}" for status, number in sorted(seen.items()))
    return tally.row(f"{count} connections held open at once (at most {most_connections()} are answered)",
                     "answered, or told 503 in words; works afterwards", told, count)  # fmt: skip


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
