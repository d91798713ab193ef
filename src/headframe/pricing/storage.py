"""The shape "storage": so much per GiB and month (of 730 hours) or hour that something is kept, to the second."""

from __future__ import annotations

from headframe.base.errors import Invalid
from headframe.pricing.book import Offer
from headframe.pricing.parts import Part, refuse_tiers, straight
from headframe.pricing.records import Price
from headframe.pricing.units import default_unit

PRICING = "standard"


def parts(offer: Offer, before: int, quantity: int) -> tuple[Part, ...]:
    """One part: what came before makes no difference."""
    return straight(offer, quantity)


def check(price: Price) -> None:
    """Raise `Invalid` for what such a price cannot have."""
    refuse_tiers(price)
    if not (price.unit or default_unit(price.meter)).startswith("GiB"):
        raise Invalid(
            f"The shape storage does not fit {price.meter}, which is not kept in GiB.",
            field="shape", value=price.shape, allowed="hourly, each, tokens, graduated, volume",
        )  # fmt: skip
