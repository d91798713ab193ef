"""The price book: which price answers for a meter, a buyer and a moment, and the list that a new cloud starts with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headframe.base.money import divide_half_even
from headframe.pricing.records import Exchange, Price
from headframe.pricing.units import ELECTRICITY, default_unit, size_of

ANY = "*"
ANY_GPU = "gpu:*"
PICO = 10**12


@dataclass(frozen=True, slots=True)
class Buyer:
    """For whom a price is asked: the organization, the currency that it is billed in, where it uses and how it buys."""

    organization_id: str = ANY
    currency: str = "USD"
    region_id: str = ""
    purchase: str = "on-demand"


@dataclass(frozen=True, slots=True)
class Offer:
    """A price as it holds for a buyer over a stretch of time.

    `unit_nano` is what one unit costs, in the price's currency, electricity included where the price follows it; `size`
    is how much of the meter's quantity a unit is; `exchange` leads to the buyer's currency where that is another one.
    """

    price: Price
    unit_nano: int
    size: int
    exchange: Exchange | None = None

    @property
    def rate_pico(self) -> int:
        """What one unit of the price's currency is in the buyer's, times 10^12."""
        return PICO if self.exchange is None else self.exchange.rate_pico

    def amount_nano(self, quantity: int, unit_nano: int | None = None) -> int:
        """What a quantity costs the buyer at so much a unit: exact, then rounded once, half to even."""
        each = self.unit_nano if unit_nano is None else unit_nano
        return divide_half_even(quantity * each * self.rate_pico, self.size * PICO)


class Book:
    """All prices and exchange rates, asked by meter, buyer and moment. Never changes: a new price makes a new book.

    The closest price wins: first the customer's own over the list, then the exact meter over "gpu:*", the exact region
    over "*", the exact purchase over "*", the buyer's own currency over one to be converted. Among equals the one whose
    time began last wins, then the one with the greater id. A price whose time has ended, whose currency has no rate, or
    which follows electricity that has no price, gives way to the next best. A meter without any price is free, which
    `find` tells as None. Prices bound to a term are for contracts and never answer here.
    """

    def __init__(self, prices: Iterable[Price], exchanges: Iterable[Exchange] = ()) -> None:
        self.prices = tuple(sorted(prices, key=lambda price: (price.from_us, price.id)))
        self.exchanges = tuple(sorted(exchanges, key=lambda one: (one.from_us, one.id)))
        self._by_meter: dict[str, list[Price]] = {}
        for price in self.prices:
            if not price.term:
                self._by_meter.setdefault(price.meter, []).append(price)
        self._timelines: dict[tuple[str, Buyer], tuple[list[int], list[Offer | None]]] = {}

    def find(self, meter: str, buyer: Buyer, at_us: int) -> Offer | None:
        """The price in force at the moment."""
        starts, answers = self._timeline(meter, buyer)
        return answers[bisect_right(starts, at_us) - 1]

    def pieces(self, meter: str, buyer: Buyer, from_us: int, to_us: int) -> Iterator[tuple[int, int, Offer | None]]:
        """[from_us, to_us) cut where another price takes over: (from, to, offer)."""
        starts, answers = self._timeline(meter, buyer)
        place = bisect_right(starts, from_us) - 1
        while from_us < to_us:
            stop = min(to_us, starts[place + 1]) if place + 1 < len(starts) else to_us
            yield from_us, stop, answers[place]
            from_us, place = stop, place + 1

    def first(self, meter: str, buyer: Buyer, from_us: int, to_us: int) -> Offer | None:
        """The price that answers for a window as one: that of its beginning, or else the first one in it."""
        return next((offer for _, _, offer in self.pieces(meter, buyer, from_us, to_us) if offer is not None), None)

    def next_change_us(self, after_us: int) -> int | None:
        """The first moment after `after_us` at which a price begins or ends, or a rate begins; None without one."""
        moments = [moment for price in self.prices for moment in (price.from_us, price.to_us)]
        moments += [one.from_us for one in self.exchanges]
        return min((moment for moment in moments if moment is not None and moment > after_us), default=None)

    def exchange(self, base: str, quote: str, at_us: int) -> Exchange | None:
        """The rate in force: the one that began last, of several the one with the greater id."""
        known = [one for one in self.exchanges if (one.base, one.quote) == (base, quote) and one.from_us <= at_us]
        return max(known, key=lambda one: (one.from_us, one.id), default=None)

    def serves(self, currency: str, at_us: int) -> bool:
        """Whether a currency can be priced in: there is no price at all, one in it, or a rate that leads to it."""
        bases = {price.currency for price in self.prices}
        return not bases or currency in bases or any(self.exchange(base, currency, at_us) for base in sorted(bases))

    def _timeline(self, meter: str, buyer: Buyer) -> tuple[list[int], list[Offer | None]]:
        """When which price answers: ascending starts (the first before all time) and the answer from each on."""
        known = self._timelines.get((meter, buyer))
        if known is None:
            known = self._timelines[meter, buyer] = self._make_timeline(meter, buyer)
        return known

    def _make_timeline(self, meter: str, buyer: Buyer) -> tuple[list[int], list[Offer | None]]:
        wanted = (meter, ANY_GPU) if meter.startswith("gpu:") else (meter,)
        rivals = [
            price
            for name in wanted
            for price in self._by_meter.get(name, ())
            if price.region_id in (buyer.region_id, ANY)
            and price.purchase in (buyer.purchase, ANY)
            and price.organization_id in (buyer.organization_id, ANY)
        ]
        rivals.sort(key=lambda price: _rank(price, buyer), reverse=True)
        watched = list(rivals)
        if any(price.shape == "power" for price in rivals):
            watched += [
                price for price in self._by_meter.get(ELECTRICITY, ()) if price.region_id in (buyer.region_id, ANY)
            ]
        moments = {moment for price in watched for moment in (price.from_us, price.to_us) if moment is not None}
        if any(price.currency != buyer.currency for price in rivals):
            moments |= {one.from_us for one in self.exchanges if one.quote == buyer.currency}
        starts: list[int] = [-(1 << 62)]
        answers: list[Offer | None] = [None]
        for moment in sorted(moments):
            offers = (self._offer(price, meter, buyer, moment) for price in rivals if _in_force(price, moment))
            best = next((offer for offer in offers if offer is not None), None)
            if best != answers[-1]:
                starts.append(moment)
                answers.append(best)
        return starts, answers

    def _offer(self, price: Price, meter: str, buyer: Buyer, at_us: int) -> Offer | None:
        """The price as it holds at the moment; None when its electricity or its currency has no answer."""
        exchange = None
        if price.currency != buyer.currency:
            exchange = self.exchange(price.currency, buyer.currency, at_us)
            if exchange is None:
                return None
        unit_nano = price.unit_nano
        if price.shape == "power":
            power = self.find(ELECTRICITY, Buyer(currency=price.currency, region_id=buyer.region_id), at_us)
            if power is None:
                return None
            unit_nano += divide_half_even(price.watts * power.unit_nano, 1000)
        return Offer(price, unit_nano, size_of(meter, price.unit), exchange)


def _rank(price: Price, buyer: Buyer) -> tuple[bool, bool, bool, bool, bool, int, str]:
    return (
        price.organization_id != ANY, price.meter != ANY_GPU, price.region_id != ANY, price.purchase != ANY,
        price.currency == buyer.currency, price.from_us, price.id,
    )  # fmt: skip


def _in_force(price: Price, at_us: int) -> bool:
    return price.from_us <= at_us and (price.to_us is None or at_us < price.to_us)


# Where a new cloud starts, in millionths of a USD per unit: round figures inside the on-demand list prices that
# specialised GPU clouds publish (May 2026: H100 SXM 2.50-3.50, H200 3.50-4.50, A100 80 GB 1.10-1.50 USD per GPU-hour,
# https://www.mercatus-ai.com/blog/cloud-gpu-pricing; median of 37 H100 lists 2.95, https://aimultiple.com/gpu-index);
# kinds without such a range are set in proportion to them. Cores and memory are near the list price of general-purpose
# machines (https://cloud.google.com/compute/vm-instance-pricing), disk near 0.04 USD per GiB-month. They are a start
# for the operator to change, not a quotation; even own hardware costs something, so that its use is seen in money.
_LIST_MICRO_USD = (
    ("gpu:*", 1_000_000), ("gpu:B300", 7_000_000), ("gpu:B200", 5_500_000), ("gpu:GB200", 6_500_000),
    ("gpu:H200", 3_990_000), ("gpu:GH200", 2_490_000), ("gpu:H100", 2_990_000), ("gpu:A100", 1_490_000),
    ("gpu:L40S", 990_000), ("gpu:L40", 890_000), ("gpu:A40", 490_000), ("gpu:A10", 590_000), ("gpu:L4", 490_000),
    ("gpu:V100", 490_000), ("gpu:T4", 290_000), ("gpu:RTX4090", 590_000), ("gpu:RTX5090", 890_000),
    ("gpu:A6000", 690_000), ("gpu:MI300X", 2_490_000), ("gpu:MI325X", 2_990_000), ("gpu:MI355X", 4_490_000),
    ("cpu", 21_800), ("memory", 2_900), ("disk", 55), ("storage:datasets", 40_000),
)  # fmt: skip


def default_prices(now_us: int) -> tuple[Price, ...]:
    """The price list of a new cloud, in USD, for every region and purchase kind, from `now_us` on."""
    return tuple(
        Price(
            id=f"price_list_{meter.replace(':', '_').lower()}",
            meter=meter,
            unit_nano=micro * 1000,
            from_us=now_us,
            unit=default_unit(meter),
            shape="storage" if meter.startswith("storage:") else "hourly",
        )
        for meter, micro in _LIST_MICRO_USD
    )
