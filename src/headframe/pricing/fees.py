"""What contracts ask for and give back by the month: fees, and credit for what was not up."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from headframe.base.quantities import month_bounds_us, month_of
from headframe.metering.records import UsageRecord
from headframe.pricing import sla
from headframe.pricing.cover import contract_charge
from headframe.pricing.records import Charge, Contract
from headframe.pricing.registry import CONTRACTS


def next_due_us(contract: Contract) -> int:
    """When the next fee or credit of a contract falls due, after what was charged (`rated_us`): at the end of a month.

    What is paid once, or all at the beginning, is due a microsecond after that: a moment belongs to what it ends.
    """
    at_us = max(contract.rated_us, contract.from_us)
    if contract.shape == "once" or contract.upfront:
        return contract.from_us + 1 if at_us <= contract.from_us else contract.to_us
    return min(contract.to_us, month_bounds_us(month_of(at_us))[1])


def fees(contract: Contract, due_us: int) -> Iterator[Charge]:
    """The fee that falls due at `due_us` (see `next_due_us`).

    A contract that covers use spreads its worth over that use (`cover`), so that its fee has no effect of its own; any
    other takes effect as it is charged.
    """
    terms = CONTRACTS[contract.shape]
    if contract.shape == "once" or contract.upfront:
        from_us, to_us = contract.from_us, contract.to_us
        if due_us != from_us + 1:
            return
    else:
        from_us, to_us = max(contract.from_us, month_bounds_us(month_of(due_us - 1))[0]), due_us
    amount = terms.worth_nano(contract, to_us) - terms.worth_nano(contract, from_us)
    if amount:
        yield contract_charge(
            contract, f"fee.{from_us}", "fee", from_us, to_us, due_us, quantity=1, unit="one", unit_nano=amount,
            amount_nano=amount, list_nano=amount, contracted_nano=amount,
            effective_nano=0 if contract.quantity else amount,
        )  # fmt: skip


def credits(
    contract: Contract, usage: Iterable[UsageRecord], charged_nano: int, from_us: int, to_us: int,
    waiting: Container[str] = (),
) -> Iterator[Charge]:  # fmt: skip
    """What an SLA gives back for [from_us, to_us): `usage` tells what was up, `charged_nano` what it cost.

    `waiting` are the jobs that have yet to run again after a fault of ours.
    """
    available = sla.availability(contract, usage, from_us, to_us, waiting)
    amount = -sla.credit_nano(contract, available, charged_nano)
    if amount:
        yield contract_charge(
            contract, f"credit.{from_us}", "credit", from_us, to_us, to_us, quantity=1, unit="one", unit_nano=amount,
            amount_nano=amount, list_nano=amount, contracted_nano=amount, effective_nano=amount, pricing="",
            labels={"available_millionths": str(available)},
        )  # fmt: skip
