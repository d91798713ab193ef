"""Routes of the fleet as a map: where everything stands, and how it is now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from headframe.api.wire import Authenticated, answer
from headframe.control import queries_map

router = APIRouter(prefix="/v1", tags=["fleet"])


@router.get("/fleet/map", response_model=queries_map.Layout)
def fleet_map(call: Authenticated) -> Response:
    """Where every machine stands: sites (clusters), racks, nodes. Changes only when machines come or go."""
    return answer(call.ask(queries_map.fleet_map))


@router.get("/fleet/frame", response_model=queries_map.Frame)
def fleet_frame(
    call: Authenticated,
    by: Annotated[
        str, Query(max_length=20, description=f"What cells are coloured by: {', '.join(queries_map.BY)}.")
    ] = "use",
) -> Response:
    """The state and the value of every accelerator now, a byte each as base64, in the order of the map.

    State bits: 1 held, 2 reserved, 4 draining, 8 failed, 16 unreachable. Values 0 to 253 go from `low` to `high` or are
    places in `names`; 254 is not for the caller's eyes, 255 is not known.
    """
    return answer(call.ask(queries_map.fleet_frame, by)(call.control.reads))
