"""From usage records to charges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from headframe.base.money import divide_half_even
from headframe.base.quantities import HOUR_US
from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book, unit_of
from headframe.pricing.records import Charge, Price
from headframe.pricing.registry import SHAPES


def rate(usage: Iterable[UsageRecord], book: Book, currency: str) -> tuple[Charge, ...]:
    """The charges of usage records, one per record, meter and price in force; provisioning is free.

    Where the price of a meter changes inside a record, each stretch is charged at its own price. Each charge is exact
    and rounded once, half to even, to a nano-unit; so n stretches of one use differ from their exact sum by at most n/2
    nano-units. When the last running record of an allocation says that it ran, but for less than a price's least
    running time, a charge of kind "minimum" adds the rest at the price in force at its end. After our fault
    (`faulted`) the time that was run is charged, but no minimum: what was lost is not made dearer by it.
    A meter without a price is free and gives no charge.
    """
    return tuple(
        charge for record in usage if record.state == "running" for charge in _rate_record(record, book, currency)
    )


def _rate_record(record: UsageRecord, book: Book, currency: str) -> Iterator[Charge]:
    for meter, held in sorted(record.quantities.items()):
        pieces = book.pieces(meter, record.region_id, record.purchase, currency, record.from_us, record.to_us)
        price = None
        for number, (from_us, to_us, price) in enumerate(pieces):
            if price is not None:
                yield _charge(record, meter, "usage", number, price, held * (to_us - from_us), from_us, to_us)
        if record.last and not record.faulted and price is not None:
            ran_us = record.running_before_us + record.to_us - record.from_us
            missing_us = SHAPES[price.shape].minimum_us(price, ran_us)
            if missing_us:
                yield _charge(record, meter, "minimum", 0, price, held * missing_us, record.to_us, record.to_us)


def _charge(
    record: UsageRecord, meter: str, kind: str, number: int, price: Price, quantity: int, from_us: int, to_us: int
) -> Charge:
    return Charge(
        id=f"{record.id}.{meter}.{number if kind == 'usage' else kind}",
        usage_id=record.id,
        allocation_id=record.allocation_id,
        job_id=record.job_id,
        organization_id=record.organization_id,
        project_id=record.project_id,
        member_id=record.member_id,
        meter=meter,
        kind=kind,
        price_id=price.id,
        quantity=quantity,
        unit_nano=price.unit_nano,
        amount_nano=SHAPES[price.shape].amount_nano(price, meter, quantity),
        currency=price.currency,
        from_us=from_us,
        to_us=to_us,
        at_us=to_us,
    )


# A nano-unit per hour, cut so fine that thousandths and MiB of any mixture add up exactly.
FINE = 1000 * 1024


def rate_fine(
    held: Mapping[str, int], purchase: str, region_id: str, book: Book, currency: str, at_us: int
) -> tuple[int, int]:
    """What holding `held` costs an hour at the moment, exactly, in 1/FINE nano-units; and the least time charged."""
    fine = minimum_us = 0
    for meter, quantity in sorted(held.items()):
        price = book.find(meter, region_id, purchase, currency, at_us)
        if price is not None:
            fine += quantity * price.unit_nano * (FINE // unit_of(meter))
            minimum_us = max(minimum_us, price.minimum_us)
    return fine, minimum_us


def least_nano(
    held: Mapping[str, int], purchase: str, region_id: str, book: Book, currency: str, at_us: int, ran_us: int = 0
) -> int:
    """What holding `held` costs at least, each meter by its own minimum, beyond `ran_us`; nano-units, rounded up."""
    fine = 0
    for meter, quantity in sorted(held.items()):
        price = book.find(meter, region_id, purchase, currency, at_us)
        if price is not None:
            fine += quantity * price.unit_nano * (FINE // unit_of(meter)) * max(price.minimum_us - ran_us, 0)
    return -(-fine // (FINE * HOUR_US))


def fine_between(
    held: Mapping[str, int], purchase: str, region_id: str, book: Book, currency: str, from_us: int, to_us: int
) -> int:
    """What holding `held` over [from_us, to_us) costs, exactly, in 1/FINE nano-units times microseconds of an hour."""
    return sum(
        quantity * price.unit_nano * (FINE // unit_of(meter)) * (stop - start)
        for meter, quantity in sorted(held.items())
        for start, stop, price in book.pieces(meter, region_id, purchase, currency, from_us, to_us)
        if price is not None
    )


def rate_nano_per_hour(
    held: Mapping[str, int], purchase: str, region_id: str, book: Book, currency: str, at_us: int
) -> int:
    """What holding `held` (quantities by meter) costs an hour at the moment, in nano-units, rounded half to even."""
    return divide_half_even(rate_fine(held, purchase, region_id, book, currency, at_us)[0], FINE)
