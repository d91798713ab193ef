"""Grants of credit: burnt in their order, within their bounds, given back, and never overspent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cloud import USD, Cloud

from headframe.base.changes import Changes
from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US
from headframe.control.limits import GRACE_US
from headframe.ledger.post import credit_left
from headframe.ledger.records import Transfer
from headframe.ledger.wallets import Burn, Grant, Hold, burn_order, pay, restore
from headframe.pricing.records import Charge, Price
from headframe.tenants.records import AtLimit, Budget, Organization, Scope


def charge(number: int, amount_nano: int, project_id: str = "prj_1", meter: str = "gpu:H100") -> Charge:
    return Charge(
        f"chg_{number}", "use", "alc", "job", "org_1", project_id, "mem", meter, "usage", "price", 1, 1, amount_nano,
        "USD", 0, 5, 5,
    )  # fmt: skip


def grant(name: str, amount_nano: int, **more: object) -> Grant:
    return Grant(name, "org_1", amount_nano, amount_nano, "USD", 0, **more)


def test_what_expires_first_goes_first_then_priority_then_age() -> None:
    grants = [
        grant("d_old", 1, expires_us=None, priority=50),
        replace(grant("e_new", 1), from_us=1),
        grant("c_prior", 1, priority=1),
        grant("a_soon", 1, expires_us=10, priority=99),
        grant("b_later", 1, expires_us=20),
    ]
    assert [each.id for each in sorted(grants, key=burn_order)] == ["a_soon", "b_later", "c_prior", "d_old", "e_new"]


def test_grants_pay_within_their_bounds_only() -> None:
    grants = [
        grant("project", 10, project_id="prj_2"),
        grant("gpus", 10, meter="gpu:*"),
        grant("cpu", 10, meter="cpu"),
        grant("gone", 10, expires_us=4),
        replace(grant("coming", 10), from_us=9),
    ]
    rows = pay([charge(1, 15), charge(2, 15, "prj_2", "cpu")], grants, prepaid=True, now_us=6)
    burnt = [(each.grant_id, each.charge_id, each.amount_nano) for each in rows if isinstance(each, Burn)]
    assert burnt == [("gpus", "chg_1", 10), ("cpu", "chg_2", 10), ("project", "chg_2", 5)]
    owed = [(each.debit, each.amount_nano) for each in rows if isinstance(each, Transfer)]
    assert owed == [("wallet:org_1", 10), ("receivable:org_1", 5), ("wallet:org_1", 15)]


amounts = st.lists(st.integers(-50, 100), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(amounts, st.lists(st.integers(1, 100), max_size=4), st.booleans())
def test_burns_transfers_and_grants_say_the_same_and_can_be_undone(
    told: list[int], left: list[int], prepaid: bool
) -> None:
    grants = [grant(f"g{number}", amount, priority=number) for number, amount in enumerate(left)]
    charges = [charge(number, amount) for number, amount in enumerate(told)]
    rows = pay(charges, grants, prepaid=prepaid, now_us=5)
    burns = [row for row in rows if isinstance(row, Burn)]
    moved = {row.id: row for row in grants} | {row.id: row for row in rows if isinstance(row, Grant)}
    used = sum(row.amount_nano for row in rows if isinstance(row, Transfer) and row.debit == "wallet:org_1")
    given_back = sum(row.amount_nano for row in rows if isinstance(row, Transfer) and row.credit == "wallet:org_1")
    assert used == sum(burn.amount_nano for burn in burns)
    assert sum(row.left_nano for row in moved.values()) == sum(left) - used + given_back
    assert all(row.left_nano >= 0 and row.open == (row.left_nano > 0) for row in moved.values())
    for one in charges:
        own = [row for row in rows if isinstance(row, Transfer) and row.source == one.id]
        assert sum(row.amount_nano for row in own) == abs(one.amount_nano)
    undone = restore(burns, list(moved.values()), "void_1", 9)
    back = moved | {row.id: row for row in undone if isinstance(row, Grant)}
    assert all(back[each.id].left_nano == each.amount_nano for each in grants)
    assert sum(row.amount_nano for row in undone if isinstance(row, Burn)) == -used


# In a running cloud; `org_2` pays in advance, one accelerator costs a thousandth of a USD a second.


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("2026-11-12T10:00:00Z")
    made.take(Changes((Price("price_1", "gpu:H100", 3_600_000_000, made.now_us),)))
    made.tick()
    yield made
    made.close()


def sleep(cloud: Cloud, until_us: int) -> list[tuple[int, str]]:
    """Tick when the loop would be woken; jobs use all of their grace. Gives (moment, job) of the stops."""
    stopped, ends = [], {}
    while True:
        for job_id in cloud.obey(cloud.tick()):
            stopped.append((cloud.now_us, job_id))
            ends[job_id] = cloud.now_us + GRACE_US
        wake_us = min([cloud.spending.next_us(cloud.now_us) or until_us, *ends.values(), until_us])
        if wake_us >= until_us:
            cloud.now_us = until_us
            return stopped
        cloud.now_us = max(wake_us, cloud.now_us)
        for job_id in [each for each, end_us in ends.items() if end_us <= cloud.now_us]:
            del ends[job_id]
            cloud.release(f"alc_{job_id.removeprefix('job_')}")


def test_credit_that_expires_stops_jobs_and_is_taken_back_when_all_use_is_charged(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.grant("g_1", "org_2", 100 * USD, expires_us=began_us + 2 * HOUR_US)
    cloud.start("a", organization="2")
    ((stop_us, _),) = sleep(cloud, began_us + 5 * HOUR_US)
    assert began_us + 2 * HOUR_US <= stop_us <= began_us + 2 * HOUR_US + SECOND_US
    used = sum(each.amount_nano for each in cloud.store.find(Charge, organization_id="org_2"))
    assert cloud.store.get(Grant, "g_1").left_nano == 0
    assert cloud.store.get(Transfer, "g_1.expired").amount_nano == 100 * USD - 7_200_000_000
    assert used <= 7_200_000_000 + 12 * 1_000_000
    assert credit_left(cloud.world.balances, "org_2", "USD") == 0
    assert "credit_expired" in [event.kind for event in cloud.events]


def test_held_credit_is_not_there_for_jobs_and_comes_back_when_its_time_is_over(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.grant("g_1", "org_2", 2 * USD)
    hold = Hold("hold_1", "org_2", "prj_2", USD, "USD", "run", began_us, began_us + HOUR_US)
    cloud.take(Changes((hold,)))
    cloud.start("a", organization="2")
    assert sleep(cloud, began_us + 1200 * SECOND_US) == [(began_us + 990 * SECOND_US, "job_a")]
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) == "credit_exhausted"
    sleep(cloud, began_us + HOUR_US + SECOND_US)
    assert cloud.store.get(Hold, "hold_1").stage == "voided"
    assert cloud.spending.credit_nano("org_2", ("wallet", "org_2"), cloud.now_us) == USD
    cloud.reload()
    assert cloud.spending.credit_nano("org_2", ("wallet", "org_2"), cloud.now_us) == USD


def test_a_project_runs_on_its_own_credit_only(cloud: Cloud) -> None:
    cloud.grant("g_1", "org_2", 5 * USD, project_id="prj_other")
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) == "credit_exhausted"
    cloud.grant("g_2", "org_2", USD, project_id="prj_2")
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) is None
    began_us = cloud.now_us
    cloud.start("a", organization="2")
    assert sleep(cloud, began_us + 2 * HOUR_US) == [(began_us + 990 * SECOND_US, "job_a")]
    assert cloud.store.get(Grant, "g_1").left_nano == 5 * USD


@pytest.mark.parametrize(
    ("at_limit", "stops", "blocks"),
    [("warn", 0, None), ("block", 0, "budget_exhausted"), ("stop", 1, "budget_exhausted")],
)
def test_a_budget_warns_blocks_or_stops(cloud: Cloud, at_limit: str, stops: int, blocks: str | None) -> None:
    budget = Budget("bud_1", "org_1", Scope.PROJECT, "prj_1", USD, at_limit=AtLimit(at_limit))
    cloud.take(Changes((budget,)))
    cloud.start("a")
    assert len(sleep(cloud, cloud.now_us + HOUR_US)) == stops
    assert cloud.spending.blocked(cloud.world, "org_1", "prj_1", "mem_1", cloud.now_us) == blocks
    told = [event.kind for event in cloud.events if event.kind.startswith("budget")]
    assert told == ["budget_warning", "budget_exhausted"]


def test_no_rate_for_a_currency_starts_nothing(cloud: Cloud) -> None:
    house = cloud.world.all(Organization)["org_1"]
    cloud.take(Changes((replace(house, currency="CHF", version=2),)))
    assert cloud.spending.blocked(cloud.world, "org_1", "prj_1", "mem_1", cloud.now_us) == "no_exchange_rate"


def test_a_day_is_enough_to_use_up(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.grant("g_1", "org_2", 10 * USD)
    cloud.start("a", organization="2")
    sleep(cloud, began_us + DAY_US)
    used = sum(each.amount_nano for each in cloud.store.find(Charge, organization_id="org_2"))
    assert used <= 10 * USD
    assert cloud.world.balances.get(("receivable:org_2", "USD"), 0) == 0
