"""What people may see of money: use and its cost, charges, credit and debt, budgets, invoices.

Owners and admins see all of their organization, everybody else what they spend themselves, the operator's admins all
organizations; a key that is narrowed to a project sees that project only.

What sums over many charges comes in two steps: the question, on the loop's thread, checks rights and gathers what the
warm world knows; it returns the rest, which reads the store and which the asker calls on a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headframe.base.money import divide_half_even, payable
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_tenancy import find_organization
from headframe.control.spending import Spending
from headframe.control.stage_invoices import LINE, line_of, month_lines, month_prepaid_nano, terms_of
from headframe.control.stage_money import currency_of, rating_of
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster
from headframe.jobs.records import Job
from headframe.ledger.close import close_month, month_of, month_span_us
from headframe.ledger.post import credit_left, receivable
from headframe.ledger.records import Invoice, InvoiceLine
from headframe.metering.meter import meter, quantities
from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book, Buyer
from headframe.pricing.cover import covers
from headframe.pricing.rate import WHOLE, Rating, cost_between, rate_nano_per_hour
from headframe.pricing.records import Charge
from headframe.tenants.records import Budget
from headframe.tenants.roles import Caller, Permission


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job has cost so far: charged, and accrued by what it holds now since the last charge.

    `per_hour_nano` is what it costs an hour as it runs now; `unpriced` are the meters it holds that have no price.
    Where what it holds has a max_duration, `expected_nano` is what it comes to in all when that is reached, at
    `ends_us`; None otherwise.
    """

    charged_nano: int
    accrued_nano: int
    total_nano: int
    per_hour_nano: int
    currency: str
    budget_nano: int | None
    unpriced: tuple[str, ...]
    ends_us: int | None = None
    expected_nano: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """How an organization stands. `credit_nano` is prepaid and left, `owed_nano` what it owes beyond that.

    `month_nano` was charged this month; `accrued_nano` is not yet charged.
    """

    organization_id: str
    currency: str
    prepaid: bool
    credit_nano: int
    owed_nano: int
    month: str
    month_nano: int
    accrued_nano: int


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget with what has been spent of it this month."""

    budget: Budget
    month: str
    spent_nano: int
    accrued_nano: int


@dataclass(frozen=True, slots=True)
class Draft:
    """An invoice as it would be now. `accrued` are lines of what still runs and is not yet charged: they will grow.

    `total_nano`, `from_wallet_nano` and `payable_nano` are exact and before tax. `invoice` is the document that this
    would make: its lines rounded, with tax, and paid from credit as far as that reaches.
    """

    organization_id: str
    month: str
    currency: str
    lines: tuple[InvoiceLine, ...]
    accrued: tuple[InvoiceLine, ...]
    total_nano: int
    accrued_nano: int
    from_wallet_nano: int
    payable_nano: int
    at_us: int
    invoice: Invoice


def spender(world: World, caller: Caller, organization_id: str, project_id: str | None = None) -> dict[str, object]:
    """The filter that leaves of an organization's charges what the caller may see."""
    project_id = project_id or caller.project_id
    caller.need(Permission.USAGE_READ, organization_id, project_id)
    where: dict[str, object] = {"organization_id": organization_id}
    if project_id is not None:
        where["project_id"] = project_id
    if not caller.may(Permission.INVOICES_READ, organization_id, project_id):
        where["member_id"] = caller.member_id
    return where


def charges_filter(
    world: World, context: Context, caller: Caller, job_id: str | None, organization: str | None
) -> dict[str, object]:
    """The filter for a page of charges; those of an array or a schedule are the charges of its jobs."""
    where = spender(world, caller, find_organization(world, context, caller, organization).id)
    if job_id is None:
        return where
    job: Job | None = world.get(Job, job_id) or context.reads.get(Job, job_id)
    return {**where, ("job_id__child_of" if job is not None and job.parent else "job_id"): job_id}


def job_cost(world: World, context: Context, job: Job) -> Callable[[Reads], Cost]:
    """What a job, or all jobs of an array or a schedule, have cost so far. Whoever may see the job may see its cost."""
    currency = currency_of(world, job.organization_id)
    ids = world.derived.children.get(job.id, ()) if job.parent else (job.id,)
    now = [holder(world, context, world.derived.held[one]) for one in ids if one in world.derived.held]
    running = sum(_sum(accrued_by(world, context, one.held)) for one in now)
    unpriced = tuple(dict.fromkeys(name for one in now for name in one.unpriced))
    per_hour = sum(one.per_hour_nano for one in now)
    ends = [one.ends_us for one in now if one.ends_us is not None]
    to_come = [one.to_come_nano for one in now if one.to_come_nano is not None]
    known = bool(now) and len(to_come) == len(now)
    budget_nano = job.spec.budget_nano

    def read(reads: Reads) -> Cost:
        where = {"job_id__child_of" if job.parent else "job_id": job.id}
        charged = sum(row["amount_nano"] for row in reads.total(Charge, "amount_nano", [], **where))
        total = charged + running
        return Cost(
            charged, running, total, per_hour, currency, budget_nano, unpriced,
            max(ends) if known else None, total + sum(to_come) if known else None,
        )  # fmt: skip

    return read


