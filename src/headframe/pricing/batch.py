"""Many usage records rated at once, in columns: the same amounts as `rate`, to the nano-unit, and far faster.

For clouds whose month has millions of records: what all customers' bills would be under other prices, and checks of
what was charged. A batch is of one month. Everything is whole numbers. A product of quantity and price has up to 80
bits, so it is divided as it is multiplied, piece by piece of the price (long division), and never held as a whole. Each
record and stretch of one price is rounded once, half to even, as `rate` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book, Buyer, Offer
from headframe.pricing.rate import CHARGED
from headframe.pricing.records import Contract
from headframe.pricing.registry import SHAPES
from headframe.pricing.units import is_held

Ints = NDArray[np.int64]
Truths = NDArray[np.bool_]
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
    """The sum of rows at one price (of one tier): what an invoice line is made of. Quantity and amount are exact."""

    use: Use
    kind: str
    offer: Offer
    unit_nano: int
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

    `currencies` are those of the organizations. What tiers ask for is shared out among the groups in their order: the
    sum over all groups of a customer is exact, whatever came first.
    """
    groups = batch.groups
    if contracts:
        groups = {**groups, **beyond_contracts(groups, contracts)}
    counted: Counter[tuple[str, str]] = Counter()
    for use, columns in sorted(groups.items()):
        buyer = Buyer(use.organization_id, currencies.get(use.organization_id, "USD"), use.region_id, use.purchase)
        yield from _rate_group(use, columns, book, buyer, counted)


def _rate_group(
    use: Use, columns: Columns, book: Book, buyer: Buyer, counted: Counter[tuple[str, str]]
) -> Iterator[Rated]:
    if not len(columns.held):
        return
    from_us, to_us, held = columns.from_us, columns.to_us, columns.held
    unpriced = np.ones(len(held), dtype=bool)  # counted, and no price answered so far
    pieces = book.pieces(use.meter, buyer, int(from_us.min()), max(int(to_us.max()), int(from_us.min()) + 1))
    for start, stop, offer in pieces:
        if offer is None:
            continue
        if not is_held(use.meter):
            now = unpriced & (from_us < stop) & (to_us > start)  # the first price of its window is that of a count
            yield from _rated(use, offer, held[now], counted)
            unpriced &= ~now
            continue
        ends = (columns.ran_us > 0) & (to_us > start) & (to_us <= stop)
        if ends.any():
            missing = held[ends] * np.maximum(offer.price.minimum_us - columns.ran_us[ends], 0)
            missing = missing[missing != 0]
            if len(missing):
                amount = amounts_sum(missing, offer)
                yield Rated(use, "minimum", offer, offer.unit_nano, exact_sum(missing), amount, len(missing))
        span = np.minimum(to_us, stop) - np.maximum(from_us, start)
        np.maximum(span, 0, out=span)
        span *= held
        yield from _rated(use, offer, span, counted)


def _rated(use: Use, offer: Offer, quantity: Ints, counted: Counter[tuple[str, str]]) -> Iterator[Rated]:
    """The quantities of one price, rated and added up; what comes to no row leaves no line."""
    quantity = quantity[quantity != 0]
    if not len(quantity):
        return
    whole, rows = exact_sum(quantity), len(quantity)
    if not offer.price.tiers:
        yield Rated(use, "usage", offer, offer.unit_nano, whole, amounts_sum(quantity, offer), rows)
        return
    # What tiers ask for is a function of the month's sum, however it was cut.
    tally = (use.organization_id, offer.price.id)
    for part in SHAPES[offer.price.shape].parts(offer, counted[tally], whole):
        yield Rated(use, part.kind, offer, part.unit_nano, part.quantity, part.amount_nano, rows)
    counted[tally] += whole


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


