"""How a price enters the book: at every moment one price of a kind, no overlap, and every gap told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headframe.base.errors import PriceOverlap
from headframe.base.quantities import format_moment
from headframe.pricing.records import Price


@dataclass(frozen=True, slots=True)
class Revision:
    """The rows that a new price means for the book, and the gap [from, to) that is left before or after it, if any."""

    rows: tuple[Price, ...]
    gaps: tuple[tuple[int, int | None], ...]


def kind_of(price: Price) -> tuple[str, ...]:
    """What makes two prices rivals: they would answer the same question with the same closeness."""
    return (price.meter, price.region_id, price.purchase, price.term, price.currency, price.organization_id)


def revise(prices: Iterable[Price], new: Price, rest_id: str) -> Revision:
    """Take a price in. An open-ended one before it ends where it begins, and goes on (as `rest_id`) where it ends.

    Raises `PriceOverlap` when any other price of the same kind would hold at the same time.
    """
    rivals = sorted((one for one in prices if kind_of(one) == kind_of(new)), key=lambda one: (one.from_us, one.id))
    rivals = [one for one in rivals if one.to_us is None or one.to_us > one.from_us]
    rows: list[Price] = []
    ends: list[int] = []
    for one in rivals:
        if one.to_us is not None and one.to_us <= new.from_us:
            ends.append(one.to_us)
        elif new.to_us is not None and one.from_us >= new.to_us:
            continue
        elif one.to_us is None and one.from_us <= new.from_us:
            rows.append(replace(one, to_us=new.from_us, version=one.version + 1))
            if new.to_us is not None:
                rows.append(replace(one, id=rest_id, from_us=new.to_us, book=new.book, version=1))
        else:
            raise PriceOverlap(
                f"{one.id} holds for the same from {format_moment(max(one.from_us, new.from_us))} on.",
                next_step="Let the new price end before it begins, or begin after it ends.",
                details={"price": one.id, "from_us": one.from_us, "to_us": one.to_us},
            )
    after = [one.from_us for one in (*rivals, *rows) if one.from_us >= (new.to_us or new.from_us + 1)]
    gaps: list[tuple[int, int | None]] = []
    if ends and max(ends) < new.from_us and not rows:
        gaps.append((max(ends), new.from_us))
    if new.to_us is not None and new.to_us not in after:
        gaps.append((new.to_us, min(after, default=None)))
    return Revision((*rows, new), tuple(gaps))


def instead(prices: Iterable[Price], new: Price) -> list[Price]:
    """The prices as they would be if this one held over its time in place of all of its kind."""
    kept: list[Price] = []
    for one in prices:
        if kind_of(one) != kind_of(new):
            kept.append(one)
            continue
        end_us = new.from_us if one.to_us is None else min(one.to_us, new.from_us)
        if one.from_us < end_us:
            kept.append(replace(one, to_us=end_us))
        if new.to_us is not None and (one.to_us is None or one.to_us > new.to_us):
            kept.append(replace(one, id=f"{one.id}.rest", from_us=max(one.from_us, new.to_us)))
    return [*kept, new]
