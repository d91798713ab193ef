"""The contract "sla": when what a customer used was up for less of a month than promised, a share of it is credited.

Time is down when it was under our repair: between the fault and the moment at which the work ran again. Availability is
the share of all charged and repaired time, weighted by what was held; the lowest step that it falls below counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from headframe.base.errors import Invalid
from headframe.base.money import divide_half_even
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Contract

MILLION = 1_000_000


def worth_nano(contract: Contract, at_us: int) -> int:
    """Such a contract costs nothing."""
    return 0


def availability(contract: Contract, usage: Iterable[UsageRecord]) -> int:
    """The share of time that was up, in millionths; all of it when nothing was used."""
    up = down = 0
    for record in usage:
        weight = record.quantities.get(contract.meter, 0) if contract.meter else _accelerators(record)
        weight *= record.to_us - record.from_us
        up += weight if record.state == "running" else 0
        down += weight if record.state == "repair" else 0
    return up * MILLION // (up + down) if up + down else MILLION


def credit_nano(contract: Contract, available: int, charged_nano: int) -> int:
    """What is given back of `charged_nano` (positive), rounded once."""
    percent = max((share for below, share in contract.steps if available < below), default=0)
    return divide_half_even(max(0, charged_nano) * percent, 100)


def _accelerators(record: UsageRecord) -> int:
    """Thousandths of accelerators; of what has none, its cores."""
    gpus = sum(held for meter, held in record.quantities.items() if meter.startswith("gpu:"))
    return gpus or record.quantities.get("cpu", 0)


def check(contract: Contract) -> None:
    """Raise `Invalid` for what such a contract cannot be."""
    fits = all(0 < below <= MILLION and 0 < share <= 100 for below, share in contract.steps)
    if not contract.steps or not fits or contract.quantity or contract.unit_nano:
        raise Invalid(
            "An SLA needs steps of availability and credit.",
            field="steps", value=[list(step) for step in contract.steps], allowed="such as 99.9%=10 99%=25",
        )  # fmt: skip
