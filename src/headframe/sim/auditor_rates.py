"""What use costs, worked out a second time: the auditor's own arithmetic, on fractions, from events alone.

It knows the world by events of these kinds: `allocation_held`, `allocation_running`, `allocation_marked`,
`allocation_released`, `price_set`, `exchange_set`, `contract_agreed`, `contract_ended`, `credit_granted`; and by the
events of use as they were told. It shares no code with metering, pricing and ledger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

from headframe.base.changes import Event

HOUR_US = 3_600_000_000
# How much of a meter's own quantity a unit of a price is.
SIZES = {
    "gpu-hour": 1000 * HOUR_US, "core-hour": 1000 * HOUR_US, "GiB-hour": 1024 * HOUR_US,
    "GiB-month": 1024 * 730 * HOUR_US, "kWh": 1, "one": 1, "thousand": 1000, "million": 1_000_000,
    "level-hour": 3600, "level-month": 730 * 3600,
}  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the books are not what the events say: what it is about, what should be there, and what is."""

    about: str
    expected: object
    found: object
    month: str = ""

    def __str__(self) -> str:
        return f"{self.about}\n  by the events: {self.expected}\n  in the books:  {self.found}"


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One charge as the auditor computes it."""

    meter: str
    kind: str
    from_us: int
    to_us: int
    quantity: int
    unit_nano: int
    amount_nano: int
    price_id: str


@dataclass(slots=True)
class Life:
    """An allocation as events tell it."""

    id: str
    job_id: str
    organization_id: str
    project_id: str
    purchase: str
    region_id: str
    slices: list[Row]
    held_us: int
    running_us: int | None = None
    released_us: int | None = None
    faulted: bool = False
    repair: bool = False  # until it runs, its time is that of our repair: its job ran before, and a fault ended that
    marks: list[tuple[int, bool]] = field(default_factory=list)  # from when its running time is free, or not any more

    def runs(self, end_us: int) -> list[tuple[int, int]]:
        """The stretches up to a moment in which it ran and was not under our repair."""
        if self.running_us is None:
            return []
        stretches: list[tuple[int, int]] = []
        begin: int | None = self.running_us
        for at_us, free in self.marks:
            if free and begin is not None:
                stretches.append((begin, min(at_us, end_us)))
            begin = None if free else at_us
        if begin is not None:
            stretches.append((begin, end_us))
        return [(start, stop) for start, stop in stretches if start < stop]


@dataclass(slots=True)
class Story:
    """All that the auditor takes from the events."""

    lives: dict[str, Life] = field(default_factory=dict)
    prices: list[Row] = field(default_factory=list)
    exchanges: list[Row] = field(default_factory=list)
    contracts: dict[str, Row] = field(default_factory=dict)
    credits: list[Event] = field(default_factory=list)


def read_story(events: Iterable[Event]) -> Story:
    """The events put in order. A price may be set again, such as to end it: the last word counts."""
    story = Story()
    prices: dict[str, Row] = {}
    for event in events:
        detail = event.detail
        match event.kind:
            case "allocation_held":
                story.lives[detail["allocation"]] = Life(
                    detail["allocation"], event.subject, event.organization_id, event.project_id, detail["purchase"],
                    detail["region"], detail["slices"], event.at_us, repair=detail.get("repair", False),
                )  # fmt: skip
            case "allocation_running":
                story.lives[detail["allocation"]].running_us = event.at_us
            case "allocation_marked":
                story.lives[detail["allocation"]].marks.append((event.at_us, detail["state"] != "running"))
            case "allocation_released":
                life = story.lives[detail["allocation"]]
                life.released_us, life.faulted = event.at_us, detail["faulted"]
            case "price_set":
                prices[detail["id"]] = detail
            case "exchange_set":
                story.exchanges.append(detail)
            case "contract_agreed" | "contract_ended":
                story.contracts[detail["id"]] = detail
            case "credit_granted":
                story.credits.append(event)
    story.prices = list(prices.values())
    return story


# Prices.


@dataclass(frozen=True, slots=True)
class Answer:
    """A price in force: what a unit costs in its own currency, and what one of that is in the buyer's."""

    price: Row
    unit_nano: int
    rate: Fraction

    def amount_nano(self, meter: str, quantity: int) -> int:
        """Rounded once, half to even."""
        return round(Fraction(quantity * self.unit_nano, size_of(self.price, meter)) * self.rate)


