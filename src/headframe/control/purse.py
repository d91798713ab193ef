"""Whether there is money for a start: what limits leave, less what runs, less what starts in the same pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from headframe.base.quantities import HOUR_US
from headframe.control.lines import Payer
from headframe.control.spending import Spending
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster, Node, Slice
from headframe.metering.meter import quantities
from headframe.pricing.book import Buyer
from headframe.pricing.rate import WHOLE, cost_between, least_nano, slope
from headframe.scheduling.queue import Bucket
from headframe.tenants.records import AtLimit, Organization


class Purse:
    """Answers for one pass over the queue. Every start costs at least its minimum, so that much must be there."""

    def __init__(self, world: World, spending: Spending, now_us: int) -> None:
        self._world, self._spending, self._now_us = world, spending, now_us
        self._promised: Counter[Payer] = Counter()  # to starts of this pass

    def blocked(self, organization_id: str, project_id: str, member_id: str) -> str:
        """Why these payers may start nothing at all now; "" when they may."""
        owners = (organization_id, project_id, member_id)
        return self._spending.blocked(self._world, *owners, self._now_us) or ""

    def short(self, bucket: Bucket, slices: tuple[Slice, ...]) -> str:
        """Which limit does not cover the least charge for `slices`; "" when all do, and then it is set aside."""
        limits = list(self._limits(bucket))
        if not limits:
            return ""
        least = self._least(bucket.organization_id, bucket.purchase, slices)
        for payer, left_nano, reason in limits:
            if left_nano - self._promised[payer] - self._pledged(payer) < least:
                return reason
        for payer, _, _ in limits:
            self._promised[payer] += least
        return ""

    def price(self, bucket: Bucket, region_id: str, slices: tuple[Slice, ...]) -> int:
        """What slices cost an hour in a region, in nano-units, rounded up."""
        currency = self._world.all(Organization)[bucket.organization_id].currency
        buyer = Buyer(bucket.organization_id, currency, region_id, bucket.purchase)
        return -(-slope(quantities(slices), buyer, self._spending.book, self._now_us) * HOUR_US // WHOLE)

    def _limits(self, bucket: Bucket) -> Iterator[tuple[Payer, int, str]]:
        """(payer, nano-units left beyond what runs, the reason when they do not suffice) of every limit that stops."""
        world, spending, now_us = self._world, self._spending, self._now_us
        organization: Organization = world.all(Organization)[bucket.organization_id]
        if organization.prepaid:
            for payer in (("wallet", organization.id), ("purse", bucket.project_id)):
                credit = spending.credit_nano(organization.id, payer, now_us)
                yield payer, credit - spending.accrued_nano(payer, now_us), "credit_exhausted"
        owners = (bucket.organization_id, bucket.project_id, bucket.member_id)
        for payer in zip(("organization", "project", "member"), owners, strict=True):
            budget = spending.budget_of(world, payer)
            if budget is not None and budget.at_limit is not AtLimit.WARN:
                spent = spending.spent[payer] + spending.accrued_nano(payer, now_us)
                yield payer, budget.amount_nano - spent, "budget_exhausted"

    def _pledged(self, payer: Payer) -> int:
        """What the payer's open allocations will cost at least, beyond what they have cost so far."""
        payments = self._spending.payments.get(payer)
        total = 0
        for allocation_id in payments.lines if payments is not None else ():
            held: Allocation | None = self._world.get(Allocation, allocation_id)
            if held is not None:
                ran_us = 0 if held.running_us is None else self._now_us - held.running_us
                total += self._least(held.organization_id, held.purchase, held.slices, ran_us)
        for held in self._world.derived.unsettled.values():  # ended, and charged at the end of this turn
            owners = (held.organization_id, held.project_id, held.member_id)
            if payer[1] in owners and held.running_us is not None and held.released_us is not None:
                ran_us = held.released_us - held.running_us
                total += self._least(held.organization_id, held.purchase, held.slices, ran_us)
                total += self._least(held.organization_id, held.purchase, held.slices, span_us=ran_us)
        return total

    def _least(
        self,
        organization_id: str,
        purchase: str,
        slices: tuple[Slice, ...],
        ran_us: int = 0,
        span_us: int | None = None,
    ) -> int:
        """The least charge still to come for `slices` after `ran_us`, or that for `span_us`; nano-units, rounded up."""
        node: Node | None = self._world.get(Node, slices[0].node_id)
        cluster: Cluster | None = self._world.get(Cluster, node.cluster_id) if node is not None else None
        region_id = cluster.region_id if cluster is not None else ""
        currency = self._world.all(Organization)[organization_id].currency
        held = quantities(slices)
        buyer, book = Buyer(organization_id, currency, region_id, purchase), self._spending.book
        if span_us is not None:
            return -(-cost_between(held, buyer, book, self._now_us - span_us, self._now_us) // WHOLE)
        return least_nano(held, buyer, book, self._now_us, ran_us)
