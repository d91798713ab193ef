"""What was counted, worked out a second time: each meter of events from the events themselves, levels weighed by time,
datasets by their days, and months with tiers by their whole quantity. Shares no code with metering and pricing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from headframe.metering.records import Meter, UsageEvent
from headframe.pricing.records import Charge
from headframe.sim.auditor_rates import (
    HOUR_US,
    Difference,
    Item,
    Row,
    Story,
    Tariff,
    month_after,
    month_begin,
    month_name,
    size_of,
)
from headframe.workloads.records import Dataset

DAY_US = 24 * HOUR_US
DATASETS = "storage:datasets"


class Series(NamedTuple):
    """What a meter counts apart: one project and group, in one window."""

    organization_id: str
    project_id: str
    meter: str
    group: str
    from_us: int
    to_us: int


def quantities(
    meters: Iterable[Meter], events: Sequence[UsageEvent], datasets: Iterable[Dataset], kept_us: int
) -> dict[Series, int]:
    """What each window comes to. Levels and datasets are weighed up to the day that has been weighed on record."""
    found: dict[Series, int] = {}
    for meter in meters:
        groups: dict[tuple[str, str, str], list[UsageEvent]] = defaultdict(list)
        for event in events:
            if event.type == meter.event_type:
                labels = {path: _text(_at(event, path)) for path in meter.group_by}
                group = json.dumps(labels, sort_keys=True)
                groups[event.organization_id, event.project_id, group].append(event)
        for (owner, project, group), own in sorted(groups.items()):
            own.sort(key=lambda one: (one.at_us, one.id))
            weigh = _levels if meter.aggregation.value == "time_weighted" else _windows
            for (from_us, to_us), value in weigh(meter, own, kept_us):
                found[Series(owner, project, meter.id, group, from_us, to_us)] = value
    for dataset in datasets:
        mib = -(-dataset.size_bytes // (1 << 20))
        day_us = dataset.created_us - dataset.created_us % DAY_US
        while day_us + DAY_US <= kept_us:
            key = Series(dataset.organization_id, dataset.project_id, DATASETS, "{}", day_us, day_us + DAY_US)
            found[key] = found.get(key, 0) + mib * (day_us + DAY_US - max(day_us, dataset.created_us))
            day_us += DAY_US
    return {key: value // 1_000_000 if key.meter == DATASETS else value for key, value in found.items()}


def _windows(meter: Meter, events: list[UsageEvent], kept_us: int) -> Iterator[tuple[tuple[int, int], int]]:
    windows: dict[tuple[int, int], list[UsageEvent]] = defaultdict(list)
    for event in events:
        if meter.window.value == "month":
            span = month_begin(event.at_us), month_after(event.at_us)
        else:
            length = HOUR_US if meter.window.value == "hour" else DAY_US
            span = event.at_us // length * length, event.at_us // length * length + length
        windows[span].append(event)
    for span, own in sorted(windows.items()):
        match meter.aggregation.value:
            case "count":
                yield span, len(own)
            case "sum":
                yield span, sum(_number(meter, one) for one in own)
            case "max":
                yield span, max(_number(meter, one) for one in own)
            case "latest":
                yield span, _number(meter, own[-1])
            case _:
                yield span, len({_text(_at(one, meter.path)) for one in own})


def _levels(meter: Meter, events: list[UsageEvent], kept_us: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Day by day, the level held over each stretch between two events; the last one holds on."""
    day_us = events[0].at_us // DAY_US * DAY_US
    while day_us + DAY_US <= kept_us:
        end_us, total = day_us + DAY_US, 0
        for one, following in zip(events, [*events[1:], None], strict=True):
            until_us = end_us if following is None else min(end_us, following.at_us)
            total += _number(meter, one) * max(0, until_us - max(day_us, one.at_us))
        yield (day_us, end_us), total // 1_000_000
        day_us = end_us


def _at(event: UsageEvent, path: str) -> Any:
    value: Any = event.data
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(meter: Meter, event: UsageEvent) -> int:
    return int(_at(event, meter.path) or 0)


def _text(value: Any) -> str:
    return value[:100] if isinstance(value, str) else "" if value is None else json.dumps(value, sort_keys=True)[:100]