def size_of(price: Row, meter: str) -> int:
    stored = 1_000_000 if meter.startswith("storage:") else 1  # what is kept is counted by the second
    if price["unit"]:
        return SIZES[price["unit"]] // stored
    family = meter.partition(":")[0]
    usual = {"gpu": "gpu-hour", "cpu": "core-hour", "memory": "GiB-hour", "disk": "GiB-hour", "storage": "GiB-month",
             "tokens": "million"}  # fmt: skip
    return SIZES[usual.get(family, "one")] // stored


@dataclass(slots=True)
class Tariff:
    """The prices as one buyer in one place meets them."""

    story: Story
    organization_id: str
    region_id: str
    purchase: str
    currency: str
    _known: dict[str, tuple[list[int], list[Answer | None]]] = field(default_factory=dict)

    def at(self, meter: str, at_us: int) -> Answer | None:
        """The price in force at a moment."""
        marks, answers = self._line(meter)
        return answers[bisect_right(marks, at_us) - 1]

    def _line(self, meter: str) -> tuple[list[int], list[Answer | None]]:
        """Each moment at which anything about a meter's prices changes, and the best answer from it on."""
        if meter not in self._known:
            mine = [price for price in self.story.prices if self._concerns(price, meter)]
            watched = mine + [price for price in self.story.prices if price["meter"] == "electricity"]
            marks = {price[name] for price in watched for name in ("from_us", "to_us")}
            marks |= {one["from_us"] for one in self.story.exchanges}
            line = [-(1 << 62), *sorted(mark for mark in marks if mark is not None)]
            self._known[meter] = line, [self._best(mine, meter, mark) for mark in line]
        return self._known[meter]

    def _concerns(self, price: Row, meter: str) -> bool:
        return (
            (price["meter"] == meter or (price["meter"] == "gpu:*" and meter.startswith("gpu:")))
            and price["region_id"] in ("*", self.region_id)
            and price["purchase"] in ("*", self.purchase)
            and price["organization_id"] in ("*", self.organization_id)
            and not price["term"]
        )

    def _best(self, mine: list[Row], meter: str, at_us: int) -> Answer | None:
        live = [one for one in mine if one["from_us"] <= at_us and (one["to_us"] is None or at_us < one["to_us"])]
        live.sort(key=lambda one: self._closeness(one, meter))
        answers = (self._answer(price, at_us) for price in reversed(live))
        return next((answer for answer in answers if answer is not None), None)

    def _closeness(self, price: Row, meter: str) -> tuple[Any, ...]:
        own = price["organization_id"] != "*"
        exact = (price["meter"] == meter, price["region_id"] != "*", price["purchase"] != "*")
        return own, *exact, price["currency"] == self.currency, price["from_us"], price["id"]

    def _answer(self, price: Row, at_us: int) -> Answer | None:
        rate = self.rate(price["currency"], at_us)
        if rate is None:
            return None
        unit_nano = price["unit_nano"]
        if price["shape"] == "power":
            power = Tariff(self.story, "*", self.region_id, "on-demand", price["currency"]).at("electricity", at_us)
            if power is None:
                return None
            unit_nano += round(Fraction(price["watts"] * power.unit_nano, 1000))
        return Answer(price, unit_nano, rate)

    def rate(self, base: str, at_us: int) -> Fraction | None:
        """What one unit of a currency is in the buyer's; None without a rate."""
        if base == self.currency:
            return Fraction(1)
        live = [
            one
            for one in self.story.exchanges
            if (one["base"], one["quote"]) == (base, self.currency) and one["from_us"] <= at_us
        ]
        newest = max(live, key=lambda one: (one["from_us"], one["id"]), default=None)
        return None if newest is None else Fraction(newest["rate_pico"], 10**12)

    def stretches(self, meter: str, from_us: int, to_us: int) -> Iterator[tuple[int, int, Answer | None]]:
        """[from, to) cut where the answer changes; a lesser price may begin unheard."""
        marks, answers = self._line(meter)
        start, place = from_us, bisect_right(marks, from_us) - 1
        answer = answers[place]
        for mark, following in zip(marks[place + 1 :], answers[place + 1 :], strict=True):
            if mark >= to_us:
                break
            if following != answer:
                yield start, mark, answer
                start, answer = mark, following
        yield start, to_us, answer


