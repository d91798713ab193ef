"""Every shape of price and contract: whatever is split, in whatever pieces and order, adds up to the whole."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headframe.base.money import format_discount, parse_discount, split
from headframe.base.quantities import DAY_US, HOUR_US, month_bounds_us, parse_moment_us
from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book, Buyer, Offer
from headframe.pricing.cover import cover
from headframe.pricing.fees import fees, next_due_us
from headframe.pricing.rate import Rating, rate
from headframe.pricing.records import Charge, Contract, Exchange, Price, Tier
from headframe.pricing.registry import CONTRACTS, SHAPES
from headframe.pricing.rerate import rerate

USD = 1_000_000_000
BEGIN = parse_moment_us("2026-10-31T12:00:00Z", field="begin")
TIERS = (Tier(10, 3 * USD), Tier(100, 2 * USD), Tier(None, USD + 7))
METER = {"storage": "storage:datasets", "tokens": "tokens:input", "each": "calls"}
EXTRA = {"graduated": {"tiers": TIERS}, "volume": {"tiers": TIERS}, "power": {"watts": 700}}
shapes = st.sampled_from(sorted(SHAPES))
pieces = st.lists(st.integers(0, 5_000), min_size=1, max_size=12)


def offer_of(shape: str, unit_nano: int = 1_234_567) -> Offer:
    price = Price("p", METER.get(shape, "gpu:H100"), unit_nano, 0, shape=shape, **EXTRA.get(shape, {}))
    SHAPES[shape].check(price)
    return Offer(price, unit_nano, 37, Exchange("fx", "USD", "EUR", 923_456_789_012, 0, "ECB"))


def worth(offer: Offer, parts: list[int]) -> int:
    total = before = 0
    for quantity in parts:
        total += sum(part.amount_nano for part in SHAPES[offer.price.shape].parts(offer, before, quantity))
        before += quantity
    return total


@settings(max_examples=200, deadline=None)
@given(shapes, pieces)
def test_pieces_of_a_month_cost_what_the_whole_costs(shape: str, parts: list[int]) -> None:
    offer = offer_of(shape)
    whole, told = worth(offer, [sum(parts)]), worth(offer, parts)
    if offer.price.tiers:
        assert told == whole == worth(offer, parts[::-1])  # to the nano-unit, in any order
    else:
        assert abs(told - whole) <= (len(parts) + 1) / 2  # each piece is rounded once


@settings(max_examples=100, deadline=None)
@given(shapes, pieces, st.integers(0, 11))
def test_what_is_taken_back_costs_exactly_what_it_had_cost(shape: str, parts: list[int], place: int) -> None:
    offer = offer_of(shape)
    taken = parts[place % len(parts)]
    assert worth(offer, [*parts, taken, -taken]) == worth(offer, parts)


@given(st.integers(0, 4000))
def test_graduated_tiers_are_continuous(quantity: int) -> None:
    offer = offer_of("graduated")
    step = worth(offer, [quantity + 1]) - worth(offer, [quantity])
    dearest = max(tier.unit_nano for tier in TIERS)
    assert 0 <= step <= Fraction(dearest * offer.rate_pico, 37 * 10**12) + 1


def test_volume_prices_all_units_by_the_tier_that_is_reached() -> None:
    offer = Offer(replace(offer_of("volume").price), 0, 1)
    assert worth(offer, [10]) == 30 * USD
    assert worth(offer, [5, 6]) == worth(offer, [11]) == 22 * USD
    kinds = [part.kind for part in SHAPES["volume"].parts(offer, 10, 1)]
    assert kinds == ["usage", "tier"]


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_splits_by_largest_remainder_lose_nothing(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        assert all(abs(part - Fraction(total * weight, whole)) < 1 for part, weight in zip(parts, weights, strict=True))


@pytest.mark.parametrize(
    ("text", "paid", "english", "chinese"),
    [
        ("2折", 200_000, "80 % off", "2折"),
        ("80 % off", 200_000, "80 % off", "2折"),
        ("-80%", 200_000, "80 % off", "2折"),
        ("7.5折", 750_000, "25 % off", "7.5折"),
        ("75折", 750_000, "25 % off", "7.5折"),
        ("0.5%", 995_000, "0.5 % off", "9.95折"),
    ],
)  # fmt: skip
def test_discounts_are_read_and_told_both_ways(text: str, paid: int, english: str, chinese: str) -> None:
    assert parse_discount(text, field="amount") == paid
    assert (format_discount(paid), format_discount(paid, language="zh")) == (english, chinese)


# Contracts.


def contract(shape: str, days: int, quantity: int = 8000) -> Contract:
    held = quantity if shape in ("reserved", "monthly") else 0
    made = Contract(
        "con_1", "org_1", "", "t", shape, 0 if shape == "sla" else 1_999_999_999, BEGIN, BEGIN + days * DAY_US,
        meter="gpu:H100" if held else "", quantity=held, unit="gpu-hour" if held else "",
        steps=((999_000, 10),) if shape == "sla" else (),
    )  # fmt: skip
    CONTRACTS[shape].check(made)
    return made


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(CONTRACTS)), st.integers(1, 400), st.lists(st.integers(0, 400 * 24), max_size=10))
def test_proration_sums_to_the_whole(shape: str, days: int, hours: list[int]) -> None:
    made = contract(shape, days)
    terms = CONTRACTS[shape]
    cuts = sorted({made.from_us, made.to_us, *(min(made.to_us, BEGIN + hour * HOUR_US + 1) for hour in hours)})
    values = [terms.worth_nano(made, cut) for cut in cuts]
    assert values == sorted(values)
    assert terms.worth_nano(made, made.from_us) == 0
    charged, due_us = 0, next_due_us(made)
    while made.rated_us < made.to_us:
        charged += sum(each.amount_nano for each in fees(made, due_us))
        made = replace(made, rated_us=due_us)
        due_us = next_due_us(made)
    assert charged == values[-1]


def test_a_month_is_prorated_to_the_second() -> None:
    begin, end = month_bounds_us("2026-11")
    made = replace(contract("monthly", 30), from_us=begin + 1_000_000, to_us=end, unit_nano=30 * 86_400 * USD)
    assert CONTRACTS["monthly"].worth_nano(made, end) == (30 * 86_400 - 1) * USD


used_slots = st.lists(
    st.tuples(st.integers(0, 3599), st.integers(1, 3600), st.sampled_from([250, 1000, 8000])), max_size=8
)


def usage_of(slots: list[tuple[int, int, int]]) -> list[UsageRecord]:
    return [
        UsageRecord(
            f"alc_{number}.0", f"alc_{number}", "job", "org_1", "prj_1", "mem_1", "on-demand", "reg", "running",
            BEGIN + start * 1_000_000, BEGIN + min(3600, start + long) * 1_000_000, {"gpu:H100": milli, "cpu": 1000},
        )
        for number, (start, long, milli) in enumerate(slots)
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(used_slots, st.randoms(use_true_random=False), st.sampled_from([1000, 12_000]))
def test_commitment_burn_equals_commitment(slots: list[tuple[int, int, int]], luck, quantity: int) -> None:
    made, end = contract("reserved", 30, quantity), BEGIN + HOUR_US
    book = Book([Price("list", "gpu:H100", 3 * USD, 0)])
    usage = usage_of(slots)
    charges = list(cover(usage, [made], Rating(book, "USD"), BEGIN, end))
    shuffled = luck.sample(usage, len(usage))
    assert sorted(cover(shuffled, [made], Rating(book, "USD"), BEGIN, end), key=key) == sorted(charges, key=key)
    spread = [each for each in charges if each.kind in ("covered", "unused")]
    assert sum(each.quantity for each in spread) == made.quantity * HOUR_US
    assert sum(each.effective_nano for each in spread) == CONTRACTS["reserved"].worth_nano(made, end)
    assert all(each.amount_nano == 0 for each in spread)
    covered = sum(each.quantity for each in charges if each.kind == "covered")
    beyond = sum(each.quantity for each in charges if each.kind == "usage")
    assert covered + beyond == sum(one.quantities["gpu:H100"] * (one.to_us - one.from_us) for one in usage)


def key(charge: Charge) -> tuple[str, int]:
    return charge.usage_id, charge.from_us


def test_twelve_reserved_and_sixteen_running_is_four_at_the_list_price() -> None:
    made = contract("reserved", 30, 12_000)
    rating = Rating(Book([Price("list", "gpu:H100", 3 * USD, 0)]), "USD")
    charges = list(cover(usage_of([(0, 3600, 8000), (0, 3600, 8000)]), [made], rating, BEGIN, BEGIN + HOUR_US))
    assert [(each.allocation_id, each.kind, each.quantity // HOUR_US, each.amount_nano) for each in charges] == [
        ("alc_0", "covered", 8000, 0),
        ("alc_1", "covered", 4000, 0),
        ("alc_1", "usage", 4000, 12 * USD),
    ]


# The book: currencies, electricity, corrections.


def test_a_price_in_another_currency_is_converted_at_the_rate_of_the_day_and_keeps_it() -> None:
    book = Book(
        [Price("list", "cpu", USD, 0)],
        [
            Exchange("a", "USD", "EUR", 900_000_000_000, 0, "ECB"),
            Exchange("b", "USD", "EUR", 950_000_000_000, BEGIN + HOUR_US // 2, "ECB"),
        ],
    )
    record = replace(usage_of([(0, 3600, 1000)])[0], quantities={"cpu": 1000})
    charges = rate([record], book, "EUR")
    assert [each.amount_nano for each in charges] == [USD * 45 // 100, USD * 475 // 1000]
    assert [(each.fx_base, each.fx_rate_pico, each.fx_us) for each in charges] == [
        ("USD", 900_000_000_000, 0),
        ("USD", 950_000_000_000, BEGIN + HOUR_US // 2),
    ]
    assert rate([record], book, "CNY") == ()
    assert not book.serves("CNY", BEGIN)
    assert book.serves("EUR", BEGIN)


def test_a_price_follows_electricity_by_the_hour() -> None:
    book = Book(
        [
            Price("power", "gpu:H100", 2 * USD, 0, shape="power", watts=1000),
            Price("day", "electricity", USD // 10, 0, unit="kWh"),
            Price("north", "electricity", USD // 2, BEGIN + HOUR_US // 2, unit="kWh", region_id="reg"),
        ]
    )
    record = replace(usage_of([(0, 3600, 1000)])[0], quantities={"gpu:H100": 1000})
    charges = rate([record], book, "USD")
    assert [each.unit_nano for each in charges] == [21 * USD // 10, 25 * USD // 10]
    assert {each.pricing for each in charges} == {"dynamic"}


def test_the_customers_own_price_goes_before_the_list_which_is_kept_beside_it() -> None:
    book = Book([Price("list", "gpu:H100", 3 * USD, 0), Price("own", "gpu:*", 2 * USD, 0, organization_id="org_1")])
    (charge,) = rate([replace(usage_of([(0, 3600, 1000)])[0], quantities={"gpu:H100": 1000})], book, "USD")
    assert (charge.amount_nano, charge.list_nano, charge.contracted_nano) == (2 * USD, 3 * USD, 2 * USD)
    assert book.find("gpu:H100", Buyer("org_2"), 0).price.id == "list"


@settings(max_examples=60, deadline=None)
@given(used_slots, st.integers(1, 5), st.integers(0, 3600))
def test_rerating_corrects_to_what_the_new_book_says_and_only_once(slots, amount: int, second: int) -> None:
    old = Book([Price("list", "gpu:H100", 3 * USD, 0), Price("cpu", "cpu", USD, 0)])
    new = Book(
        [*old.prices, Price("own", "gpu:H100", amount * USD, BEGIN + second * 1_000_000, organization_id="org_1")]
    )
    usage = usage_of(slots)
    charges = list(rate(usage, old, "USD"))
    made = list(rerate(charges, new, BEGIN + DAY_US, "price_2"))
    total = sum(each.amount_nano for each in (*charges, *made))
    right = sum(each.amount_nano for each in rate(usage, new, "USD"))
    assert abs(total - right) <= len(usage)
    assert all(each.kind == "correction" and each.meter == "gpu:H100" for each in made)
    assert list(rerate([*charges, *made], new, BEGIN + 2 * DAY_US, "price_2")) == []
    assert list(rerate(charges, old, BEGIN + DAY_US, "x")) == []
