"""What charges would have been under another price book: the differences, never an edit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from headframe.pricing.book import Book, Buyer
from headframe.pricing.records import Charge
from headframe.pricing.units import is_held

RATED = ("usage", "minimum")


def rerate(charges: Iterable[Charge], book: Book, at_us: int, word: str) -> Iterator[Charge]:
    """A correction for each charge that the new book makes dearer or cheaper, dated `at_us`.

    Only use is priced anew: what contracts ask for, and what has a price with tiers, stays. A charge is held against
    what it and all corrections of it (told with it) come to, so that a repeat with the same book finds nothing. `word`
    tells this re-rating from others: it ends the ids.
    """
    told = list(charges)
    so_far: dict[str, int] = {}
    for charge in told:
        if charge.kind == "correction":
            so_far[charge.corrects] = so_far.get(charge.corrects, 0) + charge.amount_nano
    buyers: dict[tuple[str, str, str, str], Buyer] = {}
    tiered = {price.id for price in book.prices if price.tiers}
    for charge in told:
        if charge.kind not in RATED or not charge.quantity or charge.price_id in tiered:
            continue
        where = (charge.organization_id, charge.currency, charge.region_id, charge.purchase)
        buyer = buyers.get(where) or buyers.setdefault(where, Buyer(*where))
        amount, price_id, unit_nano = _anew(charge, buyer, book)
        if price_id in tiered:
            continue
        difference = amount - charge.amount_nano - so_far.get(charge.id, 0)
        if difference:
            yield replace(
                charge, id=f"{charge.id}.{word}", kind="correction", corrects=charge.id, price_id=price_id,
                unit_nano=unit_nano, amount_nano=difference, list_nano=difference, contracted_nano=difference,
                effective_nano=difference, at_us=at_us,
            )  # fmt: skip


def _anew(charge: Charge, buyer: Buyer, book: Book) -> tuple[int, str, int]:
    """(amount, price, what a unit costs) of a charge's quantity by a book."""
    if charge.kind == "minimum" or not is_held(charge.meter):
        at_us = charge.from_us - 1 if charge.kind == "minimum" else charge.from_us
        offer = book.first(charge.meter, buyer, at_us, max(charge.to_us, at_us + 1))
        return (0, "", 0) if offer is None else (offer.amount_nano(charge.quantity), offer.price.id, offer.unit_nano)
    total, price_id, unit_nano = 0, "", 0
    held = charge.quantity // (charge.to_us - charge.from_us)
    for start, stop, offer in book.pieces(charge.meter, buyer, charge.from_us, charge.to_us):
        if offer is not None:
            total += offer.amount_nano(held * (stop - start))
            price_id, unit_nano = offer.price.id, offer.unit_nano
    return total, price_id, unit_nano