def held_by(slices: list[Row]) -> dict[str, int]:
    """What all slices of an allocation hold together."""
    held: dict[str, int] = defaultdict(int)
    for part in slices:
        for share in part["shares"]:
            held["gpu:" + share["kind"]] += share["milli"]
        for meter, name in (("cpu", "cpu_milli"), ("memory", "memory_mib"), ("disk", "disk_mib")):
            held[meter] += part[name]
    return {meter: quantity for meter, quantity in held.items() if quantity}


def hours(from_us: int, to_us: int) -> Iterator[tuple[int, int]]:
    """[from, to) cut at UTC hours."""
    marks = {from_us, to_us, *range(from_us - from_us % HOUR_US + HOUR_US, to_us, HOUR_US)}
    yield from pairwise(sorted(marks))


def bill(life: Life, tariff: Tariff, end_us: int, contracts: Iterable[Row]) -> Iterator[Item]:
    """Everything that an allocation is charged up to a moment, but for what a contract might cover (`cover_bill`)."""
    runs = life.runs(end_us)
    if not runs:
        return
    ended = life.released_us is not None and end_us >= life.released_us and runs[-1][1] == end_us
    terms = list(contracts)
    for meter, held in sorted(held_by(life.slices).items()):
        answer: Answer | None = None
        covered = False
        for from_us, to_us in (piece for run in runs for piece in hours(*run)):
            covered = any(is_for(contract, life, meter, from_us) for contract in terms)
            for start, stop, answer in tariff.stretches(meter, from_us, to_us):
                if answer is not None and not covered:
                    yield item(meter, "usage", start, stop, held * (stop - start), answer)
        if ended and not life.faulted and answer is not None and not covered:
            missing_us = answer.price["minimum_us"] - sum(stop - start for start, stop in runs)
            if missing_us > 0:
                yield item(meter, "minimum", end_us, end_us, held * missing_us, answer)


def item(meter: str, kind: str, from_us: int, to_us: int, quantity: int, answer: Answer) -> Item:
    amount = answer.amount_nano(meter, quantity)
    return Item(meter, kind, from_us, to_us, quantity, answer.unit_nano, amount, answer.price["id"])


# Contracts.


def is_for(contract: Row, life: Life, meter: str, at_us: int) -> bool:
    """Whether a contract is there for what an allocation holds of a meter from a moment on."""
    return (
        contract["quantity"] > 0
        and (contract["organization_id"], contract["meter"]) == (life.organization_id, meter)
        and contract["region_id"] in ("*", life.region_id)
        and life.purchase != "spot"
        and contract["from_us"] <= at_us < contract["to_us"]
    )


def cover_bill(
    lives: list[tuple[Life, int]], contracts: list[Row], tariffs: dict[str, Tariff], hour_us: int
) -> Iterator[tuple[str, Item]]:
    """(allocation or contract, item) of one hour of one organization: covered, unused, and what is beyond.

    `lives` come with the moment up to which they are charged. What was allocated first is covered first, from the
    contract that began first.
    """
    for meter in sorted({contract["meter"] for contract in contracts}):
        rivals = sorted(
            (one for one in contracts if one["meter"] == meter and one["from_us"] <= hour_us < one["to_us"]),
            key=lambda one: (one["from_us"], one["id"]),
        )
        users = []
        for life, end_us in sorted(lives, key=lambda pair: pair[0].id):
            for began, ended in life.runs(end_us):
                start, stop = max(hour_us, began), min(hour_us + HOUR_US, ended)
                if start < stop and any(is_for(one, life, meter, start) for one in rivals):
                    users.append((life, start, stop, held_by(life.slices).get(meter, 0)))
        covered: dict[tuple[str, str, int], int] = defaultdict(int)
        beyond: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
        for begin, end in pairwise(sorted({moment for user in users for moment in user[1:3]})):
            room = {one["id"]: one["quantity"] for one in rivals}
            for life, start, stop, held in users:
                left = held if start <= begin < stop else 0
                for contract in rivals:
                    if is_for(contract, life, meter, start):
                        share = min(left, room[contract["id"]])
                        room[contract["id"]] -= share
                        left -= share
                        covered[contract["id"], life.id, start] += share * (end - begin)
                if left:
                    runs = beyond[life.id, start]
                    if runs and runs[-1][1] == begin and runs[-1][2] == left:
                        runs[-1][1] = end
                    else:
                        runs.append([begin, end, left])
        yield from _covered_items(meter, users, rivals, covered, beyond, tariffs, hour_us)


