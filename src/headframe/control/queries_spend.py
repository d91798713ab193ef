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
from headframe.control.queries_money import Holder, accruing, holder, spender
from headframe.control.queries_tenancy import find_organization, find_project
from headframe.control.stage_money import currency_of
from headframe.control.world import World
from headframe.jobs.records import Job
from headframe.ledger.close import month_of, month_span_us
from headframe.pricing.records import Charge
from headframe.pricing.units import is_held
from headframe.tenants.records import Budget, Organization
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

    `quantity` is in thousandths (gpu, cpu) or MiB (memory, disk) times seconds, or what a meter of events counts; None
    over several meters.
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
                    next_step=f"Name each of these once at most: {', '.join(DIMENSIONS)}, {LABEL}KEY.",
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


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose charges are summed: `where` is their filter, `currency` what they are in."""

    organization_id: str
    currency: str
    where: dict[str, object]


def whose(
    world: World, context: Context, caller: Caller, organization: str | None, project: str | None = None
) -> Whose:
    """What the caller may see of an organization's charges; "all" are all organizations that have the operator's own
    currency, for the operator."""
    if organization == ALL:
        caller.need(Permission.CREDITS_WRITE, caller.organization_id)
        currency = currency_of(world, caller.organization_id)
        return Whose(ALL, currency, {"currency": currency})
    house = find_organization(world, context, caller, organization)
    home = None if project is None else find_project(world, context, caller, project, house.id).id
    return Whose(house.id, house.currency, spender(world, caller, house.id, home))


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
    live = begin < context.now_us <= end
    accrue = accruing(world, context.spending, context.now_us, where, max(begin, 0)) if live else tuple
    currency = "" if organization_id == ALL else currency_of(world, organization_id)

    def read(reads: Reads) -> Usage:
        span = {**where, "at_us__ge": begin + 1, "at_us__lt": end + 1}
        sums = _charged(reads, dimensions, span, quantities="meter" in names)
        running = accrue()
        for charge in running:
            sums.setdefault((dimensions.of_charge(charge), charge.currency), _Sum()).accrued_nano += charge.amount_nano
        items = tuple(
            Use(
                by=dict(zip(names, key, strict=True)),
                quantity=_told(total.quantity, key[names.index("meter")]) if "meter" in names else None,
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


def _told(quantity: int, meter: str) -> int:
    return divide_half_even(quantity, SECOND_US) if is_held(meter) else quantity


def _charged(
    reads: Reads, dimensions: Dimensions, where: Mapping[str, object], quantities: bool
) -> dict[tuple[tuple[str, ...], str], _Sum]:
    """What was charged, by (values of the dimensions, currency)."""
    sums: dict[tuple[tuple[str, ...], str], _Sum] = {}
    columns = ("amount_nano", "quantity") if quantities else ("amount_nano",)
    for row in reads.total(Charge, columns, dimensions.columns, **where):
        found = sums.setdefault((dimensions.of(row), row["currency"]), _Sum())
        found.amount_nano += row["amount_nano"]
        found.quantity += row.get("quantity", 0)
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
    organization_id: str
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
    """What is spent this month so far by organization, project and member, and what each running job costs; of "all"
    organizations that have the operator's own currency, for the operator."""
    asked = whose(world, context, caller, organization)
    where = asked.where
    owned = {name: value for name, value in where.items() if name != "currency"}
    houses = {one.id for one in world.all(Organization).values() if one.currency == asked.currency}
    now_us, month = context.now_us, month_of(context.now_us)
    begin, end = month_span_us(month)
    scopes = [name for name in ("organization", "project", "member") if _shows(name, where)]
    accrue = accruing(world, context.spending, now_us, owned)
    holders = [
        (world.all(Job)[held.job_id], holder(world, context, held))
        for held in world.derived.held.values()
        if held.organization_id in houses and all(getattr(held, column) == value for column, value in owned.items())
    ]
    budgets = {
        (one.scope.value, one.scope_id): one.amount_nano
        for one in world.all(Budget).values()
        if one.organization_id in houses and asked.organization_id in (ALL, one.organization_id)
    }

    def read(reads: Reads) -> RunningNow:
        found: dict[tuple[str, str], Spender] = {}
        accrued: dict[str, int] = {}
        for charge in accrue():
            if charge.currency != asked.currency:
                continue
            accrued[charge.job_id] = accrued.get(charge.job_id, 0) + charge.amount_nano
            if charge.at_us > begin:
                _add(found, scopes, charge, accrued_nano=charge.amount_nano)
        rates: list[tuple[int, str, Job, Holder]] = []
        for job, one in holders:
            rates.append((-one.per_hour_nano, job.id, job, one))
            _add(found, scopes, one.held, running=1, per_hour_nano=-rates[-1][0])
        columns = [f"{name}_id" for name in scopes]
        for row in reads.total(Charge, "amount_nano", columns, at_us__ge=begin + 1, at_us__lt=end + 1, **where):
            for name in scopes:
                _add_to(found, (name, row[f"{name}_id"]), charged_nano=row["amount_nano"])
        rates.sort(key=lambda item: item[:2])
        shown = rates[:MOST_RUNNING]
        charged = {
            row["job_id"]: row["amount_nano"]
            for row in reads.total(Charge, "amount_nano", ["job_id"], job_id=[item[1] for item in shown])
        }
        order = {name: place for place, name in enumerate(scopes)}
        told = sorted(found.values(), key=lambda one: (order[one.scope], one.scope_id))
        return RunningNow(
            asked.organization_id, asked.currency, month, now_us,
            tuple(
                replace(one, total_nano=one.charged_nano + one.accrued_nano, budget_nano=budgets.get(
                    (one.scope, one.scope_id)))
                for one in told if one.scope_id
            ),
            tuple(
                _running(job, one, charged.get(job.id, 0) + accrued.get(job.id, 0)) for _, _, job, one in shown
            ),
            len(rates) - len(shown),
        )  # fmt: skip

    return read


def _shows(scope: str, where: Mapping[str, object]) -> bool:
    """A member's sums are not those of its project, a project's not those of its organization."""
    return not (("member_id" in where and scope != "member") or ("project_id" in where and scope == "organization"))


def _add(found: dict[tuple[str, str], Spender], scopes: Iterable[str], row: Any, **amounts: int) -> None:
    """Add amounts to all whom a row belongs to."""
    for name in scopes:
        _add_to(found, (name, getattr(row, f"{name}_id")), **amounts)


def _add_to(found: dict[tuple[str, str], Spender], key: tuple[str, str], **amounts: int) -> None:
    before = found.get(key) or Spender(*key, 0, 0, 0, 0, 0, None)
    found[key] = replace(before, **{name: getattr(before, name) + amount for name, amount in amounts.items()})


def _running(job: Job, now: Holder, so_far_nano: int) -> RunningJob:
    """What one job costs."""
    to_come = now.to_come_nano
    return RunningJob(
        job_id=job.id,
        name=job.name,
        organization_id=job.organization_id,
        project_id=job.project_id,
        member_id=job.member_id,
        since_us=now.held.held_us,
        so_far_nano=so_far_nano,
        per_hour_nano=now.per_hour_nano,
        ends_us=now.ends_us,
        expected_nano=None if to_come is None else so_far_nano + to_come,
        labels=job.spec.labels,
    )
