"""The shape "power": so much per unit and hour, and the electricity that a unit draws at its site's price of the hour.

What a unit costs is `unit_nano` + `watts` / 1000 x the price of a kWh (meter "electricity") in its region. The book
works that out for each stretch between two prices of electricity; so the bill follows the market by the hour.
"""

from __future__ import annotations

from headframe.base.errors import Invalid
from headframe.pricing.book import Offer
from headframe.pricing.parts import Part, refuse_tiers, straight
from headframe.pricing.records import Price
from headframe.pricing.units import is_held

PRICING = "dynamic"


def parts(offer: Offer, before: int, quantity: int) -> tuple[Part, ...]:
    """One part: the offer's price holds the electricity already."""
    return straight(offer, quantity)


def check(price: Price) -> None:
    """Raise `Invalid` for what such a price cannot have."""
    refuse_tiers(price)
    if not 0 < price.watts <= 1_000_000 or not is_held(price.meter):
        raise Invalid(
            f"watts is {price.watts}, for {price.meter}.",
            field="watts", value=price.watts, allowed="1 to 1000000 for each unit that is held",
        )  # fmt: skip
