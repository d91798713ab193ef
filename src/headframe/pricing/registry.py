"""The shapes of prices and of contracts by name. One module per shape; one line here."""

from __future__ import annotations

from typing import Protocol

from headframe.pricing import (
    each,
    graduated,
    hourly,
    monthly,
    once,
    power,
    reserved,
    sla,
    spot,
    storage,
    tokens,
    volume,
)
from headframe.pricing.book import Offer
from headframe.pricing.parts import Part
from headframe.pricing.records import Contract, Price


class Shape(Protocol):
    """What a module of a price shape provides. `PRICING` is its category in the words of FOCUS, in small letters."""

    PRICING: str

    def parts(self, offer: Offer, before: int, quantity: int) -> tuple[Part, ...]:
        """What a quantity costs when `before` of it was charged earlier in the month; both in the meter's quantity."""
        ...

    def check(self, price: Price) -> None:
        """Raise `Invalid` for a price that this shape cannot be."""
        ...


class Terms(Protocol):
    """What a module of a contract shape provides."""

    def worth_nano(self, contract: Contract, at_us: int) -> int:
        """What of the contract's price belongs to the time up to the moment: 0 at its beginning, all at its end."""
        ...

    def check(self, contract: Contract) -> None:
        """Raise `Invalid` for a contract that this shape cannot be."""
        ...


SHAPES: dict[str, Shape] = {
    "hourly": hourly,
    "spot": spot,
    "power": power,
    "storage": storage,
    "tokens": tokens,
    "each": each,
    "graduated": graduated,
    "volume": volume,
}
CONTRACTS: dict[str, Terms] = {
    "reserved": reserved,
    "monthly": monthly,
    "once": once,
    "sla": sla,
}
