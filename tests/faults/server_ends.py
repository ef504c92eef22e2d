"""What happens to a server in the end: readers that leave, a model that vanishes, a full disk, signals, a soak."""

from __future__ import annotations

import json
import math
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from faults.campaign import Row
from faults.served import Served, connect, cut, head_of, is_problem, serving
from faults.small_disk import WHY_NOT, small_disk
from faults.tally import Tally, not_tried
from plagal.serving.desk import GRACE_SECONDS, MOST_PIECES

SOAK_SECONDS = 1800
_WARM_UP_SECONDS = 600
_MOST_GROWTH = 1.05
_CLIENTS = 3
_SIDE_BY_SIDE = 8
_THINK_SECONDS = 4.0
_PROMPTS = ("gospel in G", "slow worship in Db", "blues in F", "gospel jazz over Dm7 | G7")


def leaving(server: Served, count: int) -> Row:
    """Readers that go in the middle of a long piece: closed, reset or after a DELETE. The pieces are written side by
    side: one alone is done on a fast machine before anybody is missed."""
    tally, count = Tally(), max(count, _SIDE_BY_SIDE)
    pieces = [server.ask(prompt="gospel", bars=64, density="dense", seed=number) for number in range(count)]
    for number, piece in enumerate(pieces):
        with connect(server) as taken:
            taken.sendall(head_of("GET", f"/api/pieces/{piece}/events", server))
            taken.recv(1024)
            if number % 2:
                cut(taken)
    tally.check(server.works(), "the queue did not go on")
    end = time.monotonic() + GRACE_SECONDS + 30
    while time.monotonic() < end and any(server.status(piece) in ("queued", "writing") for piece in pieces):
        time.sleep(0.5)
    states = [server.status(piece) for piece in pieces]
    for state in states:
        tally.check(state in ("cancelled", "done"), f"a piece that nobody waits for is {state}")
    tally.check("cancelled" in states, "no piece was cancelled")
    return tally.row("readers that leave in the middle of a piece, closed or reset",
                     f"cancelled after {GRACE_SECONDS:g} s, the queue goes on",
                     f"{states.count('cancelled')} cancelled, {states.count('done')} were done before",
                     count)  # fmt: skip


def vanishing_model(model: Path, folder: Path) -> Row:
    """`model` must be a copy: it is moved away."""
    tally = Tally()
    with serving(model, folder) as server:
        away = model.with_name("away")
        for _ in range(3):
            model.rename(away)
            with server.client() as client:
                answer = client.get("/api/health")
            tally.check(is_problem(answer, 503) and "vanished" in answer.text, f"{answer.status_code} {answer.text}")
            tally.check(server.works(), "pieces did not come from memory")
            away.rename(model)
            with server.client() as client:
                tally.check(client.get("/api/health").status_code == 200, "health stayed bad")
    return tally.row("the model's folder moved away and back while serving",
                     "503 says so; pieces still come from memory",
                     "as promised", 3)  # fmt: skip


def full_disk(model: Path, folder: Path) -> Row:
    fault = "ratings on a full and on a read-only disk"
    promised = "507 in words; no half line; kept once there is room"
    tally = Tally()
    with small_disk(folder / "disk", 1) as disk:
        if disk is None:
            return not_tried(fault, promised, WHY_NOT)
        with serving(model, folder, "--output", str(disk.folder / "out")) as server, server.client() as client:
            piece = server.ask(prompt="gospel", bars=1, seed=1)
            server.events(piece)
            rating = {"rater": "ann", "piece": piece, "rating": 7}
            kept = 0
            for number in range(6):
                if number % 3 == 2:
                    disk.read_only()
                else:
                    disk.fill()
                refused = 0
                for _ in range(60):  # what is left of the last page takes some lines
                    answer = client.post("/api/ratings", json=rating)
                    kept += answer.status_code == 201
                    refused += is_problem(answer, 507)
                    tally.check(
                        answer.status_code == 201 or is_problem(answer, 507), f"{answer.status_code} {answer.text}"
                    )
                tally.check(refused > 0, "a full disk was not told")
                if number % 3 == 2:
                    disk.read_only(False)
                disk.make_room()
                answer = client.post("/api/ratings", json=rating)
                kept += answer.status_code == 201
                tally.check(answer.status_code == 201, f"with room again: {answer.status_code} {answer.text}")
            lines = (disk.folder / "out" / "ratings.jsonl").read_text().splitlines()
            tally.check(len([json.loads(line) for line in lines]) == kept, f"{len(lines)} lines, {kept} promised")
    return tally.row(fault, promised, f"{kept} ratings promised, as many whole lines")