def _covered_items(
    meter: str, users: list[tuple[Life, int, int, int]], rivals: list[Row], covered: dict[tuple[str, str, int], int],
    beyond: dict[tuple[str, int], list[list[int]]], tariffs: dict[str, Tariff], hour_us: int,
) -> Iterator[tuple[str, Item]]:  # fmt: skip
    for life, start, stop, _ in users:
        for contract in rivals:
            quantity = covered.get((contract["id"], life.id, start), 0)
            if quantity:
                usual = tariffs[life.id].at(meter, start)
                unit_nano = 0 if usual is None else usual.unit_nano
                yield life.id, Item(meter, "covered", start, stop, quantity, unit_nano, 0, "")
        for begin, end, held in beyond.get((life.id, start), ()):
            answer: Answer | None = None
            for first, last, answer in tariffs[life.id].stretches(meter, begin, end):
                if answer is not None:
                    yield life.id, item(meter, "usage", first, last, held * (last - first), answer)
            runs = life.runs(end)
            if answer is not None and end == life.released_us and not life.faulted and runs and runs[-1][1] == end:
                missing_us = answer.price["minimum_us"] - sum(last - first for first, last in runs)
                if missing_us > 0:
                    yield life.id, item(meter, "minimum", end, end, held * missing_us, answer)
    for contract in rivals:
        begin, end = max(hour_us, contract["from_us"]), min(hour_us + HOUR_US, contract["to_us"])
        used = sum(quantity for (name, _, _), quantity in covered.items() if name == contract["id"])
        unused = contract["quantity"] * (end - begin) - used
        if unused:
            yield contract["id"], Item(meter, "unused", begin, end, unused, 0, 0, "")


def fee_items(contract: Row, rated_us: int) -> Iterator[Item]:
    """What a contract has asked for up to a moment: once, or month by month at each month's end."""
    name = contract["meter"] or contract["shape"]
    if contract["shape"] == "sla":
        return
    if contract["shape"] == "once" or contract["upfront"]:
        if rated_us > contract["from_us"]:
            amount = worth(contract, contract["to_us"]) - worth(contract, contract["from_us"])
            yield Item(name, "fee", contract["from_us"], contract["to_us"], 1, amount, amount, "")
        return
    start = contract["from_us"]
    while start < contract["to_us"]:
        stop = min(contract["to_us"], month_after(start))
        if stop > rated_us:
            return
        amount = worth(contract, stop) - worth(contract, start)
        if amount:
            yield Item(name, "fee", start, stop, 1, amount, amount, "")
        start = stop


def worth(contract: Row, at_us: int) -> int:
    """What of a contract's price belongs to the time up to a moment."""
    begin, end = contract["from_us"], min(max(at_us, contract["from_us"]), contract["to_us"])
    if contract["shape"] == "reserved":
        promised = contract["unit_nano"] * contract["quantity"] * (end - begin)
        return round(Fraction(promised, size_of(contract, contract["meter"])))
    if contract["shape"] == "once":
        whole = Fraction(end - begin, contract["to_us"] - begin)
        paid: int = round(contract["unit_nano"] * whole)
        return paid
    total = 0
    while begin < end:
        after = month_after(begin)
        first = month_begin(begin)
        stop = min(end, after)
        for moment, sign in ((stop, 1), (begin, -1)):
            total += sign * round(Fraction(contract["unit_nano"] * (moment - first), after - first))
        begin = stop
    return total


def month_begin(at_us: int) -> int:
    """The first moment of the UTC month that a moment lies in."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    return (first - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def month_after(at_us: int) -> int:
    """The first moment of the month after."""
    return month_begin(month_begin(at_us) + 32 * 24 * HOUR_US)


def month_name(at_us: int) -> str:
    """The month to which something belongs that is due at a moment; its very first one still ends the month before."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us - 1)
    return f"{at.year:04d}-{at.month:02d}"