@dataclass(frozen=True, slots=True)
class Holder:
    """An allocation that is held, with all that its price takes: may be asked on any thread.

    `priced` is what it holds without what a contract covers.
    """

    held: Allocation
    buyer: Buyer
    priced: dict[str, int]
    longest_us: int | None
    book: Book
    now_us: int

    @property
    def per_hour_nano(self) -> int:
        """What it costs an hour as it is now."""
        return rate_nano_per_hour(self.priced, self.buyer, self.book, self.now_us)

    @property
    def ends_us(self) -> int | None:
        """When its job's max_duration is reached."""
        begun_us = self.held.running_us or self.now_us
        return None if self.longest_us is None else max(begun_us + self.longest_us, self.now_us)

    @property
    def to_come_nano(self) -> int | None:
        """What it costs from now until then."""
        if self.ends_us is None:
            return None
        return divide_half_even(cost_between(self.priced, self.buyer, self.book, self.now_us, self.ends_us), WHOLE)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """What it holds that has no price."""
        holds = quantities(self.held.slices)
        return tuple(name for name in holds if self.book.find(name, self.buyer, self.now_us) is None)


def holder(world: World, context: Context, held: Allocation) -> Holder:
    """What the price of an allocation takes."""
    region_id, job = _region_of(world, held), world.get(Job, held.job_id)
    return Holder(
        held,
        Buyer(held.organization_id, currency_of(world, held.organization_id), region_id, held.purchase),
        context.spending.charged_at_once(held, region_id),
        None if job is None else job.spec.max_duration_us,
        context.spending.book,
        context.now_us,
    )


def sees_cost(caller: Caller, job: Job) -> bool:
    """Whether a job's cost is for the caller's eyes: its own, or those of all."""
    mine = job.member_id == caller.member_id and caller.may(Permission.USAGE_READ, job.organization_id, job.project_id)
    return mine or caller.may(Permission.INVOICES_READ, job.organization_id, job.project_id)


def balance(
    world: World, context: Context, caller: Caller, *, organization: str | None = None
) -> Callable[[Reads], Balance]:
    """How an organization stands."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    where: dict[str, object] = {"organization_id": house.id}
    month = month_of(context.now_us)
    known = Balance(
        organization_id=house.id,
        currency=house.currency,
        prepaid=house.prepaid,
        credit_nano=credit_left(world.balances, house.id, house.currency),
        owed_nano=world.balances.get((receivable(house.id), house.currency), 0),
        month=month,
        month_nano=0,
        accrued_nano=_sum(accrued(world, context.spending, context.now_us, where)),
    )
    return lambda reads: replace(known, month_nano=_charged_nano(reads, month, where))


def budgets(
    world: World, context: Context, caller: Caller, *, organization: str | None = None
) -> Callable[[Reads], tuple[BudgetState, ...]]:
    """The budgets that bind the caller, or all of the organization for its admins, with what is spent of them."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.USAGE_READ, house.id, caller.project_id)
    everything = caller.may(Permission.INVOICES_READ, house.id)
    month = month_of(context.now_us)
    begin = month_span_us(month)[0]
    seen: list[tuple[BudgetState, dict[str, object]]] = []
    for budget in sorted(world.all(Budget).values(), key=lambda each: each.id):
        own = budget.scope_id in (caller.member_id, caller.project_id)
        if budget.organization_id == house.id and (everything or own):
            where: dict[str, object] = {"organization_id": house.id, f"{budget.scope.value}_id": budget.scope_id}
            running = _sum(accrued(world, context.spending, context.now_us, where, begin))
            seen.append((BudgetState(budget, month, 0, running), where))
    return lambda reads: tuple(replace(state, spent_nano=_charged_nano(reads, month, where)) for state, where in seen)