def signals(model: Path, folder: Path, count: int, seed: int) -> Row:
    """SIGTERM, SIGINT and SIGKILL at random instants with pieces in flight; then a new start on the same port."""
    tally, draw, port, longest = Tally(), random.Random(seed), 0, 0.0
    for number in tqdm(range(count), desc="signals", unit="server", disable=None):
        kind = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[number % 3]
        server = Served(model, folder, port=port)
        port = server.port
        readers = [threading.Thread(target=_read_until_cut, args=(server, seed)) for seed in range(3)]
        for reader in readers:
            reader.start()
        time.sleep(draw.uniform(0.0, 1.5))
        began = time.monotonic()
        ended = server.stop(kind, 20)
        longest = max(longest, time.monotonic() - began)
        for reader in readers:
            reader.join(60)
        said = server.said.replace(f"plagal serves {model} at {server.address}", "").strip()
        tally.check(ended, f"{kind.name}: the server did not end in 20 s")
        tally.check("Traceback" not in said, f"{kind.name}: {said[-300:]}")
        left = [path.name for path in folder.rglob("*") if not path.name.startswith("log-") and path.is_file()]
        tally.check(set(left) <= {"ratings.jsonl"}, f"{kind.name} left {left}")
    with serving(model, folder, port=port) as server:
        tally.check(server.works(), "a new start on the same port did not work")
    return tally.row("SIGTERM, SIGKILL and Ctrl-C with pieces in flight, at random instants; started again on the port",
                     "ends in 20 s without a traceback; no file left; works again",
                     f"the longest end took {longest:.1f} s", count)  # fmt: skip


def _read_until_cut(server: Served, seed: int) -> None:
    try:
        with server.client() as client:
            made = client.post("/api/pieces", json={"prompt": "gospel", "bars": 64, "seed": seed}).json()
            with client.stream("GET", made["links"]["events"]) as events:
                for _ in events.iter_bytes():
                    pass
    except (httpx.HTTPError, KeyError, ValueError):
        pass


def secrets_in_logs(said: str, token: str) -> Row:
    """`said`: all that a server with this token wrote, at the level of debug, through all faults it was given."""
    tally = Tally()
    for form in (token, token.encode().decode("latin-1"), repr(token), repr(token.encode())[2:-1], token[5:]):
        tally.check(
            form not in said, f"the token stands in the log, around {said[max(0, said.find(form) - 100) :][:90]!r}"
        )
    tally.check(len(said) > 1000, "the log at the level of debug is empty")
    lines = len(said.splitlines())
    return tally.row(f"the token looked for in {lines:,} lines of a server's log at the level of debug",
                     "secrets are never logged", "not found, in any form")  # fmt: skip


