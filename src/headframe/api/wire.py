"""What every route stands on: the app's state, who calls, how an answer is given, how a list is paged.

A route looks like this:

    @router.post("/v1/things", status_code=201, response_model=shape(Thing))
    def create(call: Authenticated, body: NewThing) -> Response:
        return call.run(create_thing, name=body.name, status=201)

    @router.get("/v1/things", response_model=page_shape(Thing))
    def things(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
        return call.page(Thing, limit=limit, cursor=cursor, organization_id=call.caller.organization_id)
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from headframe.api.documents import Page, dump
from headframe.api.failures import Failures
from headframe.api.origin import SAFE, TOKEN_HEADER, check_form_token, check_origin, cookie_of
from headframe.api.problems import unauthenticated
from headframe.base.changes import Changes
from headframe.base.errors import Invalid, Unauthenticated
from headframe.base.ports import Clock, Ids
from headframe.base.quantities import LIMIT
from headframe.control.idempotency import Asked, once
from headframe.control.queries_tenancy import authenticate, authenticate_session, organization_for, project_for
from headframe.tenants.records import Organization, Project
from headframe.tenants.roles import Caller

if TYPE_CHECKING:
    from headframe.control.driver import Control

JSON = "application/json"
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,200}")
_IF_MATCH = re.compile(r'(?:W/)?"([0-9]{1,15})"')

Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=200, description="The `next` of the page before.")]
Named = Annotated[str | None, Query(max_length=200)]
Count = Annotated[int, Field(ge=0, le=LIMIT)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Body(BaseModel):
    """The base of request bodies: unknown fields are an error, and nothing is converted behind the caller's back."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _as_it_is(result: Any) -> Any:
    return result


@dataclass(frozen=True, slots=True)
class Limits:
    """What the API lets in at once. Sizes in bytes."""

    body_bytes: int = 1 << 20
    file_bytes: int = 64 << 30
    requests: int = 2000  # answered or waiting at one moment, beyond which the server is too busy
    streams: int = 1000  # of which one organization may have half, as of the uploads
    threads: int = 40
    uploads: int = 32  # threads of their own: a slow upload holds one from end to end
    body_timeout_s: float = 60.0
    figures: str = "local"  # who may read /metrics without a key: "open" anybody, "local" this machine, "key" nobody
    wrong_keys: int = 30  # from one address at once, before it is slowed down


@dataclass(slots=True)
class Serving:
    """The app's state: control, time, identities, limits, and counts for /metrics (kept by the event loop's thread)."""

    control: Control
    clock: Clock
    ids: Ids
    limits: Limits = field(default_factory=Limits)
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)  # (method, status)
    request_us: int = 0
    open_requests: int = 0
    closing: bool = False
    bells: dict[int, Any] = field(default_factory=dict)  # of the open streams
    hub: Any = None  # feeds the live streams
    streaming: Counter[str] = field(default_factory=Counter)  # open streams by organization
    uploading: CapacityLimiter | None = None
    uploading_of: dict[str, CapacityLimiter] = field(default_factory=dict)  # by organization, while it uploads
    files_checked: dict[tuple[str, str], None] = field(default_factory=dict)  # (organization, manifest)
    failures: Failures = field(init=False)
    look: Any = None  # the check of readiness under way
    figures: dict[str, Any] | None = None
    figures_us: int = 0

    def __post_init__(self) -> None:
        self.failures = Failures(self.limits.wrong_keys)


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request: who asks, and the ways to answer."""

    request: Request
    serving: Serving
    caller: Caller
    fingerprint: str = ""  # set when the request has an Idempotency-Key

    @property
    def control(self) -> Control:
        return self.serving.control

    @property
    def version(self) -> int | None:
        """The version that If-Match asks for; None when any will do."""
        text = self.request.headers.get("if-match")
        if text is None or text.strip() == "*":
            return None
        match = _IF_MATCH.fullmatch(text.strip())
        if match is None:
            raise Invalid(
                "If-Match is not an ETag of this server.",
                field="If-Match", value=text, allowed='the ETag of a GET, such as "3", or *',
            )  # fmt: skip
        return int(match[1])

    def run(
        self,
        command: Callable[..., tuple[Changes, Any]],
        *args: Any,
        status: int = 200,
        show: Callable[[Any], Any] = _as_it_is,
        sealed: bool = False,
        **kwargs: Any,
    ) -> Response:
        """Carry out `command(world, context, caller, *args, **kwargs)` and answer with what `show` makes of its result.

        With an Idempotency-Key a repeat gets the first answer; `sealed` keeps that answer encrypted.
        """
        if not self.fingerprint:
            result = self.control.run(command, self.caller, *args, **kwargs)
            return answer(show(result), status, etag(result))
        asked = Asked(
            key_id=self.caller.key_id,
            idempotency_key=self.request.headers["idempotency-key"],
            fingerprint=self.fingerprint,
            status=status,
            show=lambda result: dump(show(result)).decode(),
            sealed=sealed,
        )
        given = self.control.run(once, asked, command, self.caller, *args, **kwargs)
        headers = {"Idempotency-Replayed": "true"} if given.repeated else None
        return Response(given.body, given.status, headers, JSON)

    def ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of `question(world, context, caller, *args, **kwargs)`, asked on the loop's thread."""
        return self.control.ask(question, self.caller, *args, **kwargs)

    def organization(self, named: str | None) -> Organization:
        """An organization that the caller may see, without waiting for the loop."""
        return organization_for(self.control.world, self.caller, named, self._by_name)

    def project(self, named: str | None, organization_id: str | None = None) -> Project:
        """A project that the caller may see, without waiting for the loop."""
        return project_for(self.control.world, self.caller, named, organization_id, self._by_name)

    def _by_name(self, kind: type[Any], **where: Any) -> Any | None:
        found = self.control.reads.find(kind, limit=1, **where)
        return found[0] if found else None

    def page(self, kind: type[Any], *, limit: int, cursor: str | None, newest: bool = False, **where: Any) -> Response:
        """A page of the store's rows of a class, by id. Ask for the right before."""
        return answer(self.part(kind, limit=limit, cursor=cursor, newest=newest, **where))

    def part(self, kind: type[Any], *, limit: int, cursor: str | None, newest: bool = False, **where: Any) -> Page:
        """The same, before it is an answer."""
        rows = self.control.reads.find(kind, after=read_cursor(cursor), limit=limit + 1, newest=newest, **where)
        return page_of(rows, limit)


