"""What stands before the routes: limits on bodies, the token, who may ask from a browser, headers of safety."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plagal.asking.request import MOST_MIDI_BYTES
from plagal.serving.problems import ProblemError, answer

log = logging.getLogger(__name__)

MOST_BODY_BYTES = MOST_MIDI_BYTES * 4 // 3 + (64 << 10)
"""A MIDI file in base64, and room for the rest."""
BODY_SECONDS = 30.0
"""In which a whole body must have come."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' blob:",  # audio worklets and timers are made of blobs
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guards:
    """Checks each request before the app sees it, and adds the headers to every answer.

    `token`: what every call under /api and /metrics must bear, if any; `hosts`: names under which the server may be
    addressed (a page elsewhere that points its own name at this machine is refused), any where None; `on_answer` is
    told the route and the status of each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None = None,
        hosts: tuple[str, ...] | None = LOOPBACK,
        on_answer: Callable[[str, int], None] = lambda _route, _status: None,
    ):
        self.app = app
        self._on_answer = on_answer
        self._token = token.encode() if token else None
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def send_safely(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._on_answer(getattr(scope.get("route"), "path", "none"), message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/api"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._answer(scope, receive, send_safely)
        except Exception:
            # With its headers of safety and as a problem, which the server's own last resort would not have.
            if begun:
                raise
            log.exception("%s %r could not be answered", scope["method"], scope["path"][:100])
            await answer(500, "the server failed at this; its log says why")(scope, receive, send_safely)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is None:
            try:
                receive = await _whole_body(scope, receive)
            except _BodyError as error:
                refusal = error.args
            except _GoneError:
                return
        if refusal is not None:
            await answer(*refusal)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | tuple[int, str, dict[str, str]] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return 421, f"this server is not {host[:100]!r}; address it as {self._hosts[0]}"
        origin = headers.get("origin")
        if origin is not None and _place_of(origin) != host:
            return 403, f"calls from pages of {origin[:100]} are not allowed; only the server's own page may ask"
        path = scope["path"]
        if path.startswith(("/api", "/metrics")) and not self._bears_token(headers):
            wanted = "a token is wanted: send the header Authorization: Bearer TOKEN"
            return 401, wanted, {"WWW-Authenticate": "Bearer"}
        return None

    def _bears_token(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # A header's bytes come as Latin-1: turned back, a token of any letters is compared as it was sent.
        return secrets.compare_digest(given.strip(" ").encode("latin-1"), self._token) and scheme.lower() == "bearer"


def _name_of(host: str) -> str:
    """Without the port: "[::1]:8000" -> "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _place_of(origin: str) -> str | None:
    """Its host and port; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def want_json(request: Request) -> None:
    """For routes with a body: any other type is what a page elsewhere could send without being asked. Raises
    ProblemError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, f"the body is {kind[:100] or 'of no kind'}; allowed is application/json")


class _BodyError(Exception):
    """Its arguments are those of an answer."""


class _GoneError(Exception):
    """The client left before its body was whole: half of it is never acted on."""


async def _whole_body(scope: Scope, receive: Receive) -> Receive:
    """Read the body, within its limits, and hand on a `receive` that replays it."""
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdecimal() and int(length) > MOST_BODY_BYTES:
        raise _BodyError(413, _too_large(int(length)))
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _GoneError
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    raise _BodyError(413, _too_large(len(body)))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise _BodyError(408, f"the body did not come within {BODY_SECONDS:g} s") from None
    waiting = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_large(size: int) -> str:
    return f"the body has {size} bytes or more; at most {MOST_BODY_BYTES} are read"
