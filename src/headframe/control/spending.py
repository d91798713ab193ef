"""What is being spent, kept warm: sums of the month, the cost of what runs now, and who has spent all that they may.

The cost of a running allocation is a line over time, so the cost of all that a project or a wallet pays for is one line
too: two integers that change only when an allocation does. Where a line meets a limit is known ahead, so nothing polls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from headframe.base.changes import Changes
from headframe.base.quantities import HOUR_US
from headframe.base.quantities import month_of as calendar_month
from headframe.control.lines import LASTING, Line, Payer, Payments, Rates, monthly
from headframe.control.ports import Reads
from headframe.control.world import World
from headframe.fleet.records import Allocation
from headframe.jobs.records import ENDED, Job
from headframe.ledger.close import month_of, month_span_us, next_month
from headframe.ledger.post import wallet
from headframe.ledger.records import Closing, Transfer
from headframe.ledger.wallets import Grant, Hold, HoldStage
from headframe.metering.meter import hour_start_us
from headframe.metering.records import Intake, UsageRecord
from headframe.pricing.book import ANY, Book, Buyer
from headframe.pricing.cover import covers
from headframe.pricing.rate import WHOLE, Tally, least_nano
from headframe.pricing.records import Charge, Contract, ContractState, Exchange, Price
from headframe.tenants.records import AtLimit, Budget, Organization

KEPT = "kept"  # the `Intake` that tells up to which day what is kept is weighed


class Spending:
    """Warm sums beside the warm world: fed with the same changes, reloaded from the same store, for the same thread."""

    def __init__(self, world: World, now_us: int) -> None:
        self.now_us = now_us
        self.month = month_of(now_us)
        self.spent: Counter[Payer] = Counter()  # charged: this month, and for jobs with a budget since they began
        self.budgets: dict[Payer, str] = {}
        self.job_budgets: dict[str, int] = {}
        self.prepaid: dict[str, None] = {}
        self.payments: dict[Payer, Payments] = {}
        self.released: dict[str, None] = {}  # not yet metered to their end
        self.hours: dict[str, dict[int, dict[str, None]]] = {}  # cluster -> hour metered into -> open allocations
        self.changed: dict[Payer, None] = {}  # limits to look at again
        self.deadlines: dict[Payer, int] = {}  # when to look at a limit again though nothing changes
        self.halted: dict[str, None] = {}  # prepaid organizations whose jobs were stopped, until credit comes
        self.warned: dict[str, None] = {}  # prepaid organizations told that their credit runs low
        self.to_close: dict[str, str] = {}  # organization -> its first month that is not closed
        self.fresh_us: int | None = None  # the earliest use or charge that may not be in the store yet
        self.contracts: dict[str, dict[str, Contract]] = {}  # organization -> its contracts that are not over
        self.grants: dict[str, dict[str, Grant]] = {}  # organization -> its credit that is not used up
        self.held_nano: Counter[Payer] = Counter()  # of wallets and purses, set aside by pending holds
        self.hold_ends: dict[str, int] = {}  # when a pending hold is voided
        self.tallies: Counter[Tally] = Counter()  # what was charged this month of prices with tiers
        self.tiered: dict[str, None] = {}
        self.kept_us: int | None = None  # the day up to which what is kept is weighed
        self._lines: dict[str, Line] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._set_prices(world)

    @classmethod
    def of(cls, world: World, reads: Reads, now_us: int) -> Spending:
        """The sums as the store tells them."""
        spending = cls(world, now_us)
        begin, end = month_span_us(spending.month)
        for row in reads.total(
            Charge,
            "amount_nano",
            ("organization_id", "project_id", "member_id"),
            at_us__ge=begin + 1,
            at_us__lt=end + 1,
        ):
            for column in ("organization", "project", "member"):
                spending.spent[column, row[f"{column}_id"]] += row["amount_nano"]
        kept: Intake | None = reads.get(Intake, KEPT)
        spending.kept_us = None if kept is None else kept.arrival
        for job in world.all(Job).values():
            spending._know_job(job)
        started = [job_id for job_id in spending.job_budgets if world.all(Job)[job_id].attempt]
        for first in range(0, len(started), 500):
            for row in reads.total(Charge, "amount_nano", ("job_id",), job_id=started[first : first + 500]):
                spending.spent["job", row["job_id"]] += row["amount_nano"]
        for tally, used in tallies(reads, spending.tiered, spending.month).items():
            spending.tallies[tally] = used
        for kind in (Organization, Contract, Grant, Hold, Budget, Allocation):
            spending.apply(world, Changes(tuple(world.all(kind).values())))
        return spending

    def apply(self, world: World, changes: Changes) -> None:
        """Take in what the world has just taken in."""
        anew = False
        for row in changes.rows:
            if isinstance(row, Allocation):
                self._follow(world, row)
            elif isinstance(row, Charge):
                self._charge(world, row)
            elif isinstance(row, Job):
                self._know_job(row)
            elif isinstance(row, Transfer):
                self._transfer(row)
            elif isinstance(row, Budget):
                payer = row.scope.value, row.scope_id
                self.budgets.pop(payer, None)
                if not row.removed:
                    self.budgets[payer] = row.id
                self._mark(payer)
            elif isinstance(row, Organization):
                self._know_organization(row)
            elif isinstance(row, Closing):
                self.to_close[row.organization_id] = next_month(row.month)
            elif isinstance(row, UsageRecord):
                self.fresh_us = first_of((self.fresh_us, row.to_us))
            elif isinstance(row, Contract):
                self._know_contract(row)
                anew = anew or row.version == 1
            elif isinstance(row, Grant):
                self._know_grant(row)
            elif isinstance(row, Hold):
                self._know_hold(row)
            elif isinstance(row, Intake) and row.id == KEPT:
                self.kept_us = row.arrival
            elif isinstance(row, Price | Exchange):
                anew = True
        if anew:
            self._set_prices(world)
            self._redraw(world)

    def advance(self, world: World, now_us: int) -> None:
        """Let time pass: over the end of a month, and over a moment at which a price begins or ends."""
        self.now_us = max(self.now_us, now_us)
        month = month_of(self.now_us)
        if month != self.month:
            self._turn(month)
            self._redraw(world)
        if self._price_change_us is not None and self._price_change_us <= self.now_us:
            self._set_prices(world)
            self._redraw(world)

    def accrued_nano(self, payer: Payer, now_us: int) -> int:
        """What the payer's open allocations cost up to the moment beyond their charges, rounded down."""
        payments = self.payments.get(payer)
        return (payments.slope * now_us + payments.sum) // WHOLE if payments else 0

    def blocked(self, world: World, organization_id: str, project_id: str, member_id: str, now_us: int) -> str | None:
        """Why new jobs of these payers must wait: "credit_exhausted", "budget_exhausted", or None."""
        self.advance(world, now_us)
        organization: Organization | None = world.get(Organization, organization_id)
        if organization is not None and organization.prepaid:
            for payer in (("wallet", organization_id), ("purse", project_id)):
                credit = self.credit_nano(organization_id, payer, now_us)
                if payer[1] in self.halted or credit <= self.accrued_nano(payer, now_us):
                    return "credit_exhausted"
        if organization is not None and not self.book.serves(organization.currency, now_us):
            return "no_exchange_rate"
        for payer in (("organization", organization_id), ("project", project_id), ("member", member_id)):
            budget = self.budget_of(world, payer)
            if budget is None or budget.at_limit is AtLimit.WARN:
                continue
            if budget.stopped_month == self.month:
                return "budget_exhausted"
            if self.spent[payer] + self.accrued_nano(payer, now_us) >= budget.amount_nano:
                return "budget_exhausted"
        return None

    def credit_nano(self, organization_id: str, payer: Payer, now_us: int) -> int:
        """What of its credit an organization (or one of its projects) may use now; what is held back is taken off.

        Credit for single meters is not counted: it is used as charges come, but nothing is started on it.
        """
        return -self.held_nano[payer] + sum(
            grant.left_nano
            for grant in self.grants.get(organization_id, {}).values()
            if grant.meter == ANY
            and (payer[0] == "wallet" or grant.project_id in (ANY, payer[1]))
            and grant.from_us <= now_us
            and (grant.expires_us is None or now_us < grant.expires_us)
        )

    def credit_change_us(self, organization_id: str, now_us: int) -> int | None:
        """When credit that is granted already begins or ends to count, after now."""
        grants = self.grants.get(organization_id, {}).values()
        moments = [moment for grant in grants for moment in (grant.from_us, grant.expires_us)]
        return first_of(moment for moment in moments if moment is not None and moment > now_us)

    def deferred(self, record: UsageRecord, meter: str) -> bool:
        """Whether a contract may cover a meter of a record, so that it is charged when the whole hour is known."""
        return any(covers(one, record, meter) for one in self.contracts.get(record.organization_id, {}).values())

    def too_dear(self, job: Job, held: Mapping[str, int], region_id: str, currency: str, now_us: int) -> bool:
        """Whether the least charge for holding `held` (quantities by meter) exceeds what the job may still cost."""
        if job.spec.budget_nano is None:
            return False
        buyer = Buyer(job.organization_id, currency, region_id, job.spec.purchase)
        least = least_nano(held, buyer, self.book, now_us)
        return least > job.spec.budget_nano - self.spent["job", job.id]

    def budget_of(self, world: World, payer: Payer) -> Budget | None:
        """The monthly budget of an organization, project or member."""
        budget_id = self.budgets.get(payer)
        return world.get(Budget, budget_id) if budget_id is not None else None

    def due_to_meter(self, now_us: int, heard_us: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        """(allocation id, metered until) for all that needs metering, in the order of ids within each cause."""
        for allocation_id in sorted(self.released):
            yield allocation_id, now_us
        for cluster_id in sorted(self.hours):
            # Only what the engine was heard to say after the hour's end is certain: an exit before it would be told.
            until_us = hour_start_us(min(now_us, heard_us.get(cluster_id, 0)) - 1)
            for hour in sorted(self.hours[cluster_id]):
                if hour < until_us:
                    for allocation_id in sorted(self.hours[cluster_id][hour]):
                        yield allocation_id, until_us

    def next_us(self, now_us: int) -> int | None:
        """When the loop should tick for money's sake although nothing happens; None: never."""
        behind = self.fresh_us is not None and (
            bool(self.contracts) or any(month < self.month for month in self.to_close.values())
        )
        if self.released or self.changed or behind:
            return now_us
        hour_us = hour_start_us(now_us) + HOUR_US + 1
        moments = [
            *self.deadlines.values(),
            *self.hold_ends.values(),
            *([hour_us] if self.hours or self.to_close else []),
        ]
        if self.deadlines and self._price_change_us is not None:
            moments.append(self._price_change_us)
        return max(now_us, min(moments)) if moments else None

    def charged_at_once(self, allocation: Allocation, region_id: str) -> dict[str, int]:
        """What of an open allocation is charged as it is, or as it will run: without what contracts cover."""
        return self._rates.charged_at_once(allocation, region_id)

    # How the sums are kept.

    @property
    def _rates(self) -> Rates:
        return Rates(self.book, self._priced_us, self.now_us, self.month, self.contracts)

    def _set_prices(self, world: World) -> None:
        self.book = book_of(world)
        self.tiered = {price.id: None for price in self.book.prices if price.tiers}
        self._priced_us = self.now_us
        self._price_change_us = self.book.next_change_us(self.now_us)

    def _turn(self, month: str) -> None:
        """A new month begins: monthly sums start again."""
        self.month = month
        self.spent = Counter({payer: amount for payer, amount in self.spent.items() if payer[0] == "job"})
        self.tallies = Counter({tally: used for tally, used in self.tallies.items() if tally[2] >= month})

    def _redraw(self, world: World) -> None:
        for allocation_id in list(self._lines):
            allocation: Allocation | None = world.get(Allocation, allocation_id)
            if allocation is not None:
                self._follow(world, allocation)
        self._mark(*self.budgets, *self.payments)

    def _mark(self, *payers: Payer) -> None:
        for payer in payers:
            name, payer_id = payer
            prepaid = name in ("wallet", "purse")
            if prepaid or payer in self.budgets or (name == "job" and payer_id in self.job_budgets):
                self.changed[payer] = None

    def _charge(self, world: World, charge: Charge) -> None:
        self.fresh_us = first_of((self.fresh_us, charge.at_us))
        month = month_of(charge.at_us)
        if month > self.month:
            self.now_us = max(self.now_us, charge.at_us)
            self._turn(month)
            self._redraw(world)
        if month == self.month:
            for payer in monthly(charge):
                self.spent[payer] += charge.amount_nano
            self._mark(*monthly(charge))
        if charge.price_id in self.tiered and charge.kind == "usage":
            self.tallies[charge.organization_id, charge.price_id, calendar_month(charge.to_us - 1)] += charge.quantity
        if charge.job_id in self.job_budgets:
            self.spent["job", charge.job_id] += charge.amount_nano
            self._mark(("job", charge.job_id))

    def _transfer(self, transfer: Transfer) -> None:
        organization_id = transfer.organization_id
        if wallet(organization_id) in (transfer.debit, transfer.credit):
            self._mark(("wallet", organization_id))

    def _know_grant(self, grant: Grant) -> None:
        """Credit came, or less is left of it. With new credit what was halted may go on, and is warned anew."""
        known = self.grants.setdefault(grant.organization_id, {})
        before = known.pop(grant.id, None)
        if grant.open:
            known[grant.id] = grant
        payers = [("wallet", grant.organization_id)]
        if grant.project_id != ANY:
            payers.append(("purse", grant.project_id))
        else:
            payers += [payer for payer in self.payments if payer[0] == "purse"]
        if before is None or grant.left_nano > before.left_nano:
            for payer in payers:
                self.halted.pop(payer[1], None)
                self.warned.pop(payer[1], None)
        self._mark(*payers)

    def _know_hold(self, hold: Hold) -> None:
        pending = hold.stage is HoldStage.PENDING
        sign = 1 if pending else -1
        if pending:
            self.hold_ends[hold.id] = hold.expires_us
        else:
            self.hold_ends.pop(hold.id, None)
        for payer in (("wallet", hold.organization_id), ("purse", hold.project_id)):
            self.held_nano[payer] += sign * hold.amount_nano
            self._mark(payer)

    def _know_contract(self, contract: Contract) -> None:
        known = self.contracts.setdefault(contract.organization_id, {})
        known.pop(contract.id, None)
        if contract.state is ContractState.ACTIVE:
            known[contract.id] = contract
        if not known:
            del self.contracts[contract.organization_id]

    def _know_organization(self, organization: Organization) -> None:
        if organization.prepaid:
            self.prepaid[organization.id] = None
            self._mark(("wallet", organization.id))
        else:
            self.prepaid.pop(organization.id, None)

    def _know_job(self, job: Job) -> None:
        if job.spec.budget_nano is None:
            return
        if job.state in ENDED:
            self.job_budgets.pop(job.id, None)
            self.spent.pop(("job", job.id), None)
        else:
            self.job_budgets[job.id] = job.spec.budget_nano

    def _follow(self, world: World, allocation: Allocation) -> None:
        """Forget the allocation as it was and take it in as it is."""
        self._forget(allocation.id)
        if allocation.settled:
            return
        if allocation.released_us is not None:
            self.released[allocation.id] = None
            return
        metered_us = allocation.metered_us if allocation.records else allocation.held_us
        hour = hour_start_us(metered_us)
        self.hours.setdefault(allocation.cluster_id, {}).setdefault(hour, {})[allocation.id] = None
        self._places[allocation.id] = (allocation.cluster_id, hour)
        line = self._lines[allocation.id] = self._rates.draw(world, allocation, metered_us)
        for payer in line.payers:
            base = line.base if payer[0] in LASTING else line.month_base
            self.payments.setdefault(payer, Payments()).add(allocation.id, line, base)
        self._mark(*line.payers)

    def _forget(self, allocation_id: str) -> None:
        self.released.pop(allocation_id, None)
        line = self._lines.pop(allocation_id, None)
        if line is None:
            return
        cluster_id, hour = self._places.pop(allocation_id)
        del self.hours[cluster_id][hour][allocation_id]
        if not self.hours[cluster_id][hour]:
            del self.hours[cluster_id][hour]
        if not self.hours[cluster_id]:
            del self.hours[cluster_id]
        for payer in line.payers:
            payments = self.payments[payer]
            payments.drop(allocation_id, line, line.base if payer[0] in LASTING else line.month_base)
            if not payments.lines:
                del self.payments[payer]
        self._mark(*line.payers)


def book_of(world: World) -> Book:
    """All prices and rates of the warm world."""
    return Book(world.all(Price).values(), world.all(Exchange).values())


def tallies(reads: Reads, prices: Iterable[str], month: str, **where: object) -> dict[Tally, int]:
    """What was charged in a month of prices with tiers, in whatever month it was charged."""
    begin, end = month_span_us(month)
    found: dict[Tally, int] = {}
    rows = reads.total(
        Charge, "quantity", ("organization_id", "price_id", "kind"), price_id=[*prices, ""][:-1] or [""],
        to_us__ge=begin + 1, to_us__lt=end + 1, **where,
    )  # fmt: skip
    for row in rows:
        if row["kind"] == "usage":
            tally = (row["organization_id"], row["price_id"], month)
            found[tally] = found.get(tally, 0) + row["quantity"]
    return found


def first_of(moments: Iterable[int | None]) -> int | None:
    """The earliest of some moments of which any may be missing."""
    return min((moment for moment in moments if moment is not None), default=None)
