"""The HTTP service: pieces made, streamed and fetched; ratings and blind pairs; health and metrics; the page.

Errors are RFC 9457 problems. Nothing is written but the file of ratings. `create_app` makes the app,
`listen` its server.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope

from plagal.asking import fields
from plagal.asking import request as controls
from plagal.asking.fields import MOST_MIDI_BYTES
from plagal.asking.wording import spoken
from plagal.music.keys import MAJOR_KEYS, MINOR_KEYS
from plagal.music.midi import to_midi_bytes
from plagal.plumbing import __version__
from plagal.plumbing.errors import InputError
from plagal.serving.desk import (
    MOST_SEMITONES,
    Choice,
    Created,
    CreatedPair,
    Desk,
    Health,
    Pair,
    Piece,
    PieceAnswer,
    Systems,
    Words,
    created,
    piece_json,
    score_of,
)  # fmt: skip
from plagal.serving.guards import (
    LOOPBACK,
    MOST_BODY_BYTES,
    PROBLEM_TYPE,
    Guards,
    Problem,
    ProblemError,
    add_problems,
    path_in_app,
    want_json,
)
from plagal.serving.service import event_schema
from plagal.sheet import to_musicxml, to_pdf
from plagal.tokens.vocabulary import DENSITIES, MOST_BARS

PAGE = Path(__file__).parent / "page"
USUAL_METRES = ("4/4", "3/4", "12/8", "6/8", "2/2", "2/4", "5/4", "7/8", "9/8")
_NO_PAGE = "<!doctype html><title>Plagal</title><p>The page is not built: run <code>make web</code>, then reload.</p>"

_STRICT = ConfigDict(extra="forbid")
_JSON = [Depends(want_json)]
_Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Semitones = Annotated[int, Query(ge=-MOST_SEMITONES, le=MOST_SEMITONES, description="So many higher.")]
_Lead = Annotated[bool, Query(description="Only the melody and its chords.")]
_Numbers = Annotated[bool, Query(description="Nashville numbers instead of chord names.")]
_MUSICXML = "application/vnd.recordare.musicxml+xml"
_Id = Annotated[str, PathParameter(min_length=1, max_length=40, examples=["dG9uZSBvZg"])]


class Rating(BaseModel):
    model_config = _STRICT | ConfigDict(json_schema_extra={"examples": [{"rater": "ann", "piece": "ID", "rating": 8}]})
    rater: _Name
    piece: str = Field(min_length=1, max_length=40)
    rating: int = Field(ge=1, le=10)


class PairRequest(BaseModel):
    model_config = _STRICT | ConfigDict(json_schema_extra={"examples": [{"prompt": "worship in Db"}]})
    prompt: str = Field("", max_length=fields.LONGEST_PROMPT)


class ChoiceMade(BaseModel):
    model_config = _STRICT | ConfigDict(json_schema_extra={"examples": [{"rater": "ann", "choice": "a"}]})
    rater: _Name
    choice: Choice


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the problems that a call may answer with."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"content": {PROBLEM_TYPE: schema}, "description": HTTPStatus(status).phrase} for status in statuses
    }


_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Request"}}},
    }
}
_ANYWHERE = _problems(401, 403, 413, 421, 422, 500, 503)
_WITH_BODY = _problems(400, 408, 415)


def _documented(app: FastAPI, token: bool) -> dict[str, Any]:
    """The OpenAPI document, with the schemas that no route's signature shows, and the token where one is wanted."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        components = document.setdefault("components", {})
        request = controls.Request.model_json_schema(ref_template="#/components/schemas/{model}")
        components.setdefault("schemas", {}).update(
            request.pop("$defs", {}) | {"Request": request, "Problem": Problem.model_json_schema()}
        )
        stream = document["paths"]["/api/pieces/{piece_id}/events"]["get"]["responses"]["200"]["content"]
        stream["text/event-stream"]["itemSchema"] = event_schema()
        if token:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for operations in document["paths"].values():  # all of them: the page and this document are not in it
                for operation in operations.values():
                    operation["security"] = [{"token": []}]
    return app.openapi_schema or {}


