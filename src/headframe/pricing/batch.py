"""Many usage records rated at once, in columns: the same amounts as `rate`, to the nano-unit, and far faster.

For clouds whose month has millions of records: drafts of all customers, and checks of what was charged. Everything is
whole numbers. A product of quantity and price has up to 80 bits, so it is divided as it is multiplied, piece by piece
of the price (long division), and never held as a whole. Each record and stretch of one price is rounded once, half to
even, as `rate` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book, Buyer, Offer
from headframe.pricing.rate import CHARGED
from headframe.pricing.records import Contract
from headframe.pricing.registry import SHAPES
from headframe.pricing.units import is_held

Ints = NDArray[np.int64]
_CHUNK = 20  # bits of the price that one step of the long division takes
_MOST_SIZE = 1 << 42  # a unit's size below which those steps stay inside of 63 bits


class Use(NamedTuple):
    """What the rows of one group have in common."""

    organization_id: str
    project_id: str
    region_id: str
    purchase: str
    meter: str


@dataclass(slots=True)
class Columns:
    """Rows of one group, one row for each record in which its meter was charged.

    `held` is the level (thousandths, MiB), or the count of a meter of events. `ran_us` is the whole running time of the
    allocation where the record is its last one and a least running time applies, else -1. `order` sorts what a contract
    covers first; it is the rank of the allocation's id.
    """

    from_us: Ints
    to_us: Ints
    held: Ints
    ran_us: Ints
    order: Ints


@dataclass(slots=True)
class Rated:
    """The sum of rows at one price: what an invoice line is made of. Quantity and amount are exact."""

    use: Use
    kind: str
    offer: Offer
    quantity: int = 0
    amount_nano: int = 0
    rows: int = 0


@dataclass(slots=True)
class Batch:
    """Groups of columns, and what contracts cover of them."""

    groups: dict[Use, Columns] = field(default_factory=dict)


def columns_of(usage: Iterable[UsageRecord]) -> Batch:
    """Usage records as columns; what is free (provisioning, repair) is left out."""
    gathered: dict[Use, list[tuple[int, int, int, int, str]]] = {}
    for record in usage:
        charged = CHARGED.get(record.state)
        if charged is None:
            continue
        ran_us = record.running_before_us + record.to_us - record.from_us
        for meter, held in record.quantities.items():
            if charged(meter):
                use = Use(record.organization_id, record.project_id, record.region_id, record.purchase, meter)
                least = ran_us if record.last and not record.faulted and is_held(meter) else -1
                row = (record.from_us, record.to_us, held, least, record.allocation_id)
                gathered.setdefault(use, []).append(row)
    ranks = {name: place for place, name in enumerate(sorted({row[4] for rows in gathered.values() for row in rows}))}
    batch = Batch()
    for use, rows in sorted(gathered.items()):
        table = np.array([(*row[:4], ranks[row[4]]) for row in rows], dtype=np.int64)
        batch.groups[use] = Columns(*(np.ascontiguousarray(column) for column in table.T))
    return batch


def rate_batch(
    batch: Batch, book: Book, currencies: Mapping[str, str], contracts: Sequence[Contract] = ()
) -> Iterator[Rated]:
    """What each group owes at each price, in the order of groups. What contracts cover is in their fees, not here.

    `currencies` are those of the organizations.
    """
    beyond = _beyond(batch, contracts) if contracts else {}
    for use, columns in sorted(batch.groups.items()):
        buyer = Buyer(use.organization_id, currencies.get(use.organization_id, "USD"), use.region_id, use.purchase)
        held, watched = beyond.get(use, (columns.held, None))
        if watched is not None:  # what a contract covers in part is not topped up to a least running time
            columns = replace(columns, ran_us=np.where(watched, -1, columns.ran_us))  # noqa: PLW2901
        yield from _rate_group(use, columns, held, book, buyer)


def _rate_group(use: Use, columns: Columns, held: Ints, book: Book, buyer: Buyer) -> Iterator[Rated]:
    if not len(held):
        return
    from_us, to_us, timed = columns.from_us, columns.to_us, is_held(use.meter)
    found: dict[tuple[int, str], Rated] = {}
    unpriced = np.ones(len(held), dtype=bool)  # counted, and no price answered so far
    pieces = book.pieces(use.meter, buyer, int(from_us.min()), max(int(to_us.max()), int(from_us.min()) + 1))
    for place, (start, stop, offer) in enumerate(pieces):
        if offer is None:
            continue
        if timed:
            span = np.minimum(to_us, stop) - np.maximum(from_us, start)
            np.maximum(span, 0, out=span)
            _add(found, place, Rated(use, "usage", offer), held * span)
            ends = (columns.ran_us > 0) & (to_us > start) & (to_us <= stop)
            if ends.any():
                missing = np.maximum(offer.price.minimum_us - columns.ran_us[ends], 0)
                _add(found, place, Rated(use, "minimum", offer), held[ends] * missing)
        else:
            now = unpriced & (from_us < stop) & (to_us > start)  # the first price of its window is that of a count
            _add(found, place, Rated(use, "usage", offer), held[now])
            unpriced &= ~now
    yield from (found[key] for key in sorted(found))


def _add(found: dict[tuple[int, str], Rated], place: int, rated: Rated, quantity: Ints) -> None:
    """Rate the quantities of one price and add them up; what comes to no row leaves no line."""
    quantity = quantity[quantity != 0]
    if not len(quantity):
        return
    rated.rows = len(quantity)
    rated.quantity = exact_sum(quantity)
    if rated.offer.price.tiers:
        # What tiers ask for is a function of the month's sum, however it was cut.
        parts = SHAPES[rated.offer.price.shape].parts(rated.offer, 0, rated.quantity)
        rated.amount_nano = sum(part.amount_nano for part in parts)
    else:
        rated.amount_nano = amounts_sum(quantity, rated.offer)
    found[place, rated.kind] = rated


def amounts_sum(quantity: Ints, offer: Offer) -> int:
    """The sum of what each quantity costs, each rounded once, half to even."""
    if offer.exchange is not None or offer.size >= _MOST_SIZE or offer.unit_nano < 0 or int(quantity.min()) < 0:
        values, counts = np.unique(quantity, return_counts=True)
        return sum(offer.amount_nano(int(value)) * int(count) for value, count in zip(values, counts, strict=True))
    return exact_sum(products_divided(quantity, offer.unit_nano, offer.size))


def products_divided(quantity: Ints, factor: int, divisor: int) -> Ints:
    """quantity x factor / divisor, each rounded half to even; none negative, divisor below 2^42.

    By long division with the factor's digits to the base 2^20: what is carried on is less than the divisor, so no
    intermediate value needs more than 63 bits. Raises `OverflowError` when a result does.
    """
    whole, rest = np.divmod(quantity, divisor)
    if len(whole) and (int(whole.max()) + 1) * (factor + 1) >= 1 << 63:
        raise OverflowError("an amount is beyond 63 bits")
    result = np.zeros_like(quantity)
    carry = np.zeros_like(quantity)
    for shift in range((max(factor.bit_length(), 1) - 1) // _CHUNK * _CHUNK, -1, -_CHUNK):
        carry = (carry << _CHUNK) + rest * ((factor >> shift) & ((1 << _CHUNK) - 1))
        result = (result << _CHUNK) + carry // divisor
        carry %= divisor
    result += whole * factor
    twice = 2 * carry
    up = (twice > divisor) | ((twice == divisor) & (result & 1 == 1))
    rounded: Ints = result + up.astype(np.int64)
    return rounded


def exact_sum(values: Ints) -> int:
    """The sum of 64-bit numbers as a Python number: numpy's own would wrap around silently."""
    if not len(values):
        return 0
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


