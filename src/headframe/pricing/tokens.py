"""The shape "tokens": so much per token, usually told per million; input, cached input and output are meters apart.

A count never holds what another counts: what came from the cache is taken out of the input at intake
(`metering.tokens`), whichever way an engine reports it.
"""

from __future__ import annotations

from headframe.base.errors import Invalid
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
    if not price.meter.startswith("tokens:"):
        raise Invalid(
            f"The shape tokens does not fit {price.meter}.",
            field="shape", value=price.shape, allowed="a meter tokens:<kind>",
        )  # fmt: skip
