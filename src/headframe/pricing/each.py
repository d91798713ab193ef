"""The shape "each": so much for each thing counted."""

from __future__ import annotations

from headframe.pricing.book import Offer
from headframe.pricing.parts import Part, refuse_tiers, straight
from headframe.pricing.records import Price

PRICING = "standard"


def parts(offer: Offer, before: int, quantity: int) -> tuple[Part, ...]:
    """One part: what came before makes no difference."""
    return straight(offer, quantity)


def check(price: Price) -> None:
    """Raise `Invalid` for what such a price cannot have."""
    refuse_tiers(price)
