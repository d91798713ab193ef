"""The contract "reserved": so much for each unit and hour of what is promised, used or not (take or pay).

What runs beyond the promise is charged at the usual price (`cover`).
"""

from __future__ import annotations

from headframe.base.errors import Invalid
from headframe.base.money import divide_half_even
from headframe.pricing.records import Contract
from headframe.pricing.units import is_held, size_of


def worth_nano(contract: Contract, at_us: int) -> int:
    """Price x promise x time, rounded once."""
    passed_us = min(max(at_us, contract.from_us), contract.to_us) - contract.from_us
    return divide_half_even(
        contract.unit_nano * contract.quantity * passed_us, size_of(contract.meter, contract.unit)
    )  # fmt: skip


def check(contract: Contract) -> None:
    """Raise `Invalid` for what such a contract cannot be."""
    if contract.quantity <= 0 or not is_held(contract.meter):
        raise Invalid(
            "A reserved contract needs something that is promised.",
            field="quantity", value=contract.quantity, allowed="more than nothing of gpu:<kind>, cpu, memory or disk",
        )  # fmt: skip