def create_app(
    desk: Desk, token: str | None = None, hosts: tuple[str, ...] | None = LOOPBACK, root_path: str = ""
) -> FastAPI:
    """The app around a desk whose models are loaded when it starts. The rest as in `Guards`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(desk.start)
        yield
        await asyncio.to_thread(desk.close)

    app = FastAPI(
        title="Plagal", version=__version__, lifespan=lifespan, responses=_ANYWHERE,
        description="A prompt in, gospel piano out. Times are in ticks, 24 a quarter note.",
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.openapi = lambda: _documented(app, token is not None)  # type: ignore[method-assign]
    _add_writing(app, desk)
    _add_reading(app, desk)
    _add_opinions(app, desk)
    _add_about(app, desk)
    _add_page(app)
    add_problems(app)
    count = desk.measures.requests.labels
    app.add_middleware(
        Guards,
        token=token,
        hosts=hosts,
        root_path=root_path,
        on_answer=lambda route, status: count(route, str(status)).inc(),
    )
    return app


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from None


_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


def _get(app: FastAPI, path: str, **named: Any) -> Callable[[_Endpoint], _Endpoint]:
    """A GET route that answers HEAD too, as watchers of servers and players of files ask."""

    def both(endpoint: _Endpoint) -> _Endpoint:
        app.head(path, include_in_schema=False)(endpoint)
        return app.get(path, **named)(endpoint)

    return both


def _find(desk: Desk, piece_id: str) -> Piece:
    piece = desk.pieces.find(piece_id)
    if piece is None:
        raise ProblemError(404, f"there is no piece {piece_id!r}; only the newest {desk.limits.pieces} are kept")
    return piece


def _root(http: Request) -> str:
    return str(http.scope.get("root_path", ""))


def _find_done(desk: Desk, piece_id: str) -> Piece:
    piece = _find(desk, piece_id)
    if piece.status != "done":
        raise ProblemError(409, f"the piece is {piece.status}, not done; follow its events")
    return piece


def _add_writing(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/pieces", status_code=202, response_model=Created, dependencies=_JSON,
              openapi_extra=_REQUEST_BODY, responses=_WITH_BODY | _problems(429))  # fmt: skip
    async def create_piece(http: Request, response: Response) -> dict[str, Any]:
        """Ask for a piece; it is written in its turn."""
        with desk.reading():  # off the event loop: music in a request takes a while to read
            piece = await asyncio.to_thread(lambda body: desk.order_piece(_parsed(body)), await http.body())
        answer = created(piece, _root(http))
        response.headers["Location"] = answer["links"]["self"]
        return answer

    def to_follow(piece_id: _Id, last_event_id: Annotated[str | None, Header()] = None) -> tuple[Piece, int]:
        piece = _find(desk, piece_id)
        last = int(last_event_id) if last_event_id and re.fullmatch(r"\d{1,9}", last_event_id) else 0
        if piece.over and last >= piece.event_count:
            raise HTTPException(204)  # so that an EventSource, which takes every end for a break, asks no more
        return piece, last

    @app.get("/api/pieces/{piece_id}/events", response_class=EventSourceResponse,
             responses={204: {"description": "There are no more events."}, **_problems(404)})  # fmt: skip
    async def get_events(
        followed: tuple[Piece, int] = Depends(to_follow),  # FastAPI's way
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events, numbered from 1: queued, start, bar, chord, note, pedal, tempo, then done or problem.
        Last-Event-ID takes them up again where they broke off."""
        piece, last = followed
        piece.watchers += 1
        number = 0
        try:
            async for event in piece.events():
                number += 1
                if number > last:
                    yield ServerSentEvent(id=str(number), event=event.kind, data=event.data)
        finally:
            desk.leave(piece)

    @app.delete("/api/pieces/{piece_id}", status_code=204, responses=_problems(404))
    async def cancel_piece(piece_id: _Id) -> None:
        """Stop writing it; harmless where it is done."""
        piece = _find(desk, piece_id)
        if piece.job is not None:
            piece.job.cancel()


