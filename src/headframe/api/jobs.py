"""Routes of jobs: submit, plan, list, look at, stop, and read the log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field, WithJsonSchema
from starlette.responses import Response

from headframe.api.documents import page_shape, shape
from headframe.api.files import check_files
from headframe.api.wire import Authenticated, Body, Call, Cursor, Limit, Named, Text, answer
from headframe.base.changes import Event
from headframe.base.quantities import LIMIT, parse_span_us
from headframe.control.commands_jobs import stop_job, submit_job
from headframe.control.ports import LogPiece
from headframe.control.queries import find_job, plan, story, waiting_reasons
from headframe.control.queries_spend import ALL
from headframe.control.queries_tenancy import is_same_house, nothing_here
from headframe.fleet.records import Allocation, HoldState
from headframe.jobs.records import ENDED, Attempt, Job, JobState
from headframe.tenants.records import Member
from headframe.tenants.roles import Permission
from headframe.workloads.registry import json_schema

router = APIRouter(prefix="/v1", tags=["jobs"])

Ref = Annotated[str, Path(max_length=200, description="An id, the unique beginning of one, or a name (the newest).")]
Place = Annotated[int, Query(ge=0, le=LIMIT)]
GLANCE_S = 0.05  # how long a list waits for the loop to say why jobs wait
PIECES_BYTES = 64 << 10  # of log in one answer, unless asked otherwise


class Submission(Body):
    """A job document as in a job file, the project it is for, and values for the environment."""

    spec: Annotated[dict[str, Any], WithJsonSchema(json_schema())]
    project: Text | None = None
    env: Annotated[dict[str, Annotated[str, Field(max_length=128 << 10)]], Field(max_length=1000)] = {}


class StopOrder(Body):
    grace: Text | None = None  # such as 10s


@dataclass
class JobStory:
    """All that is known of a job. `waiting` explains with numbers why it waits; `cost` is what it has cost so far.

    `children` tells of the jobs of an array or a schedule: their `count`, `states` and some of the `jobs`; what they
    cost is the cost of their parent.
    """

    job: shape(Job)  # type: ignore[valid-type]
    attempts: list[shape(Attempt)]  # type: ignore[valid-type]
    allocations: list[shape(Allocation)]  # type: ignore[valid-type]
    events: list[shape(Event)]  # type: ignore[valid-type]
    waiting: Any
    cost: Any
    children: Any


@dataclass
class LogPage:
    """A stretch of a job's log. `ended`: the job has ended and nothing comes after `next`."""

    pieces: list[shape(LogPiece)]  # type: ignore[valid-type]
    next: int
    ended: bool


@router.post("/jobs", status_code=201, response_model=shape(Job))
def submit(call: Authenticated, body: Submission) -> Response:
    """Submit a job. Nothing is stored unless all of it is in order."""
    check_files(call, body.project, body.spec)
    return call.run(submit_job, body.spec, project=body.project, env=body.env, status=201)


@router.post("/plan", response_model=dict[str, Any])
def plan_job(call: Authenticated, body: Submission) -> Response:
    """Would it run, where and when, what would it cost, and why not? Nothing is stored."""
    return answer(call.ask(plan, body.spec, project=body.project, env=body.env))


