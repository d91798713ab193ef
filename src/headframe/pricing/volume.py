"""The shape "volume": all units of a month cost the price of the tier that the month's quantity reaches.

While the month runs, each piece is charged at the tier reached so far; when a tier is passed, a part of kind "tier"
makes up for what was charged at the old price. So the month's sum is what its quantity costs, in whatever pieces and
order.
"""

from __future__ import annotations

from headframe.pricing.book import Offer
from headframe.pricing.parts import Part, check_tiers, tier_at
from headframe.pricing.records import Price

PRICING = "standard"


def _each_nano(offer: Offer, quantity: int) -> int:
    """What each unit costs when the month's quantity is so much: a tier holds up to and with its bound."""
    return tier_at(offer.price, offer.size, max(0, quantity - 1)).unit_nano


def worth_nano(offer: Offer, quantity: int) -> int:
    """What a month of so much costs, rounded once."""
    return offer.amount_nano(quantity, _each_nano(offer, quantity))


def parts(offer: Offer, before: int, quantity: int) -> tuple[Part, ...]:
    """The piece at the tier that it reaches, and the difference that this makes for what came before."""
    old, new = _each_nano(offer, before), _each_nano(offer, before + quantity)
    amount = worth_nano(offer, before + quantity) - worth_nano(offer, before)
    if old == new or not before:
        return (Part("usage", quantity, new, amount),)
    piece = offer.amount_nano(quantity, new)
    return (Part("usage", quantity, new, piece), Part("tier", before, new - old, amount - piece))


def check(price: Price) -> None:
    """Raise `Invalid` for what such a price cannot have."""
    check_tiers(price)
