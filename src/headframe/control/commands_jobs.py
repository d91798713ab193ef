"""What people may ask of jobs: submit and stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from headframe.base.changes import Changes, Event, gather
from headframe.control.advance import stop_family
from headframe.control.context import Context
from headframe.control.queries import find_job
from headframe.control.requests import Asked, dependencies, prepare
from headframe.control.world import World
from headframe.jobs.family import array_children, next_fire_us
from headframe.jobs.life import DEFAULT_GRACE_US
from headframe.jobs.records import ENDED, Job, JobState
from headframe.jobs.states import event
from headframe.tenants.records import Member
from headframe.tenants.roles import Caller, Permission


def submit_job(
    world: World,
    context: Context,
    caller: Caller,
    document: Mapping[str, object],
    **more: Unpack[Asked],
) -> tuple[Changes, Job]:
    """Put a job in the queue, with the children of its array. Nothing is stored unless all of it is in order."""
    home, spec = prepare(world, context, caller, document, **more)
    after = dependencies(world, context, home, spec)
    now_us, job_id = context.now_us, context.ids.new("job")
    name = spec.name if document.get("name") else f"{spec.type}-{job_id[-6:]}"
    spec = replace(spec, name=name, env={key: context.vault.seal(value) for key, value in spec.env.items()})
    job = Job(job_id, home.organization_id, home.id, caller.member_id, name, spec, now_us, after=after)
    told, by = f"Submitted to project {home.name}.", {"member_id": caller.member_id, "key_id": caller.key_id}
    if spec.cron:
        job = replace(
            job, parent=True, state=JobState.PENDING, reason="scheduled", not_before_us=next_fire_us(spec.cron, now_us)
        )
    elif spec.array:
        count = spec.array.last - spec.array.first + 1
        waiting = replace(job, state=JobState.PENDING if after else JobState.QUEUED, reason="submitted")
        children = array_children(replace(waiting, parent=True), [context.ids.new("job") for _ in range(count)])
        job = replace(job, parent=True, after=(), state=JobState.PENDING, reason="children_wait")
        told_children = [event(one, "job_submitted", now_us, told, parent=job.id) for one in children]
        return Changes((job, *children), (event(job, "job_submitted", now_us, told, **by), *told_children)), job
    elif after:
        job = replace(job, state=JobState.PENDING, reason="dependencies")
    else:
        job = replace(job, reason="submitted")
    return Changes((job,), (event(job, "job_submitted", now_us, told, **by),)), job


def stop_job(
    world: World, context: Context, caller: Caller, job_id: str, *, grace_us: int | None = None
) -> tuple[Changes, Job]:
    """Tell a job to end, with its children; ended jobs stay as they are."""
    job = find_job(world, context, caller, job_id)
    mine = job.member_id == caller.member_id
    caller.need(Permission.JOBS_WRITE if mine else Permission.JOBS_ADMIN, job.organization_id, job.project_id)
    if job.state in ENDED:
        return Changes(), job
    grace = DEFAULT_GRACE_US if grace_us is None else grace_us
    changes = gather(stop_family(world, job, "user", context.now_us, "A member told it to stop.", grace))
    member: Member | None = world.get(Member, caller.member_id)
    text = f"{member.name if member is not None else 'Somebody'} told it to stop."
    order = Event(
        context.now_us, "stop_ordered", job.id, text, job.organization_id, job.project_id, {"by": caller.member_id}
    )
    last = next((row for row in reversed(changes.rows) if row.id == job.id), job)
    return (Changes(changes.rows, (order, *changes.events), changes.actions) if changes else changes), last
