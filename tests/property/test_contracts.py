"""Contracts in a running cloud: covered hours, overflow, fees, SLA credit, and the invoice that sums them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US
from headframe.fleet.records import Allocation
from headframe.ledger.records import Invoice, Transfer
from headframe.pricing.records import Charge, Contract, ContractState, Price

BEGIN = moment("2026-11-30T00:00:00Z")
DECEMBER = moment("2026-12-01T00:00:00Z")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("2026-11-30T00:00:00Z")
    made.take(Changes((Price("list", "gpu:H100", 3 * USD, 0),)))
    made.tick()
    yield made
    made.close()


def agree(cloud: Cloud, shape: str, days: int = 2, **more: object) -> Contract:
    fields = {"unit_nano": 2 * USD, "meter": "gpu:H100", "quantity": 12_000, "unit": "gpu-hour", **more}
    made = Contract(
        "con_1", "org_1", "" if shape == "sla" else "prj_1", "Twelve", shape, from_us=BEGIN,
        to_us=BEGIN + days * DAY_US, rated_us=BEGIN, **fields,
    )  # fmt: skip
    cloud.take(Changes((made,)))
    return made


def run_to(cloud: Cloud, until_us: int) -> None:
    """As the loop does: tick at each hour, and as long as something is fresh."""
    while cloud.now_us < until_us:
        cloud.now_us = min(until_us, cloud.now_us - cloud.now_us % HOUR_US + HOUR_US + 1)
        for _ in range(3):
            cloud.tick()


def charges(cloud: Cloud, kind: str) -> list[Charge]:
    return [each for each in cloud.store.find(Charge, limit=10_000) if each.kind == kind]


def test_take_or_pay_with_overflow_ends_in_an_invoice_of_fee_and_overflow(cloud: Cloud) -> None:
    agree(cloud, "reserved")
    first = cloud.start("a", gpus_milli=8000)
    second = cloud.start("b", gpus_milli=8000)
    run_to(cloud, BEGIN + 10 * HOUR_US)
    for held in (first, second):
        cloud.release(held)
    run_to(cloud, DECEMBER + 2)
    spread = [*charges(cloud, "covered"), *charges(cloud, "unused")]
    assert sum(each.quantity for each in spread) == 12_000 * DAY_US
    assert sum(each.effective_nano for each in spread) == 24 * 24 * USD
    ran_us = 10 * HOUR_US + 1
    beyond = sum(each.amount_nano for each in charges(cloud, "usage") if each.meter == "gpu:H100")
    assert abs(beyond - 4 * 3 * USD * ran_us // HOUR_US) <= 12
    (fee,) = charges(cloud, "fee")
    assert (fee.amount_nano, fee.effective_nano, fee.at_us) == (24 * 24 * USD, 0, DECEMBER)
    (invoice,) = cloud.store.find(Invoice, organization_id="org_1")
    assert sum(line.amount_nano for line in invoice.lines) == fee.amount_nano + beyond
    run_to(cloud, BEGIN + 2 * DAY_US + 2)
    stored = cloud.store.get(Contract, "con_1")
    assert stored.state is ContractState.EXPIRED
    spread = [*charges(cloud, "covered"), *charges(cloud, "unused")]
    assert sum(each.effective_nano for each in spread) == sum(each.amount_nano for each in charges(cloud, "fee"))
    assert cloud.store.balances() == dict(cloud.world.balances)


def test_use_under_a_contract_is_charged_the_same_after_a_restart(cloud: Cloud) -> None:
    agree(cloud, "reserved")
    cloud.start("a", gpus_milli=16_000)
    run_to(cloud, BEGIN + 3 * HOUR_US + 7)
    cloud.reload()
    run_to(cloud, BEGIN + 5 * HOUR_US + 7)
    covered = charges(cloud, "covered")
    assert sum(each.quantity for each in covered) == 12_000 * 5 * HOUR_US
    assert sum(each.quantity for each in charges(cloud, "usage")) == 4000 * 5 * HOUR_US


def test_a_plan_by_the_month_and_a_fee_are_asked_for_and_spot_is_not_covered(cloud: Cloud) -> None:
    agree(cloud, "monthly", days=31, unit_nano=3100 * USD)
    held = cloud.start("a", gpus_milli=1000)
    spot = replace(cloud.world.all(Allocation)[held], purchase="spot", version=3)
    cloud.take(Changes((spot,)))
    run_to(cloud, DECEMBER + 2)
    (fee,) = charges(cloud, "fee")
    assert fee.amount_nano == round(3100 * USD / 30)  # one day of November
    assert charges(cloud, "covered") == []
    assert sum(each.amount_nano for each in charges(cloud, "usage")) == 72 * USD


def test_an_sla_gives_back_a_share_when_work_waited_for_our_repair(cloud: Cloud) -> None:
    agree(cloud, "sla", quantity=0, unit="", unit_nano=0, meter="", steps=((999_000, 10), (900_000, 25)))
    cloud.start("a")
    run_to(cloud, BEGIN + 10 * HOUR_US)
    held = cloud.world.all(Allocation)["alc_a"]
    down = replace(
        held, marks=((cloud.now_us, "repair"), (cloud.now_us + 90 * MINUTE_US, "running")), version=held.version + 1
    )
    cloud.take(Changes((down,)))
    run_to(cloud, DECEMBER + 2)
    used = sum(each.amount_nano for each in charges(cloud, "usage"))
    assert abs(used - round(3 * USD * 22.5)) <= 1  # an hour and a half was free
    (credit,) = charges(cloud, "credit")
    assert credit.amount_nano == -round(used / 10)  # up for 93.75 % of the day: below 99.9 %
    assert credit.labels == {"available_millionths": "937500"}
    (invoice,) = cloud.store.find(Invoice, organization_id="org_1")
    assert sum(line.amount_nano for line in invoice.lines) == used + credit.amount_nano
    assert sum(cloud.world.balances.values()) == 0
    assert cloud.store.find(Transfer, source=credit.id)[0].credit == "receivable:org_1"


def test_time_that_is_stopped_costs_its_disk_only(cloud: Cloud) -> None:
    cloud.take(Changes((Price("disk", "disk", USD, 0),)))
    cloud.start("a")
    held = cloud.world.all(Allocation)["alc_a"]
    (part,) = held.slices
    kept = replace(held, marks=((BEGIN + 10, "stopped"),), slices=(replace(part, disk_mib=1024),), version=3)
    cloud.take(Changes((kept,)))
    run_to(cloud, BEGIN + 2 * HOUR_US + 1)
    amounts = {
        meter: sum(c.amount_nano for c in charges(cloud, "usage") if c.meter == meter) for meter in ("gpu:H100", "disk")
    }
    assert amounts == {"gpu:H100": round(3 * USD * 10 / HOUR_US), "disk": 2 * USD}
