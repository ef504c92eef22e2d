"""`plagal serve` under faults: a real process on 127.0.0.1, with the trained model where there is one."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import server_asks as asks
from faults import server_ends as ends
from faults import server_load as load
from faults.campaign import Row
from faults.served import Served, model_for, serving

_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of this run's own is made there


def rows(short: bool, seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="plagal-server-", dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        around = Path(scratch)
        (around / "canary.txt").write_text(f"canary {secrets.token_hex(8)}\n")
        model = model_for(around)
        if not model.is_relative_to(around):  # the pipeline may write it anew meanwhile
            model = Path(shutil.copytree(model, around / "trained"))
        with ThreadPoolExecutor(1) as pool:
            soak = None if short else pool.submit(ends.soak, model, around / "six")
            with serving(model, around / "one") as server:
                yield from _one_server(server, around, short, seed)
            yield from _with_token(model, around, short, seed)
            yield from _endings(model, around, short, seed)
            if soak is not None:
                yield soak.result()


def _one_server(server: Served, around: Path, short: bool, seed: int) -> Iterator[Row]:
    """The slow faults wait most of the time: they run beside the others."""
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(ends.leaving, server, 2 if short else 12)]
        if not short:
            slow.append(pool.submit(load.slow_bodies, server, 200))
        yield asks.reconnects(server)
        yield asks.enormous(server)
        yield asks.headers(server, seed)
        yield from load.uploads(server, 6 if short else 60, seed)
        yield asks.path_tricks(server, around)
        for each in slow:
            yield each.result()
    yield load.flood(server, 60 if short else 400)
    yield load.too_many_connections(server, 200 if short else 1500)


def _with_token(model: Path, around: Path, short: bool, seed: int) -> Iterator[Row]:
    token = f"t\u00f6k\u00e9n-{secrets.token_hex(12)}"
    with serving(model, around / "two", token=token, loud=True) as server:
        yield asks.tokens(server, token)
        yield asks.schema(server, 5 if short else 150, seed)
    yield ends.secrets_in_logs(server.said, token)


def _endings(model: Path, around: Path, short: bool, seed: int) -> Iterator[Row]:
    if not short:  # test_api tries it once
        yield ends.vanishing_model(shutil.copytree(model, around / "copy" / "model"), around / "three")
    yield ends.full_disk(model, around / "four")
    yield ends.signals(model, around / "five", 2 if short else 30, seed)
