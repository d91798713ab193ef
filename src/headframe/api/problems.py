"""Every error as an RFC 9457 problem document with our stable code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from headframe.base.errors import (
    HeadframeError,
    Invalid,
    MethodNotAllowed,
    NotFound,
    OurError,
    SlowBody,
    StoreFailed,
    TooBusy,
    TooLarge,
    Unauthenticated,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
_LONGEST_VALUE = 200  # characters of the caller's own value that are repeated
_CODES = {kind.status: kind.code for kind in (NotFound, MethodNotAllowed, SlowBody, TooLarge)}
_log = logging.getLogger("headframe.api")


class Problem(BaseModel):
    """What an error looks like. `code` never changes its meaning; `next_step` says what to do.

    `field`, `value`, `allowed` and `line` are there when one value is at fault; other members depend on the code.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str
    request_id: str
    field: str | None = None
    value: Any = None
    allowed: str | None = None
    line: int | None = None
    errors: list[dict[str, Any]] | None = None


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str,
    next_step: str = "",
    details: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response that tells an error."""
    document: dict[str, object] = {
        "type": f"urn:headframe:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "next_step": next_step,
        "request_id": request_id,
    }
    for name, value in (details or {}).items():
        document.setdefault(name, _short(value))
    more = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        more.setdefault("Retry-After", str(RETRY_AFTER_S))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        more.setdefault("Retry-After", str((details or {}).get("retry_after_s", RETRY_AFTER_S)))
    if status == HTTPStatus.UNAUTHORIZED:
        more.setdefault("WWW-Authenticate", 'Bearer realm="headframe"')
    body = orjson.dumps(document, default=repr, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, more, MEDIA_TYPE)


def problem_of(error: HeadframeError, request_id: str) -> Response:
    """The response for one of our own errors. What lies behind one of ours is logged, not told."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Callers can make us too busy as often as they like: a line says it, a traceback would fill the log.
        _log.error("request %s failed: %s", request_id, error, exc_info=None if isinstance(error, TooBusy) else error)
    if isinstance(error, OurError) and not isinstance(error, TooBusy | StoreFailed):
        return internal(request_id)
    return problem(
        error.status,
        error.code,
        error.message,
        request_id=request_id,
        next_step=error.next_step,
        details=error.details,
    )


def internal(request_id: str) -> Response:
    """The response for a defect of ours: nothing of its inside leaves, the log has it under the request's id."""
    return problem(
        500,
        "internal",
        "Headframe failed in a way that it should not.",
        request_id=request_id,
        next_step=f"Tell the operator of this cloud the request id {request_id}; the server's log explains it.",
    )


def install(app: FastAPI) -> None:
    """Let the app answer every error with a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HeadframeError)
        return problem_of(error, request_id_of(request))

    async def wrong_shape(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_of(_first_of(error), request_id_of(request))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _of_http(error, request)

    app.add_exception_handler(HeadframeError, ours)
    app.add_exception_handler(RequestValidationError, wrong_shape)
    app.add_exception_handler(HTTPException, http)


def request_id_of(request: Request) -> str:
    """The id that the gate gave the request."""
    return str(request.scope.get("request_id", ""))


def _first_of(error: RequestValidationError) -> HeadframeError:
    """A wrong shape as one error that names the first wrong field, and all of them in `errors`."""
    faults = [
        {"field": _path(each["loc"]), "message": str(each["msg"]), "value": _short(each.get("input"))}
        for each in error.errors()[:20]
    ]
    first = faults[0]
    if error.errors()[0]["type"] == "json_invalid":
        told = Invalid("The body is not valid JSON.", field="body", next_step="Send one JSON document in UTF-8.")
    else:
        told = Invalid(
            f"{first['field']}: {first['message']}.",
            field=str(first["field"]),
            value=first["value"],
            next_step="See /openapi.json for the fields of this request.",
        )
    told.details["errors"] = faults
    return told


def _path(location: tuple[int | str, ...]) -> str:
    """`body.env.KEY` for a place in the request."""
    return ".".join(str(part) for part in location)[:_LONGEST_VALUE]


def _of_http(error: HTTPException, request: Request) -> Response:
    code = _CODES.get(error.status_code, "bad_request")
    detail = {
        404: f"There is no {request.url.path[:_LONGEST_VALUE]!r} here.",
        405: f"{request.method[:20]} is not something that {request.url.path[:_LONGEST_VALUE]!r} knows.",
    }.get(error.status_code, str(error.detail))
    return problem(
        error.status_code,
        code,
        detail,
        request_id=request_id_of(request),
        next_step="See /openapi.json for what there is.",
        headers=error.headers,
    )


def unauthenticated() -> Unauthenticated:
    """The error of a request without a key."""
    return Unauthenticated(
        "The request carries no API key.",
        next_step="Send a live key as `Authorization: Bearer hf_...`.",
    )


def _short(value: object) -> object:
    """A value of the caller's that is safe and small enough to repeat."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)[:_LONGEST_VALUE]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()[:_LONGEST_VALUE]
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:20]]
    if isinstance(value, dict):
        return {str(_short(str(name))): _short(item) for name, item in list(value.items())[:20]}
    return repr(value)[:_LONGEST_VALUE]
