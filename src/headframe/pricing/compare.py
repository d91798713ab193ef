"""What the same work would have cost in another way: on another accelerator, reserved, or as spot.

Priced from the book as it stood while the work ran, without what contracts covered: every way, also the one in which it
ran, is reckoned alike, so that the difference tells what the way itself is worth. A price with tiers counts at its
dearest tier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headframe.pricing.book import ANY, ANY_GPU, Book, Buyer
from headframe.pricing.rate import WHOLE, cost_between, slope
from headframe.pricing.records import Price

GPU = "gpu:"
SPEED = 1_000_000  # as fast as it ran
SPOT, RESERVED = "spot", "reserved"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Running time [from_us, to_us) of work: what it held (quantities by meter), where, and how it was bought.

    `faulted`: it ended through our fault, so that no least running time is charged.
    """

    held: Mapping[str, int]
    region_id: str
    purchase: str
    from_us: int
    to_us: int
    faulted: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run it. What is "" stays as it was.

    `speed` is how fast it is on that accelerator, in millionths of how fast it ran; None when nobody knows, which
    counts as just as fast. `reason` says why it could not have run so ("" if it could), `note` what to mind.
    """

    accelerator: str = ""
    purchase: str = ""
    term: str = ""
    speed: int | None = None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """A way with its price: `cost_nano` and `saving_nano` (against how it ran) are None without a price.

    `duration_us` is how long it would have run in all. `possible` is whether it could have run so; `break_even_percent`
    is, for a term, how much of the time the promise must be used to cost no more than the usual price.
    """

    accelerator: str
    purchase: str
    term: str
    duration_us: int
    cost_nano: int | None
    saving_nano: int | None
    possible: bool
    reason: str
    note: str
    break_even_percent: int | None = None


def compare(
    stretches: Sequence[Stretch], ways: Iterable[Way], book: Book, organization_id: str, currency: str
) -> tuple[Option, ...]:
    """How it ran first, then the ways in which it could have run, cheapest first, then those in which it could not."""
    books: dict[str, Book] = {"": book}
    buyer = Buyer(organization_id, currency)
    base = _option(stretches, Way(), book, book, buyer)
    found = []
    for way in ways:
        if way.term not in books:
            books[way.term] = _with_term(book, way.term)
        option = _option(stretches, way, books[way.term], book, buyer)
        if option.cost_nano is not None and base.cost_nano is not None:
            option = replace(option, saving_nano=base.cost_nano - option.cost_nano)
        found.append(option)
    found.sort(key=_rank)
    return (replace(base, saving_nano=0), *found)


def terms_of(book: Book, at_us: int) -> tuple[str, ...]:
    """The terms for which accelerators have a price at the moment."""
    return tuple(
        sorted({price.term for price in book.prices if price.term and _is_gpu(price) and _holds(price, at_us)})
    )


def _rank(option: Option) -> tuple[bool, bool, int, str, str, str]:
    cost = option.cost_nano
    return not option.possible, cost is None, cost or 0, option.accelerator, option.purchase, option.term


def _option(stretches: Sequence[Stretch], way: Way, book: Book, usual: Book, buyer: Buyer) -> Option:
    fine, duration_us, reason = 0, 0, way.reason
    percent: int | None = None
    for stretch in stretches:
        held = _held(stretch, way)
        here = replace(buyer, region_id=stretch.region_id, purchase=way.purchase or stretch.purchase)
        span_us = -(-(stretch.to_us - stretch.from_us) * SPEED // (way.speed or SPEED))
        end_us = stretch.from_us + span_us
        duration_us += span_us
        lacking = _lacking(held, here, way, book, stretch.from_us, end_us)
        if lacking:
            return Option(
                _accelerator(stretches, way), way.purchase or _purchase(stretches), way.term, duration_us, None, None,
                False, reason or lacking, way.note,
            )  # fmt: skip
        fine += cost_between(held, here, book, stretch.from_us, end_us)
        if not stretch.faulted:
            fine += _minimum(held, here, book, end_us, span_us)
        if way.term and percent is None:
            percent = _break_even(held, here, book, usual, stretch.from_us)
    return Option(
        accelerator=_accelerator(stretches, way),
        purchase=way.purchase or _purchase(stretches),
        term=way.term,
        duration_us=duration_us,
        cost_nano=-(-fine // WHOLE),
        saving_nano=None,
        possible=not reason,
        reason=reason,
        note=way.note,
        break_even_percent=percent,
    )


def _held(stretch: Stretch, way: Way) -> dict[str, int]:
    """What it would have held: all of its accelerators of the other kind."""
    if not way.accelerator:
        return dict(stretch.held)
    plain = {meter: amount for meter, amount in stretch.held.items() if not meter.startswith(GPU)}
    gpus = sum(amount for meter, amount in stretch.held.items() if meter.startswith(GPU))
    return {**plain, f"{GPU}{way.accelerator}": gpus} if gpus else plain


def _lacking(held: Mapping[str, int], buyer: Buyer, way: Way, book: Book, from_us: int, to_us: int) -> str:
    """Which price there was not; "" when there was all that the way needs."""
    for meter in sorted(name for name in held if name.startswith(GPU)):
        for _, _, offer in book.pieces(meter, buyer, from_us, to_us):
            kind = meter.removeprefix(GPU)
            if offer is None and way.term:
                return f"there was no price of {kind} for a term of {way.term}"
            if offer is None and (way.accelerator or way.purchase):
                return f"{kind} had no price then"
            if offer is not None and not way.term and not _is_own(offer.price, way.purchase):
                return f"{kind} had no {way.purchase} price of its own then"
    return ""


def _is_own(price: Price, purchase: str) -> bool:
    """Whether a price is one for spot, or for what is reserved, where such a one is meant."""
    if purchase not in (SPOT, RESERVED):
        return True
    return price.purchase == purchase or (purchase == SPOT and price.shape == SPOT)


def _minimum(held: Mapping[str, int], buyer: Buyer, book: Book, end_us: int, ran_us: int) -> int:
    """What the least running time of each price adds, in nano-units / WHOLE."""
    fine = 0
    for meter, amount in sorted(held.items()):
        offer = book.find(meter, buyer, end_us - 1)
        if offer is not None and 0 < ran_us < offer.price.minimum_us:
            fine += slope({meter: amount}, buyer, book, end_us - 1) * (offer.price.minimum_us - ran_us)
    return fine


def _break_even(held: Mapping[str, int], buyer: Buyer, book: Book, usual: Book, at_us: int) -> int | None:
    gpus = {meter: amount for meter, amount in held.items() if meter.startswith(GPU)}
    plain = slope(gpus, replace(buyer, purchase="on-demand"), usual, at_us)
    return -(-100 * slope(gpus, buyer, book, at_us) // plain) if plain > 0 else None


def _with_term(book: Book, term: str) -> Book:
    """The book in which accelerators cost what they cost for that term, and nothing else."""
    kept = [price for price in book.prices if not price.term and not _is_gpu(price)]
    bound = [replace(price, term="", purchase=ANY) for price in book.prices if price.term == term and _is_gpu(price)]
    return Book([*kept, *bound], book.exchanges)


def _is_gpu(price: Price) -> bool:
    return price.meter.startswith(GPU) or price.meter == ANY_GPU


def _holds(price: Price, at_us: int) -> bool:
    return price.from_us <= at_us and (price.to_us is None or at_us < price.to_us)


def _accelerator(stretches: Sequence[Stretch], way: Way) -> str:
    kinds = {meter.removeprefix(GPU) for part in stretches for meter in part.held if meter.startswith(GPU)}
    return way.accelerator or "+".join(sorted(kinds))


def _purchase(stretches: Sequence[Stretch]) -> str:
    return "+".join(sorted({part.purchase for part in stretches}))
