"""The fleet: the map of every accelerator, the table of nodes, and one node with what it holds and held."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path, Query
from starlette.responses import Response

from headframe.base.errors import CallerError, Invalid, NotFound
from headframe.base.quantities import DAY_US, HOUR_US
from headframe.console.forms import EMPTY, Form, Sent
from headframe.console.page import Page, Signed, page_router
from headframe.control.commands_fleet import drain_node, resume_node
from headframe.control.queries_map import BY, Frame, Layout, fleet_frame, fleet_map
from headframe.control.queries_node_table import NodeTable, Wanted, node_table
from headframe.control.queries_nodes import NodeInFull, NodePast, Stay, node_in_full, node_past

router = page_router()

NodeRef = Annotated[str, Path(max_length=200)]
WORDS = {"held": "Held", "use": "Use", "memory": "Memory", "power": "Power", "temperature": "Temperature",
         "errors": "Errors", "organization": "Organization", "project": "Project", "job": "Job"}  # fmt: skip
RANGES = {"6h": 6 * HOUR_US, "1d": DAY_US, "7d": 7 * DAY_US, "30d": 30 * DAY_US}
MOST_ROWS = 100  # nodes in trouble that stand below the map
WINDOW = 60  # rows of the table of nodes in its page
TONES = 6


@router.get("/fleet")
def fleet(page: Signed, by: Annotated[str, Query(max_length=20)] = "use") -> Response:
    """The map."""
    if by not in BY:
        raise Invalid(f"by is {by!r}.", field="by", value=by, allowed=", ".join(BY))
    frame: Frame
    whole: NodeTable
    trouble: NodeTable
    frame, whole, trouble = page.together(
        partial(fleet_frame, by=by), partial(node_table, wanted=Wanted(limit=0)),
        partial(node_table, wanted=Wanted(trouble=True, limit=MOST_ROWS)),
    )  # fmt: skip
    return page.show(
        "fleet.html", section="fleet", title="Fleet", by=by, ways=[(name, WORDS[name]) for name in BY],
        counts=frame.counts, cells=whole.sums.gpus or whole.total, trouble=_rows(trouble),
        more=trouble.sums.nodes - len(trouble.rows), sums=whole.sums,
    )  # fmt: skip


@router.get("/fleet/nodes")
def nodes(
    page: Signed, q: Annotated[str, Query(max_length=200)] = "", sort: Annotated[str, Query(max_length=40)] = "name",
    first: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
) -> Response:  # fmt: skip
    """The table of nodes, a window of it at a time; its script moves the window and keeps it true."""
    table: NodeTable = page.ask(node_table, Wanted(q, sort, first, WINDOW))(page.control.reads)
    return page.show(
        "nodes.html", section="fleet", title="Nodes", rows=_rows(table), total=table.total, found=table.sums.nodes,
        q=q, sort=sort, first=first, window=WINDOW,
    )  # fmt: skip


@router.get("/fleet/racks/{site}/{rack:path}")
def rack(page: Signed, site: NodeRef, rack: NodeRef) -> Response:
    """The nodes of one rack, and the racks beside it."""
    table: NodeTable
    layout: Layout
    table, layout = page.together(partial(node_table, wanted=Wanted(site=site, rack=rack)), fleet_map)
    if not table.sums.nodes:
        raise NotFound(f"There is no rack {rack!r} at {site!r}.", next_step="/fleet shows the racks that there are.")
    racks = sorted({one.name for each in layout.sites if each.name == site for one in each.racks})
    at = racks.index(rack)
    return page.show(
        "rack.html", section="fleet", title=f"{rack} of {site}", site=site, rack=rack, nodes=_rows(table),
        sums=table.sums, before=racks[at - 1] if at else "", after=racks[at + 1] if at + 1 < len(racks) else "",
    )  # fmt: skip


@router.get("/nodes/{node_id}")
def node(page: Signed, node_id: NodeRef, span: Annotated[str, Query(alias="range", max_length=4)] = "1d") -> Response:
    """One node."""
    return _node(page, node_id, span)


@router.post("/nodes/{node_id}/drain")
def drain(page: Signed, form: Sent, node_id: NodeRef) -> Response:
    """Start nothing new there; with `move`, let what can go on elsewhere do so."""
    move = form.ticked("move")
    try:
        found = page.run(drain_node, node_id, reason=form.text("reason"), move=move)
    except CallerError as error:
        return _node(page, node_id, "1d", form, error)
    moved = ", and jobs that can go on elsewhere make way" if move else ""
    return page.go(_address(found.id), said=f"{found.name} takes nothing new{moved}.")


@router.post("/nodes/{node_id}/resume")
def resume(page: Signed, form: Sent, node_id: NodeRef) -> Response:
    """Start work there again."""
    try:
        found = page.run(resume_node, node_id)
    except CallerError as error:
        return _node(page, node_id, "1d", form, error)
    return page.go(_address(found.id), said=f"{found.name} takes work again.")


def _node(page: Page, node_id: str, span: str, form: Form = EMPTY, error: CallerError | None = None) -> Response:
    if span not in RANGES:
        raise Invalid(f"range is {span!r}.", field="range", value=span, allowed=", ".join(RANGES))
    full: NodeInFull = page.ask(node_in_full, node_id)
    past: NodePast = page.ask(node_past, full.node.id, from_us=page.now_us - RANGES[span], to_us=page.now_us)(
        page.control.reads
    )
    return page.show(
        "node.html", section="fleet", title=full.node.name, form=form, error=error, full=full, past=past, range=span,
        ranges=list(RANGES), timeline=timeline(full, past), address=_address(full.node.id),
        from_us=page.now_us - RANGES[span], measured=page.house is None,
    )  # fmt: skip


def _address(node_id: str) -> str:
    return f"/nodes/{quote(node_id, safe='')}"


def _rows(table: NodeTable) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def timeline(full: NodeInFull, past: NodePast) -> dict[str, Any]:
    """Who held the node when, as a timeline: a lane for each accelerator, one for what holds cores only."""
    indices = [one.accelerator.index for one in full.devices]
    tones = {job: f"s{place % TONES + 1}" for place, job in enumerate(dict.fromkeys(_key(one) for one in past.stays))}
    lanes: list[dict[str, Any]] = [
        {"name": f"GPU {index}", "spans": [_span(one, tones) for one in past.stays if index in one.devices]}
        for index in indices
    ]
    bare = [_span(one, tones) for one in past.stays if not one.devices]
    if bare or not lanes:
        lanes.append({"name": "Cores only", "spans": bare})
    return {
        "title": f"Who held {full.node.name}", "from": past.from_us // 1000, "to": past.to_us // 1000,
        "now": past.to_us // 1000, "lanes": lanes, "empty": "Nobody held it in this time",
    }  # fmt: skip


def _key(stay: Stay) -> str:
    return stay.job_id or ""


def _span(stay: Stay, tones: dict[str, str]) -> dict[str, Any]:
    cores = f"{stay.cpu_milli / 1000:g} CPU"
    return {
        "from": stay.from_us // 1000,
        "to": None if stay.to_us is None else stay.to_us // 1000,
        "name": stay.job_name or stay.job_id or "another organization",
        "tone": tones[_key(stay)] if stay.job_id else "text-3",
        "text": f"{len(stay.devices)} GPU{'s' if len(stay.devices) != 1 else ''}, {cores}" if stay.devices else cores,
        **({"href": f"/jobs/{quote(stay.job_id, safe='')}"} if stay.job_id else {}),
    }
