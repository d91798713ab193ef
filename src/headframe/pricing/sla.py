"""The contract "sla": when what a customer used was up for less of a month than promised, a share of it is credited.

Time is down when it was under our repair: while what it ran on was not well, and from a fault that ended it to the
moment at which it ran again, the wait for another place included. Availability is the share of all charged and repaired
time, weighted by what was held; the lowest step that it falls below counts. What never ran was not down.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import pairwise

from headframe.base.errors import Invalid
from headframe.base.money import divide_half_even
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Contract

MILLION = 1_000_000


def worth_nano(contract: Contract, at_us: int) -> int:
    """Such a contract costs nothing."""
    return 0


def availability(
    contract: Contract, usage: Iterable[UsageRecord], from_us: int, to_us: int, waiting: Container[str] = ()
) -> int:
    """The share of [from_us, to_us) that was up, in millionths; all of it when nothing was used.

    `usage` are the records that begin in it, `waiting` the jobs that yet have to run again after a fault of ours.
    """
    up = down = 0
    lives: dict[str, list[UsageRecord]] = {}
    for record in usage:
        weight = _weight(contract, record) * (record.to_us - record.from_us)
        up += weight if record.state == "running" else 0
        down += weight if record.state == "repair" else 0
        if record.job_id:
            lives.setdefault(record.job_id, []).append(record)
    for job_id, records in lives.items():
        records.sort(key=lambda one: (one.from_us, one.to_us, one.id))
        if records[0].state == "repair" and not records[0].running_before_us:  # it was down when the span began
            down += _weight(contract, records[0]) * (records[0].from_us - from_us)
        for one, following in pairwise(records):
            if _broken(one) and following.allocation_id != one.allocation_id:
                down += _weight(contract, one) * (following.from_us - one.to_us)
        if _broken(records[-1]) and job_id in waiting:
            down += _weight(contract, records[-1]) * (to_us - records[-1].to_us)
    return up * MILLION // (up + down) if up + down else MILLION


def _broken(record: UsageRecord) -> bool:
    """Whether a fault of ours ended what ran, or was to run again."""
    return record.faulted and record.state != "provisioning"


def _weight(contract: Contract, record: UsageRecord) -> int:
    return record.quantities.get(contract.meter, 0) if contract.meter else _accelerators(record)


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
