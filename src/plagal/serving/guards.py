"""What stands before and around the routes: limits on bodies, the token, who may ask from a browser, headers of safety,
and errors as RFC 9457 problem details, one sentence each that names what is wrong and what is allowed.

Starlette's TrustedHostMiddleware and RequestBodyLimitMiddleware do parts of it, but answer in plain text: their lines
would say less than ours, and clients would have two kinds of errors to read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plagal.asking.fields import MOST_MIDI_BYTES
from plagal.asking.request import one_line
from plagal.plumbing.errors import BusyError, DiskError, InputError, ModelError, PlagalError

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
MOST_BODY_BYTES = MOST_MIDI_BYTES * 4 // 3 + (64 << 10)
"""A MIDI file in base64, and room for the rest."""
BODY_SECONDS = 30.0
"""In which a whole body must have come."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Audio worklets and timers are made of blobs; the engraver of sheets is WebAssembly.
        "script-src 'self' blob: 'wasm-unsafe-eval'",
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


# --- problems


class Problem(BaseModel):
    """A problem as every failed call answers it."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=['key "H": no key: write a tonic and a mode, such as Db or F# minor'])


class ProblemError(Exception):
    """Ends a call with a problem."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers

    def response(self) -> Response:
        """In UTF-8; half characters, which no UTF-8 holds, as question marks."""
        text = json.dumps(problem(self.status, self.detail), ensure_ascii=False)
        return Response(text.encode("utf-8", "replace"), self.status, self.headers, PROBLEM_TYPE)