def draft(
    world: World, context: Context, caller: Caller, *, month: str | None = None, organization: str | None = None
) -> Callable[[Reads], Draft]:
    """The invoice of a month as it would be now."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    month = month or month_of(context.now_us)
    begin, end = month_span_us(month)
    running = accrued(world, context.spending, min(context.now_us, end), {"organization_id": house.id}, begin)
    running_nano = _sum(running)
    left_nano = credit_left(world.balances, house.id, house.currency)
    credit_nano = min(running_nano, left_nano)
    terms = terms_of(world, house)

    def read(reads: Reads) -> Draft:
        lines = month_lines(reads, house.id, month)
        total = sum(line.amount_nano for line in lines) + running_nano
        to_come = _lines(running)
        as_billed, _ = close_month(
            house.id, month, house.currency, _joined((*lines, *to_come)), month_prepaid_nano(reads, house.id, month), 0,
            context.now_us, terms=terms, credit_nano=left_nano,
        )  # fmt: skip
        prepaid = month_prepaid_nano(reads, house.id, month) + credit_nano
        return Draft(
            organization_id=house.id,
            month=month,
            currency=house.currency,
            lines=lines,
            accrued=to_come,
            total_nano=total,
            accrued_nano=running_nano,
            from_wallet_nano=prepaid,
            payable_nano=payable(total - prepaid, house.currency),
            at_us=context.now_us,
            invoice=as_billed,
        )

    return read


def accrued(
    world: World, spending: Spending, until_us: int, where: Mapping[str, object], from_us: int = 0
) -> tuple[Charge, ...]:
    """What open allocations would be charged if they were metered now: charges that are not written anywhere.

    `where` are columns of the allocation; nothing before `from_us` is counted.
    """
    return accruing(world, spending, until_us, where, from_us)()


def accrued_by(world: World, context: Context, held: Allocation) -> tuple[Charge, ...]:
    """The same of one allocation."""
    rating = rating_of(world, context.spending, held.organization_id)
    return _unwritten(held, _region_of(world, held), rating, context.now_us)


def accruing(
    world: World, spending: Spending, until_us: int, where: Mapping[str, object], from_us: int = 0
) -> Callable[[], tuple[Charge, ...]]:
    """As `accrued`, worked out by whom the answer is called, on any thread: what that takes is gathered now."""
    found = [
        (one, _region_of(world, one), currency_of(world, one.organization_id))
        for one in world.all(Allocation).values()
        if all(getattr(one, column) == value for column, value in where.items())
    ]
    book, tallies = spending.book, dict(spending.tallies) if spending.tiered else {}
    terms = {name: tuple(known.values()) for name, known in spending.contracts.items()}

    def deferred(record: UsageRecord, meter: str) -> bool:
        return any(covers(one, record, meter) for one in terms.get(record.organization_id, ()))

    return lambda: tuple(
        charge
        for allocation, region_id, currency in found
        for charge in _unwritten(allocation, region_id, Rating(book, currency, tallies, deferred), until_us, from_us)
    )


def _unwritten(
    allocation: Allocation, region_id: str, rating: Rating, until_us: int, from_us: int = 0
) -> tuple[Charge, ...]:
    """Worked out with the very functions that make the real ones, without the least charge of a run that ends early."""
    metered_us = allocation.metered_us if allocation.records else allocation.held_us
    unmetered = replace(
        allocation, metered_us=max(metered_us, from_us), records=max(1, allocation.records), faulted=True
    )
    records, _ = meter(unmetered, region_id, until_us)
    return tuple(charge for record in records for charge in rating.charges(record))


def _region_of(world: World, allocation: Allocation) -> str:
    cluster: Cluster | None = world.get(Cluster, allocation.cluster_id)
    return cluster.region_id if cluster is not None else ""


def _charged_nano(reads: Reads, month: str, where: Mapping[str, object]) -> int:
    begin, end = month_span_us(month)
    rows = reads.total(Charge, "amount_nano", ["organization_id"], at_us__ge=begin + 1, at_us__lt=end + 1, **where)
    return sum(row["amount_nano"] for row in rows)


def _sum(charges: Iterable[Charge]) -> int:
    return sum(charge.amount_nano for charge in charges)


def _lines(charges: Iterable[Charge]) -> tuple[InvoiceLine, ...]:
    """Charges summed as on an invoice."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for charge in charges:
        line = sums.setdefault(tuple(getattr(charge, name) for name in LINE), [0, 0])
        line[0] += charge.quantity
        line[1] += charge.amount_nano
    return tuple(line_of(dict(zip(LINE, key, strict=True)), *sums[key]) for key in sorted(sums))


def _joined(lines: Iterable[InvoiceLine]) -> list[InvoiceLine]:
    """Lines of one price as one line, as the invoice will have them."""
    found: dict[tuple[Any, ...], InvoiceLine] = {}
    for line in lines:
        key = tuple(getattr(line, name) for name in LINE)
        known = found.get(key)
        found[key] = line if known is None else replace(
            line, quantity=line.quantity + known.quantity, amount_nano=line.amount_nano + known.amount_nano
        )  # fmt: skip
    return list(found.values())