def beyond_contracts(groups: Mapping[Use, Columns], contracts: Sequence[Contract]) -> dict[Use, Columns]:
    """The groups that any contract covers, with what is held beyond."""
    beyond: dict[Use, Columns] = {}
    kinds = sorted({(one.organization_id, one.meter) for one in contracts if one.quantity})
    for organization_id, meter in kinds:
        own = sorted(
            (one for one in contracts if (one.organization_id, one.meter) == (organization_id, meter)),
            key=lambda one: (one.from_us, one.id),
        )
        uses = [
            use
            for use in sorted(groups)
            if (use.organization_id, use.meter) == (organization_id, meter) and use.purchase != "spot"
        ]
        if uses:
            beyond |= _sweep({use: groups[use] for use in uses}, own)
    return beyond


class _Pieces(NamedTuple):
    """Rows cut at every moment at which any of them begins or ends, in order of time and then of `order`.

    `row` is the place of the row that a piece was cut from.
    """

    row: Ints
    from_us: Ints
    to_us: Ints
    order: Ints


def _sweep(groups: Mapping[Use, Columns], contracts: Sequence[Contract]) -> dict[Use, Columns]:
    """At every moment what was allocated first is covered first.

    What is beyond is rated stretch by stretch, and what ends so is topped up to the least running time: see `cover`.
    """
    uses, tables = list(groups), list(groups.values())
    rows = Columns(*(np.concatenate([getattr(one, name) for one in tables]) for name in Columns.__slots__))
    owner = np.repeat(np.arange(len(uses)), [len(one.held) for one in tables])
    fits = [
        np.array([one.region_id in ("*", use.region_id) for use in uses], dtype=bool)[owner]
        & (rows.from_us >= one.from_us) & (rows.from_us < one.to_us)
        for one in contracts
    ]  # fmt: skip
    watched: Truths = np.logical_or.reduce(fits)
    pieces = _cut(rows, np.flatnonzero(watched))
    held = rows.held[pieces.row]
    opens = np.flatnonzero(np.diff(pieces.from_us, prepend=-1))
    slot = np.cumsum(np.diff(pieces.from_us, prepend=-1) != 0) - 1
    for contract, fit in zip(contracts, fits, strict=True):
        wanted = np.where(fit[pieces.row], held, 0)
        before = np.cumsum(wanted) - wanted
        before -= before[opens][slot]
        held = held - np.clip(contract.quantity - before, 0, wanted)
    row, from_us, to_us, held = _joined(pieces, held)
    free, ran_us = ~watched, np.where(to_us == rows.to_us[row], rows.ran_us[row], -1)
    found: dict[Use, Columns] = {}
    for place, use in enumerate(uses):
        mine, beyond = free & (owner == place), owner[row] == place
        found[use] = Columns(
            np.concatenate([rows.from_us[mine], from_us[beyond]]),
            np.concatenate([rows.to_us[mine], to_us[beyond]]),
            np.concatenate([rows.held[mine], held[beyond]]),
            np.concatenate([rows.ran_us[mine], ran_us[beyond]]),
            np.concatenate([rows.order[mine], rows.order[row][beyond]]),
        )
    return found


def _cut(rows: Columns, which: Ints) -> _Pieces:
    from_us, to_us = rows.from_us[which], rows.to_us[which]
    moments = np.unique(np.concatenate([from_us, to_us]))
    first, last = np.searchsorted(moments, from_us), np.searchsorted(moments, to_us)
    counts = last - first
    row = np.repeat(which, counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    sort = np.lexsort((rows.from_us[row], rows.order[row], place))
    row, place = row[sort], place[sort]
    return _Pieces(row, moments[place], moments[place + 1], rows.order[row])


def _joined(pieces: _Pieces, held: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(row, from, to, held) of what is left of the pieces; neighbours of one row that hold as much are one again."""
    sort = np.lexsort((pieces.from_us, pieces.row))
    sort = sort[held[sort] > 0]
    row, from_us, to_us, held = pieces.row[sort], pieces.from_us[sort], pieces.to_us[sort], held[sort]
    if not len(row):
        return row, from_us, to_us, held
    same = (row[1:] == row[:-1]) & (from_us[1:] == to_us[:-1]) & (held[1:] == held[:-1])
    begins = np.flatnonzero(np.concatenate([[True], ~same]))
    ends = np.concatenate([begins[1:], [len(row)]]) - 1
    return row[begins], from_us[begins], to_us[ends], held[begins]
