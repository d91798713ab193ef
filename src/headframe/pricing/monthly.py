"""The contract "monthly": so much for each calendar month (UTC), prorated to the second at both ends.

With a `quantity` that much is covered at every moment, as by a reserved contract; without, it is a fee.
"""

from __future__ import annotations

from headframe.base.money import divide_half_even
from headframe.base.quantities import month_bounds_us, month_of
from headframe.pricing.records import Contract


def worth_nano(contract: Contract, at_us: int) -> int:
    """Whole months, and the parts of the first and the last, each rounded once from the beginning of its month."""
    total, start_us = 0, contract.from_us
    end_us = min(max(at_us, contract.from_us), contract.to_us)
    while start_us < end_us:
        first_us, next_us = month_bounds_us(month_of(start_us))
        stop_us = min(end_us, next_us)
        total += _share(contract, stop_us - first_us, next_us - first_us)
        total -= _share(contract, start_us - first_us, next_us - first_us)
        start_us = stop_us
    return total


def _share(contract: Contract, part_us: int, whole_us: int) -> int:
    return divide_half_even(contract.unit_nano * part_us, whole_us)


def check(contract: Contract) -> None:
    """Anything may be paid by the month."""
