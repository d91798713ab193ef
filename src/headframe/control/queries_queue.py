"""What people may see of the queue: who waits in which order and why, and what owners hold of what they may.

Everybody sees the jobs that they may see; a job's place counts all that wait before it, seen or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from headframe.control.advance import snapshot
from headframe.control.context import Context
from headframe.control.purse import Purse
from headframe.control.queries import waiting_reasons, why_waiting
from headframe.control.queries_jobs import asks
from headframe.control.queries_tenancy import find_organization
from headframe.control.timetable import around
from headframe.control.world import World
from headframe.jobs.records import Job
from headframe.scheduling.limits import METERS
from headframe.scheduling.order import Order
from headframe.scheduling.queue import CLASSES, Bucket
from headframe.scheduling.shares import WEIGHT, Shares
from headframe.tenants.records import Member, Organization, Project, Quota, Scope
from headframe.tenants.roles import Caller, Permission

SHOWN = 200  # jobs of the line, of all that wait
LOOKED_AT = 2000  # of the line, to find so many that the caller may see


@dataclass(frozen=True, slots=True)
class InLine:
    """A job that waits for capacity. `place` counts from 1; `reason` is why it does not start now, in one word."""

    place: int
    job_id: str
    name: str
    organization_id: str
    organization: str
    project: str
    member: str
    asks: str
    purchase: str
    priority: int
    submitted_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Owner:
    """An organization, a project or a member: what it holds, what it may hold, and how much of the cloud it has had.

    `share_ppm` is what it holds and has used lately, in millionths of the cloud over its weight: who has the least
    comes first (None for members, who have none). Amounts are by meter; absent ones are not limited, or not guaranteed.
    """

    scope: str
    id: str
    name: str
    organization_id: str
    share_ppm: int | None
    weight_milli: int
    held: dict[str, int] = field(default_factory=dict)
    guaranteed: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """The queue as the caller may see it: the first in line, how many wait in all, and the owners, the least share
    first. `order` is the policy, `meaning` what it means."""

    at_us: int
    order: str
    meaning: str
    total: int
    items: tuple[InLine, ...]
    owners: tuple[Owner, ...]
    cloud: dict[str, int]


def waiting_line(world: World, context: Context, caller: Caller, organization: str | None = None) -> WaitingLine:
    """Who waits, in the order of their turns; of one organization, or of all that the caller may see."""
    house = None if organization is None else find_organization(world, context, caller, organization).id
    caller.need(Permission.JOBS_READ, house or caller.organization_id, caller.project_id)
    view = snapshot(world, Purse(world, context.spending, context.now_us), context.now_us)
    queue = world.derived.queue
    seen: list[tuple[int, Bucket, Job]] = []
    for place, (bucket, (_, job_id)) in enumerate(queue.front(LOOKED_AT, view.key), start=1):
        job: Job | None = world.get(Job, job_id)
        mine = house in (None, bucket.organization_id)
        if job is not None and mine and caller.may(Permission.JOBS_READ, bucket.organization_id, bucket.project_id):
            seen.append((place, bucket, job))
            if len(seen) == SHOWN:
                break
    reasons = waiting_reasons(world, context, [job.id for _, _, job in seen])
    order: Order = view.order
    return WaitingLine(
        context.now_us, order.name, order.meaning, len(queue),
        tuple(_in_line(world, place, bucket, job, reasons.get(job.id, "")) for place, bucket, job in seen),
        tuple(_owners(world, caller, house, view.shares)), dict(world.derived.total),
    )  # fmt: skip


def first_in_line(
    world: World, context: Context, caller: Caller, organization: str | None = None, most: int = 8
) -> tuple[WaitingLine, list[dict[str, Any] | None]]:
    """The queue, and of the first of it why each waits, with numbers, and when it is expected to start."""
    line = waiting_line(world, context, caller, organization)
    first = [world.all(Job)[one.job_id] for one in line.items[:most]]
    near = around(world, context.now_us) if first else None
    return line, [why_waiting(world, context, job, near) for job in first]


def _in_line(world: World, place: int, bucket: Bucket, job: Job, reason: str) -> InLine:
    return InLine(
        place=place,
        job_id=job.id,
        name=job.name,
        organization_id=job.organization_id,
        organization=_name(world, Organization, job.organization_id),
        project=_name(world, Project, job.project_id),
        member=_name(world, Member, job.member_id),
        asks=asks(job.spec),
        purchase=CLASSES[bucket.rank],
        priority=job.spec.priority,
        submitted_us=job.submitted_us,
        reason=reason or job.reason,
    )


def _name(world: World, kind: type[Any], record_id: str) -> str:
    found = world.get(kind, record_id)
    return record_id if found is None else str(found.name)


def _owners(world: World, caller: Caller, house: str | None, shares: Shares | None) -> Iterator[Owner]:
    """Organizations by their share, each followed by its projects and then by its members that have a quota."""
    derived = world.derived
    running: Counter[str] = Counter()
    for held in derived.held.values():
        running.update((held.organization_id, held.project_id, held.member_id))
    waiting: Counter[str] = Counter()
    for job in world.all(Job).values():
        if job.id in derived.queue:
            waiting.update((job.organization_id, job.project_id, job.member_id))

    def owner(scope: Scope, record: Any) -> Owner:
        quota: Quota | None = derived.quotas.get(record.id)
        limits = {meter: getattr(quota, meter) for meter in METERS} if quota is not None else {}
        return Owner(
            scope=scope.value,
            id=record.id,
            name=record.name,
            organization_id=record.id if scope is Scope.ORGANIZATION else record.organization_id,
            share_ppm=None if shares is None or scope is Scope.MEMBER else shares.of(record.id),
            weight_milli=quota.weight if quota is not None else WEIGHT,
            held={meter: derived.holdings.of(record.id, meter) for meter in METERS},
            guaranteed=dict(quota.guaranteed) if quota is not None else {},
            limits={meter: limit for meter, limit in limits.items() if limit is not None},
            running=running[record.id],
            waiting=waiting[record.id],
        )

    houses = [
        owner(Scope.ORGANIZATION, one)
        for one in world.all(Organization).values()
        if house in (None, one.id) and caller.may(Permission.JOBS_READ, one.id, caller.project_id)
    ]
    projects = _by_house(world, Project)
    members = _by_house(world, Member)
    for one in sorted(houses, key=lambda each: (each.share_ppm or 0, each.name)):
        if caller.project_id is None:
            yield one
        own = [
            owner(Scope.PROJECT, each)
            for each in projects.get(one.id, ())
            if caller.project_id in (None, each.id) and not each.archived
        ]
        yield from sorted(own, key=lambda each: (each.share_ppm or 0, each.name))
        for each in members.get(one.id, ()):
            quota = derived.quotas.get(each.id)
            if quota is not None and (each.id == caller.member_id or caller.may(Permission.INVOICES_READ, one.id)):
                yield owner(Scope.MEMBER, each)


def _by_house(world: World, kind: type[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for _, record in sorted(world.all(kind).items()):
        found.setdefault(record.organization_id, []).append(record)
    return found