# Contracts.


def _beyond(batch: Batch, contracts: Sequence[Contract]) -> dict[Use, tuple[Ints, NDArray[Any]]]:
    """For the groups that any contract covers: what is held beyond, and whether one was there for it, row by row.

    Rows that meet in an hour must be of the same stretch of it, as whole hours are; others are for `cover`.
    """
    beyond: dict[Use, tuple[Ints, NDArray[Any]]] = {}
    kinds = sorted({(one.organization_id, one.meter) for one in contracts if one.quantity})
    for organization_id, meter in kinds:
        own = sorted(
            (one for one in contracts if (one.organization_id, one.meter) == (organization_id, meter)),
            key=lambda one: (one.from_us, one.id),
        )
        uses = [
            use
            for use in sorted(batch.groups)
            if use.organization_id == organization_id and use.meter == meter and use.purchase != "spot"
        ]
        if uses:
            beyond |= _sweep(batch, uses, own)
    return beyond


def _sweep(batch: Batch, uses: Sequence[Use], contracts: Sequence[Contract]) -> dict[Use, tuple[Ints, NDArray[Any]]]:
    """At every moment what was allocated first is covered first."""
    tables = [batch.groups[use] for use in uses]
    joined = {
        name: np.concatenate([getattr(one, name) for one in tables]) for name in ("from_us", "to_us", "held", "order")
    }
    order = np.lexsort((joined["order"], joined["from_us"]))
    begin, end, held = joined["from_us"][order], joined["to_us"][order], joined["held"][order].copy()
    opens = np.flatnonzero(np.diff(begin, prepend=begin[0] - 1))
    slot = np.cumsum(np.diff(begin, prepend=begin[0] - 1) != 0) - 1
    if (end != end[opens][slot]).any() or (end[opens][:-1] > begin[opens][1:]).any():
        raise ValueError("records that overlap in part cannot be covered in columns")
    watched = np.zeros(len(held), dtype=bool)
    for contract in contracts:
        regions = {"*"} if contract.region_id == "*" else {contract.region_id}
        fits = _rows_of(uses, tables, regions)[order] & (begin >= contract.from_us) & (begin < contract.to_us)
        watched |= fits
        wanted = np.where(fits, held, 0)
        before = np.cumsum(wanted) - wanted
        before -= before[opens][slot]
        held -= np.clip(contract.quantity - before, 0, wanted)
    there = np.argsort(order, kind="stable")  # back to the rows as they were
    ends = np.cumsum([len(one.held) for one in tables])[:-1]
    parts = zip(np.split(held[there], ends), np.split(watched[there], ends), strict=True)
    return dict(zip(uses, parts, strict=True))


def _rows_of(uses: Sequence[Use], tables: Sequence[Columns], regions: set[str]) -> NDArray[Any]:
    """Which rows lie in the regions ("*": in any)."""
    return np.concatenate(
        [
            np.full(len(one.held), "*" in regions or use.region_id in regions)
            for use, one in zip(uses, tables, strict=True)
        ]
    )
