"""The shape "graduated": the first units of a month cost one price, the next ones another, as income tax does.

What a month's quantity costs is one continuous function of it, so a piece costs the difference of its two ends. In
whatever pieces and order a month is charged, the sum is the same to the nano-unit.
"""

from __future__ import annotations

from headframe.base.money import divide_half_even
from headframe.pricing.book import PICO, Offer
from headframe.pricing.parts import Part, backwards, check_tiers, tier_at
from headframe.pricing.records import Price

PRICING = "standard"


def worth_nano(offer: Offer, quantity: int) -> int:
    """What the first `quantity` of a month costs, rounded once."""
    whole = bottom = 0
    for tier in offer.price.tiers:
        top = quantity if tier.up_to is None else min(quantity, tier.up_to * offer.size)
        whole += max(0, top - bottom) * tier.unit_nano
        bottom = max(bottom, top)
    return divide_half_even(whole * offer.rate_pico, offer.size * PICO)


def parts(offer: Offer, before: int, quantity: int) -> tuple[Part, ...]:
    """One part for each tier that [before, before + quantity) touches."""
    if quantity < 0:
        return backwards(parts, offer, before, quantity)
    made: list[Part] = []
    end = before + quantity
    while before < end or not made:
        tier = tier_at(offer.price, offer.size, before)
        stop = end if tier.up_to is None else min(end, tier.up_to * offer.size)
        amount = worth_nano(offer, stop) - worth_nano(offer, before)
        made.append(Part("usage", stop - before, tier.unit_nano, amount))
        before = stop
    return tuple(made)


def check(price: Price) -> None:
    """Raise `Invalid` for what such a price cannot have."""
    check_tiers(price)
