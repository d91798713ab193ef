"""Routes of the fleet as people look at it: the map, the table of nodes, one node in full."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from headframe.api.money import Moment
from headframe.api.wire import Authenticated, answer
from headframe.base.quantities import LIMIT, parse_moment_us
from headframe.control import queries_map, queries_node_table, queries_nodes

router = APIRouter(prefix="/v1", tags=["fleet"])

NodeRef = Annotated[str, Path(max_length=200, description="A node's id or name.")]


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


@router.get("/fleet/nodes", response_model=queries_node_table.NodeTable)
def fleet_nodes(
    call: Authenticated,
    q: Annotated[str, Query(max_length=200, description="Words that a node's row must all have.")] = "",
    sort: Annotated[
        str, Query(max_length=20, description=f"-: the largest first. One of {', '.join(queries_node_table.SORTS)}.")
    ] = "",
    first: Annotated[int, Query(ge=0, le=LIMIT, description="How many of those that match to pass over.")] = 0,
    limit: Annotated[int, Query(ge=0, le=queries_node_table.MOST)] = queries_node_table.MOST,
) -> Response:
    """Nodes as a table, in the order of the map or sorted: state, what is held, what was measured last.

    The live topic `nodes:q=...&sort=...&first=...&limit=...` follows such a window.
    """
    wanted = queries_node_table.Wanted(q, sort, min(first, 1 << 31), limit)
    return answer(call.ask(queries_node_table.node_table, wanted)(call.control.reads))


@router.get("/nodes/{node_id}", response_model=queries_nodes.NodeInFull)
def node(call: Authenticated, node_id: NodeRef) -> Response:
    """One machine: its accelerators, who holds them, and what was measured of them last."""
    return answer(call.ask(queries_nodes.node_in_full, node_id))


@router.get("/nodes/{node_id}/past", response_model=queries_nodes.NodePast)
def node_past(
    call: Authenticated, node_id: NodeRef, from_: Annotated[Moment, Query(alias="from")] = None, to: Moment = None
) -> Response:
    """Who held a machine when (the last day, unless told otherwise), and what happened to it."""
    found = call.ask(
        queries_nodes.node_past,
        node_id,
        from_us=None if from_ is None else parse_moment_us(from_, field="from"),
        to_us=None if to is None else parse_moment_us(to, field="to"),
    )
    return answer(found(call.control.reads))