async def _call(request: Request) -> Call:
    """Who calls. Runs on the event loop: two dictionary look-ups and a hash."""
    serving: Serving = request.app.state.serving
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    now_us = serving.clock.now_us()
    try:
        if scheme.lower() == "bearer":
            caller = authenticate(serving.control.world, now_us, text.strip())
        elif (cookie := cookie_of(request)) is not None:
            caller, _, secret = authenticate_session(serving.control.world, now_us, cookie)
            if request.method not in SAFE:
                check_origin(request)
                check_form_token(secret, request.headers.get(TOKEN_HEADER, ""))
        else:
            raise unauthenticated()
    except Unauthenticated:
        count_failure(request, serving)
        raise
    fingerprint = ""
    key = request.headers.get("idempotency-key")
    if key is not None and request.method == "POST":
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise Invalid(
                "Idempotency-Key is not allowed.",
                field="Idempotency-Key", value=key, allowed="1 to 200 visible ASCII characters",
            )  # fmt: skip
        head = f"{request.method} {request.url.path}?{request.url.query}\n"
        fingerprint = sha256(head.encode(errors="replace") + await request.body()).hexdigest()
    return Call(request, serving, caller, fingerprint)


def count_failure(request: Request, serving: Serving) -> None:
    """Note that a wrong key or session came; raises when too many came from that address."""
    serving.failures.count(request.client.host if request.client else "", serving.clock.now_us())


Authenticated = Annotated[Call, Depends(_call)]


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON of a record or of anything made of records; a versioned record gives its version as ETag."""
    return Response(dump(value), status, headers or etag(value), JSON)


def etag(record: Any) -> dict[str, str]:
    """The header that tells a record's version, when it has one."""
    version = getattr(record, "version", None)
    return {} if version is None else {"ETag": f'"{version}"'}


def page_of(rows: Sequence[Any], limit: int) -> Page:
    """A page out of rows of which one more than `limit` was asked for."""
    return Page(rows[:limit], write_cursor(rows[limit - 1].id) if len(rows) > limit else None)


def write_cursor(last: str) -> str:
    """An opaque cursor: the place behind the item with this id."""
    return urlsafe_b64encode(last.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> str | None:
    """The id behind which to go on; raises `Invalid` for what no page gave out."""
    if cursor is None:
        return None
    try:
        last = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (NotBase64, ValueError):
        last = ""
    if not last.isprintable() or not last:
        raise Invalid("cursor is not one that this server gave out.", field="cursor", allowed="the `next` of a page")
    return last
