"""The same work priced in other ways, by the book as it stood."""

from __future__ import annotations

from dataclasses import replace

from headframe.base.quantities import HOUR_US
from headframe.pricing.book import Book
from headframe.pricing.compare import SPEED, Option, Stretch, Way, compare, terms_of
from headframe.pricing.records import Price

USD = 1_000_000_000
T0 = 1_800_000_000_000_000 // HOUR_US * HOUR_US


def price(meter: str, usd: float, **more: object) -> Price:
    name = "-".join(str(value) for value in (meter, usd, *more.values()))
    return Price(name, meter, round(usd * USD), **{"from_us": 0, **more})  # type: ignore[arg-type]


BOOK = Book([
    price("gpu:H100", 3), price("gpu:A100", 1.5), price("gpu:H100", 1, purchase="spot"), price("cpu", 0.01),
    price("gpu:H100", 1.8, term="1y", purchase="reserved"), price("gpu:H100", 6, from_us=T0 + 2 * HOUR_US),
])  # fmt: skip
HELD = {"gpu:H100": 2000, "cpu": 4000}
RAN = Stretch(HELD, "reg_1", "on-demand", T0, T0 + HOUR_US)


def priced(*ways: Way, stretches: tuple[Stretch, ...] = (RAN,)) -> tuple[Option, ...]:
    return compare(stretches, ways, BOOK, "org_1", "USD")


def test_how_it_ran_comes_first_and_the_others_are_ordered_by_cost() -> None:
    found = priced(Way("A100"), Way(purchase="spot"), Way(term="1y", purchase="reserved"), Way("B200"))
    assert [(one.accelerator, one.purchase, one.term, one.cost_nano) for one in found] == [
        ("H100", "on-demand", "", 6 * USD + USD // 25), ("H100", "spot", "", 2 * USD + USD // 25),
        ("A100", "on-demand", "", 3 * USD + USD // 25), ("H100", "reserved", "1y", 3 * USD + 64 * USD // 100),
        ("B200", "on-demand", "", None),
    ]  # fmt: skip
    assert [one.saving_nano for one in found] == [0, 4 * USD, 3 * USD, 24 * USD // 10, None]
    assert found[3].break_even_percent == 60
    assert found[4].reason == "B200 had no price then"
    assert not found[4].possible


def test_a_slower_accelerator_holds_everything_for_longer() -> None:
    (_, slow) = priced(Way("A100", speed=SPEED // 2))
    assert slow.duration_us == 2 * HOUR_US
    assert slow.cost_nano == 6 * USD + 8 * USD // 100, "its cores cost for the longer time, too"
    (_, fast) = priced(Way("A100", speed=3 * SPEED))
    assert fast.duration_us == HOUR_US // 3
    assert fast.saving_nano is not None


def test_prices_are_those_of_the_time_at_which_it_would_have_run() -> None:
    late = replace(RAN, from_us=T0 + HOUR_US, to_us=T0 + 3 * HOUR_US)
    assert priced(stretches=(late,))[0].cost_nano == 2 * (3 + 6) * USD + 8 * USD // 100
    (_, slow) = priced(Way("H100", speed=SPEED // 2))
    assert slow.cost_nano == 12 * USD + 8 * USD // 100, "two hours end as the new price begins"


def test_what_could_not_have_run_so_says_why_and_comes_last() -> None:
    found = priced(Way(purchase="spot", reason="it may not be stopped"), Way("A100"), Way(purchase="reserved"))
    assert [one.possible for one in found] == [True, True, False, False]
    assert found[2].reason == "it may not be stopped"
    assert found[2].cost_nano is not None
    assert found[3].reason == "H100 had no reserved price of its own then"


def test_the_least_running_time_counts_for_each_run_but_not_after_our_fault() -> None:
    short = replace(RAN, to_us=T0 + HOUR_US // 3600)  # one second
    cost = priced(stretches=(short,))[0].cost_nano
    assert cost == -(-(6 * USD + USD // 25) // 60), "a minute"
    lost = priced(stretches=(replace(short, faulted=True),))[0].cost_nano
    assert lost == -(-(6 * USD + USD // 25) // 3600)
    assert priced(stretches=(short, short))[0].cost_nano == -(-2 * (6 * USD + USD // 25) // 60)


def test_work_without_accelerators_has_no_other_ones() -> None:
    plain = Stretch({"cpu": 1000}, "reg_1", "on-demand", T0, T0 + HOUR_US)
    (ran,) = priced(stretches=(plain,))
    assert (ran.accelerator, ran.cost_nano) == ("", USD // 100)


def test_the_terms_are_those_that_the_book_has_at_the_moment() -> None:
    book = Book([price("gpu:*", 1, term="1y"), price("cpu", 1, term="3y"), price("gpu:H100", 1, term="6m", to_us=5)])
    assert terms_of(book, 4) == ("1y", "6m")
    assert terms_of(book, 5) == ("1y",)