def _named(piece: Piece, suffix: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="plagal-{piece.id}{suffix}"'}


def _add_reading(app: FastAPI, desk: Desk) -> None:
    @_get(app, "/api/pieces/{piece_id}.mid", response_class=Response,
          responses={200: {"content": {"audio/midi": {}}}, **_problems(404, 409)})  # fmt: skip
    async def get_midi(piece_id: _Id, transpose: _Semitones = 0) -> Response:
        """The piece as a MIDI file, the right hand before the left."""
        piece = _find_done(desk, piece_id)
        data = await asyncio.to_thread(lambda: to_midi_bytes(score_of(piece, transpose)))
        return Response(data, media_type="audio/midi", headers=_named(piece, ".mid"))

    @_get(app, "/api/pieces/{piece_id}.musicxml", response_class=Response,
          responses={200: {"content": {_MUSICXML: {}}}, **_problems(404, 409)})  # fmt: skip
    async def get_musicxml(
        piece_id: _Id, transpose: _Semitones = 0, lead: _Lead = False, numbers: _Numbers = False
    ) -> Response:
        """The piece as a MusicXML score on two staves."""
        piece = _find_done(desk, piece_id)
        text = await asyncio.to_thread(lambda: to_musicxml(score_of(piece, transpose), lead=lead, numbers=numbers))
        return Response(text, media_type=_MUSICXML, headers=_named(piece, ".musicxml"))

    @_get(app, "/api/pieces/{piece_id}.pdf", response_class=Response,
          responses={200: {"content": {"application/pdf": {}}}, **_problems(404, 409)})  # fmt: skip
    async def get_pdf(
        piece_id: _Id, transpose: _Semitones = 0, lead: _Lead = False, numbers: _Numbers = False
    ) -> Response:
        """The piece engraved on pages of A4."""
        piece = _find_done(desk, piece_id)
        data = await asyncio.to_thread(lambda: to_pdf(score_of(piece, transpose), lead=lead, numbers=numbers))
        return Response(data, media_type="application/pdf", headers=_named(piece, ".pdf"))

    @_get(app, "/api/pieces/{piece_id}/words", response_model=Words, responses=_problems(404))
    async def get_words(piece_id: _Id) -> dict[str, list[str]]:
        """The music words written so far."""
        return {"words": _find(desk, piece_id).words}

    @_get(app, "/api/pieces/{piece_id}", response_model=PieceAnswer, responses=_problems(404))
    async def get_piece(piece_id: _Id, http: Request, transpose: _Semitones = 0) -> dict[str, Any]:
        """The piece as JSON, as far as it is written."""
        return await asyncio.to_thread(piece_json, _find(desk, piece_id), _root(http), transpose)


def _add_opinions(app: FastAPI, desk: Desk) -> None:
    def find_pair(pair_id: str) -> Pair:
        pair = desk.pairs.find(pair_id)
        if pair is None:
            raise ProblemError(404, f"there is no pair {pair_id!r}; perhaps it is too old: ask for another")
        return pair

    @app.post("/api/ratings", status_code=201, dependencies=_JSON, responses=_WITH_BODY | _problems(404, 409, 507))
    async def rate(rating: Rating) -> Rating:
        """What somebody thinks of a piece, from 1 to 10."""
        await asyncio.to_thread(desk.rate, rating.rater, _find_done(desk, rating.piece), rating.rating)
        return rating

    @app.post(
        "/api/pairs",
        status_code=201,
        response_model=CreatedPair,
        response_model_exclude_none=True,
        dependencies=_JSON,
        responses=_WITH_BODY | _problems(429),
    )
    async def create_pair(request: PairRequest, http: Request) -> dict[str, Any]:
        """Two pieces for one prompt, in blind order. Both show when both are there."""
        with desk.reading():
            pair = await asyncio.to_thread(desk.order_pair, request.prompt)
        return {"pair": pair.id, "a": created(pair.a, _root(http)), "b": created(pair.b, _root(http))}

    @app.post("/api/pairs/{pair_id}/choice", status_code=201, response_model=Systems, dependencies=_JSON,
              responses=_WITH_BODY | _problems(404, 409, 507))  # fmt: skip
    async def choose(pair_id: _Id, made: ChoiceMade) -> dict[str, str]:
        """Which of the two somebody likes better; tells afterwards who wrote them."""
        pair = find_pair(pair_id)
        if pair.a.status != "done" or pair.b.status != "done":
            raise ProblemError(409, "the pieces are not done; choose when you have heard both")
        if not await asyncio.to_thread(desk.choose, made.rater, pair, made.choice):
            raise ProblemError(409, f"{made.rater} has chosen already; ask for another pair")
        return {"a": pair.a.system, "b": pair.b.system}


def _add_about(app: FastAPI, desk: Desk) -> None:
    @_get(app, "/api/health", response_model=Health)
    async def health() -> dict[str, Any]:
        """Whether pieces can be asked for."""
        desk.check_model()
        model = desk.writer.model and str(desk.writer.model)
        return {"status": "ok", "model": model, "queue": desk.writer.queue, "busy": desk.writer.busy}

    @_get(app, "/api/styles")
    async def styles() -> dict[str, Any]:
        """What may be asked for, and the limits."""
        return {
            "styles": [{"name": name, "title": spoken(name).capitalize()} for name in controls.STYLES],
            "keys": [*MAJOR_KEYS, *MINOR_KEYS],
            "metres": list(USUAL_METRES),
            "densities": list(DENSITIES),
            "writers": ["arranger"] if desk.writer.model is None else ["model", "arranger", "best"],
            "limits": {
                "bars": MOST_BARS,
                "prompt": fields.LONGEST_PROMPT,
                "midi_bytes": MOST_MIDI_BYTES,
                "body_bytes": MOST_BODY_BYTES,
                "abc": fields.LONGEST_ABC,
                "queue": desk.limits.queue,
                "tempo": [20, 300],
            },
            "compared": "previous" if desk.previous is not None else "arranger",
        }

    @_get(app, "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(desk.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Page(Mount):
    """Everything but the service's own addresses, whose problems are to be theirs."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        own = scope["type"] == "http" and path_in_app(scope).startswith(("/api/", "/metrics", "/openapi.json"))
        return (Match.NONE, {}) if own else super().matches(scope)


def _add_page(app: FastAPI) -> None:
    if (PAGE / "index.html").is_file():
        app.router.routes.append(_Page("/", StaticFiles(directory=PAGE, html=True), name="page"))
    else:
        _get(app, "/", include_in_schema=False)(lambda: HTMLResponse(_NO_PAGE))


# --- The process that answers: it loads the models, takes an address, and listens until it is told to end ---
#
# Its limits are uvicorn's. What uvicorn has no limit for (a head that trickles, a reader that takes nothing) is a
# reverse proxy's business, which docs/serving.md sets up.

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
