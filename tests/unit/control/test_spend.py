"""Labels from the job file to the charge, what runs now, and what stood idle, through the real loop and store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import USD, SmallCloud

from headframe.base.errors import Forbidden
from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.control.queries_savings import cheaper, waste
from headframe.control.queries_spend import running_now, usage
from headframe.fleet.engine_words import Observation, Seen
from headframe.jobs.records import Attempt, Job, JobState
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Charge


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=2, gpus=4)
    yield made
    made.close()


def asked(cloud: SmallCloud, question: Any, *args: Any, **more: Any) -> Any:
    return cloud.ask(question, *args, **more)(cloud.inner)


def looked(cloud: SmallCloud, job: Job, **use: int) -> None:
    """The engine tells how busy a running job has been."""
    (attempt,) = cloud.attempts(job)
    seen = Observation(attempt.allocation_id, 1, Seen.RUNNING, cloud.now_us, running_us=attempt.running_us, use=use)
    cloud.loop.deliver("clu_1", seen)
    cloud.settle()


def test_labels_reach_every_charge_and_stay_when_a_later_job_has_others(cloud: SmallCloud) -> None:
    first = cloud.submit("run 2h", labels={"team": "vision", "run": 7, "final": True})
    second = cloud.submit("run 1h", labels={"team": "speech"})
    plain = cloud.submit("run 1h")
    cloud.until(lambda: cloud.ended(first, second, plain), limit_us=4 * HOUR_US)
    cloud.go(MINUTE_US)
    for kind in (UsageRecord, Charge):
        found = {repr(row.labels) for row in cloud.inner.find(kind, job_id=first.id, limit=500)}
        assert found == {repr({"final": "true", "run": "7", "team": "vision"})}
    december = {"from_us": 0, "to_us": cloud.now_us}
    told = asked(cloud, usage, cloud.adam, by=("label:team",), **december)
    assert {one.by["label:team"]: one.amount_nano for one in told.items} == {
        "": 36 * USD // 10, "speech": 36 * USD // 10, "vision": 72 * USD // 10,
    }  # fmt: skip
    days = asked(cloud, usage, cloud.adam, by=("day", "label:run"), **december).items
    assert {(one.by["day"], one.by["label:run"]) for one in days} == {
        ("2026-11-30", ""), ("2026-11-30", "7"), ("2026-12-01", "7"),
    }  # fmt: skip
    assert sum(one.amount_nano for one in days) == 144 * USD // 10


def test_use_that_ends_at_midnight_belongs_to_the_day_before(cloud: SmallCloud) -> None:
    job = cloud.submit("run 3h")
    cloud.until(lambda: cloud.ended(job), limit_us=4 * HOUR_US)
    cloud.go(MINUTE_US)
    by_day = {one.by["day"]: one.amount_nano for one in asked(cloud, usage, cloud.adam, by=("day",), from_us=0).items}
    charges = cloud.inner.find(Charge, job_id=job.id, limit=100)
    midnight = max(one.at_us for one in charges) // (24 * HOUR_US) * 24 * HOUR_US
    before = sum(one.amount_nano for one in charges if one.to_us <= midnight)
    assert by_day == {"2026-11-30": before, "2026-12-01": sum(one.amount_nano for one in charges) - before}
    assert any(one.at_us == midnight for one in charges)


def test_what_runs_is_told_with_what_it_comes_to(cloud: SmallCloud) -> None:
    job = cloud.submit("run 9h", max_duration="10h", resources={"gpu": "H100:2"})
    cloud.submit("run 9h", caller=cloud.adam)
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.go(HOUR_US)
    mine = asked(cloud, running_now, cloud.anna)
    (one,) = mine.jobs
    assert (one.job_id, one.per_hour_nano, one.expected_nano) == (job.id, 72 * USD // 10, 72 * USD)
    assert abs(one.so_far_nano - 72 * USD // 10) < USD // 100
    assert [(told.scope, told.running) for told in mine.spenders] == [("member", 1)]
    every = asked(cloud, running_now, cloud.adam)
    assert [(told.scope, told.running, told.per_hour_nano) for told in every.spenders] == [
        ("organization", 2, 108 * USD // 10), ("project", 2, 108 * USD // 10),
        ("member", 1, 72 * USD // 10), ("member", 1, 36 * USD // 10),
    ]  # fmt: skip
    assert [told.expected_nano for told in every.jobs] == [72 * USD, None]
    whole = every.spenders[0]
    assert whole.total_nano == whole.charged_nano + whole.accrued_nano == sum(told.so_far_nano for told in every.jobs)


def test_the_operator_is_told_what_runs_in_all_organizations_of_its_currency(cloud: SmallCloud) -> None:
    lab = cloud.submit("run 9h", resources={"gpu": "H100:2"})
    own = cloud.submit("run 9h", caller=cloud.owner)
    cloud.until(cloud.is_(lab, JobState.RUNNING))
    cloud.go(HOUR_US)
    told = asked(cloud, running_now, cloud.owner, organization="all")
    assert (told.organization_id, told.currency) == ("all", "USD")
    assert [(one.job_id, one.organization_id) for one in told.jobs] == [
        (lab.id, lab.organization_id), (own.id, own.organization_id),
    ]  # fmt: skip
    houses = {one.scope_id: one.total_nano for one in told.spenders if one.scope == "organization"}
    for job, caller in ((lab, cloud.adam), (own, cloud.owner)):
        alone = asked(cloud, running_now, caller)
        assert houses[job.organization_id] == alone.spenders[0].total_nano > 0
    for customer in (cloud.adam, cloud.anna):
        with pytest.raises(Forbidden):
            asked(cloud, running_now, customer, organization="all")


def test_idle_accelerators_are_told_in_money_with_advice(cloud: SmallCloud) -> None:
    idle = cloud.submit("run 1h", resources={"gpu": "H100:4", "cpu": 4})
    quick = cloud.submit("run 30m")
    cloud.until(cloud.is_(idle, JobState.RUNNING))
    cloud.go(50 * MINUTE_US)
    whole = 50 * MINUTE_US
    looked(cloud, idle, sampled_us=whole, cpu_idle_us=0, cpu_peak_milli=1500, gpu_us=4 * whole, gpu_idle_us=3 * whole,
           gpu_busy_us=whole // 2, gpus_used=1)  # fmt: skip
    cloud.until(lambda: cloud.ended(idle, quick))
    cloud.go(MINUTE_US)
    found = asked(cloud, waste, cloud.anna, from_us=0)
    first, second = found.items
    assert (first.by["job"], first.idle_percent, first.busy_percent) == (idle.id, 75, 12)
    assert (first.waste.gpu_nano, first.waste.wasted_nano) == (144 * USD // 10, 108 * USD // 10)
    assert first.waste.gpu_milli_us == 4000 * HOUR_US
    assert [(one.what, one.enough, one.saves_nano) for one in first.advice] == [
        ("gpu", 1, 108 * USD // 10),
        ("cpu", 2000, 0),
    ]
    assert (second.waste.wasted_nano, second.waste.unlooked_nano) == (0, 18 * USD // 10)
    assert found.total.wasted_nano == 108 * USD // 10
    by_project = asked(cloud, waste, cloud.adam, by="project", from_us=0)
    assert [(one.by["project"], one.waste) for one in by_project.items] == [(cloud.project().id, found.total)]
    assert by_project.items[0].advice == ()


def test_a_late_or_lesser_look_does_not_undo_a_longer_one(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    looked(cloud, job, sampled_us=60, gpu_us=60, gpu_idle_us=0)
    looked(cloud, job, sampled_us=10, gpu_us=10, gpu_idle_us=10)
    looked(cloud, job)
    looked(cloud, job, sampled_us=61, secret=1)
    (attempt,) = cloud.attempts(job)
    assert attempt.sampled == {"sampled_us": 61}, "and nothing that is not in the table"


def test_looks_never_touch_a_bill(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    looked(cloud, job, sampled_us=HOUR_US, gpu_us=1, gpu_idle_us=1)
    cloud.until(lambda: cloud.ended(job))
    assert sum(one.amount_nano for one in cloud.inner.find(Charge, job_id=job.id, limit=500)) == 36 * USD // 10


def test_cheaper_ways_know_the_job_file_and_the_fleet(cloud: SmallCloud) -> None:
    job = cloud.submit(
        "run 1h", resources={"gpu": "H100:2", "throughput": {"h100": 2, "a100": 1}}, retry={"on": ["error"]}
    )
    cloud.until(lambda: cloud.ended(job))
    found = asked(cloud, cheaper, cloud.anna, job.id)
    assert found.speeds == {"H100": 1_000_000, "a100": 500_000}
    ran, *others = found.options
    assert (ran.cost_nano, found.charged_nano, ran.duration_us) == (72 * USD // 10, 72 * USD // 10, HOUR_US)
    why = {(one.accelerator, one.purchase): (one.possible, one.reason, one.duration_us) for one in others}
    assert why["a100", "on-demand"] == (False, "there is none here", 2 * HOUR_US)
    assert why["H100", "spot"][:2] == (False, "retry.on does not name preemption: it would have ended there")


def test_what_has_not_run_has_nothing_to_compare(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h", resources={"gpu": "H100:4"}, schedule={"cron": "0 3 * * *"})
    assert asked(cloud, cheaper, cloud.anna, job.id).options == ()
    assert cloud.inner.find(Attempt, job_id=job.id) == []


def test_runs_of_an_array_are_compared_together(cloud: SmallCloud) -> None:
    parent = cloud.submit("run 30m", array={"index": "0..3"})
    cloud.until(lambda: cloud.ended(parent), limit_us=4 * HOUR_US)
    found = asked(cloud, cheaper, cloud.anna, parent.id)
    assert (found.stretches, found.left_out) == (4, 0)
    assert found.options[0].cost_nano == found.charged_nano == 72 * USD // 10
