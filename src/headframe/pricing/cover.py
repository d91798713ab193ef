"""Use held against contracts: what they cover, what runs beyond, and what of them nobody uses.

Worked out for one organization and a stretch of time (an hour) from all of its usage records there at once, so that the
order in which they were written makes no difference. At every moment what was allocated first is covered first; of
several contracts the one that began first is used first. Used and unused together are exactly what is committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from headframe.base.money import split
from headframe.metering.records import UsageRecord
from headframe.pricing.book import ANY
from headframe.pricing.rate import Rating, buyer_of, owner_of
from headframe.pricing.records import Charge, Contract
from headframe.pricing.registry import CONTRACTS

Covered = dict[tuple[str, str], int]  # (contract, usage record) -> quantity covered, times microseconds


def covers(contract: Contract, record: UsageRecord, meter: str) -> bool:
    """Whether a contract is there for a meter of a record: what runs, bought in any way but spot."""
    return (
        contract.quantity > 0
        and contract.meter == meter
        and contract.organization_id == record.organization_id
        and contract.region_id in (ANY, record.region_id)
        and record.state == "running"
        and record.purchase != "spot"
        and contract.from_us <= record.from_us < contract.to_us
    )


@dataclass(frozen=True, slots=True)
class Beyond:
    """`held` of a record's meter that no contract covers, over [from_us, to_us)."""

    record: UsageRecord
    meter: str
    held: int
    from_us: int
    to_us: int


def sweep(usage: Iterable[UsageRecord], contracts: Sequence[Contract]) -> tuple[Covered, list[Beyond]]:
    """Walk through time: what each contract covers of each record, and what is beyond them all."""
    covered: Covered = defaultdict(int)
    beyond: list[Beyond] = []
    for meter in sorted({contract.meter for contract in contracts}):
        rivals = sorted((one for one in contracts if one.meter == meter), key=lambda one: (one.from_us, one.id))
        users = [one for one in usage if any(covers(contract, one, meter) for contract in rivals)]
        users = [one for one in users if one.quantities.get(meter)]
        users.sort(key=lambda one: (one.allocation_id, one.from_us))
        for start, stop in pairwise(sorted({moment for one in users for moment in (one.from_us, one.to_us)})):
            room = {contract.id: contract.quantity for contract in rivals}
            for record in users:
                if not record.from_us <= start < record.to_us:
                    continue
                left = record.quantities[meter]
                for contract in rivals:
                    if left and covers(contract, record, meter):
                        share = min(left, room[contract.id])
                        room[contract.id] -= share
                        left -= share
                        covered[contract.id, record.id] += share * (stop - start)
                if left:
                    _extend(beyond, Beyond(record, meter, left, start, stop))
    return covered, beyond


def _extend(beyond: list[Beyond], more: Beyond) -> None:
    """Join a stretch to the one before it of the same record when it is as much."""
    for place in range(len(beyond) - 1, max(-1, len(beyond) - 1000), -1):
        last = beyond[place]
        if last.record is more.record and last.meter == more.meter:
            if last.to_us == more.from_us and last.held == more.held:
                beyond[place] = replace(last, to_us=more.to_us)
                return
            break
    beyond.append(more)


def cover(
    usage: Sequence[UsageRecord], contracts: Sequence[Contract], rating: Rating, from_us: int, to_us: int
) -> Iterator[Charge]:
    """The charges of [from_us, to_us): "covered" and "unused" of each contract, and "usage" of what is beyond.

    All records and contracts are of one organization; records lie within the stretch. What a contract is worth over the
    stretch is spread, to the nano-unit, over what it covered and what it did not.
    """
    covered, beyond = sweep(usage, contracts)
    records = {record.id: record for record in usage}
    for contract in sorted(contracts, key=lambda one: one.id):
        start, stop = max(from_us, contract.from_us), min(to_us, contract.to_us)
        if start >= stop:
            continue
        used = sorted((name, quantity) for (owner, name), quantity in covered.items() if owner == contract.id)
        unused = contract.quantity * (stop - start) - sum(quantity for _, quantity in used)
        terms = CONTRACTS[contract.shape]
        worth = terms.worth_nano(contract, stop) - terms.worth_nano(contract, start)
        shares = split(worth, [*(quantity for _, quantity in used), unused])
        for (name, quantity), share in zip(used, shares, strict=False):
            yield _covered(contract, records[name], quantity, share, rating)
        if unused:
            yield _unused(contract, unused, shares[-1], start, stop)
    for number, one in enumerate(beyond):
        # What ends beyond the promise is topped up to the least running time as far as it was beyond.
        ends = replace(one.record, last=one.record.last and one.to_us == one.record.to_us)
        yield from rating.meter(ends, one.meter, one.held, one.from_us, one.to_us, f"beyond{number}.")


def _covered(contract: Contract, record: UsageRecord, quantity: int, share: int, rating: Rating) -> Charge:
    buyer, start, stop = buyer_of(record, contract.currency), record.from_us, record.to_us
    usual = [offer for _, _, offer in rating.book.pieces(contract.meter, buyer, start, stop) if offer is not None]
    return Charge(
        id=f"{record.id}.{contract.meter}.{contract.id}",
        **owner_of(record),
        meter=contract.meter,
        kind="covered",
        price_id="",
        quantity=quantity,
        unit_nano=usual[0].unit_nano if usual else 0,
        amount_nano=0,
        currency=contract.currency,
        from_us=start,
        to_us=stop,
        at_us=stop,
        unit=contract.unit,
        pricing="committed",
        list_nano=rating.list_nano(contract.meter, buyer, quantity, start, stop),
        contracted_nano=usual[0].amount_nano(quantity) if usual else 0,
        effective_nano=share,
        contract_id=contract.id,
    )


def _unused(contract: Contract, quantity: int, share: int, from_us: int, to_us: int) -> Charge:
    return contract_charge(
        contract, f"unused.{from_us}", "unused", from_us, to_us, to_us,
        quantity=quantity, unit=contract.unit, pricing="committed", effective_nano=share,
    )  # fmt: skip


def contract_charge(
    contract: Contract, name: str, kind: str, from_us: int, to_us: int, at_us: int, **more: object
) -> Charge:
    """A charge that comes from a contract and not from use; what is not told is nothing."""
    told: dict[str, object] = {"quantity": 0, "unit_nano": 0, "amount_nano": 0, **more}
    return Charge(
        id=f"{contract.id}.{name}",
        usage_id="",
        allocation_id="",
        job_id="",
        organization_id=contract.organization_id,
        project_id=contract.project_id,
        member_id="",
        meter=contract.meter or contract.shape,
        kind=kind,
        price_id="",
        currency=contract.currency,
        from_us=from_us,
        to_us=to_us,
        at_us=at_us,
        contract_id=contract.id,
        region_id="" if contract.region_id == ANY else contract.region_id,
        **told,  # type: ignore[arg-type]
    )