def soak(model: Path, folder: Path, seconds: float = SOAK_SECONDS) -> Row:
    """A few clients that think between their pieces, for half an hour; memory each minute. They come once the server
    remembers as many pieces as it ever will, which is part of the warm-up."""
    tally, made, course = Tally(), Made(), list[int]()
    began, stop, over = time.monotonic(), threading.Event(), threading.Event()
    with serving(model, folder) as server, ThreadPoolExecutor(_CLIENTS) as pool:
        watch = threading.Thread(target=_watch, args=(server, seconds, course, over))
        watch.start()
        try:
            _fill(server, made)
            filled = time.monotonic() - began
            clients = [pool.submit(_client, server, number, stop, made) for number in range(_CLIENTS)]
            while time.monotonic() - began < seconds and not all(client.done() for client in clients):
                time.sleep(1)
        finally:
            stop.set()
            over.set()
        watch.join()
        for client in clients:
            tally.check(client.exception() is None, f"a client ended with {client.exception()!r}")
        tally.check(not made.failed, f"{len(made.failed)} pieces failed, as {made.failed[:1]}")
        files = server.open_files()
        tally.check(server.works(), "no piece was written afterwards")
    return _soaked(tally, made, course, min(max(_WARM_UP_SECONDS, filled), 0.7 * seconds) / 60, seconds, files)


def _soaked(tally: Tally, made: Made, course: list[int], warm_up: float, seconds: float, files: int) -> Row:
    """`course`: memory [bytes] each minute; `warm_up` [minutes]."""
    warm, last = course[min(len(course) - 1, math.ceil(warm_up))], max(course[-3:])
    growth = last / warm
    tally.check(growth <= _MOST_GROWTH, f"memory grew {growth:.3f} times: {[each >> 20 for each in course]} MiB")
    happened = (
        f"{made.pieces} pieces made, memory {warm / 2**20:.0f} to {last / 2**20:.0f} MiB, {growth:.3f} times;"
        f" {files} files open"
    )
    if tally.broken:
        happened += f"; but {tally.broken[0]}"
    return Row(
        f"a soak of {seconds / 60:.0f} minutes: {MOST_PIECES} pieces, as many as are remembered, then {_CLIENTS}"
        " clients that think",
        made.pieces,
        f"every piece written; memory at most {_MOST_GROWTH} times that after {math.ceil(warm_up)} minutes",
        happened,
        len(tally.broken),
    )


def _watch(server: Served, seconds: float, course: list[int], over: threading.Event) -> None:
    """Memory at the beginning and after each minute [bytes]."""
    with tqdm(total=round(seconds / 60), desc="soak", unit="min", disable=None) as progress:
        course.append(server.resident_bytes())
        while not over.wait(60):
            course.append(server.resident_bytes())
            progress.update()


def _fill(server: Served, made: Made) -> None:
    """As many pieces as the server remembers, of all kinds that the clients ask for: caches of masks fill with them."""

    def one(seed: int) -> None:
        asked = {"prompt": _PROMPTS[seed % len(_PROMPTS)], "bars": 1 + seed % 2, "seed": seed}
        made.count(server.events(server.ask(**asked))[-1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(MOST_PIECES)))


class Made:
    """What a soak's clients got."""

    def __init__(self) -> None:
        self.pieces = 0
        self.failed: list[str] = []
        self._lock = threading.Lock()

    def count(self, last: tuple[int, str, dict[str, Any]]) -> None:
        """A piece's last event."""
        with self._lock:
            if last[1] == "done":
                self.pieces += 1
            else:
                self.failed.append(str(last))


def _client(server: Served, number: int, stop: threading.Event, made: Made) -> None:
    draw = random.Random(number)
    while not stop.is_set():
        bars = draw.choice((1, 2, 4))
        piece = server.ask(prompt=draw.choice(_PROMPTS), bars=bars, seed=draw.randrange(1_000_000))
        made.count(server.events(piece)[-1])
        with server.client() as client:
            client.get(f"/api/pieces/{piece}.mid").raise_for_status()
            client.get(f"/api/pieces/{piece}").raise_for_status()
            if draw.random() < 0.2:
                client.post("/api/ratings", json={"rater": "ann", "piece": piece, "rating": 5}).raise_for_status()
            if draw.random() < 0.1:
                client.post("/api/pieces", json={"prompt": "gospel", "bars": 64, "key": "H"})
        stop.wait(draw.uniform(0.5, 1.5) * _THINK_SECONDS)
