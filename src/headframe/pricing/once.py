"""The contract "once": a fixed fee, such as for setting something up, due at the beginning."""

from __future__ import annotations

from headframe.base.errors import Invalid
from headframe.pricing.records import Contract


def worth_nano(contract: Contract, at_us: int) -> int:
    """All of it, from the beginning on."""
    return contract.unit_nano if at_us > contract.from_us else 0


def check(contract: Contract) -> None:
    """Raise `Invalid` for what such a contract cannot be."""
    if contract.quantity:
        raise Invalid("A fee that is paid once covers nothing.", field="quantity", value=contract.quantity, allowed="0")
