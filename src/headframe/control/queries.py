"""What people may see of jobs: find one, its story, and what would become of a request (`plan`)."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from headframe.base.changes import Event
from headframe.base.errors import CallerError
from headframe.base.quantities import HOUR_US
from headframe.control.advance import snapshot
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.purse import Purse
from headframe.control.queries_money import job_cost, sees_cost
from headframe.control.queries_tenancy import is_same_house, nothing_here
from headframe.control.requests import Asked, dependencies, prepare
from headframe.control.timetable import around
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster, Node, Slice
from headframe.jobs.family import next_fire_us
from headframe.jobs.records import Attempt, Job, JobState
from headframe.metering.meter import quantities
from headframe.pricing.book import Buyer
from headframe.pricing.rate import WHOLE, slope
from headframe.scheduling.choose import compared, tiers
from headframe.scheduling.explain import of_job
from headframe.scheduling.fit import Tiers, fit
from headframe.scheduling.place import judge
from headframe.scheduling.queue import Bucket
from headframe.scheduling.waiting import Around, come_to, kept, tell
from headframe.tenants.records import Organization
from headframe.tenants.roles import Caller, Permission

STORY_EVENTS = 500  # the newest ones; older ones are in `events`
STORY_CHILDREN = 20
MOST_JUDGED = 50  # kinds of request for one page of jobs: each costs a look over all nodes
# The states of children in the order in which they are worth a look.
TELLING = tuple(
    JobState(name)
    for name in ("failed", "stopped", "stopping", "running", "starting", "queued", "pending", "succeeded")
)


def find_job(world: World, context: Context, caller: Caller, ref: str) -> Job:
    """A job by id, by the unique beginning of an id, or by name (the newest of that name)."""
    found: Job | None = world.get(Job, ref) or context.reads.get(Job, ref)
    if found is None:
        where: dict[str, Any] = {"organization_id": caller.organization_id}
        if caller.project_id is not None:
            where["project_id"] = caller.project_id
        if ref.startswith("job_"):
            some = context.reads.find(Job, id__prefix=ref, limit=2, **where)
            found = some[0] if len(some) == 1 else None
        else:
            some = context.reads.find(Job, name=ref, newest=True, limit=1, **where)
            found = some[0] if some else None
    narrow = caller.project_id is not None and found is not None and caller.project_id != found.project_id
    if found is None or narrow or not is_same_house(caller, found.organization_id):
        raise nothing_here("job", ref)
    caller.need(Permission.JOBS_READ, found.organization_id, found.project_id)
    return found


def story(world: World, context: Context, caller: Caller, ref: str) -> Callable[[Reads], dict[str, Any]]:
    """All that is known of a job: itself, its attempts, what they held, what happened, why it waits, what it cost.

    The question, on the loop's thread, gathers what the warm world knows; what it returns reads the store.
    """
    job = find_job(world, context, caller, ref)
    waiting = why_waiting(world, context, job)
    cost = job_cost(world, context, job) if sees_cost(caller, job) else None

    def read(reads: Reads) -> dict[str, Any]:
        return {
            "job": job,
            "attempts": sorted(reads.find(Attempt, job_id=job.id, limit=500), key=lambda attempt: attempt.number),
            "allocations": sorted(reads.find(Allocation, job_id=job.id, limit=500), key=lambda one: one.generation),
            "events": reads.find(Event, subject=job.id, newest=True, limit=STORY_EVENTS)[::-1],
            "waiting": waiting,
            "cost": None if cost is None else cost(reads),
            "children": _children(reads, job, waiting) if job.parent else None,
        }

    return read


def _children(reads: Reads, job: Job, waiting: dict[str, Any] | None) -> dict[str, Any]:
    """How many jobs of an array or a schedule are in each state, and some of them: first those to look after."""
    states = {state.value: reads.count(Job, parent_id=job.id, state=state) for state in TELLING}
    shown: list[Job] = []
    for state in TELLING:
        if states[state.value] and len(shown) < STORY_CHILDREN:
            shown += reads.find(Job, parent_id=job.id, state=state, limit=STORY_CHILDREN - len(shown))
    if waiting is not None:  # what holds the first of them holds them all
        shown = [replace(one, reason=waiting["reason"]) if one.state == JobState.QUEUED else one for one in shown]
    shown.sort(key=lambda one: (one.array_index or 0, one.id))
    return {"count": sum(states.values()), "states": {name: n for name, n in states.items() if n}, "jobs": shown}


def waiting_reasons(world: World, context: Context, job_ids: Sequence[str]) -> dict[str, str]:
    """Why queued jobs do not start now, in one word each, by job id; left out where no word is better than theirs."""
    view = snapshot(world, Purse(world, context.spending, context.now_us), context.now_us)
    known: dict[Bucket, str] = {}
    found: dict[str, str] = {}
    for job_id in job_ids:
        job: Job | None = world.get(Job, job_id)
        job = _first_waiting(world, job) if job is not None and job.parent else job
        bucket = world.derived.queue.bucket(job.id) if job is not None else None
        if bucket is None or (bucket not in known and len(known) == MOST_JUDGED):
            continue
        if bucket not in known:
            verdict = judge(view, bucket)
            spared = kept(view, bucket) if verdict.reason == "no_capacity" else ""
            known[bucket] = "" if verdict.slices is not None else spared or verdict.reason
        if known[bucket]:
            found[job_id] = known[bucket]
    return found


def why_waiting(world: World, context: Context, job: Job, near: Around | None = None) -> dict[str, Any] | None:
    """Why a job does not run, with numbers; None when it runs or has ended.

    `near` is `around` of this moment, for whoever asks for several jobs: it looks at all that runs.
    """
    if job.parent and not job.spec.cron:
        first = _first_waiting(world, job)
        return why_waiting(world, context, first, near) if first is not None else None
    if job.state not in (JobState.PENDING, JobState.QUEUED):
        return None
    bucket = world.derived.queue.bucket(job.id)
    if bucket is None:
        return {"reason": job.reason, "text": of_job(job), "after": list(job.after), "not_before_us": job.not_before_us}
    view = snapshot(world, Purse(world, context.spending, context.now_us), context.now_us)
    ahead = world.derived.queue.ahead(job.id, view.key)
    come_to(view, bucket, job)
    return tell(view, bucket, job, judge(view, bucket, job), ahead, near or around(world, context.now_us))


def _first_waiting(world: World, parent: Job) -> Job | None:
    """The first job of an array that has not started."""
    children = (world.get(Job, one) for one in world.derived.children.get(parent.id, ()))
    return next((one for one in children if one and one.state in (JobState.PENDING, JobState.QUEUED)), None)


def plan(
    world: World,
    context: Context,
    caller: Caller,
    document: Mapping[str, object],
    **more: Unpack[Asked],
) -> dict[str, Any]:
    """What would become of a request: whether it would start now and where, or why not; what it would cost.

    Decided by the code that places jobs. What makes a submit fail is answered, not raised: `would` is "start", "wait"
    or "be_refused".
    """
    try:
        home, spec = prepare(world, context, caller, document, **more)
        after = dependencies(world, context, home, spec)
    except CallerError as error:
        if error.status in (401, 403, 404) and error.code != "quota_exceeded":
            raise
        return {"would": "be_refused", "code": error.code, "text": error.message, "next_step": error.next_step}
    name = spec.name if document.get("name") else f"{spec.type}-b_plan"  # as submit names it: after the end of its id
    draft = Job("job_plan", home.organization_id, home.id, caller.member_id, name, spec, context.now_us)
    if spec.cron or after:
        begins_us = next_fire_us(spec.cron, context.now_us) if spec.cron else 0
        draft = replace(draft, state=JobState.PENDING, after=after, parent=bool(spec.cron), not_before_us=begins_us)
    bucket = Bucket.of(draft, 0, world.derived.speeds_of(draft))
    view = snapshot(world, Purse(world, context.spending, context.now_us), context.now_us)
    view.jobs = ChainMap({draft.id: draft}, world.tables[Job])
    ahead = world.derived.queue.ahead_of(draft, bucket, view.key)
    come_to(view, bucket, draft)
    verdict = judge(view, bucket, draft)
    organization: Organization = world.all(Organization)[home.organization_id]
    slices = verdict.slices or _slices_when_empty(world, bucket, tiers(view, bucket))
    region_id = _region_of(world, slices)
    buyer = Buyer(organization.id, organization.currency, region_id, spec.purchase)
    rise = slope(quantities(slices), buyer, context.spending.book, context.now_us)
    answer: dict[str, Any] = {
        "would": "start" if verdict.slices is not None else "wait",
        "currency": organization.currency,
        "per_hour_nano": -(-rise * HOUR_US // WHOLE),
        "most_nano": None if spec.max_duration_us is None else -(-rise * spec.max_duration_us // WHOLE),
    }
    if draft.state == JobState.PENDING:
        text = of_job(draft)
        why = {"reason": "schedule" if spec.cron else "dependencies", "after": list(after), "text": text}
        room = "There is room for it now." if verdict.slices is not None else "There is no room for it now."
        starts_us = draft.not_before_us or None
        return {**answer, "would": "wait", "waiting": why, "text": f"{text} {room}", "starts_us": starts_us}
    if verdict.slices is not None:
        answer["slices"] = list(verdict.slices)
        places = compared(view, bucket, verdict.slices)
        if places:
            answer["clusters"] = places
        names = sorted({world.all(Node)[part.node_id].name for part in slices})
        answer["text"] = f"It would start at once on {', '.join(names)}."
        answer["starts_us"] = context.now_us
        return answer
    why = tell(view, bucket, draft, verdict, ahead, around(world, context.now_us))
    return {**answer, "waiting": why, "text": why["text"], "starts_us": why.get("starts_us")}


def _slices_when_empty(world: World, bucket: Bucket, order: Tiers) -> tuple[Slice, ...]:
    slices = fit(world.derived.capacity.emptied(), bucket.want, order)
    assert slices is not None, "what could not fit has been refused before"
    return slices


def _region_of(world: World, slices: tuple[Slice, ...]) -> str:
    node: Node = world.all(Node)[slices[0].node_id]
    cluster: Cluster = world.all(Cluster)[node.cluster_id]
    return cluster.region_id
