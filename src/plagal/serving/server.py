"""The process that answers: it loads the models, takes an address, and listens until it is told to end.

Its limits are uvicorn's. What uvicorn has no limit for (a head that trickles, a reader that takes nothing) is a reverse
proxy's business, which docs/serving.md sets up.
"""

from __future__ import annotations

import asyncio
import re
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from plagal.plumbing.errors import InputError
from plagal.serving.api import create_app
from plagal.serving.desk import Desk
from plagal.serving.guards import LOOPBACK

_SHUTDOWN_SECONDS = 3
KEEP_ALIVE_SECONDS = 75
"""Longer than nginx and most balancers keep an idle connection (60 s): else they ask on one that is just closing."""
MOST_CONNECTIONS = 1024
_OTHER_FILES = 64
"""Descriptors for all that is not a connection."""


class EndingServer(uvicorn.Server):
    """uvicorn's; `before_end` is called as soon as it is to end, so that streams are over before they would be cut."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]):
        super().__init__(config)
        self._before_end = before_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(asyncio.to_thread(self._before_end))
        await super().shutdown(sockets)
        await ending


def listen(
    desk: Desk, host: str = "127.0.0.1", port: int = 8000, token: str | None = None,
    public_hosts: tuple[str, ...] = (), root_path: str = "",
) -> Listening:  # fmt: skip
    """Load the models and take the address. `public_hosts`: names by which a reverse proxy is asked for it.
    Raises InputError where it cannot listen there, ModelError where a model is missing."""
    loopback = host in LOOPBACK
    if token is None and not loopback:
        raise InputError(f"--host {host} is open to the network: give --token-file FILE, or stay on 127.0.0.1")
    if token is None and public_hosts:
        raise InputError(f"--allow-host {public_hosts[0]} opens it to the network: give --token-file FILE")
    if root_path and not re.fullmatch(r"(/[^/?#\s]+)+", root_path):
        raise InputError(f"--root-path {root_path}: write the prefix as in /plagal")
    desk.start()
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        taken = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        desk.close()
        raise InputError(f"cannot listen on {host}:{port} ({error}); choose another --port") from None
    # With its protocol's number asyncio sets TCP_NODELAY. Without, each answer on a kept connection waits 40 ms for the
    # client's acknowledgement of its head.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, taken.detach())
    hosts = (*LOOPBACK, *public_hosts) if loopback or public_hosts else None
    config = uvicorn.Config(
        create_app(desk, token, hosts, root_path), http="h11", ws="none", log_level="warning", access_log=False,
        server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        limit_concurrency=most_connections(),
    )  # fmt: skip
    name = f"[{host}]" if ":" in host else host
    return Listening(f"http://{name}:{taken.getsockname()[1]}", EndingServer(config, desk.close), taken)


def most_connections() -> int:
    """As many as this process may hold with files to spare; at least 16."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(16, min(MOST_CONNECTIONS, allowed - _OTHER_FILES))


@dataclass(frozen=True)
class Listening:
    """A server that has its address and its models; `run` answers until `stop` or a signal."""

    address: str
    server: uvicorn.Server
    taken: socket.socket

    def run(self) -> None:
        with self.taken:
            self.server.run(sockets=[self.taken])

    def stop(self) -> None:
        self.server.should_exit = True
