"""What an open allocation costs beyond its charges: a line over time, and the sum of the lines of one payer.

A line is straight from the moment on at which prices are known to hold; what lies before it is summed exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster
from headframe.jobs.records import Job
from headframe.ledger.close import month_span_us
from headframe.metering.meter import quantities, states_of
from headframe.pricing.book import ANY, Book, Buyer
from headframe.pricing.rate import CHARGED, cost_between, slope
from headframe.pricing.records import Charge, Contract
from headframe.tenants.records import Organization

# Who pays or is limited: ("organization" | "project" | "member", id) by the month; for good ("wallet", organization),
# ("purse", project), which is what of the wallet the project may use, and ("job", id).
Payer = tuple[str, str]
LASTING = ("wallet", "purse", "job")


@dataclass(frozen=True, slots=True)
class Line:
    """The cost of one open allocation that is not yet charged: `slope` x moment + `base`, in nano-units / WHOLE.

    `month_base` is the base when only the time since the month began is counted.
    """

    job_id: str
    payers: tuple[Payer, ...]
    warn_us: int
    slope: int = 0
    base: int = 0
    month_base: int = 0


class Payments:
    """All open allocations that one payer pays for, as one line."""

    __slots__ = ("lines", "slope", "sum", "warns")

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.slope = 0
        self.sum = 0
        self.warns: Counter[int] = Counter()

    def add(self, allocation_id: str, line: Line, base: int) -> None:
        self.lines[allocation_id] = line
        self.slope += line.slope
        self.sum += base
        self.warns[line.warn_us] += 1

    def drop(self, allocation_id: str, line: Line, base: int) -> None:
        del self.lines[allocation_id]
        self.slope -= line.slope
        self.sum -= base
        self.warns[line.warn_us] -= 1
        if not self.warns[line.warn_us]:
            del self.warns[line.warn_us]


@dataclass(frozen=True, slots=True)
class Rates:
    """What lines are drawn by: the prices that hold from `priced_us` on, and each organization's open contracts."""

    book: Book
    priced_us: int
    now_us: int
    month: str
    contracts: Mapping[str, Mapping[str, Contract]]

    def draw(self, world: World, allocation: Allocation, metered_us: int) -> Line:
        """The line of an open allocation, from what is already charged on."""
        job: Job | None = world.get(Job, allocation.job_id)
        wallets = (("wallet", allocation.organization_id), ("purse", allocation.project_id))
        payers = (*monthly(allocation), *wallets, ("job", allocation.job_id))
        line = Line(allocation.job_id, payers, job.spec.warn_before_stop_us if job is not None else 0)
        organization: Organization | None = world.get(Organization, allocation.organization_id)
        if allocation.running_us is None or organization is None:
            return line
        cluster: Cluster | None = world.get(Cluster, allocation.cluster_id)
        region_id = cluster.region_id if cluster is not None else ""
        buyer = Buyer(organization.id, organization.currency, region_id, allocation.purchase)
        held = self.charged_at_once(allocation, region_id)
        rise = slope(held, buyer, self.book, self.priced_us)
        states = states_of(allocation)

        def base(start_us: int) -> int:
            """Stretches under earlier prices and in earlier states are summed exactly; then the line is straight."""
            total = 0
            for (from_us, state), (to_us, _) in pairwise(states):
                past = self.charged_at_once(allocation, region_id, state)
                total += cost_between(past, buyer, self.book, max(start_us, from_us), max(start_us, to_us))
            start_us = max(start_us, states[-1][0])
            bend_us = max(start_us, self.priced_us)
            return total + cost_between(held, buyer, self.book, start_us, bend_us) - rise * bend_us

        start_us = max(allocation.running_us, metered_us)
        month_us = max(start_us, month_span_us(self.month)[0])
        whole = base(start_us)
        part = whole if month_us == start_us else base(month_us)
        return Line(line.job_id, payers, line.warn_us, rise, whole, part)

    def charged_at_once(self, allocation: Allocation, region_id: str, state: str = "") -> dict[str, int]:
        """What of an allocation is charged as it is, as it will run, or in a state: without what contracts cover."""
        now = state or (states_of(allocation)[-1][1] if allocation.running_us is not None else "running")
        charged = CHARGED.get(now)
        held = {meter: quantity for meter, quantity in quantities(allocation.slices).items() if charged}
        held = {meter: quantity for meter, quantity in held.items() if charged is None or charged(meter)}
        terms = self.contracts.get(allocation.organization_id)
        if not terms or allocation.purchase == "spot":
            return held
        covered = {
            one.meter
            for one in terms.values()
            if one.quantity and one.region_id in (ANY, region_id) and one.from_us <= self.now_us < one.to_us
        }
        return {meter: quantity for meter, quantity in held.items() if meter not in covered}


def monthly(owned: Allocation | Charge) -> tuple[Payer, ...]:
    """Whose monthly budgets something counts for."""
    return (
        ("organization", owned.organization_id),
        ("project", owned.project_id),
        ("member", owned.member_id),
    )
