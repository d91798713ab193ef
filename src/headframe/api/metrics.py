"""Routes of what was measured: series of jobs, and of nodes with their accelerators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from headframe.api.jobs import Place, Ref, find
from headframe.api.wire import Authenticated, answer
from headframe.base.quantities import LIMIT
from headframe.control.metrics import MOST_POINTS, POINTS, Stretch
from headframe.control.queries_metrics import columns, subjects_of_node
from headframe.metrics.names import KNOWN

router = APIRouter(prefix="/v1", tags=["metrics"])

Points = Annotated[int, Query(ge=1, le=MOST_POINTS, description="How many points of each series at most.")]
To = Annotated[int | None, Query(ge=0, le=LIMIT)]


@dataclass
class SeriesPart:
    """A series in a stretch of time. A point stands for all that was measured since the one before it: `mean` between
    `low` and `high`; null where what was told was no number. `step` is null where the job counted none."""

    subject: str
    name: str
    part: str  # the rank of a task, an accelerator's id, the id of a run, or nothing
    reported: bool  # by the job itself
    at_us: list[int]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    step: list[int | None] | None


@dataclass
class MetricsAnswer:
    """All series of a subject in a stretch of time; `about` says what the names mean that machines measure."""

    items: list[SeriesPart]
    about: dict[str, str]
    newest_us: int


@router.get("/jobs/{job}/metrics", response_model=MetricsAnswer)
def job_metrics(
    call: Authenticated, job: Ref, from_us: Place = 0, to_us: To = None, points: Points = POINTS
) -> Response:
    """What was measured of a job, and what it reported: thinned to so many points, none of which lies."""
    found = find(call, job)
    return answer(_told(call.control.metrics.read([found.id], from_us=from_us, to_us=to_us or LIMIT, points=points)))


@router.get("/nodes/{node_id}/metrics", response_model=MetricsAnswer)
def node_metrics(
    call: Authenticated, node_id: Annotated[str, Path(max_length=200)], from_us: Place = 0, to_us: To = None,
    points: Points = POINTS,
) -> Response:  # fmt: skip
    """What was measured of a node and its accelerators, whoever held them (operator only)."""
    subjects = call.ask(subjects_of_node, node_id)
    return answer(_told(call.control.metrics.read(subjects, from_us=from_us, to_us=to_us or LIMIT, points=points)))


def _told(found: list[Stretch]) -> dict[str, Any]:
    return {
        "items": columns(found),
        "about": KNOWN,
        "newest_us": max((one.rows[-1].at_us for one in found), default=0),
    }  # fmt: skip
