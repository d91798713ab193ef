"""What one looks at first: what needs attention, what there is and runs, what it costs this month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, format_span
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_map import fleet_frame, sees_all
from headframe.control.queries_money import accruing, budgets
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Node, NodeState
from headframe.jobs.records import ENDED, Job, JobState
from headframe.ledger.close import month_of, month_span_us
from headframe.pricing.records import Charge
from headframe.tenants.records import Key, Member, Organization, Project, Scope
from headframe.tenants.roles import Caller, Permission

WAITS_US = HOUR_US  # longer than that is worth a look
STARTS_US = 10 * MINUTE_US
EXPIRES_US = 7 * DAY_US
MOST_OF_A_KIND = 3  # lines about one kind of trouble, before they become a number


@dataclass(frozen=True, slots=True)
class Attention:
    """One thing to look after. `tone` is "bad" or "warn"; `subject` is the id of what it is about, if it is one."""

    kind: str
    tone: str
    text: str
    detail: str = ""
    subject: str = ""
    since_us: int | None = None
    more: int = 0  # others of the kind that are not told one by one


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of what the caller may see. `accelerators` are counted by state, as on the map."""

    at_us: int
    attention: tuple[Attention, ...]
    nodes: dict[str, int]
    accelerators: dict[str, int]
    accelerators_in_all: int
    held_milli: int
    jobs: dict[str, int]
    ended: dict[str, int]  # in the last day
    longest_wait_us: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What the month has cost so far (for the operator: all organizations), by day and by the largest spenders.

    `days` are (day since 1970, amount) of the month and of what is not charged yet, today's. `spenders` are (id, name,
    amount): organizations for the operator, else projects.
    """

    month: str
    currency: str
    total_nano: int
    per_day: tuple[tuple[int, int], ...]
    before_nano: int  # the whole month before
    budget_nano: int | None
    spenders: tuple[tuple[str, str, int], ...]
    others: dict[str, int]  # what is counted in other currencies


def overview(world: World, context: Context, caller: Caller, argument: str = "") -> Callable[[Reads], Overview]:
    """What needs attention first, then how things stand."""
    caller.need(Permission.JOBS_READ, caller.organization_id, caller.project_id)
    now_us, everything = context.now_us, sees_all(caller)
    where: dict[str, object] = {} if everything else {"organization_id": caller.organization_id}
    if caller.project_id is not None:
        where["project_id"] = caller.project_id
    jobs = [job for job in world.all(Job).values() if all(getattr(job, name) == own for name, own in where.items())]
    states = Counter(job.state.value for job in jobs if not job.parent)
    waiting = [now_us - job.submitted_us for job in jobs if job.state == JobState.QUEUED]
    held = sum(
        share.milli
        for one in world.derived.held.values()
        if all(getattr(one, name) == own for name, own in where.items())
        for part in one.slices
        for share in part.shares
    )
    sees_fleet = caller.may(Permission.FLEET_READ, caller.organization_id, caller.project_id)
    frame = fleet_frame(world, context, caller, "held") if sees_fleet else None
    in_all = len(world.all(Accelerator)) if sees_fleet else 0
    nodes = Counter(node.state.value for node in world.all(Node).values()) if sees_fleet else Counter[str]()
    found = [
        *_jobs_to_see(jobs, {one.job_id: one.held_us for one in world.derived.held.values()}, now_us),
        *(_fleet_to_see(world) if everything else ()),
        *_keys_to_see(world, caller, now_us),
    ]
    money = budgets(world, context, caller) if caller.may(
        Permission.USAGE_READ, caller.organization_id, caller.project_id) else None  # fmt: skip
    names = {**world.all(Organization), **world.all(Project), **world.all(Member)}

    def read(reads: Reads) -> Overview:
        since: dict[str, Any] = {"ended_us__ge": now_us - DAY_US, **where}
        ended = {state.value: reads.count(Job, state=state, **since) for state in sorted(ENDED)}
        some = reads.find(Job, state=JobState.FAILED, newest=True, limit=MOST_OF_A_KIND, parent_id=None, **since)
        failed = [
            Attention("job_failed", "bad", f"{job.name} failed", _why_failed(job), job.id, job.ended_us) for job in some
        ]
        over = [] if money is None else list(_budgets_to_see(money(reads), names))
        return Overview(
            now_us,
            tuple(_told([*over, *found, *failed], ended[JobState.FAILED.value])),
            dict(nodes),
            frame(reads).counts if frame is not None else {},
            in_all,
            held,
            dict(states),
            ended,
            max(waiting, default=0),
        )

    return read


def _why_failed(job: Job) -> str:
    return f"exit code {job.exit_code}" if job.exit_code else job.reason.replace("_", " ")


def _jobs_to_see(jobs: list[Job], placed_us: Mapping[str, int], now_us: int) -> Iterator[Attention]:
    """Jobs that have waited or prepared for long; `placed_us` is when those that hold something got it."""
    for job in jobs:
        since_us = placed_us.get(job.id, now_us)
        if job.state == JobState.STARTING and now_us - since_us >= STARTS_US:
            yield Attention("job_stuck", "warn", f"{job.name} does not begin to run", "it is still being prepared",
                            job.id, since_us)  # fmt: skip
    late = sorted(
        (job.submitted_us, job.id, job)
        for job in jobs
        if job.state == JobState.QUEUED and not job.parent and now_us - job.submitted_us >= WAITS_US
    )
    for submitted_us, job_id, job in late:
        waited = format_span(now_us - submitted_us)
        why = "for a place" if job.reason == "submitted" else job.reason.replace("_", " ")
        yield Attention("job_waits", "warn", f"{job.name} has waited for {waited}", why, job_id)


def _fleet_to_see(world: World) -> Iterator[Attention]:
    """Nodes and accelerators that do not work."""
    # The few that are in trouble are put in order, never all: there may be a hundred thousand.
    nodes = world.all(Node)
    down = sorted((one for one in nodes.values() if one.state == NodeState.DOWN), key=_by_id)
    draining = sorted((one for one in nodes.values() if one.state == NodeState.DRAINING), key=_by_id)
    failed = sorted((one for one in world.all(Accelerator).values() if not one.healthy), key=_by_id)
    for node in down:
        yield Attention("node_down", "bad", f"{node.name} is down", node.reason, node.id)
    for device in failed:
        if nodes[device.node_id].state != NodeState.DOWN:
            name = f"{nodes[device.node_id].name}, accelerator {device.index}"
            yield Attention("accelerator_failed", "bad", f"{name} has failed", device.reason, device.node_id)
    for node in draining:
        yield Attention("node_draining", "warn", f"{node.name} is draining", node.reason, node.id)


def _by_id(one: Any) -> str:
    return str(one.id)


def _keys_to_see(world: World, caller: Caller, now_us: int) -> Iterator[Attention]:
    """Keys of the organization that end soon, for those who can make others."""
    if not caller.may(Permission.MEMBERS_WRITE, caller.organization_id):
        return
    for _, key in sorted(world.all(Key).items()):
        ends_us = key.expires_us
        if key.organization_id != caller.organization_id or key.revoked_us is not None or ends_us is None:
            continue
        if now_us < ends_us < now_us + EXPIRES_US:
            yield Attention("key_expires", "warn", f"The key {key.name} ends in {format_span(ends_us - now_us)}",
                            "make another one before", key.id)  # fmt: skip


def _budgets_to_see(states: Any, names: dict[str, Any]) -> Iterator[Attention]:
    """Budgets that are used up, or will be soon."""
    for state in states:
        budget, spent = state.budget, state.spent_nano + state.accrued_nano
        used = 100 * spent // max(budget.amount_nano, 1)
        if used < budget.warn_percent:
            continue
        named = names.get(budget.scope_id)
        of = f"of {budget.scope.value} {named.name}" if named is not None else f"of the {budget.scope.value}"
        tone, word = ("bad", "used up") if used >= 100 else ("warn", "nearly used up")
        yield Attention("budget_over", tone, f"The budget {of} is {word}", f"{used} % of this month's", budget.id)


def _told(found: list[Attention], failed: int) -> Iterator[Attention]:
    """The worst first, and of each kind a few, the last of which says how many more there are."""
    by_kind: dict[str, list[Attention]] = {}
    for one in found:
        by_kind.setdefault(one.kind, []).append(one)
    for tone in ("bad", "warn"):
        for kind, some in by_kind.items():
            if some[0].tone != tone and not any(one.tone == tone for one in some):
                continue
            shown = [one for one in some if one.tone == tone][:MOST_OF_A_KIND]
            total = failed if kind == "job_failed" else sum(one.tone == tone for one in some)
            yield from shown[:-1]
            last = shown[-1]
            yield Attention(
                last.kind, last.tone, last.text, last.detail, last.subject, last.since_us, total - len(shown)
            )  # fmt: skip


def spend_to_date(world: World, context: Context, caller: Caller, argument: str = "") -> Callable[[Reads], Spend]:
    """What the month has cost so far, against the budget, of what the caller may see."""
    caller.need(Permission.USAGE_READ, caller.organization_id, caller.project_id)
    now_us, month = context.now_us, month_of(context.now_us)
    begin, end = month_span_us(month)
    before = month_span_us(month_of(begin - 1))[0]
    everything = sees_all(caller)
    where: dict[str, object] = {} if everything else {"organization_id": caller.organization_id}
    if caller.project_id is not None:
        where["project_id"] = caller.project_id
    if not caller.may(Permission.INVOICES_READ, caller.organization_id, caller.project_id):
        where["member_id"] = caller.member_id
    accrue = accruing(world, context.spending, now_us, where, begin)
    organization: Organization = world.all(Organization)[caller.organization_id]
    states = None if everything else budgets(world, context, caller)
    names = {**world.all(Organization), **world.all(Project)}
    column = "organization_id" if everything else "project_id"

    def read(reads: Reads) -> Spend:
        days: Counter[int] = Counter()
        whose: Counter[str] = Counter()
        others: Counter[str] = Counter()

        def add(day: int, owner: str, currency: str, amount: int) -> None:
            if currency != organization.currency:
                others[currency] += amount
                return
            days[day] += amount
            whose[owner] += amount

        by = ("at_us__day", column, "currency")
        for row in reads.total(Charge, "amount_nano", by, at_us__ge=begin + 1, at_us__lt=end + 1, **where):
            add(row["at_us__day"], row[column], row["currency"], row["amount_nano"])
        for charge in accrue():
            add(now_us // DAY_US, getattr(charge, column), charge.currency, charge.amount_nano)
        last = reads.total(Charge, "amount_nano", ["currency"], at_us__ge=before + 1, at_us__lt=begin + 1, **where)
        house = [
            one.budget
            for one in (states(reads) if states is not None else ())
            if one.budget.scope is Scope.ORGANIZATION
        ]
        top = sorted(whose.items(), key=lambda item: (-item[1], item[0]))[:5]
        return Spend(
            month,
            organization.currency,
            sum(days.values()),
            tuple(sorted(days.items())),
            sum(row["amount_nano"] for row in last if row["currency"] == organization.currency),
            house[0].amount_nano if house else None,
            tuple((owner, names[owner].name if owner in names else owner, amount) for owner, amount in top),
            dict(others),
        )

    return read
