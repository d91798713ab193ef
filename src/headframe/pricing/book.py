"""The price book: which price answers for a meter at a moment, and the list that a new cloud starts with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from headframe.pricing.records import Price

ANY = "*"
ANY_GPU = "gpu:*"


def unit_of(meter: str) -> int:
    """How many of a meter's quantities are one priced unit: 1000 thousandths, or 1024 MiB (one GiB)."""
    return 1024 if meter in ("memory", "disk") else 1000


class Book:
    """All prices, asked by meter, region, purchase, currency and moment. Never changes: a new price makes a new book.

    The most specific price wins: first the exact meter over "gpu:*", then the exact region over "*", then the
    exact purchase over "*". Among equals the one whose time began last wins, then the one with the greater id. A price
    whose time has ended gives way to the next best. A meter without any price is free, which `find` tells as None.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self.prices = tuple(sorted(prices, key=lambda price: (price.from_us, price.id)))
        self._timelines: dict[tuple[str, str, str, str], tuple[list[int], list[Price | None]]] = {}

    def find(self, meter: str, region_id: str, purchase: str, currency: str, at_us: int) -> Price | None:
        """The price in force at the moment."""
        starts, answers = self._timeline(meter, region_id, purchase, currency)
        return answers[bisect_right(starts, at_us) - 1]

    def pieces(
        self, meter: str, region_id: str, purchase: str, currency: str, from_us: int, to_us: int
    ) -> Iterator[tuple[int, int, Price | None]]:
        """[from_us, to_us) cut where another price takes over: (from, to, price)."""
        starts, answers = self._timeline(meter, region_id, purchase, currency)
        place = bisect_right(starts, from_us) - 1
        while from_us < to_us:
            stop = min(to_us, starts[place + 1]) if place + 1 < len(starts) else to_us
            yield from_us, stop, answers[place]
            from_us, place = stop, place + 1

    def next_change_us(self, after_us: int) -> int | None:
        """The first moment after `after_us` at which any price begins or ends; None when there is none."""
        moments = [moment for price in self.prices for moment in (price.from_us, price.to_us)]
        return min((moment for moment in moments if moment is not None and moment > after_us), default=None)

    def _timeline(
        self, meter: str, region_id: str, purchase: str, currency: str
    ) -> tuple[list[int], list[Price | None]]:
        """When which price answers: ascending starts (the first before all time) and the answer from each on."""
        key = (meter, region_id, purchase, currency)
        known = self._timelines.get(key)
        if known is None:
            known = self._timelines[key] = self._make_timeline(*key)
        return known

    def _make_timeline(
        self, meter: str, region_id: str, purchase: str, currency: str
    ) -> tuple[list[int], list[Price | None]]:
        meters = (meter, ANY_GPU) if meter.startswith("gpu:") else (meter,)
        candidates = [
            price
            for price in self.prices
            if price.meter in meters
            and price.region_id in (region_id, ANY)
            and price.purchase in (purchase, ANY)
            and price.currency == currency
        ]
        candidates.sort(key=_rank, reverse=True)
        moments = {moment for price in candidates for moment in (price.from_us, price.to_us) if moment is not None}
        starts: list[int] = [-(1 << 62)]
        answers: list[Price | None] = [None]
        for moment in sorted(moments):
            best = next((price for price in candidates if _in_force(price, moment)), None)
            if best is not answers[-1]:
                starts.append(moment)
                answers.append(best)
        return starts, answers


def _rank(price: Price) -> tuple[bool, bool, bool, int, str]:
    return price.meter != ANY_GPU, price.region_id != ANY, price.purchase != ANY, price.from_us, price.id


def _in_force(price: Price, at_us: int) -> bool:
    return price.from_us <= at_us and (price.to_us is None or at_us < price.to_us)


# Where a new cloud starts, in millionths of a USD per hour: round figures inside the on-demand list prices that
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
    ("cpu", 21_800), ("memory", 2_900), ("disk", 55),
)  # fmt: skip


def default_prices(now_us: int) -> tuple[Price, ...]:
    """The price list of a new cloud, in USD, for every region and purchase kind, from `now_us` on."""
    return tuple(
        Price(id=f"price_list_{meter.replace(':', '_').lower()}", meter=meter, unit_nano=micro * 1000, from_us=now_us)
        for meter, micro in _LIST_MICRO_USD
    )
