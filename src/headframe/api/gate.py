"""What a request passes first: an id, bounds on size and number, a look for hostile text, and safe headers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headframe.api.problems import internal, problem_of
from headframe.api.wire import Serving
from headframe.base.errors import HeadframeError, Invalid, SlowBody, TooBusy, TooLarge

UPLOADS = "/v1/files/"  # PUT below this path is streamed, all other bodies are small and read whole
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_log = logging.getLogger("headframe.api")


class Gate:
    """The outermost layer of the app that is ours. Runs on the event loop's thread only."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self.app = app
        self.serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        serving, loop = self.serving, asyncio.get_running_loop()
        began, outgoing = loop.time(), _Outgoing(send, serving.ids.new("req"))
        scope["request_id"] = outgoing.request_id
        serving.open_requests += 1
        try:
            await self._pass(scope, receive, outgoing)
        except ClientDisconnect:
            outgoing.status = outgoing.status or 499
        finally:
            serving.open_requests -= 1
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            serving.requests[method, outgoing.status] += 1
            serving.request_us += round((loop.time() - began) * 1_000_000)

    async def _pass(self, scope: Scope, receive: Receive, outgoing: _Outgoing) -> None:
        """Check, hand on, and turn what was not foreseen into a problem that tells nothing of our inside."""
        response: Response
        try:
            if self.serving.open_requests > self.serving.limits.requests:
                raise TooBusy("Too many requests are open.", next_step="Try again in a moment.")
            check_address(scope)
            receive = await self._admit_body(scope, receive)
        except HeadframeError as error:
            await problem_of(error, outgoing.request_id)(scope, receive, outgoing)
            return
        try:
            await self.app(scope, receive, outgoing)
            return
        except ClientDisconnect:
            raise
        except HeadframeError as error:
            response = problem_of(error, outgoing.request_id)
        except Exception:
            _log.exception("request %s failed", outgoing.request_id)
            response = internal(outgoing.request_id)
        if not outgoing.status:
            await response(scope, receive, outgoing)

    async def _admit_body(self, scope: Scope, receive: Receive) -> Receive:
        """Bound the body; a small one is read whole and looked at, an upload is left to its route."""
        headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"content-type")}
        limits = self.serving.limits
        upload = scope["method"] == "PUT" and scope["path"].startswith(UPLOADS)
        limit = limits.file_bytes if upload else limits.body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise too_large(limit)
        if upload or scope["method"] in ("GET", "HEAD"):
            return receive
        body = bytearray()
        try:
            async with asyncio.timeout(limits.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise too_large(limit)
        except TimeoutError:
            raise slow_body() from None
        check_json(bytes(body), headers)
        return _replay(bytes(body), receive)


class _Outgoing:
    """The way back: notes the status, and adds the headers that every answer carries."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.send = send
        self.request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            told = {name for name, _ in headers}
            headers += [each for each in _HEADERS if each[0] not in told]
            headers.append((b"x-request-id", self.request_id.encode()))
            message = {**message, "headers": headers}
        await self.send(message)


def check_address(scope: Mapping[str, Any]) -> None:
    """Raise `Invalid` for a path or query that is not UTF-8 text or holds a NUL, which no store takes."""
    raw = scope.get("raw_path") or scope["path"].encode()
    for name, part in (("path", raw), ("query", scope["query_string"])):
        text = unquote_to_bytes(part)
        try:
            hostile = "\0" in text.decode()
        except UnicodeDecodeError:
            hostile = True
        if hostile:
            raise Invalid(
                f"The {name} of the address is not readable text.",
                field=name, allowed="UTF-8, percent-encoded, without NUL",
            )  # fmt: skip


def check_json(body: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Raise `Invalid` for JSON that is not strict, is nested without end, or holds text that no store takes."""
    if not body or b"json" not in headers.get(b"content-type", b"").lower():
        return
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(
            f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}).",
            field="body", line=error.lineno, next_step="Send one JSON document in UTF-8.",
        ) from None  # fmt: skip
    if b"\\u0000" in body and _has_nul(value):
        raise Invalid("The body holds a NUL character.", field="body", allowed="text without NUL")


def slow_body() -> SlowBody:
    """The error for a body that does not go on arriving."""
    return SlowBody("The body took too long to arrive.", next_step="Send it again.")


def too_large(limit: int) -> TooLarge:
    """The error for a body beyond `limit` bytes."""
    return TooLarge(
        f"The body is larger than {limit} bytes.",
        next_step="Send less; files are uploaded one by one under /v1/files.",
        details={"limit_bytes": limit},
    )


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more for the route, then whatever else comes (a disconnect)."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