def counted_differ(
    told: dict[Series, int], charges: Iterable[Charge], story: Story, currencies: dict[str, str]
) -> Iterator[Difference]:
    """The quantity that was charged of each window, wherever a price answers for it, and each charge by its price."""
    charged: dict[Series, int] = defaultdict(int)
    corrected: dict[str, int] = defaultdict(int)
    own = []
    for charge in sorted(charges, key=lambda one: one.id):
        if charge.kind == "correction":
            corrected[charge.corrects] += charge.amount_nano
        elif charge.kind == "usage" and not charge.allocation_id and charge.usage_id:
            group = json.dumps(charge.labels, sort_keys=True)
            charged[Series(charge.organization_id, charge.project_id, charge.meter, group, charge.from_us, charge.to_us)
                    ] += charge.quantity  # fmt: skip
            own.append(charge)
    tariffs: dict[str, Tariff] = {}
    for key in sorted(told.keys() | charged.keys()):
        owner = key.organization_id
        tariff = tariffs.get(owner) or tariffs.setdefault(
            owner, Tariff(story, owner, "", "on-demand", currencies[owner])
        )
        priced = first_answer(tariff, key.meter, key.from_us, key.to_us) is not None
        wanted = told.get(key, 0) if priced else 0
        if wanted != charged.get(key, 0):
            about = f"{key.meter} of {key.project_id} {key.group} from {key.from_us} to {key.to_us}"
            yield Difference(about, wanted, charged.get(key, 0), month_name(key.to_us))
    for charge in own:
        answer = first_answer(tariffs[charge.organization_id], charge.meter, charge.from_us, charge.to_us)
        if answer is not None and not answer.price["tiers"]:
            wanted = answer.amount_nano(charge.meter, charge.quantity)
            if wanted != charge.amount_nano + corrected[charge.id]:
                yield Difference(f"charge {charge.id}", wanted, charge.amount_nano, month_name(charge.at_us))


def first_answer(tariff: Tariff, meter: str, from_us: int, to_us: int) -> Any:
    """The price of a window as one: the first that answers in it."""
    stretches = tariff.stretches(meter, from_us, max(to_us, from_us + 1))
    return next((answer for _, _, answer in stretches if answer is not None), None)


# Tiers.

Tally = tuple[str, str, int]  # organization, price, first moment of the month


def tiers_differ(
    held: Iterable[tuple[str, Item]], charges: Iterable[Charge], story: Story, currencies: dict[str, str]
) -> tuple[list[Difference], int]:
    """What each month with tiers costs by its whole quantity; and how many charges could not be worked out so.

    `held` are what allocations used at such prices, with their organizations. A month in which the exchange rate
    changed is taken as it is: what it costs then depends on the order in which it was charged.
    """
    prices = {price["id"]: price for price in story.prices if price["tiers"]}
    quantity: dict[Tally, int] = defaultdict(int)
    amount: dict[Tally, int] = defaultdict(int)
    rates: dict[Tally, set[int]] = defaultdict(set)
    count: dict[Tally, int] = defaultdict(int)
    for owner, one in held:
        quantity[owner, one.price_id, month_begin(one.to_us - 1)] += one.quantity
    for charge in charges:
        if charge.price_id in prices and charge.kind in ("usage", "tier"):
            tally = (charge.organization_id, charge.price_id, month_begin(charge.to_us - 1))
            amount[tally] += charge.amount_nano
            rates[tally].add(charge.fx_rate_pico)
            count[tally] += 1
            if not charge.allocation_id and charge.kind == "usage":  # held against its events already
                quantity[tally] += charge.quantity
    differences, taken = [], 0
    for tally in sorted(quantity.keys() | amount.keys()):
        if len(rates[tally]) > 1:
            taken += count[tally]
            continue
        pico = next(iter(rates[tally]), 0)
        rate = Fraction(pico, 10**12) if pico else Fraction(1)
        price = prices[tally[1]]
        wanted = tier_worth(price, quantity[tally], rate)
        if wanted != amount[tally]:
            about = f"the tiers of {tally[1]} for {tally[0]}"
            differences.append(Difference(about, wanted, amount[tally], month_name(tally[2] + 1)))
    return differences, taken


def tier_worth(price: Row, quantity: int, rate: Fraction) -> int:
    """What a month of so much costs, rounded once."""
    units, bottom, total = Fraction(quantity, size_of(price, price["meter"])), Fraction(0), Fraction(0)
    for tier in price["tiers"]:
        top = units if tier["up_to"] is None else min(units, Fraction(tier["up_to"]))
        if price["shape"] == "volume":
            reached = tier["up_to"] is None or units <= tier["up_to"]
            if reached:
                whole: int = round(units * tier["unit_nano"] * rate)
                return whole
        else:
            total += max(Fraction(0), top - bottom) * tier["unit_nano"]
            bottom = max(bottom, top)
    return round(total * rate)
