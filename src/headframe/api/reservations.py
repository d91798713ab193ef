"""Routes of reservations: capacity promised for a time."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import page_shape, shape
from headframe.api.wire import Authenticated, Body, Call, Cursor, Limit, Named, Text, answer
from headframe.control.commands_reservations import cancel_reservation, create_reservation, find_reservation
from headframe.fleet.records import Reservation, ReservationState
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["reservations"])

Ref = Annotated[str, Path(max_length=200, description="An id, or the name of one that has not ended.")]
Size = Annotated[int, Field(ge=1, le=1_000_000)]


class NewReservation(Body):
    """`count` accelerators of a `kind`, or whole `nodes`; from `starts` (now) until `ends`, or as long as `lasts`."""

    name: Text
    kind: Text | None = None
    count: Size | None = None
    nodes: Size | None = None
    clusters: Annotated[list[Text], Field(max_length=100)] = ["any"]
    starts: Text | None = None  # a date or an RFC 3339 moment
    ends: Text | None = None
    lasts: Text | None = None  # such as 3d
    organization: Text | None = None
    project: Text | None = None


class CancelOrder(Body):
    reason: Annotated[str, Field(max_length=200)] = ""


@router.get("/reservations", response_model=page_shape(Reservation))
def reservations(
    call: Authenticated,
    state: Annotated[list[ReservationState] | None, Query(max_length=10)] = None,
    organization: Named = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Reservations, newest first: one's own; all of them for the operator unless one organization is named."""
    where: dict[str, Any] = {"state": tuple(state)} if state else {}
    return call.page(Reservation, limit=limit, cursor=cursor, newest=True, **where, **whose(call, organization))


@router.post("/reservations", status_code=201, response_model=shape(Reservation))
def reserve(call: Authenticated, body: NewReservation) -> Response:
    """Promise capacity for a time. Refused, with what stands in the way, when it cannot all be kept."""
    return call.run(create_reservation, status=201, **dict(body))


@router.get("/reservations/{reservation}", response_model=shape(Reservation))
def reservation_of(call: Authenticated, reservation: Ref) -> Response:
    """One reservation, with the place that is kept for it."""
    return answer(call.ask(find_reservation, reservation))


@router.post("/reservations/{reservation}/cancel", response_model=shape(Reservation))
def cancel(call: Authenticated, reservation: Ref, body: CancelOrder | None = None) -> Response:
    """Give a reservation back; its jobs are stopped."""
    return call.run(cancel_reservation, reservation, reason=body.reason if body else "")


def whose(call: Call, organization: str | None) -> dict[str, Any]:
    """The filter for what the caller may see."""
    caller = call.caller
    house = call.organization(organization)
    caller.need(Permission.RESERVATIONS_READ, house.id, caller.project_id)
    if organization is None and caller.operator and caller.project_id is None:
        return {}
    where: dict[str, Any] = {"organization_id": house.id}
    if caller.project_id is not None:
        where["project_id"] = (caller.project_id,)
    return where
