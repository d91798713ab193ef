"""The loop's stages of money: meter and rate what was held, rate what contracts cover and ask for, end old credit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, gather
from headframe.base.money import Money
from headframe.base.quantities import HOUR_US, month_bounds_us, month_of
from headframe.control.ports import Reads
from headframe.control.spending import Spending
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster
from headframe.jobs.life import AFTER_OUR_FAULT
from headframe.jobs.records import Job
from headframe.ledger.records import Transfer
from headframe.ledger.wallets import Hold, HoldStage, expire, pay
from headframe.metering.meter import hour_start_us, meter
from headframe.metering.records import UsageRecord
from headframe.pricing.cover import cover
from headframe.pricing.fees import credits, fees, next_due_us
from headframe.pricing.rate import Rating
from headframe.pricing.records import Charge, Contract, ContractState
from headframe.tenants.records import Organization

AT_ONCE = 2000  # allocations metered in one transaction; the rest follows in the next tick
HOURS_AT_ONCE = 48  # of one organization's contracts


def meter_rate_post(world: World, spending: Spending, now_us: int, heard_us: Mapping[str, int]) -> Changes:
    """Usage records, charges and transfers of all that is due: what was released, and at each hour what is open.

    `heard_us` tells for each cluster when its engine last gave a full report. An open allocation is metered over the
    end of an hour only when that report is younger: an exit before it would else be told after it was charged.
    """
    spending.advance(world, now_us)
    spending.fresh_us = None  # what the turns before charged is in the store by now
    rows: list[object] = []
    used: dict[str, list[UsageRecord]] = {}
    for allocation_id, until_us in islice(spending.due_to_meter(now_us, heard_us), AT_ONCE):
        allocation: Allocation | None = world.get(Allocation, allocation_id)
        assert allocation is not None, f"{allocation_id} is due to be metered but is not warm"
        cluster: Cluster | None = world.get(Cluster, allocation.cluster_id)
        usage, after = meter(allocation, cluster.region_id if cluster is not None else "", until_us)
        rows += usage
        rows.append(after)
        used.setdefault(allocation.organization_id, []).extend(usage)
    for organization_id, records in used.items():
        rating = rating_of(world, spending, organization_id)
        charges = [charge for record in records for charge in rating.charges(record)]
        rows += booked(world, spending, organization_id, charges)
    return Changes(rows=tuple(rows))


def rating_of(world: World, spending: Spending, organization_id: str) -> Rating:
    """How the use of an organization is rated now."""
    currency = currency_of(world, organization_id)
    return Rating(spending.book, currency, spending.tallies, spending.deferred)


def booked(
    world: World,
    spending: Spending,
    organization_id: str,
    charges: Iterable[Charge],
    earlier: Mapping[str, Sequence[Transfer]] | None = None,
) -> list[Any]:
    """Charges of one organization and how they are paid, as rows; `earlier` as for `pay`."""
    charges = list(charges)
    organization: Organization | None = world.get(Organization, organization_id)
    prepaid = organization is not None and organization.prepaid
    grants = spending.grants.get(organization_id, {}).values()
    return [*charges, *pay(charges, grants, prepaid, spending.now_us, earlier)]


def bookings(reads: Reads, newest: Mapping[str, str]) -> dict[str, list[Transfer]]:
    """The transfers that booked earlier charges, by the charge that corrects them; `newest` leads to their ids."""
    owners = {f"{before}.{part}": charge for charge, before in newest.items() for part in ("receivable", "wallet")}
    names = sorted(owners)
    found: dict[str, list[Transfer]] = {}
    for first in range(0, len(names), 500):
        for row in reads.find(Transfer, id=names[first : first + 500], limit=500):
            found.setdefault(owners[row.id], []).append(row)
    return found


def currency_of(world: World, organization_id: str) -> str:
    """The currency in which an organization is billed."""
    organization: Organization | None = world.get(Organization, organization_id)
    return organization.currency if organization is not None else "USD"


def metered_until(world: World) -> dict[str, int]:
    """How far the use of each organization is surely metered, for those who have open allocations."""
    reached: dict[str, int] = {}
    for allocation in world.all(Allocation).values():
        until_us = allocation.metered_us if allocation.records else allocation.held_us
        reached[allocation.organization_id] = min(reached.get(allocation.organization_id, until_us), until_us)
    return reached


def closed_month(spending: Spending, organization_id: str, month: str) -> str:
    """The month when it is closed already, so that whatever belongs to it corrects it; else ""."""
    return month if month < spending.to_close.get(organization_id, "") else ""


def every(reads: Reads, kind: type[Any], **where: Any) -> Iterator[Any]:
    """All rows of a class that pass a filter, page by page, in the order of their ids."""
    after: str | None = None
    while page := reads.find(kind, after=after, limit=2000, **where):
        yield from page
        after = page[-1].id


def usage_of(reads: Reads, organization_id: str, from_us: int, to_us: int) -> list[UsageRecord]:
    """All usage records of an organization that begin in [from_us, to_us)."""
    span = {"from_us__ge": from_us, "from_us__lt": to_us}
    return list(every(reads, UsageRecord, organization_id=organization_id, **span))


# Contracts.


def contracts_due(world: World, spending: Spending, reads: Reads, now_us: int) -> Changes:
    """Charge what contracts cover, by the hour, and what they ask for, by the month, once all use is in the store."""
    if not spending.contracts:
        return NOTHING
    reached = metered_until(world)
    fresh_us = now_us if spending.fresh_us is None else spending.fresh_us - 1
    parts = []
    for organization_id, contracts in sorted(spending.contracts.items()):
        certain_us = min(now_us, fresh_us, reached.get(organization_id, now_us))
        parts.append(_charge_contracts(world, spending, reads, list(contracts.values()), certain_us))
    return gather(parts)


def step_us(contract: Contract) -> int:
    """Up to when a contract is to be charged next: hour by hour when it covers use, else from fee to fee."""
    if not contract.quantity:
        return next_due_us(contract)
    hour_us = hour_start_us(max(contract.rated_us, contract.from_us)) + HOUR_US
    return min(hour_us, contract.to_us, next_due_us(contract))


def _charge_contracts(
    world: World, spending: Spending, reads: Reads, contracts: list[Contract], certain_us: int
) -> Changes:
    """All contracts of one organization, step by step up to a moment: those that share an hour share its use."""
    organization_id = contracts[0].organization_id
    rating = rating_of(world, spending, organization_id)
    now = {contract.id: contract for contract in contracts}
    charges: list[Charge] = []
    events: list[Event] = []
    for _ in range(HOURS_AT_ONCE):
        open_now = [one for one in now.values() if one.state is ContractState.ACTIVE]
        until_us = min((step_us(one) for one in open_now), default=certain_us + 1)
        if until_us > certain_us:
            break
        due = sorted((one for one in open_now if step_us(one) == until_us), key=lambda one: one.id)
        if until_us % HOUR_US == 0:
            hour = [one for one in open_now if one.quantity and one.from_us < until_us]
            charges += _cover_hour(reads, hour, rating, until_us)
        for contract in due:
            if next_due_us(contract) == until_us:
                charges += _ask(world, reads, contract, until_us, charges)
            after = replace(contract, rated_us=until_us)
            if until_us >= contract.to_us:
                after = replace(after, state=ContractState.EXPIRED)
                events.append(_over(after, until_us))
            now[contract.id] = after
    changed = [
        replace(after, version=before.version + 1)
        for before in contracts
        if (after := now[before.id]) != before
    ]  # fmt: skip
    return Changes((*booked(world, spending, organization_id, charges), *changed), tuple(events))


def _cover_hour(reads: Reads, contracts: list[Contract], rating: Rating, until_us: int) -> list[Charge]:
    """The charges of the hour that ends at `until_us`."""
    if not contracts:
        return []
    from_us = until_us - HOUR_US
    usage = usage_of(reads, contracts[0].organization_id, from_us, until_us)
    return list(cover(usage, contracts, rating, from_us, until_us))


def _ask(world: World, reads: Reads, contract: Contract, due_us: int, fresh: list[Charge]) -> list[Charge]:
    """The fee of a contract, or what an SLA gives back; `fresh` are charges that are not in the store yet."""
    if contract.shape != "sla":
        return list(fees(contract, due_us))
    from_us = max(contract.from_us, month_bounds_us(month_of(due_us - 1))[0])
    owner = {"organization_id": contract.organization_id}
    if contract.project_id:
        owner["project_id"] = contract.project_id
    if contract.meter:
        owner["meter"] = contract.meter
    rows = reads.total(
        Charge, "amount_nano", ("kind",), at_us__ge=from_us + 1, at_us__lt=due_us + 1, late_month="", **owner
    )
    charged = sum(row["amount_nano"] for row in rows if row["kind"] != "credit")
    for charge in fresh:
        same = all(getattr(charge, name) == value for name, value in owner.items())
        charged += charge.amount_nano if same and charge.kind != "credit" and charge.at_us > from_us else 0
    usage = usage_of(reads, contract.organization_id, from_us, due_us)
    mine = [one for one in usage if contract.project_id in ("", one.project_id)]
    return list(credits(contract, mine, charged, from_us, due_us, _down(world, due_us)))


def _down(world: World, at_us: int) -> set[str]:
    """The jobs that waited, at a moment just past, to run again after a fault of ours."""
    waiting = {job.id for job in world.all(Job).values() if job.reason == AFTER_OUR_FAULT}
    for allocation in world.all(Allocation).values():
        if allocation.marks and allocation.held_us >= at_us and allocation.marks[0][1] == "repair":
            waiting.add(allocation.job_id)
    return waiting


def _over(contract: Contract, at_us: int) -> Event:
    text = f"The contract {contract.title!r} is over."
    return Event(at_us, "contract_expired", contract.id, text, contract.organization_id, contract.project_id)


# Credit whose time is over.


def expire_credit(world: World, spending: Spending, now_us: int) -> Changes:
    """Void holds that nobody resolved, and take back what is left of grants, when their time is over."""
    return gather((*_expire_holds(world, now_us), _expire_grants(world, spending, now_us)))


def _expire_holds(world: World, now_us: int) -> Iterator[Changes]:
    for _, hold in sorted(world.all(Hold).items()):
        if hold.expires_us <= now_us:
            after = replace(hold, stage=HoldStage.VOIDED, version=hold.version + 1)
            text = f"{Money(hold.amount_nano, hold.currency)} of credit is free again: the time to use it is over."
            detail = {"amount_nano": hold.amount_nano, "source": hold.source}
            told = Event(now_us, "hold_voided", hold.id, text, hold.organization_id, hold.project_id, detail=detail)
            yield Changes((after,), (told,))


def _expire_grants(world: World, spending: Spending, now_us: int) -> Changes:
    """Grants go when all use before they expired is charged."""
    old = [
        grant
        for grants in spending.grants.values()
        for grant in grants.values()
        if grant.expires_us is not None and grant.expires_us <= now_us
    ]
    if not old:
        return NOTHING
    reached = metered_until(world)
    parts = []
    for grant in sorted(old, key=lambda one: one.id):
        assert grant.expires_us is not None
        if reached.get(grant.organization_id, now_us) < grant.expires_us:
            continue
        transfer, after = expire(grant, now_us)
        text = f"{Money(grant.left_nano, grant.currency)} of credit has expired."
        told = Event(
            now_us, "credit_expired", grant.organization_id, text, grant.organization_id,
            detail={"grant": grant.id, "amount_nano": grant.left_nano, "currency": grant.currency},
        )  # fmt: skip
        parts.append(Changes((transfer, after), (told,)))
    return gather(parts)
