"""Usage and cost: what was spent on what, what it will come to, and what stood idle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import sqrt
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query
from starlette.responses import Response

from headframe.base.errors import Invalid
from headframe.base.money import NANO
from headframe.base.quantities import DAY_US, HOUR_US, parse_moment_us
from headframe.console.page import Page, Signed, page_router
from headframe.control.queries_map import sees_all
from headframe.control.queries_savings import WASTE_BY, WasteReport, waste
from headframe.control.queries_spend import ALL, Usage, usage
from headframe.control.queries_usage import MonthAhead, month_ahead
from headframe.jobs.records import Job
from headframe.ledger.close import month_of, month_span_us
from headframe.tenants.records import Member, Organization, Project
from headframe.tenants.roles import Caller

router = page_router()

Named = Annotated[str, Query(max_length=200)]
RANGES = {"month": "This month", "last": "Last month", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
GROUPS = {"project": "Project", "member": "Member", "accelerator": "Accelerator", "job": "Job", "purchase": "Class",
          "region": "Region", "organization": "Organization"}  # fmt: skip
KINDS: dict[str, type[Any]] = {"project": Project, "member": Member, "organization": Organization, "job": Job}
MOST_ROWS, MOST_DRAWN, PART = 200, 5, 200
INNER = 0.6745 / 1.2816  # the band in which one of two months lies, as a part of that of eight in ten
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page of usage is about, as its address says it."""

    range: str
    by: str
    organization: str
    project: str
    from_us: int
    to_us: int

    def link(self, path: str = "/usage", **other: str) -> str:
        """The address with some of it changed."""
        values = {"range": self.range, "by": self.by, "organization": self.organization, "project": self.project}
        if self.range == "custom":
            values |= {"from": day_of(self.from_us), "to": day_of(self.to_us - 1)}
        plain = {"range": "month", "by": "project"}
        shown = {name: value for name, value in {**values, **other}.items() if value and value != plain.get(name)}
        return f"{path}?{urlencode(shown)}" if shown else path


