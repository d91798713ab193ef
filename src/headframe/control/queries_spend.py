"""What people may see of what they spend: use and its cost by any dimension, and what runs now.

Who sees what is decided in `queries_money.spender`: a member sees their own, a key that is narrowed to a project that
project, owners, admins and finance all of their organization, the operator's of these the whole cloud.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.money import divide_half_even
from headframe.base.quantities import DAY_US, SECOND_US
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_money import accrued, job_rate, spender
from headframe.control.queries_tenancy import find_organization, find_project
from headframe.control.stage_money import currency_of
from headframe.control.world import World
from headframe.fleet.records import Allocation
from headframe.jobs.records import Job
from headframe.ledger.close import month_of, month_span_us
from headframe.pricing.records import Charge
from headframe.tenants.records import Budget
from headframe.tenants.roles import Caller, Permission

# A dimension -> the column of charges that it is told apart by (as `Reads.total` names it).
DIMENSIONS = {
    "organization": "organization_id", "project": "project_id", "member": "member_id", "job": "job_id",
    "meter": "meter", "kind": "kind", "accelerator": "meter", "purchase": "purchase", "region": "region_id",
    "contract": "contract_id", "day": "at_us__day", "month": "at_us__day",
}  # fmt: skip
LABEL = "label:"  # and its key: a dimension, too
ALL = "all"
MOST_RUNNING = 200  # jobs of which `running_now` tells one by one
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Use:
    """Charged use, summed. `by` holds the dimensions asked for; what has no such label, or no accelerator, is "".

    `quantity` is in thousandths (gpu, cpu) or MiB (memory, disk) times seconds, None over several meters.
    `accrued_nano` is what runs now has cost since its last charge.
    """

    by: dict[str, str]
    quantity: int | None
    amount_nano: int
    currency: str
    accrued_nano: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Use that was charged in [from_us, to_us), and what runs now has cost since its last charge."""

    organization_id: str
    from_us: int
    to_us: int
    items: tuple[Use, ...]
    accrued_nano: int
    currency: str


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What use is summed by. Raises `Invalid` for a name that is not a dimension, or is there twice."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.names:
            known = name in DIMENSIONS or (name.startswith(LABEL) and len(name) > len(LABEL))
            if not known or self.names.count(name) > 1:
                raise Invalid(
                    f"by names {name!r}, which is not a dimension, or twice.",
                    field="by", value=name, allowed=f"{', '.join(DIMENSIONS)}, {LABEL}KEY",
                )  # fmt: skip

    @property
    def columns(self) -> list[str]:
        """The columns to group by."""
        columns = ["labels" if name.startswith(LABEL) else DIMENSIONS[name] for name in self.names]
        return list(dict.fromkeys([*columns, "currency"]))

    def of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """What a row of such columns is told apart by."""
        return tuple(self._value(name, row) for name in self.names)

    def of_charge(self, charge: Charge) -> tuple[str, ...]:
        """The same of one charge."""
        row: dict[str, Any] = {name: getattr(charge, name) for name in self.columns if name != "at_us__day"}
        return self.of({**row, "labels": json.dumps(charge.labels), "at_us__day": (charge.at_us - 1) // DAY_US})

    @staticmethod
    def _value(name: str, row: Mapping[str, Any]) -> str:
        if name.startswith(LABEL):
            return str(json.loads(row["labels"]).get(name.removeprefix(LABEL), ""))
        if name in ("day", "month"):
            day = min(max(row["at_us__day"], 0), 2_932_896)  # the last day of the year 9999
            return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d" if name == "day" else "%Y-%m")
        if name == "accelerator":
            base, _, kind = row["meter"].partition(":")
            return kind if base == "gpu" else ""
        return str(row[DIMENSIONS[name]])


@dataclass(slots=True)
class _Sum:
    amount_nano: int = 0
    quantity: int = 0
    accrued_nano: int = 0


def usage(
    world: World,
    context: Context,
    caller: Caller,
    *,
    by: Iterable[str] = ("project", "meter"),
    from_us: int | None = None,
    to_us: int | None = None,
    organization: str | None = None,
    project: str | None = None,
) -> Callable[[Reads], Usage]:
    """Use and its cost, by dimensions; from the beginning of the month until now unless told otherwise.

    Like all questions that sum over many charges it comes in two steps: this one, on the loop's thread, checks rights
    and gathers what the warm world knows; it returns the rest, which reads the store.
    """
    names = tuple(by)
    if organization == ALL:
        caller.need(Permission.CREDITS_WRITE, caller.organization_id)
        where: dict[str, object] = {}
        organization_id, names = ALL, tuple(dict.fromkeys(("organization", *names)))
    else:
        organization_id = find_organization(world, context, caller, organization).id
        home = None if project is None else find_project(world, context, caller, project, organization_id).id
        where = spender(world, caller, organization_id, home)
    dimensions = Dimensions(names)
    begin = month_span_us(month_of(context.now_us))[0] if from_us is None else from_us
    end = context.now_us if to_us is None else to_us
    running: tuple[Charge, ...] = ()
    if begin < context.now_us <= end:
        running = accrued(world, context.spending, context.now_us, where, max(begin, 0))
    currency = "" if organization_id == ALL else currency_of(world, organization_id)

    def read(reads: Reads) -> Usage:
        span = {**where, "at_us__ge": begin + 1, "at_us__lt": end + 1}
        sums = _charged(reads, dimensions, span, quantities="meter" in names)
        for charge in running:
            sums.setdefault((dimensions.of_charge(charge), charge.currency), _Sum()).accrued_nano += charge.amount_nano
        items = tuple(
            Use(
                by=dict(zip(names, key, strict=True)),
                quantity=divide_half_even(total.quantity, SECOND_US) if "meter" in names else None,
                amount_nano=total.amount_nano,
                currency=money,
                accrued_nano=total.accrued_nano,
            )
            for (key, money), total in sorted(sums.items(), key=lambda item: item[0])
        )
        # Currencies do not add up: over all organizations there is no one sum of what still runs.
        whole = 0 if organization_id == ALL else sum(charge.amount_nano for charge in running)
        return Usage(organization_id, begin, end, items, whole, currency)

    return read


def _charged(
    reads: Reads, dimensions: Dimensions, where: Mapping[str, object], quantities: bool
) -> dict[tuple[tuple[str, ...], str], _Sum]:
    """What was charged, by (values of the dimensions, currency)."""
    sums: dict[tuple[tuple[str, ...], str], _Sum] = {}
    for column in ("amount_nano", "quantity") if quantities else ("amount_nano",):
        for row in reads.total(Charge, column, dimensions.columns, **where):
            found = sums.setdefault((dimensions.of(row), row["currency"]), _Sum())
            if column == "quantity":
                found.quantity += row[column]
            else:
                found.amount_nano += row[column]
    return sums


# What runs now.


@dataclass(frozen=True, slots=True)
class Spender:
    """What an organization, a project or a member has spent this month, and what it spends an hour now.

    `running` counts the jobs that hold something. `budget_nano` is the month's, None without one.
    """

    scope: str
    scope_id: str
    charged_nano: int
    accrued_nano: int
    total_nano: int
    per_hour_nano: int
    running: int
    budget_nano: int | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds something, and what it costs: so far, an hour, and in all when it runs to its max_duration."""

    job_id: str
    name: str
    project_id: str
    member_id: str
    since_us: int
    so_far_nano: int
    per_hour_nano: int
    ends_us: int | None
    expected_nano: int | None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningNow:
    """The month so far of all whom the caller may see, and the jobs that cost money now, the dearest first.

    `more` counts further jobs that are not shown.
    """

    organization_id: str
    currency: str
    month: str
    at_us: int
    spenders: tuple[Spender, ...]
    jobs: tuple[RunningJob, ...]
    more: int


def running_now(
    world: World, context: Context, caller: Caller, *, organization: str | None = None
) -> Callable[[Reads], RunningNow]:
    """What is spent this month so far by organization, project and member, and what each running job costs."""
    house = find_organization(world, context, caller, organization)
    where = spender(world, caller, house.id)
    now_us, month = context.now_us, month_of(context.now_us)
    begin, end = month_span_us(month)
    scopes = [name for name in ("organization", "project", "member") if _shows(name, where)]
    spenders: dict[tuple[str, str], Spender] = {}
    for charge in accrued(world, context.spending, now_us, where, begin):
        for key in _owners(scopes, charge):
            before = spenders.get(key) or _nothing(world, *key)
            spenders[key] = replace(before, accrued_nano=before.accrued_nano + charge.amount_nano)
    jobs: list[RunningJob] = []
    for held in world.derived.held.values():
        if not all(getattr(held, column) == value for column, value in where.items()):
            continue
        one = _running(world, context, held)
        jobs.append(one)
        for key in _owners(scopes, held):
            before = spenders.get(key) or _nothing(world, *key)
            spenders[key] = replace(
                before, running=before.running + 1, per_hour_nano=before.per_hour_nano + one.per_hour_nano
            )
    jobs.sort(key=lambda one: (-one.per_hour_nano, one.job_id))
    shown = jobs[:MOST_RUNNING]

    def read(reads: Reads) -> RunningNow:
        columns = [f"{name}_id" for name in scopes]
        found = dict(spenders)
        for row in reads.total(Charge, "amount_nano", columns, at_us__ge=begin + 1, at_us__lt=end + 1, **where):
            for name in scopes:
                key = (name, row[f"{name}_id"])
                before = found.get(key) or _nothing(None, *key)
                found[key] = replace(before, charged_nano=before.charged_nano + row["amount_nano"])
        ids = [one.job_id for one in shown]
        charged = {row["job_id"]: row["amount_nano"] for row in reads.total(Charge, "amount_nano", ["job_id"],
                                                                             job_id=ids)}  # fmt: skip
        order = {name: place for place, name in enumerate(scopes)}
        told = sorted(found.values(), key=lambda one: (order[one.scope], one.scope_id))
        return RunningNow(
            house.id, house.currency, month, now_us,
            tuple(
                replace(one, total_nano=one.charged_nano + one.accrued_nano, budget_nano=budgets.get(
                    (one.scope, one.scope_id)))
                for one in told if one.scope_id
            ),
            tuple(_with_charged(one, charged.get(one.job_id, 0)) for one in shown),
            len(jobs) - len(shown),
        )  # fmt: skip

    budgets = {
        (one.scope.value, one.scope_id): one.amount_nano
        for one in world.all(Budget).values()
        if one.organization_id == house.id
    }
    return read


def _shows(scope: str, where: Mapping[str, object]) -> bool:
    """A member's sums are not those of its project, a project's not those of its organization."""
    return not (("member_id" in where and scope != "member") or ("project_id" in where and scope == "organization"))


def _owners(scopes: Iterable[str], row: Any) -> list[tuple[str, str]]:
    return [(name, getattr(row, f"{name}_id")) for name in scopes]


def _nothing(world: World | None, scope: str, scope_id: str) -> Spender:
    return Spender(scope, scope_id, 0, 0, 0, 0, 0, None)


def _running(world: World, context: Context, held: Allocation) -> RunningJob:
    """What one job costs, without what was charged before."""
    job: Job = world.all(Job)[held.job_id]
    rate = job_rate(world, context, held)
    return RunningJob(
        job_id=job.id, name=job.name, project_id=job.project_id, member_id=job.member_id, since_us=held.held_us,
        so_far_nano=rate.accrued_nano, per_hour_nano=rate.per_hour_nano, ends_us=rate.ends_us,
        expected_nano=None if rate.to_come_nano is None else rate.accrued_nano + rate.to_come_nano,
        labels=job.spec.labels,
    )  # fmt: skip


def _with_charged(one: RunningJob, charged_nano: int) -> RunningJob:
    expected = None if one.expected_nano is None else one.expected_nano + charged_nano
    return replace(one, so_far_nano=one.so_far_nano + charged_nano, expected_nano=expected)
