"""What the demonstration checks for itself: the numbered lines of a log, and the bill from the jobs' stories.

The bill is worked out here once more from nothing but the moments in the stories and the price list, with fractions
and by the rules as they are written down, not with the code that made it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Owed:
    """One amount of the recomputed bill. `month` is the UTC month that it falls in."""

    job_id: str
    meter: str
    kind: str
    month: str
    amount_nano: int


def text_of(pieces: Iterable[Mapping[str, Any]]) -> str:
    """What a job itself said on standard output."""
    return "".join(piece["text"] for piece in pieces if piece["stream"] == "stdout")


def numbers(text: str) -> list[int]:
    """The numbers of the lines `line <number>`, as they stand in the text."""
    return [int(found) for found in re.findall(r"^line (\d+)$", text, re.MULTILINE)]


def said_end_us(text: str) -> int | None:
    """The moment that a job printed as its end (`ended <nanoseconds>`), in microseconds since 1970."""
    found = re.search(r"^ended (\d+)$", text, re.MULTILINE)
    return int(found[1]) // 1000 if found else None


def bill(stories: Iterable[Mapping[str, Any]], prices: Sequence[Mapping[str, Any]]) -> Iterator[Owed]:
    """What ended jobs owe: each hour's piece of each meter, and what is missing to the least running time.

    Time counts from the moment at which all tasks run to the release; a piece ends at each full UTC hour; each amount
    is rounded once, half to even, to a nano-unit. After a failure of ours there is no least time. The prices of
    regions and purchase kinds, and those that change under a running job, are not looked at.
    """
    for story in stories:
        for held in story["allocations"]:
            if held["running_us"] is None:
                continue
            assert held["released_us"] is not None, f"{held['id']} is still held"
            for meter, quantity in sorted(_quantities(held["slices"]).items()):
                yield from _of_meter(story["job"]["id"], held, meter, quantity, prices)


def _of_meter(
    job_id: str, held: Mapping[str, Any], meter: str, quantity: Fraction, prices: Sequence[Mapping[str, Any]]
) -> Iterator[Owed]:
    """The pieces of one meter; `quantity` is in accelerators, cores or GiB."""
    begin, end = held["running_us"], held["released_us"]
    price = _price(prices, meter, begin)
    if price is None:
        return
    each_us = quantity * price["unit_nano"] / HOUR_US
    at = begin
    while at < end:
        stop = min(end, at - at % HOUR_US + HOUR_US)
        yield Owed(job_id, meter, "usage", _month(stop), round(each_us * (stop - at)))
        at = stop
    missing_us = price["minimum_us"] - (end - begin)
    if missing_us > 0 and end > begin and not held["faulted"]:
        yield Owed(job_id, meter, "minimum", _month(end), round(each_us * missing_us))


def _quantities(slices: Sequence[Mapping[str, Any]]) -> dict[str, Fraction]:
    """What is held in all, by meter, in accelerators, cores and GiB."""
    total: dict[str, Fraction] = {}
    for part in slices:
        held = [(f"gpu:{share['kind']}", Fraction(share["milli"], 1000)) for share in part["shares"]]
        held += [("cpu", Fraction(part["cpu_milli"], 1000)), ("memory", Fraction(part["memory_mib"], 1024))]
        held += [("disk", Fraction(part["disk_mib"], 1024))]
        for meter, quantity in held:
            total[meter] = total.get(meter, Fraction(0)) + quantity
    return {meter: quantity for meter, quantity in total.items() if quantity}


def _price(prices: Sequence[Mapping[str, Any]], meter: str, at_us: int) -> Mapping[str, Any] | None:
    """The price of a meter at a moment, the newest one; a GPU without one of its own has that of any GPU."""
    names = [meter, "gpu:*"] if meter.startswith("gpu:") else [meter]
    for name in names:
        known = [price for price in prices if price["meter"] == name and _in_force(price, at_us)]
        if known:
            return max(known, key=lambda price: (price["from_us"], price["id"]))
    return None


def _in_force(price: Mapping[str, Any], at_us: int) -> bool:
    return bool(price["from_us"] <= at_us and (price["to_us"] is None or at_us < price["to_us"]))


def _month(end_us: int) -> str:
    """The month of a piece that ends at the moment: what ends with a month belongs to it."""
    return datetime.fromtimestamp((end_us - 1) // 1_000_000, UTC).strftime("%Y-%m")