def day_of(us: int) -> str:
    """The day (UTC) of a moment."""
    return (EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%d")


def _asked(
    page: Signed, range: Named = "month", by: Named = "project", organization: Named = "", project: Named = "",
    from_: Annotated[str, Query(alias="from", max_length=40)] = "", to: Annotated[str, Query(max_length=40)] = "",
) -> Asked:  # fmt: skip
    """Raises `Invalid` for what is no range or grouping; days are whole, in UTC, and the last one belongs to it."""
    if from_ or to:
        begin = parse_moment_us(from_, field="from") if from_ else month_span_us(month_of(page.now_us))[0]
        end = (parse_moment_us(to, field="to") if to else page.now_us) // DAY_US * DAY_US + DAY_US
        if not begin < end:
            raise Invalid("from must not lie behind to.", field="from", value=from_, allowed="a day before `to`")
        range = "custom"
    elif range not in RANGES:
        raise Invalid(f"range is {range!r}.", field="range", value=range, allowed=", ".join(RANGES))
    else:
        begin, end = _span(range, page.now_us)
    everything = page.house is None
    if by not in GROUPS or (by == "organization" and not everything):
        raise Invalid(f"by is {by!r}.", field="by", value=by, allowed=", ".join(GROUPS))
    return Asked(range, by, organization or (ALL if everything else ""), project, begin, end)


def _span(name: str, now_us: int) -> tuple[int, int]:
    begin, end = month_span_us(month_of(now_us))
    if name == "month":
        return begin, end
    if name == "last":
        return month_span_us(month_of(begin - 1))
    today = now_us // DAY_US * DAY_US
    return today - (int(name[:-1]) - 1) * DAY_US, today + DAY_US


Question = Annotated[Asked, Depends(_asked)]


def choices(page: Page) -> list[tuple[str, str]]:
    """The organizations that a page can be about: (id, name)."""
    found: list[tuple[str, str]] = page.ask(_choices)
    return found


def _choices(world: Any, _context: Any, caller: Caller) -> list[tuple[str, str]]:
    if not sees_all(caller):
        return []
    houses = sorted(((one.id, one.name) for one in world.all(Organization).values()), key=lambda one: one[1])
    return [(ALL, "All organizations"), *houses]


@router.get("/usage")
def spent(page: Signed, asked: Question) -> Response:
    """What was spent, on what, and what the month will come to."""
    until_us = min(asked.to_us, page.now_us)
    length = asked.to_us - asked.from_us
    where: dict[str, Any] = dict(_where(asked))
    found: Usage
    before: Usage
    ahead: MonthAhead
    found, before, ahead, houses = page.together(
        partial(usage, by=(asked.by, "meter", "day"), from_us=asked.from_us, to_us=asked.to_us, **where),
        partial(usage, by=(), from_us=asked.from_us - length, to_us=until_us - length, **where),
        partial(month_ahead, **where),
        _choices,
    )
    currency = _main_currency(found)
    rows, others = _rows(page, found, asked.by, currency)
    so_far = sum(row["nano"] for row in rows)
    return page.show(
        "usage.html", section="usage", title="Usage and cost", asked=asked, groups=_groups(page), ranges=RANGES,
        houses=houses, rows=rows[:MOST_ROWS], left_out=len(rows) - MOST_ROWS, currency=currency, others=others,
        total_nano=so_far, accrued_nano=sum(one.accrued_nano for one in found.items if one.currency == currency),
        gpu_hours=sum(row["gpu_hours"] for row in rows), before_nano=_sum(before, currency), ahead=ahead,
        days=_days(found, rows, asked, currency), forecast=_forecast(page, ahead), day_of=day_of,
        until_us=until_us, month=month_of(until_us - 1),
    )  # fmt: skip


@router.get("/usage/waste")
def wasted(page: Signed, asked: Question) -> Response:
    """What was paid for and stood idle."""
    by = asked.by if asked.by in WASTE_BY else "job"
    found: WasteReport = page.ask(
        waste, by=by, from_us=asked.from_us, to_us=min(asked.to_us, page.now_us), **_where(asked)
    )(page.control.reads)
    shown = [one for one in found.items if one.waste.gpu_nano or one.waste.looked_nano or one.waste.unused_nano]
    # What is known to be wasted first; of the rest what cost most.
    shown.sort(key=lambda one: (-one.waste.wasted_nano - one.waste.unused_nano, -one.waste.gpu_nano, one.by[by]))
    names = _names(page, by, [one.by[by] for one in shown[:MOST_ROWS]])
    return page.show(
        "usage_waste.html", section="usage", title="Usage and cost", asked=asked, by=by, ways=list(WASTE_BY),
        ranges=RANGES, houses=choices(page), found=found, items=shown[:MOST_ROWS], names=names, day_of=day_of,
    )  # fmt: skip


def _groups(page: Page) -> dict[str, str]:
    return {name: words for name, words in GROUPS.items() if name != "organization" or page.house is None}


def _where(asked: Asked) -> dict[str, str | None]:
    return {"organization": asked.organization or None, "project": asked.project or None}


def _main_currency(found: Usage) -> str:
    """The currency in which most was spent; others are told apart."""
    sums: dict[str, int] = {}
    for one in found.items:
        sums[one.currency] = sums.get(one.currency, 0) + one.amount_nano
    return max(sums, key=lambda name: (sums[name], name)) if sums else found.currency or "USD"


def _sum(found: Usage, currency: str) -> int:
    return sum(one.amount_nano + one.accrued_nano for one in found.items if one.currency == currency)


def _rows(page: Page, found: Usage, by: str, currency: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """A row for each group, the dearest first, and what was spent in other currencies."""
    sums: dict[str, dict[str, Any]] = {}
    others: dict[str, int] = {}
    for one in found.items:
        nano = one.amount_nano + one.accrued_nano
        if one.currency != currency:
            others[one.currency] = others.get(one.currency, 0) + nano
            continue
        key = one.by[by]
        row = sums.setdefault(key, {"key": key, "nano": 0, "accrued": 0, "gpu_nano": 0, "gpu_hours": 0.0, "other": 0})
        row["nano"] += nano
        row["accrued"] += one.accrued_nano
        if one.by["meter"].startswith("gpu"):
            row["gpu_nano"] += one.amount_nano
            row["gpu_hours"] += (one.quantity or 0) / 1000 / 3600
        else:
            row["other"] += nano
    rows = sorted(sums.values(), key=lambda row: (-row["nano"], row["key"]))
    names = _names(page, by, [row["key"] for row in rows[:MOST_ROWS]])
    for row in rows:
        row["name"] = names.get(row["key"], row["key"])
    return rows, others


def _names(page: Page, by: str, keys: Iterable[str]) -> dict[str, str]:
    """What groups are called."""
    kind = KINDS.get(by)
    wanted = [key for key in keys if key]
    if kind is None:
        none = {"accelerator": "no accelerator"}.get(by, "none")
        return {"": none}
    found = {"": "not of any job" if by == "job" else "nobody's own"}
    warm = {key: page.world.get(kind, key) for key in wanted}
    cold = [key for key, record in warm.items() if record is None]
    for first in range(0, len(cold), PART):
        warm |= {one.id: one for one in page.control.reads.find(kind, id=cold[first : first + PART], limit=PART)}
    several = len({getattr(one, "organization_id", "") for one in warm.values() if one is not None}) > 1
    return found | {key: _name(page, record, several) for key, record in warm.items() if record is not None}


def _name(page: Page, record: Any, several: bool) -> str:
    """A record's name, with that of its organization where there are several."""
    house: Organization | None = page.world.get(Organization, record.organization_id) if several else None
    return f"{house.name} / {record.name}" if house is not None else str(record.name)


def _days(found: Usage, rows: list[dict[str, Any]], asked: Asked, currency: str) -> dict[str, Any]:
    """The cost of each day by group, as bars: the largest groups, all others as one."""
    count = max(-(-(asked.to_us - asked.from_us) // DAY_US), 1)
    first = asked.from_us // DAY_US
    place = {(EPOCH + timedelta(days=first + day)).strftime("%Y-%m-%d"): day for day in range(count)}
    named = [row["key"] for row in rows[: MOST_DRAWN + (len(rows) == MOST_DRAWN + 1)]]
    sums: dict[str, list[float]] = {key: [0.0] * count for key in named}
    for one in found.items:
        if one.currency == currency and one.by["day"] in place:
            key = one.by[asked.by] if one.by[asked.by] in sums else None
            line = sums.setdefault(key or "\0", [0.0] * count)
            line[place[one.by["day"]]] += (one.amount_nano + one.accrued_nano) / NANO
    names = {row["key"]: row["name"] for row in rows}
    rest = len(rows) - len(named)
    return {
        "kind": "bars", "title": f"Cost per day by {GROUPS[asked.by].lower()}", "unit": currency,
        "x": [(first + day) * DAY_US // 1000 for day in range(count)] if any(map(any, sums.values())) else [],
        "series": [
            {"name": names.get(key, f"{rest} other{'s' if rest > 1 else ''}"), "y": [round(value, 4) for value in line],
             "rest": key not in names}
            for key, line in sums.items()
        ],
        "empty": "Nothing was spent in this time",
    }  # fmt: skip


def _forecast(page: Page, ahead: MonthAhead) -> dict[str, Any]:
    """The month as a line: what was spent up to now, then what is to come with two bands."""
    begin, end = month_span_us(ahead.month)
    now_us, told = page.now_us, ahead.forecast
    x, y, running = [begin], [0.0], 0
    for day in range(begin // DAY_US, now_us // DAY_US):
        running += ahead.days.get(day_of(day * DAY_US), 0)
        x.append((day + 1) * DAY_US)
        y.append(running / NANO)
    x.append(now_us)
    y.append(told.spent_nano / NANO)
    low: list[float | None] = [None] * len(x)
    high, low2, high2 = list(low), list(low), list(low)
    steps = [*range(now_us // DAY_US * DAY_US + DAY_US, end, DAY_US), end]
    for at in [now_us, *steps]:
        part = (at - now_us) / max(end - now_us, 1)
        middle = told.spent_nano + (told.expected_nano - told.spent_nano) * part
        below = (told.expected_nano - told.low_nano) * sqrt(part)
        above = (told.high_nano - told.expected_nano) * sqrt(part)
        edges = [
            max(value, told.spent_nano) / NANO
            for value in (middle - below, middle + above, middle - below * INNER, middle + above * INNER)
        ]
        if at == now_us:
            low[-1], high[-1], low2[-1], high2[-1] = edges
            continue
        x.append(at)
        y.append(middle / NANO)
        for line, value in zip((low, high, low2, high2), edges, strict=True):
            line.append(value)
    return {
        "kind": "bands", "title": f"Spend of {ahead.month}", "unit": ahead.currency,
        "x": [at // 1000 for at in x] if told.high_nano else [], "empty": "Nothing is spent yet",
        "series": [{"name": "spend", "y": [round(value, 4) for value in y]}], "now": now_us // 1000,
        "band": {"low": low, "high": high, "low2": low2, "high2": high2}, "gap": 40 * 24 * HOUR_US // 1000,
    }  # fmt: skip
