"""Usage records become charges: exact, split where prices change, with a least running time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from headframe.base.quantities import HOUR_US, SECOND_US
from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book, Buyer
from headframe.pricing.rate import WHOLE, cost_between, rate, rate_nano_per_hour, slope
from headframe.pricing.records import Price

USD = 1_000_000_000
BOOK = Book(
    [
        Price("gpu", "gpu:H100", 3 * USD, from_us=0),
        Price("cpu", "cpu", 20_000_000, from_us=0, minimum_us=0),
        Price("memory", "memory", 3_000_000, from_us=0),
    ]
)


def used(from_us: int, to_us: int, **more: object) -> UsageRecord:
    record = UsageRecord(
        "alc_1.0", "alc_1", "job_1", "org_1", "prj_1", "mem_1", "on-demand", "reg_1", "running", from_us, to_us,
        {"gpu:H100": 8000, "cpu": 500, "memory": 1536, "disk": 10_240},
    )  # fmt: skip
    return replace(record, **more)  # type: ignore[arg-type]


def test_an_hour_costs_what_the_book_says() -> None:
    amounts = {charge.meter: charge.amount_nano for charge in rate([used(0, HOUR_US)], BOOK, "USD")}
    assert amounts == {"gpu:H100": 24 * USD, "cpu": 10_000_000, "memory": 4_500_000}  # disk has no price: free


def test_provisioning_is_free_and_another_currency_has_no_price_here() -> None:
    assert rate([used(0, HOUR_US, state="provisioning")], BOOK, "USD") == ()
    assert rate([used(0, HOUR_US)], BOOK, "EUR") == ()


def test_one_microsecond_is_rounded_once_half_to_even() -> None:
    def amount(unit_nano: int) -> int:
        book = Book([Price("p", "cpu", unit_nano, from_us=0)])
        (charge,) = rate([used(0, 1, quantities={"cpu": 1000})], book, "USD")
        return charge.amount_nano

    assert amount(HOUR_US) == 1
    assert [amount(HOUR_US * odd // 2) for odd in (1, 3, 5, 7)] == [0, 2, 2, 4]


def test_a_price_change_splits_the_charge() -> None:
    book = Book([Price("old", "cpu", 1 * USD, from_us=0), Price("new", "cpu", 3 * USD, from_us=HOUR_US // 4)])
    charges = rate([used(0, HOUR_US, quantities={"cpu": 1000})], book, "USD")
    assert [(each.price_id, each.to_us - each.from_us, each.amount_nano) for each in charges] == [
        ("old", HOUR_US // 4, USD // 4),
        ("new", HOUR_US * 3 // 4, USD * 9 // 4),
    ]
    assert len({each.id for each in charges}) == 2


def test_a_short_run_is_topped_up_to_the_minimum_once() -> None:
    charges = rate([used(0, 20 * SECOND_US, last=True, running_before_us=15 * SECOND_US)], BOOK, "USD")
    tops = [charge for charge in charges if charge.kind == "minimum"]
    assert [each.meter for each in tops] == ["gpu:H100", "memory"]  # the price of cpu asks for none
    assert tops[0].quantity == 8000 * 25 * SECOND_US
    assert tops[0].amount_nano == 24 * USD * 25 // 3600 + 1  # 166,666,666.67 rounded
    assert tops[0].at_us == 20 * SECOND_US


def test_no_minimum_while_it_runs_or_when_it_was_our_fault_or_when_it_ran_a_minute() -> None:
    for record in (
        used(0, 20 * SECOND_US),
        used(0, 20 * SECOND_US, last=True, faulted=True),
        used(0, 60 * SECOND_US, last=True),
        used(0, 20 * SECOND_US, last=True, running_before_us=40 * SECOND_US),
    ):
        assert {charge.kind for charge in rate([record], BOOK, "USD")} == {"usage"}


def test_the_rate_of_a_mixture_is_exact() -> None:
    held = used(0, 1).quantities
    buyer = Buyer("org_1", "USD", "reg_1", "on-demand")
    rise = slope(held, buyer, BOOK, 0)
    exact = Fraction(8 * 3 * USD) + Fraction(20_000_000, 2) + Fraction(3_000_000 * 1536, 1024)
    assert Fraction(rise * HOUR_US, WHOLE) == exact
    assert rate_nano_per_hour(held, buyer, BOOK, 0) == exact
    assert cost_between(held, buyer, BOOK, 0, HOUR_US) == rise * HOUR_US
