"""Routes of metering: meters, events of use as CloudEvents, and what a month will come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import page_shape, shape
from headframe.api.wire import Authenticated, Body, Cursor, Limit, Named, Text, answer
from headframe.base.errors import Invalid
from headframe.control import commands_contracts as commands
from headframe.control import queries_usage as queries
from headframe.control.queries_tenancy import find_organization
from headframe.metering.intake import read_events
from headframe.metering.records import Aggregation, Meter, UsageEvent, Window
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["money"])
_BATCH = "application/cloudevents-batch+json"
_ONE = "application/cloudevents+json"


class NewMeter(Body):
    """How events of a type are counted. `path` leads to the number in their data, such as "tokens.input"."""

    name: Text
    event_type: Text
    aggregation: Annotated[Aggregation, Field(strict=False)] = Aggregation.SUM
    unit: Text = "one"
    path: Annotated[str, Field(max_length=400)] = ""
    group_by: Annotated[list[str], Field(max_length=5)] = []
    window: Annotated[Window | None, Field(strict=False)] = None


@dataclass
class TakenIn:
    """How many events came, and how many of them were not known before."""

    events: int
    new: int


async def _raw(request: Request) -> bytes:
    return await request.body()


@router.get("/meters", response_model=page_shape(Meter))
def meters(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The meters of events."""
    caller = call.caller
    caller.need(Permission.PRICES_READ, caller.organization_id, caller.project_id)
    return call.page(Meter, limit=limit, cursor=cursor)


@router.post("/meters", status_code=201, response_model=shape(Meter))
def define_meter(call: Authenticated, body: NewMeter) -> Response:
    """Define how events are counted (operator only). What has counted anything stays as it is."""
    return call.run(commands.define_meter, status=201, **dict(body))


@router.post(
    "/usage/events",
    response_model=TakenIn,
    openapi_extra={"requestBody": {"required": True, "content": {
        _ONE: {"schema": {"type": "object"}},
        _BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
        "application/json": {"schema": {"type": "object"}},
    }}},
)  # fmt: skip
def tell_of_use(call: Authenticated, raw: Annotated[bytes, Depends(_raw)]) -> Response:
    """Tell of use by CloudEvents 1.0: one (structured or binary), or a batch; all of it is kept, or nothing.

    An event is known by its source and id, for good: told again it changes nothing. `subject` is the project.
    """
    told = _events_of(call.request.headers, raw)
    events = read_events(told, call.ask(queries.desk))
    return answer(TakenIn(len(events), call.control.take_in(events)))


@router.get("/usage/events", response_model=page_shape(UsageEvent))
def usage_events(
    call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Events of use as they came in."""
    house = call.ask(find_organization, organization)
    call.caller.need(Permission.INVOICES_READ, house.id)
    return call.page(UsageEvent, limit=limit, cursor=cursor, organization_id=house.id)


@router.get("/usage/forecast", response_model=queries.MonthAhead)
def month_ahead(call: Authenticated, organization: Named = None, project: Named = None) -> Response:
    """What this month will come to: expected, and between what and what in eight of ten months like it."""
    home = None if project is None else call.project(project).id
    return answer(call.ask(queries.month_ahead, organization=organization, project=home)(call.control.reads))


def _events_of(headers: Mapping[str, str], raw: bytes) -> list[Mapping[str, Any]]:
    """The events of a request: attributes in headers (binary mode), one event, or a batch."""
    try:
        body = orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        raise Invalid("The body is not JSON.", field="body", allowed=f"{_ONE} or {_BATCH}") from None
    if "ce-id" in headers:
        attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
        return [{**attributes, "data": body}]
    if isinstance(body, list):
        return body
    if not isinstance(body, dict):
        raise Invalid("The body holds no event.", field="body", allowed=f"{_ONE} or {_BATCH}")
    return [body]
