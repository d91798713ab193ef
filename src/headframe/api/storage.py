"""Routes of what lies on the disk and of its removal: for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from fastapi import APIRouter
from starlette.responses import Response

from headframe.api.documents import shape
from headframe.api.wire import Authenticated, Call, answer
from headframe.control.ports import Stored
from headframe.control.retention import FOREVER, order_pruning
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["fleet"])

MOST_DUE = 1000  # things that are named in one answer
_WORKING = "working folders"


@dataclass
class Pile:
    """What there is of a kind: how many, in how many bytes (null: they are in the store), and how long it is kept after
    its last use, in microseconds (null: for good)."""

    kind: str
    count: int
    bytes: int | None
    keep_us: int | None


@dataclass
class StoragePage:
    """`due` is what goes next, the first thousand things; `more` says that there are others."""

    piles: list[Pile]
    due: list[shape(Stored)]  # type: ignore[valid-type]
    more: bool


@dataclass
class Begun:
    """`begun` says that what is due is being removed."""

    begun: bool


@router.get("/storage", response_model=StoragePage)
def storage(call: Authenticated) -> Response:
    """What lies on the disk by kind, and what of it is due to be removed. It looks through the whole data folder."""
    call.caller.need(Permission.FLEET_WRITE, call.caller.organization_id)
    due = list(islice(_due(call), MOST_DUE + 1))
    return answer({"piles": _piles(call), "due": due[:MOST_DUE], "more": len(due) > MOST_DUE})


@router.post("/storage/prune", status_code=202, response_model=Begun)
def prune(call: Authenticated) -> Response:
    """Begin now to remove what is due; otherwise that is done each hour."""
    told = call.run(order_pruning, status=202, show=lambda _: Begun(True))
    call.control.prune_soon()
    return told


def _due(call: Call) -> Iterator[Stored]:
    now_us, retention = call.serving.clock.now_us(), call.control.retention
    yield from (one for _, one in retention.due_jobs(now_us))
    yield from retention.due_environments(now_us)
    for kind, count in retention.due_rows(now_us).items():
        if count:
            yield Stored(kind, count=count)


def _piles(call: Call) -> list[Pile]:
    retention = call.control.retention
    keep = retention.keep
    kept = {
        "logs": keep.logs_us, "outputs": keep.files_us, "checkpoints": keep.files_us, _WORKING: keep.logs_us,
        "environments": keep.environments_us, "packages": keep.environments_us, "replies": keep.replies_us,
        "sessions": keep.sessions_us, "series": keep.outlines_us,
    }  # fmt: skip

    def pile(kind: str, count: int, size: int | None) -> Pile:
        keep_us = kept.get(kind, FOREVER)
        return Pile(kind, count, size, None if keep_us >= FOREVER else keep_us)

    return [pile(one.kind, one.count, one.bytes) for one in retention.piles()] + [
        pile(kind, count, None) for kind, count in retention.rows().items()
    ]
