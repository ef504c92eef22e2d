"""Connections that end: one that sends its request too slowly, or never reads its answer, is cut.

uvicorn gives up on idle connections only; a few hundred that never finish would take every file descriptor.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from plagal.serving.problems import answer, problem_bytes

HEAD_SECONDS = 10.0
"""In which a whole request line with its headers must have come."""
REST_SECONDS = 10.0
"""So long what is left of a body is thrown away after an answer that did not wait for it."""
STALL_SECONDS = 60.0
"""So long an answer waits for a reader that takes nothing of it."""
MOST_CONNECTIONS = 1024
_OTHER_FILES = 64
"""Descriptors for all that is no connection."""
_RESET = struct.pack("ii", 1, 0)


def most_connections() -> int:
    """As many as this process may hold with files to spare; at least 16."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(16, min(MOST_CONNECTIONS, allowed - _OTHER_FILES))


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "5", "Connection": "close"}
    await answer(503, "too many connections are open; try again in a moment", headers)(scope, receive, send)


class EndingServer(uvicorn.Server):
    """uvicorn's; `before_end` is called as soon as it is to end, so that streams are over before they would be cut."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]):
        super().__init__(config)
        self._before_end = before_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(asyncio.to_thread(self._before_end))
        await super().shutdown(sockets)
        await ending


class PatientProtocol(H11Protocol):
    """uvicorn's, with an end to patience."""

    most = MOST_CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._reading: tuple[str, asyncio.TimerHandle] | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so only where the listening socket was made with a protocol number, which ours was not: without
        # it each answer on a kept connection waits 40 ms for the client's acknowledgement of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most:
            self.app = _too_many
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._unset_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._set_stall()
        elif self.conn.their_state is h11.SEND_BODY:
            self._expect_more()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._unset_stall()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._set_stall()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's words are not for clients
        """Bytes that are no HTTP: told as every other problem."""
        body = problem_bytes(400, "these bytes are no HTTP request")
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        events = (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(body))
        for event in (*events, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._set_stall()

    def shutdown(self) -> None:
        """The server ends: a body that is still on its way is not waited for."""
        super().shutdown()
        if self.conn.their_state is h11.SEND_BODY:
            self._cut()

    # --- what is waited for, and how long

    def _expect_more(self) -> None:
        """Set the time in which what is missing of a request must come."""
        if self.conn.their_state is h11.IDLE:
            self._expect("head", HEAD_SECONDS)
        elif self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete:
            self._expect("rest", REST_SECONDS)
        else:
            self._expect(None)

    def _expect(self, what: str | None, seconds: float = 0.0) -> None:
        if self._reading is not None and self._reading[0] != what:
            self._reading[1].cancel()
            self._reading = None
        if what is not None and self._reading is None:
            self._reading = (what, self.loop.call_later(seconds, self._cut))

    def _set_stall(self) -> None:
        if self._writing is None:
            self._writing = self.loop.call_later(STALL_SECONDS, self._cut)

    def _unset_stall(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _cut(self) -> None:
        # With a reset: else the system would keep megabytes for a reader that does not read.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
