"""The queue: who waits and why, when they are expected to start, shares and limits of owners, reservations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from headframe.api.reservations import whose
from headframe.base.quantities import DAY_US, HOUR_US
from headframe.console.page import Page, Signed, page_router
from headframe.control.queries_queue import WaitingLine, first_in_line
from headframe.fleet.records import Reservation, ReservationState
from headframe.tenants.records import Organization, Project

router = page_router()

EXPLAINED = 8  # of those first in line, with numbers; each costs a look over all nodes
MOST_RESERVATIONS = 100
TONES = {ReservationState.ACTIVE: "ok", ReservationState.PLANNED: "info"}
SOURCES = {
    "estimates": "when what runs is expected to end",
    "kept": "when what is reserved, or kept for others, is free again",
    "guess": "a guess: of some of what runs nobody knows how long",
    "queue": "after those who wait before it",
    "reservation": "when its reservation begins",
    "quota": "when other jobs within its quota end",
    "makes_way": "as soon as others have made way",
}


@router.get("/queue")
def queue(page: Signed, organization: Annotated[str | None, Query(max_length=200)] = None) -> Response:
    """All that waits, and what it waits for."""
    line: WaitingLine
    line, told = page.ask(first_in_line, organization or None, EXPLAINED)
    reasons = list(zip(line.items, told, strict=False))
    held = _reservations(page, organization or None)
    return page.show(
        "queue.html", section="queue", title="Queue", line=line, reasons=reasons, sources=SOURCES,
        timeline=_timeline(page, held), reservations=held, chosen=organization or "",
        houses=sorted((one.id, one.name) for one in line.owners if one.scope == "organization"),
    )  # fmt: skip


def _reservations(page: Page, organization: str | None) -> list[Reservation]:
    """Those that have not ended, and those of the last day, by their beginning."""
    found: list[Reservation] = page.call.part(
        Reservation, limit=MOST_RESERVATIONS, cursor=None, newest=True, **whose(page.call, organization)
    ).items  # type: ignore[assignment]
    shown = [one for one in found if one.open or one.to_us > page.now_us - DAY_US]
    return sorted(shown, key=lambda one: (one.from_us, one.id))


def _timeline(page: Page, held: list[Reservation]) -> dict[str, Any]:
    """A lane for each reservation, over all of their time, a day ahead at least."""
    now_us = page.now_us
    begin = min([now_us - 6 * HOUR_US, *(max(one.from_us, now_us - 7 * DAY_US) for one in held)])
    end = max([now_us + DAY_US, *(min(one.to_us, now_us + 60 * DAY_US) for one in held)])
    return {
        "title": "Reservations", "from": begin // 1000, "to": end // 1000, "now": now_us // 1000,
        "lanes": [{"name": one.name, "spans": [_span(page, one)]} for one in held], "empty": "No reservation",
    }  # fmt: skip


def _span(page: Page, one: Reservation) -> dict[str, Any]:
    house: Organization | None = page.world.get(Organization, one.organization_id)
    home: Project | None = page.world.get(Project, one.project_id) if one.project_id else None
    kind = one.kind or "any"
    size = f"{one.nodes} nodes ({kind})" if one.nodes else f"{one.count} × {kind}"  # noqa: RUF001
    owner = " / ".join(each.name for each in (house, home) if each is not None)
    lacks = f", {one.lacking} without a place" if one.lacking else ""
    return {
        "from": one.from_us // 1000, "to": one.to_us // 1000, "name": size, "text": f"{owner}, {one.state}{lacks}",
        "tone": "bad" if one.lacking else TONES.get(one.state, "text-3"),
    }  # fmt: skip