def problem(status: int, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def problem_of(error: PlagalError) -> dict[str, Any]:
    """What an error of the library means to a client."""
    statuses = {BusyError: 429, InputError: 422, DiskError: 507, ModelError: 503}
    status = next((status for kind, status in statuses.items() if isinstance(error, kind)), 500)
    return problem(status, " ".join(str(error).split()))


def add_problems(app: FastAPI) -> None:
    """Answer with a problem wherever a route fails on purpose."""

    @app.exception_handler(ProblemError)
    async def on_problem(_: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(PlagalError)
    async def on_library_error(_: Request, error: PlagalError) -> Response:
        told = problem_of(error)
        later = {"Retry-After": "5"} if told["status"] in (429, 503) else None
        return ProblemError(told["status"], told["detail"], later).response()

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return ProblemError(400, f"the body is not JSON: {first['ctx']['error']}").response()
        if first["loc"] in (("body",), ()):
            shown = 'send one such as {"prompt": "slow worship ballad in Db"}'
            return ProblemError(422, f"the body is not a JSON object; {shown}").response()
        return ProblemError(422, one_line([first])).response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        status, detail, headers = error.status_code, str(error.detail), dict(error.headers or {})
        if status < 400:
            return Response(status_code=status, headers=headers)
        if status == 404:
            detail = f"there is nothing at {request.url.path[:100]}"
        elif status == 405:
            headers["Allow"] = ", ".join(sorted(_methods_at(request))) or "another method"
            detail = f"{request.method[:20]} is not possible here; allowed: {headers['Allow']}"
        elif status == 400 and error.__cause__ is not None:  # FastAPI says that the body does not parse, but not why
            detail = f"the body is not JSON in UTF-8: {error.__cause__}"
        return ProblemError(status, detail, headers).response()


def _methods_at(request: Request) -> set[str]:
    """Of all routes of an address: each knows its own only."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods


async def want_json(request: Request) -> None:
    """For routes with a body: any other type is what a page elsewhere could send without being asked. Raises
    ProblemError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, f"the body is {kind[:100] or 'of no kind'}; send application/json")


# --- guards


class Guards:
    """Checks each request before the app sees it, and adds the headers to every answer.

    `token`: what every call under /api and /metrics must bear, if any; `hosts`: names under which the server may be
    addressed (a page elsewhere that points its own name at this machine is refused), any where None; `root_path`: the
    prefix under which a reverse proxy shows the app, whether or not it takes it off (uvicorn's own wants it off);
    `on_answer` is told the route and the status of each answer.
    """

    def __init__(
        self, app: ASGIApp, token: str | None = None, hosts: tuple[str, ...] | None = LOOPBACK, root_path: str = "",
        on_answer: Callable[[str, int], None] = lambda _route, _status: None,
    ):  # fmt: skip
        self.app = app
        self._on_answer, self._root_path = on_answer, root_path
        self._token = token.encode() if token else None
        self._hosts = tuple(host.lower() for host in hosts) if hosts is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["root_path"] = self._root_path
        begun, path = False, path_in_app(scope)

        async def send_safely(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._on_answer(getattr(scope.get("route"), "path", "none"), message["status"])
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if path.startswith("/api"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            self._check_head(Headers(scope=scope), path)
            receive = await _whole_body(scope, receive)
            await self.app(scope, receive, send_safely)
        except ProblemError as error:
            await error.response()(scope, receive, send_safely)
        except ClientDisconnect:  # before its body was whole: half of it is never acted on
            pass
        except Exception:
            # With its headers of safety and as a problem, which the server's own last resort would not have.
            if begun:
                raise
            log.exception("%s %r could not be answered", scope["method"], scope["path"][:100])
            await ProblemError(500, "the server failed; its log says why").response()(scope, receive, send_safely)

    def _check_head(self, headers: Headers, path: str) -> None:
        host = headers.get("host", "")
        if self._hosts is not None and _address(f"//{host}", "hostname") not in self._hosts:
            raise ProblemError(421, f"this server is not {host[:100]!r}; address it as {self._hosts[0]}")
        origin = headers.get("origin")
        if origin is not None and _address(origin, "netloc") != host.lower():
            raise ProblemError(
                403, f"calls from pages of {origin[:100]} are not allowed; only the server's own page may ask"
            )
        if path.startswith(("/api", "/metrics")) and not self._bears_token(headers):
            wanted = "this needs a token: send the header Authorization: Bearer TOKEN"
            raise ProblemError(401, wanted, {"WWW-Authenticate": "Bearer"})
        packed = headers.get("content-encoding", "identity").strip().lower()
        if packed != "identity":  # nothing is unpacked here: a few bytes of gzip may stand for gigabytes
            detail = f"the body is packed ({packed[:100]}); send it unpacked"
            raise ProblemError(415, detail, {"Accept-Encoding": "identity"})

    def _bears_token(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # A header's bytes come as Latin-1: turned back, a token of any letters is compared as it was sent.
        return secrets.compare_digest(given.strip(" ").encode("latin-1"), self._token) and scheme.lower() == "bearer"


def path_in_app(scope: Scope) -> str:
    """The path without the prefix that a reverse proxy may leave before it, as Starlette's router takes it."""
    root, path = scope.get("root_path", ""), str(scope["path"])
    return path[len(root) :] if path.startswith(f"{root}/") else path


def _address(text: str, part: str) -> str | None:
    """`hostname` or `netloc` of an address, in small letters; None where it is none."""
    try:
        return str(getattr(urlsplit(text), part) or "").lower()
    except ValueError:
        return None


async def _whole_body(scope: Scope, receive: Receive) -> Receive:
    """Read the body, within its limits, and hand on a `receive` that replays it. Raises ProblemError, and
    ClientDisconnect where the client leaves before its end."""
    length = Headers(scope=scope).get("content-length", "0")
    size = int(length) if length.isdecimal() else 0
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = size <= MOST_BODY_BYTES
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientDisconnect
                body += message.get("body", b"")
                size = max(size, len(body))
                more = bool(message.get("more_body", False)) and size <= MOST_BODY_BYTES
    except TimeoutError:
        # Closed, or what trickles on would keep the connection.
        detail = f"the body did not come within {BODY_SECONDS:g} s"
        raise ProblemError(408, detail, {"Connection": "close"}) from None
    if size > MOST_BODY_BYTES:
        raise ProblemError(413, f"the body has {size} bytes or more; at most {MOST_BODY_BYTES} are read")
    waiting = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
