"""Routes of spending: what runs now and costs, cheaper ways to have run a job, what stood idle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from headframe.api.jobs import Ref
from headframe.api.money import Moment
from headframe.api.wire import Authenticated, Named, answer
from headframe.base.quantities import parse_moment_us
from headframe.control import queries_savings, queries_spend

router = APIRouter(prefix="/v1", tags=["money"])


@router.get("/usage/now", response_model=queries_spend.RunningNow)
def running_now(call: Authenticated, organization: Named = None) -> Response:
    """What this month has cost so far by organization, project and member, and what each running job costs."""
    return answer(call.ask(queries_spend.running_now, organization=organization)(call.control.reads))


@router.get("/usage/waste", response_model=queries_savings.WasteReport)
def waste(
    call: Authenticated,
    from_: Annotated[Moment, Query(alias="from")] = None,
    to: Moment = None,
    by: Annotated[str, Query(max_length=20, description="job, project or member.")] = "job",
    organization: Named = None,
    project: Named = None,
) -> Response:
    """What was held and charged but stood idle, in money, and what would have been enough."""
    found = call.ask(
        queries_savings.waste,
        by=by,
        from_us=None if from_ is None else parse_moment_us(from_, field="from"),
        to_us=None if to is None else parse_moment_us(to, field="to"),
        organization=organization,
        project=project,
    )
    return answer(found(call.control.reads))


@router.get("/jobs/{job}/cheaper", response_model=queries_savings.Comparison)
def cheaper(call: Authenticated, job: Ref) -> Response:
    """What a job would have cost on other accelerators, reserved, or as spot, by the prices of that time."""
    return answer(call.ask(queries_savings.cheaper, job)(call.control.reads))
