"""Errors as RFC 9457 problem details: one sentence that names what is wrong and what is allowed."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from plagal.asking.request import one_line
from plagal.plumbing.errors import BusyError, DiskError, InputError, ModelError, PlagalError

MEDIA_TYPE = "application/problem+json"


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


def problem(status: int, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def problem_bytes(status: int, detail: str) -> bytes:
    """As JSON in UTF-8; half characters, which no UTF-8 holds, as question marks."""
    return json.dumps(problem(status, detail), ensure_ascii=False).encode("utf-8", "replace")


def answer(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return Response(problem_bytes(status, detail), status, headers, MEDIA_TYPE)


def status_of(error: PlagalError) -> int:
    """What an error of the library means to a client."""
    if isinstance(error, BusyError):
        return 429
    if isinstance(error, InputError):
        return 422
    if isinstance(error, DiskError):
        return 507
    return 503 if isinstance(error, ModelError) else 500


def told(error: PlagalError) -> dict[str, Any]:
    return problem(status_of(error), " ".join(str(error).split()))


async def on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101  # registered for it alone
    return answer(error.status, error.detail, error.headers)


async def on_library_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PlagalError)  # noqa: S101  # registered for it alone
    status = status_of(error)
    return answer(status, " ".join(str(error).split()), {"Retry-After": "5"} if status in (429, 503) else None)


async def on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it alone
    errors = error.errors()
    if (
        errors[0]["type"] in ("json_invalid", "model_attributes_type", "dict_type", "missing")
        and len(errors[0]["loc"]) < 3
    ):
        if errors[0]["type"] == "json_invalid":
            return answer(400, f"the body is no JSON: {errors[0].get('ctx', {}).get('error', 'it does not parse')}")
        if errors[0]["loc"] in (("body",), ()):
            return answer(422, 'the body is no JSON object; send one such as {"prompt": "slow worship ballad in Db"}')
    return answer(422, one_line(errors))


async def on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it alone
    if error.status_code == 404:
        return answer(404, f"there is nothing at {request.url.path[:100]}", dict(error.headers or {}))
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods_at(request))) or "another method"
        return answer(405, f"{request.method[:20]} is not possible here; allowed: {allowed}", {"Allow": allowed})
    return answer(error.status_code, str(error.detail), dict(error.headers or {}))


def _methods_at(request: Request) -> set[str]:
    """Of all routes of an address: each knows its own only."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods
