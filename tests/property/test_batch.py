"""Rating in columns is rating record by record, whatever the records, prices and contracts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headframe.base.money import divide_half_even
from headframe.base.quantities import HOUR_US, SECOND_US
from headframe.metering.records import UsageRecord
from headframe.pricing.batch import columns_of, exact_sum, products_divided, rate_batch
from headframe.pricing.book import Book
from headframe.pricing.cover import cover, covers
from headframe.pricing.rate import Rating, rate
from headframe.pricing.records import Charge, Contract, Exchange, Price, Tier

BEGIN = 1_793_491_200_000_000  # 2026-11-01
CURRENCIES = {"org_1": "USD", "org_2": "EUR"}

prices = st.builds(
    Price,
    id=st.uuids().map(lambda name: f"prc_{name}"),
    meter=st.sampled_from(["gpu:H100", "gpu:*", "cpu", "memory", "calls"]),
    unit_nano=st.integers(0, 10**11),
    from_us=st.integers(0, 4 * HOUR_US).map(lambda us: BEGIN + us),
    to_us=st.none() | st.integers(4 * HOUR_US, 6 * HOUR_US).map(lambda us: BEGIN + us),
    currency=st.sampled_from(["USD", "EUR"]),
    purchase=st.sampled_from(["*", "spot"]),
    organization_id=st.sampled_from(["*", "org_1"]),
    minimum_us=st.sampled_from([0, 60 * SECOND_US, HOUR_US]),
)


@st.composite
def records(draw: st.DrawFn) -> UsageRecord:
    begin = BEGIN + draw(st.integers(0, 5)) * HOUR_US + draw(st.integers(0, HOUR_US - 2))
    end = draw(st.integers(begin + 1, begin - begin % HOUR_US + HOUR_US))
    counted = draw(st.booleans())
    held = {"calls": draw(st.integers(-5, 10**6))} if counted else {
        "gpu:H100": draw(st.integers(1, 10**6)), "cpu": draw(st.integers(1, 10**6)),
        "memory": draw(st.integers(1, 10**7)),
    }  # fmt: skip
    return UsageRecord(
        id=f"use_{draw(st.uuids())}", allocation_id=f"alc_{draw(st.integers(0, 3))}", job_id="job_1",
        organization_id=draw(st.sampled_from(["org_1", "org_2"])), project_id=draw(st.sampled_from(["prj_1", "prj_2"])),
        member_id="mem_1", purchase=draw(st.sampled_from(["on-demand", "spot"])), region_id="reg_1",
        state="counted" if counted else draw(st.sampled_from(["running", "provisioning", "repair"])),
        from_us=begin, to_us=end, quantities=held, last=draw(st.booleans()),
        running_before_us=draw(st.integers(0, HOUR_US)), faulted=draw(st.booleans()),
    )  # fmt: skip


def sums(charges: Iterable[Charge]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for one in charges:
        about = (one.organization_id, one.project_id, one.purchase, one.meter, one.kind, one.price_id)
        found[(*about, "amount")] += one.amount_nano
        found[(*about, "quantity")] += one.quantity
    return Counter({key: value for key, value in found.items() if value})


@settings(max_examples=150, deadline=None)
@given(st.lists(records(), max_size=12), st.lists(prices, max_size=8), st.integers(1, 2 * 10**12))
def test_columns_and_records_come_to_the_same(usage: list[UsageRecord], listed: list[Price], pico: int) -> None:
    book = Book(
        listed, [Exchange("fx_1", "EUR", "USD", pico, 0, "test"), Exchange("fx_2", "USD", "EUR", pico, 0, "test")]
    )
    expected = sums(
        charge for name, currency in CURRENCIES.items()
        for charge in rate([one for one in usage if one.organization_id == name], book, currency)
    )  # fmt: skip
    found: Counter[tuple[str, ...]] = Counter()
    for one in rate_batch(columns_of(usage), book, CURRENCIES):
        use = one.use
        about = (use.organization_id, use.project_id, use.purchase, use.meter, one.kind, one.offer.price.id)
        found[(*about, "amount")] += one.amount_nano
        found[(*about, "quantity")] += one.quantity
    assert Counter({key: value for key, value in found.items() if value}) == expected


def test_a_count_has_the_first_price_of_its_window_in_columns_too() -> None:
    counted = UsageRecord(
        "use_1", "", "", "org_1", "prj_1", "", "on-demand", "reg_1", "counted", BEGIN, BEGIN + HOUR_US, {"calls": 3}
    )  # fmt: skip
    book = Book(
        [Price("prc_1", "calls", 7, BEGIN + 60 * SECOND_US), Price("prc_2", "calls", 9, BEGIN + 120 * SECOND_US)]
    )
    [only] = rate_batch(columns_of([counted]), book, CURRENCIES)
    assert (only.offer.price.id, only.quantity) == ("prc_1", 3)


MARKS = [0, 0, HOUR_US // 3, HOUR_US // 2, HOUR_US - 7, HOUR_US]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 5), st.integers(1, 20_000), st.sampled_from(MARKS), st.sampled_from(MARKS)
        ),
        max_size=20, unique_by=lambda r: r[:2],
    ),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(4, 6), st.integers(1, 30_000), st.sampled_from(["*", "reg_1"])),
        max_size=3,
    ),
)  # fmt: skip
def test_contracts_cover_in_columns_what_they_cover_in_records(
    held: list[tuple[int, int, int, int, int]], promised: list[tuple[int, int, int, str]]
) -> None:
    usage = [
        UsageRecord(
            f"use_{hour}_{name}", f"alc_{name}", "job_1", "org_1", f"prj_{name % 2}", "mem_1",
            "spot" if name == 5 else "on-demand", f"reg_{name % 3}", "running",
            BEGIN + hour * HOUR_US + min(marks), BEGIN + hour * HOUR_US + max(marks), {"gpu:H100": level}, last=True,
        )
        for hour, name, level, *marks in held
        if marks[0] != marks[1]
    ]  # fmt: skip
    contracts = [
        Contract(
            f"con_{place}", "org_1", "", "", "reserved", 10**9, BEGIN + first * HOUR_US, BEGIN + last * HOUR_US,
            meter="gpu:H100", quantity=quantity, unit="gpu-hour", region_id=region,
        )
        for place, (first, last, quantity, region) in enumerate(promised)
    ]  # fmt: skip
    book = Book(
        [Price("prc_1", "gpu:H100", 2_990_000_001, 0), Price("prc_2", "gpu:H100", 2_500_000_003, BEGIN + 3 * HOUR_US)]
    )
    rating = Rating(
        book, "USD", deferred=lambda record, meter: any(covers(one, record, meter) for one in contracts)
    )  # fmt: skip
    expected = sum(charge.amount_nano for record in usage for charge in rating.charges(record))
    for hour in range(6):
        start, stop = BEGIN + hour * HOUR_US, BEGIN + (hour + 1) * HOUR_US
        now = [one for one in contracts if one.from_us <= start < one.to_us]
        here = [one for one in usage if start <= one.from_us < stop]
        expected += sum(charge.amount_nano for charge in cover(here, now, rating, start, stop))
    assert sum(one.amount_nano for one in rate_batch(columns_of(usage), book, CURRENCIES, contracts)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), max_size=12), st.sampled_from(["graduated", "volume"]))
def test_a_month_with_tiers_costs_the_same_in_columns(usage: list[UsageRecord], shape: str) -> None:
    tiers = (Tier(3, 10**9 + 7), Tier(200, 7 * 10**8 + 1), Tier(None, 5 * 10**8 + 3))
    book = Book([Price(f"prc_{meter}", meter, 10**9, 0, shape=shape, tiers=tiers) for meter in ("gpu:H100", "calls")])
    tiered = [one for one in usage if one.quantities.get("calls", 1) > 0]
    for name, currency in CURRENCIES.items():
        own = [one for one in tiered if one.organization_id == name]
        charged = sum(charge.amount_nano for charge in rate(own, book, currency))
        assert sum(one.amount_nano for one in rate_batch(columns_of(own), book, CURRENCIES)) == charged


@given(
    st.lists(st.integers(0, 10**14), min_size=1, max_size=20), st.integers(0, 10**12), st.integers(1, (1 << 42) - 1)
)  # fmt: skip
def test_long_division_is_exact(quantities: list[int], factor: int, divisor: int) -> None:
    quantities = [one for one in quantities if one // divisor * factor < 1 << 61] or [0]
    found = products_divided(np.array(quantities, dtype=np.int64), factor, divisor)
    assert found.tolist() == [divide_half_even(one * factor, divisor) for one in quantities]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=50))
def test_sums_do_not_wrap_around(values: list[int]) -> None:
    assert exact_sum(np.array(values, dtype=np.int64)) == sum(values)