@router.get("/jobs", response_model=page_shape(Job))
def jobs(
    call: Authenticated,
    state: Annotated[list[JobState] | None, Query(max_length=20)] = None,
    project: Named = None,
    name: Named = None,
    parent: Named = None,
    owner: Named = None,
    organization: Named = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Jobs, newest first; of an `owner` by name, by id, or "me". The `reason` of one that waits says for what."""
    where: dict[str, Any] = {"state": tuple(state)} if state else {}
    where |= {"name": name} if name is not None else {}
    where |= {"parent_id": parent} if parent is not None else {}
    where |= whose(call, organization, project)
    where |= {"member_id": member_named(call, where.get("organization_id"), owner)} if owner is not None else {}
    page = call.part(Job, limit=limit, cursor=cursor, newest=True, **where)
    waiting = [job.id for job in page.items if job.state == JobState.QUEUED or (job.parent and not job.spec.cron)]
    reasons = (call.control.glance(waiting_reasons, waiting, within_s=GLANCE_S) or {}) if waiting else {}
    items = [replace(job, reason=reasons[job.id]) if job.id in reasons else job for job in page.items]
    return answer(replace(page, items=items))


@router.get("/allocations", response_model=page_shape(Allocation))
def allocations(
    call: Authenticated,
    state: Annotated[list[HoldState] | None, Query(max_length=20)] = None,
    job: Named = None,
    project: Named = None,
    organization: Named = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """What jobs hold, or held, and where, newest first."""
    where: dict[str, Any] = {"state": tuple(state)} if state else {}
    where |= {"job_id": job} if job is not None else {}
    return call.page(
        Allocation, limit=limit, cursor=cursor, newest=True, **where, **whose(call, organization, project)
    )  # fmt: skip


@router.get("/jobs/{job}", response_model=shape(Job))
def job_of(call: Authenticated, job: Ref) -> Response:
    """One job."""
    return answer(find(call, job))


@router.get("/jobs/{job}/story", response_model=JobStory)
def story_of(call: Authenticated, job: Ref) -> Response:
    """All that is known of a job, with the reason why it waits."""
    return answer(call.ask(story, job)(call.control.reads))


@router.post("/jobs/{job}/stop", response_model=shape(Job))
def stop(call: Authenticated, job: Ref, body: StopOrder | None = None) -> Response:
    """End a job: it is warned, told, and at the end of its grace killed."""
    grace = body.grace if body else None
    grace_us = None if grace is None else parse_span_us(grace, field="grace")
    return call.run(stop_job, find(call, job).id, grace_us=grace_us)


@router.get("/jobs/{job}/log", response_model=LogPage)
def log(
    call: Authenticated,
    job: Ref,
    offset: Place = 0,
    limit: Annotated[int, Query(ge=1, le=1 << 20, description="Bytes of log, about.")] = PIECES_BYTES,
    tail: Annotated[int | None, Query(ge=0, le=100_000, description="Begin this many lines before the end.")] = None,
) -> Response:
    """A stretch of a job's log: what its tasks wrote, with the moments at which they did."""
    found = find(call, job)
    over = found.state in ENDED
    logs = call.control.logs
    if tail is not None:
        offset = logs.tail(found.id, tail)
    pieces, following = logs.read(found.id, offset, limit)
    return answer({"pieces": pieces, "next": following, "ended": over and following >= logs.end(found.id)})


def find(call: Call, ref: str) -> Job:
    """A job by id, the unique beginning of one, or name. A whole id needs no wait for the loop."""
    control, caller = call.control, call.caller
    found = control.world.get(Job, ref) or (control.reads.get(Job, ref) if ref.startswith("job_") else None)
    if found is None:
        found = call.ask(find_job, ref)
    assert isinstance(found, Job)
    if not is_same_house(caller, found.organization_id) or caller.project_id not in (None, found.project_id):
        raise nothing_here("job", ref)
    caller.need(Permission.JOBS_READ, found.organization_id, found.project_id)
    return found


def member_named(call: Call, organization_id: str | None, named: str) -> str:
    """The id of a member by name, or "me"; what is no name is taken for an id."""
    if named == "me":
        return call.caller.member_id
    house = organization_id or call.caller.organization_id
    found = call.control.reads.find(Member, organization_id=house, name=named, limit=1)
    return str(found[0].id) if found else named


def whose(call: Call, organization: str | None, project: str | None = None) -> dict[str, Any]:
    """The filter for what the caller may see of jobs; all of them for the operator who asks for "all"."""
    caller = call.caller
    if organization == ALL and project is None:
        caller.need(Permission.ORGANIZATIONS_WRITE, caller.organization_id)
        return {}
    house = call.organization(organization)
    if project is not None or caller.project_id is not None:
        home = call.project(project, house.id)
        caller.need(Permission.JOBS_READ, home.organization_id, home.id)
        return {"organization_id": home.organization_id, "project_id": home.id}
    caller.need(Permission.JOBS_READ, house.id)
    return {"organization_id": house.id}
