"""What a shape of price makes of a quantity: the parts of a charge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from headframe.base.errors import Invalid
from headframe.pricing.book import Offer
from headframe.pricing.records import Price, Tier


@dataclass(frozen=True, slots=True)
class Part:
    """`quantity` at `unit_nano` a unit makes `amount_nano`, in the buyer's currency. `kind` is a name of `KINDS`."""

    kind: str
    quantity: int
    unit_nano: int
    amount_nano: int


def straight(offer: Offer, quantity: int) -> tuple[Part, ...]:
    """Every unit at the same price."""
    return (Part("usage", quantity, offer.unit_nano, offer.amount_nano(quantity)),)


def refuse_tiers(price: Price) -> None:
    """Raise when a price has steps though its shape knows none."""
    if price.tiers:
        raise Invalid(
            f"The shape {price.shape!r} has no tiers.",
            field="tiers", allowed="none", next_step="Use the shape graduated or volume.",
        )  # fmt: skip


def check_tiers(price: Price) -> None:
    """Raise when the steps of a price do not rise to one without end."""
    bounds = [tier.up_to for tier in price.tiers]
    steps = [bound for bound in bounds[:-1] if bound is not None]
    rising = len(steps) == len(bounds) - 1 and all(low < high for low, high in pairwise([0, *steps]))
    if not bounds or bounds[-1] is not None or not rising or any(tier.unit_nano < 0 for tier in price.tiers):
        raise Invalid(
            "tiers must rise, and the last must be without end.",
            field="tiers", value=bounds, allowed="such as 0-100: 3 USD, 100-: 2 USD",
        )  # fmt: skip


def tier_at(price: Price, size: int, quantity: int) -> Tier:
    """The step in which the unit that follows on `quantity` lies."""
    return next(tier for tier in price.tiers if tier.up_to is None or quantity < tier.up_to * size)


def backwards(
    parts: Callable[[Offer, int, int], tuple[Part, ...]], offer: Offer, before: int, quantity: int
) -> tuple[Part, ...]:
    """What it means that `-quantity` of what was counted is taken back: exactly what it had cost, negative."""
    undone = parts(offer, before + quantity, -quantity)
    return tuple(Part(part.kind, -part.quantity, part.unit_nano, -part.amount_nano) for part in reversed(undone))
