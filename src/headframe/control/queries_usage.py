"""What may be asked about events of use: who may tell of what, and how far a month will go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from headframe.base.quantities import DAY_US, format_moment
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_money import accruing
from headframe.control.queries_spend import whose
from headframe.control.world import World
from headframe.ledger.close import month_of, month_span_us
from headframe.metering.intake import Desk
from headframe.metering.records import Aggregation, Meter
from headframe.pricing.forecast import Forecast, forecast
from headframe.pricing.records import Charge
from headframe.pricing.registry import CONTRACTS
from headframe.tenants.records import Project
from headframe.tenants.roles import Caller, Permission


def desk(world: World, context: Context, caller: Caller) -> Desk:
    """For which projects the caller may tell of use, and how that is counted. Operators may for everybody's."""
    caller.need(Permission.USAGE_WRITE, caller.organization_id, caller.project_id)
    projects: dict[str, tuple[str, str]] = {}
    for project in world.all(Project).values():
        if caller.may(Permission.USAGE_WRITE, project.organization_id, project.id):
            names = [project.id]
            if project.organization_id == caller.organization_id:
                names.append(project.name)
                if project.id == caller.project_id or (caller.project_id is None and project.name == "default"):
                    names.append("")
            for name in names:
                projects[name] = (project.id, project.organization_id)
    meters: dict[str, list[Meter]] = {}
    for _, meter in sorted(world.all(Meter).items()):
        if caller.operator or not _may_fall(meter):
            meters.setdefault(meter.event_type, []).append(meter)
    return Desk(projects, meters, context.now_us, caller.organization_id)


def _may_fall(meter: Meter) -> bool:
    """Whether a further event can make a bill smaller: then whoever pays it may not tell it."""
    return meter.aggregation in (Aggregation.LATEST, Aggregation.TIME_WEIGHTED)


@dataclass(frozen=True, slots=True)
class MonthAhead:
    """What this month has cost so far, what runs besides, and what it will probably come to.

    `days` are what each of its days has cost (UTC, "2026-11-22"), what runs included; days without cost are left out.
    """

    organization_id: str
    month: str
    currency: str
    accrued_nano: int
    forecast: Forecast
    days: dict[str, int]


def month_ahead(
    world: World, context: Context, caller: Caller, *, organization: str | None = None, project: str | None = None
) -> Callable[[Reads], MonthAhead]:
    """The forecast of a caller's own spend, their project's, or for finance the organization's, to the month's end.

    The operator may ask for organization "all".
    """
    asked = whose(world, context, caller, organization, project)
    where = asked.where
    holders = {name: value for name, value in where.items() if name != "currency"}
    now_us, month = context.now_us, month_of(context.now_us)
    begin, end = month_span_us(month)
    accrue = accruing(world, context.spending, now_us, holders, begin)
    whole = set(where) == {"organization_id"}
    fixed = 0
    for contract in context.spending.contracts.get(asked.organization_id, {}).values() if whole else ():
        terms = CONTRACTS[contract.shape]
        if not contract.upfront and contract.shape != "once":
            fixed += terms.worth_nano(contract, end) - terms.worth_nano(contract, max(begin, contract.from_us))

    def read(reads: Reads) -> MonthAhead:
        today, first = now_us // DAY_US, begin // DAY_US
        span = {"at_us__ge": min(begin, (today - 14) * DAY_US) + 1, "at_us__lt": now_us + 1}
        spent: Counter[int] = Counter()  # by day, without fees
        each: Counter[int] = Counter()  # of this month, with all
        fees = 0
        for row in reads.total(Charge, "amount_nano", ("kind", "at_us__day"), **span, **where):
            if row["kind"] != "fee":
                spent[row["at_us__day"]] += row["amount_nano"]
            elif row["at_us__day"] >= first:
                fees += row["amount_nano"]
            if row["at_us__day"] >= first:
                each[row["at_us__day"]] += row["amount_nano"]
        running = 0
        for charge in accrue():
            if charge.currency == asked.currency:
                running += charge.amount_nano
                each[(charge.at_us - 1) // DAY_US] += charge.amount_nano
        days = [spent[day] for day in range(today - 14, today)]
        while days and not days[0]:
            days.pop(0)  # before anything was used
        used = sum(amount for day, amount in spent.items() if day >= first)
        told = forecast(days, used + fees + running, end - now_us, DAY_US, max(0, fixed - fees))
        by_date = {format_moment(day * DAY_US)[:10]: nano for day, nano in sorted(each.items()) if nano}
        return MonthAhead(asked.organization_id, month, asked.currency, running, told, by_date)

    return read
