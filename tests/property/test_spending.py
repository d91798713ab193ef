"""Limits: jobs are warned and stopped before a budget or prepaid credit ends, and the next time is always known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.limits import GRACE_US
from headframe.fleet.records import Allocation
from headframe.jobs.records import Job
from headframe.ledger.post import credit_left
from headframe.ledger.records import Invoice
from headframe.metering.meter import quantities
from headframe.pricing.records import Charge, Price
from headframe.tenants.records import AtLimit, Budget, Scope


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = open_cloud()
    yield made
    made.close()


def open_cloud() -> Cloud:
    """One accelerator costs 3.60 USD an hour, a thousandth of a USD a second; the rest is free."""
    made = Cloud("2026-11-12T10:00:00Z")
    made.take(Changes((Price("price_1", "gpu:H100", 3_600_000_000, made.now_us),)))
    made.tick()
    return made


def sleep(cloud: Cloud, *, grace_used: bool = True, until_us: int | None = None) -> list[tuple[int, str]]:
    """Tick only when the loop would be woken; jobs use all of their grace. Gives (moment, job id) of the stops."""
    stopped: list[tuple[int, str]] = []
    until_us = cloud.now_us + 30 * HOUR_US if until_us is None else until_us
    ends: dict[str, int] = {}
    while True:
        for job_id in cloud.obey(cloud.tick()):
            stopped.append((cloud.now_us, job_id))
            ends[job_id] = cloud.now_us + (GRACE_US if grace_used else 0)
        wake_us = min([cloud.spending.next_us(cloud.now_us) or until_us, *ends.values(), until_us])
        if wake_us >= until_us:
            cloud.now_us = until_us
            return stopped
        cloud.now_us = max(wake_us, cloud.now_us)
        for job_id in [each for each, end_us in ends.items() if end_us <= cloud.now_us]:
            del ends[job_id]
            cloud.release(f"alc_{job_id.removeprefix('job_')}")


def charged(cloud: Cloud, **where: object) -> int:
    return sum(charge.amount_nano for charge in cloud.store.find(Charge, limit=100_000, **where))


def kinds(cloud: Cloud) -> list[str]:
    return [event.kind for event in cloud.events]


def test_a_job_ends_before_it_costs_more_than_its_budget(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.start("a", budget_nano=USD)
    assert sleep(cloud) == [(began_us + 990 * SECOND_US, "job_a")]  # 1000 s of budget, less the grace
    assert charged(cloud, job_id="job_a") == USD


def test_a_job_with_a_warning_gets_it_in_time(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.start("a", budget_nano=USD, warn_before_stop_us=2 * MINUTE_US)
    assert sleep(cloud, until_us=began_us + 869 * SECOND_US) == []
    assert not cloud.world.all(Job)["job_a"].warned
    assert sleep(cloud, until_us=began_us + 871 * SECOND_US) == []
    assert cloud.world.all(Job)["job_a"].warned
    assert sleep(cloud) == [(began_us + 990 * SECOND_US, "job_a")]


def test_earlier_attempts_count_for_the_budget_of_a_job_also_after_a_restart(cloud: Cloud) -> None:
    cloud.hold("a", budget_nano=USD)
    charge = Charge(
        "chg_1", "use", "alc_0", "job_a", "org_1", "prj_1", "mem_1", "gpu:H100", "usage", "price_1", 1, 1, USD // 2,
        "USD", cloud.now_us, cloud.now_us, cloud.now_us,
    )  # fmt: skip
    cloud.take(Changes((charge,)))
    cloud.commit()
    cloud.reload()
    began_us = cloud.now_us
    cloud.run("alc_a")
    assert sleep(cloud) == [(began_us + 490 * SECOND_US, "job_a")]


def test_what_cannot_pay_for_its_minimum_is_too_dear_to_start(cloud: Cloud) -> None:
    allocation_id = cloud.hold("a", budget_nano=59_999_999)
    job, held = cloud.world.all(Job)["job_a"], quantities(cloud.world.all(Allocation)[allocation_id].slices)
    assert cloud.spending.too_dear(job, held, "reg_1", "USD", cloud.now_us)
    cloud.hold("b", budget_nano=60_000_000)
    assert not cloud.spending.too_dear(cloud.world.all(Job)["job_b"], held, "reg_1", "USD", cloud.now_us)


def put_budget(cloud: Cloud, nano: int, scope: Scope = Scope.PROJECT, **more: object) -> None:
    cloud.take(
        Changes((Budget("bud_1", "org_1", scope, {"project": "prj_1", "member": "mem_1"}[scope], nano, **more),))
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", [Scope.PROJECT, Scope.MEMBER])
def test_a_budget_warns_once_then_stops_everything_and_blocks(cloud: Cloud, scope: Scope) -> None:
    put_budget(cloud, 3 * USD, scope)
    began_us = cloud.now_us
    cloud.start("a")
    cloud.start("b")
    cloud.start("other", organization="2")
    cloud.grant("trf", "org_2", 1000 * USD)
    # The least charge of a minute is not counted ahead, the two jobs run 1500 s together.
    assert sleep(cloud) == [(began_us + 1490 * SECOND_US, "job_a"), (began_us + 1490 * SECOND_US, "job_b")]
    assert charged(cloud, project_id="prj_1") == 3 * USD
    told = [(event.at_us, event.kind) for event in cloud.events if event.kind.startswith("budget")]
    assert told == [(began_us + 1200 * SECOND_US, "budget_warning"), (began_us + 1490 * SECOND_US, "budget_exhausted")]
    assert cloud.spending.blocked(cloud.world, "org_1", "prj_1", "mem_1", cloud.now_us) == "budget_exhausted"
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) is None
    cloud.reload()
    assert cloud.spending.blocked(cloud.world, "org_1", "prj_1", "mem_1", cloud.now_us) == "budget_exhausted"
    december_us = moment("2026-12-01T00:00:01Z")
    assert cloud.spending.blocked(cloud.world, "org_1", "prj_1", "mem_1", december_us) is None


def test_a_budget_that_does_not_stop_only_tells(cloud: Cloud) -> None:
    put_budget(cloud, USD, at_limit=AtLimit.WARN)
    cloud.start("a")
    assert sleep(cloud, until_us=cloud.now_us + HOUR_US) == []
    assert [kind for kind in kinds(cloud) if kind.startswith("budget")] == ["budget_warning", "budget_exhausted"]
    assert cloud.spending.blocked(cloud.world, "org_1", "prj_1", "mem_1", cloud.now_us) is None


def test_a_budget_is_for_the_month(cloud: Cloud) -> None:
    cloud.now_us = moment("2026-11-30T23:59:00Z")
    put_budget(cloud, USD)
    cloud.start("a")
    assert sleep(cloud) == [(moment("2026-12-01T00:16:30Z"), "job_a")]  # November's minute is not December's
    assert charged(cloud, project_id="prj_1") == USD + 60 * USD // 1000


def test_prepaid_credit_runs_out_and_comes_back(cloud: Cloud) -> None:
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) == "credit_exhausted"
    cloud.grant("trf_1", "org_2", 5 * USD)
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) is None
    began_us = cloud.now_us
    cloud.start("a", organization="2")
    assert sleep(cloud) == [(began_us + 4990 * SECOND_US, "job_a")]
    assert credit_left(cloud.world.balances, "org_2", "USD") == 0
    assert ("receivable:org_2", "USD") not in cloud.world.balances
    told = [(event.at_us - began_us, event.kind) for event in cloud.events if event.kind.startswith("credit")]
    assert told == [(1400 * SECOND_US, "credit_low"), (4990 * SECOND_US, "credit_exhausted")]
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) == "credit_exhausted"
    cloud.grant("trf_2", "org_2", USD)
    assert cloud.spending.blocked(cloud.world, "org_2", "prj_2", "mem_2", cloud.now_us) is None


def test_a_price_that_rises_later_is_foreseen_when_it_comes(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.take(Changes((Price("price_2", "gpu:H100", 36_000_000_000, began_us + 500 * SECOND_US),)))
    cloud.start("a", budget_nano=USD)
    assert sleep(cloud) == [(began_us + 540 * SECOND_US, "job_a")]
    assert charged(cloud, job_id="job_a") == USD


def test_an_open_allocation_waits_for_its_engine_before_an_hour_is_metered(cloud: Cloud) -> None:
    began_us = cloud.now_us
    cloud.start("a")
    cloud.now_us = began_us + 3 * HOUR_US
    cloud.tick(heard_us=began_us + HOUR_US)  # the report may be older than an exit just before the hour
    assert charged(cloud) == 0
    cloud.tick(heard_us=began_us + HOUR_US + 1)
    assert charged(cloud) == 3_600_000_000
    cloud.tick(heard_us=began_us + HOUR_US + 1)
    assert charged(cloud) == 3_600_000_000


def test_a_month_is_closed_once_all_of_it_is_metered(cloud: Cloud) -> None:
    cloud.now_us = moment("2026-11-30T23:00:00Z")
    cloud.start("a")
    cloud.now_us = moment("2026-12-01T00:00:00.000001Z")
    cloud.tick(heard_us=0)
    cloud.tick()  # meters
    assert cloud.store.count(Invoice) == 0
    assert cloud.spending.next_us(cloud.now_us) == cloud.now_us
    cloud.tick()
    (invoice,) = cloud.store.find(Invoice)
    assert (invoice.organization_id, invoice.month, invoice.total_nano) == ("org_1", "2026-11", 3_600_000_000)
    assert invoice.lines[0].quantity == 1000 * 3600
    cloud.reload()
    cloud.tick()
    assert cloud.store.count(Invoice) == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(100, 8000), st.integers(0, 5 * MINUTE_US)), min_size=1, max_size=5),
    st.integers(USD // 2, 20 * USD),
    st.sampled_from([0, 30 * SECOND_US, 20 * MINUTE_US]),
)
def test_stops_come_at_the_last_moment_that_keeps_the_limit(
    jobs: list[tuple[int, int]], nano: int, warn_us: int
) -> None:
    cloud = open_cloud()
    try:
        put_budget(cloud, nano)
        for number, (gpus_milli, pause_us) in enumerate(jobs):
            if sleep(cloud, until_us=cloud.now_us + pause_us):
                return  # the budget was at its end before all had started
            cloud.start(f"{number}", gpus_milli=gpus_milli, warn_before_stop_us=warn_us)
        began_us = cloud.now_us
        slope = sum(gpus_milli for gpus_milli, _ in jobs) * USD // 1_000_000
        stopped = sleep(cloud, until_us=cloud.now_us + 400 * HOUR_US)
        assert sorted(job_id for _, job_id in stopped) == [f"job_{number}" for number in range(len(jobs))]
        if stopped[0][0] > began_us + MINUTE_US:
            spent = charged(cloud, project_id="prj_1")
            assert nano - slope // 1000 <= spent <= nano + len(jobs) * 1000
    finally:
        cloud.close()
