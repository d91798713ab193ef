"""From usage records to charges, and what holding something costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headframe.base.money import divide_half_even
from headframe.base.quantities import HOUR_US, month_of
from headframe.metering.records import UsageRecord
from headframe.pricing.book import ANY, PICO, Book, Buyer, Offer
from headframe.pricing.parts import Part
from headframe.pricing.records import Charge
from headframe.pricing.registry import SHAPES
from headframe.pricing.units import default_unit, is_held

# What was charged of a price with tiers in a month, by (organization, price, month): its own quantity.
Tally = tuple[str, str, str]
# Which meters are charged in which state; what is not here is free.
CHARGED: dict[str, Callable[[str], bool]] = {
    "running": lambda meter: True,
    "counted": lambda meter: True,
    "stopped": lambda meter: meter == "disk",
}


def buyer_of(record: UsageRecord, currency: str) -> Buyer:
    """For whom the use is priced."""
    return Buyer(record.organization_id, currency, record.region_id, record.purchase)


@dataclass(slots=True)
class Rating:
    """One pass over usage records of one organization.

    `used` is what was charged before of prices with tiers; `deferred` tells which meters of a record are not charged
    here, because a contract may cover them.
    """

    book: Book
    currency: str
    used: Mapping[Tally, int] = field(default_factory=dict)
    deferred: Callable[[UsageRecord, str], bool] = lambda record, meter: False
    _more: Counter[Tally] = field(default_factory=Counter)

    def charges(self, record: UsageRecord) -> Iterator[Charge]:
        """The charges of one record: for each meter, price in force and tier; and the top-up to the least time."""
        charged = CHARGED.get(record.state)
        if charged is None:
            return
        for meter, held in sorted(record.quantities.items()):
            if charged(meter) and not self.deferred(record, meter):
                yield from self.meter(record, meter, held, record.from_us, record.to_us)

    def meter(
        self, record: UsageRecord, meter: str, held: int, from_us: int, to_us: int, name: str = ""
    ) -> Iterator[Charge]:
        """The charges of one meter of a record over a stretch of it."""
        buyer, number, offer = buyer_of(record, self.currency), 0, None
        for start, stop, offer in self._pieces(meter, buyer, from_us, to_us):
            if offer is None:
                continue
            quantity = held * (stop - start) if is_held(meter) else held
            for part in self._parts(record, offer, quantity):
                yield self._charge(record, meter, f"{name}{number}", offer, part, start, stop)
                number += 1
        if record.last and not record.faulted and offer is not None and is_held(meter):
            ran_us = record.running_before_us + record.to_us - record.from_us
            missing_us = max(0, offer.price.minimum_us - ran_us) if ran_us > 0 else 0
            if missing_us:
                end = record.to_us
                part = Part("minimum", held * missing_us, offer.unit_nano, offer.amount_nano(held * missing_us))
                yield self._charge(record, meter, f"{name}minimum", offer, part, end, end)

    def _pieces(self, meter: str, buyer: Buyer, from_us: int, to_us: int) -> Iterable[tuple[int, int, Offer | None]]:
        """What is held is cut where its price changes; what was counted has one price for its whole window."""
        if is_held(meter):
            return self.book.pieces(meter, buyer, from_us, to_us)
        return ((from_us, to_us, self.book.first(meter, buyer, from_us, to_us)),)

    def _parts(self, record: UsageRecord, offer: Offer, quantity: int) -> tuple[Part, ...]:
        if not offer.price.tiers:
            return SHAPES[offer.price.shape].parts(offer, 0, quantity)
        tally = (record.organization_id, offer.price.id, month_of(record.to_us - 1))
        before = self.used.get(tally, 0) + self._more[tally]
        self._more[tally] += quantity
        return SHAPES[offer.price.shape].parts(offer, before, quantity)

    def list_nano(self, meter: str, buyer: Buyer, quantity: int, from_us: int, to_us: int) -> int:
        """What the list would ask for a quantity that spreads evenly over a stretch; without tiers."""
        listed = Buyer(ANY, buyer.currency, buyer.region_id, buyer.purchase)
        if to_us <= from_us or not is_held(meter):
            offer = self.book.first(meter, listed, from_us, max(to_us, from_us + 1))
            return offer.amount_nano(quantity) if offer is not None else 0
        return sum(
            offer.amount_nano(quantity * (stop - start) // (to_us - from_us))
            for start, stop, offer in self.book.pieces(meter, listed, from_us, to_us)
            if offer is not None
        )

    def _charge(
        self, record: UsageRecord, meter: str, name: str, offer: Offer, part: Part, from_us: int, to_us: int
    ) -> Charge:
        price, exchange, amount = offer.price, offer.exchange, part.amount_nano
        listed = amount
        if price.organization_id != ANY and part.kind != "tier":
            listed = self.list_nano(meter, buyer_of(record, self.currency), part.quantity, from_us, to_us)
        return Charge(
            id=f"{record.id}.{meter}.{name}",
            **owner_of(record),
            meter=meter,
            kind=part.kind,
            price_id=price.id,
            quantity=part.quantity,
            unit_nano=part.unit_nano,
            amount_nano=amount,
            currency=self.currency,
            from_us=from_us,
            to_us=to_us,
            at_us=to_us,
            unit=price.unit or default_unit(meter),
            pricing=SHAPES[price.shape].PRICING,
            list_nano=listed,
            contracted_nano=amount,
            effective_nano=amount,
            fx_base="" if exchange is None else exchange.base,
            fx_rate_pico=0 if exchange is None else exchange.rate_pico,
            fx_source="" if exchange is None else exchange.source,
            fx_us=0 if exchange is None else exchange.from_us,
        )


def owner_of(record: UsageRecord) -> dict[str, Any]:
    """What a charge takes over from the use behind it."""
    return {
        "usage_id": record.id,
        "allocation_id": record.allocation_id,
        "job_id": record.job_id,
        "organization_id": record.organization_id,
        "project_id": record.project_id,
        "member_id": record.member_id,
        "region_id": record.region_id,
        "purchase": record.purchase,
        "labels": record.labels,
        "late_month": record.late_month,
    }


def rate(
    usage: Iterable[UsageRecord], book: Book, currency: str, used: Mapping[Tally, int] | None = None
) -> tuple[Charge, ...]:
    """The charges of usage records, one per record, meter, price in force and tier.

    Provisioning, and time under our repair, are free; while stopped only the disk is charged. Where the price of a
    meter changes inside a record, each stretch is charged at its own price. Each charge is exact and rounded once, half
    to even, to a nano-unit; so n stretches of one use differ from their exact sum by at most n/2 nano-units. When the
    last running record of an allocation says that it ran, but for less than a price's least running time, a charge of
    kind "minimum" adds the rest at the price in force at its end. After our fault (`faulted`) the time that was run is
    charged, but no minimum: what was lost is not made dearer by it. A meter without a price is free: no charge.
    """
    rating = Rating(book, currency, used or {})
    return tuple(charge for record in usage for charge in rating.charges(record))


# What holding something costs, as a line over time: nano-units / WHOLE for each microsecond. WHOLE is a multiple of the
# size of every unit of holding and of what exchange rates are divided by, so that any mixture adds up exactly.
WHOLE = 1000 * 1024 * 730 * HOUR_US * PICO


def _slope(offer: Offer, quantity: int) -> int:
    unit_nano = offer.unit_nano
    if offer.price.tiers:  # what comes next is in a tier that is not known here: the dearest is on the safe side
        unit_nano = max(tier.unit_nano for tier in offer.price.tiers)
    return quantity * unit_nano * offer.rate_pico * (WHOLE // (offer.size * PICO))


def slope(held: Mapping[str, int], buyer: Buyer, book: Book, at_us: int) -> int:
    """What holding `held` (quantities by meter) costs each microsecond from the moment on, in nano-units / WHOLE."""
    offers = ((book.find(meter, buyer, at_us), quantity) for meter, quantity in sorted(held.items()))
    return sum(_slope(offer, quantity) for offer, quantity in offers if offer is not None)


def least_nano(held: Mapping[str, int], buyer: Buyer, book: Book, at_us: int, ran_us: int = 0) -> int:
    """What holding `held` costs at least, each meter by its own minimum, beyond `ran_us`; nano-units, rounded up."""
    fine = 0
    for meter, quantity in sorted(held.items()):
        offer = book.find(meter, buyer, at_us)
        if offer is not None:
            fine += _slope(offer, quantity) * max(offer.price.minimum_us - ran_us, 0)
    return -(-fine // WHOLE)


def cost_between(held: Mapping[str, int], buyer: Buyer, book: Book, from_us: int, to_us: int) -> int:
    """What holding `held` over [from_us, to_us) costs, exactly, in nano-units / WHOLE."""
    return sum(
        _slope(offer, quantity) * (stop - start)
        for meter, quantity in sorted(held.items())
        for start, stop, offer in book.pieces(meter, buyer, from_us, to_us)
        if offer is not None
    )


def rate_nano_per_hour(held: Mapping[str, int], buyer: Buyer, book: Book, at_us: int) -> int:
    """What holding `held` costs an hour at the moment, in nano-units, rounded half to even."""
    return divide_half_even(slope(held, buyer, book, at_us) * HOUR_US, WHOLE)
