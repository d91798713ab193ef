"""The loop from submit to bill, on a virtual clock with the real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.quantities import HOUR_US, SECOND_US
from headframe.jobs.records import JobState
from headframe.ledger.records import Invoice
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Charge
from headframe.store.migrations import migrate


@pytest.fixture(params=["memory", "disk"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallCloud]:
    url = "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/headframe.db"
    if request.param == "disk":
        migrate(url)
    made = SmallCloud(url)
    made.after_tick = lambda: same_when_reloaded(made)
    yield made
    assert made.complaints == []
    made.close()


def test_a_job_runs_is_charged_exactly_and_appears_on_the_invoice(cloud: SmallCloud) -> None:
    job = cloud.submit("prepare 5s; run 600s; exit 0")
    assert cloud.job(job).state == JobState.STARTING
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.until(lambda: cloud.ended(job))
    done, (held,), (attempt,) = cloud.job(job), cloud.allocations(job), cloud.attempts(job)
    assert (done.state, done.exit_code, done.attempt) == (JobState.SUCCEEDED, 0, 1)
    assert held.running_us is not None
    assert held.released_us is not None
    assert held.running_us - held.held_us >= 5 * SECOND_US
    assert held.released_us - held.running_us == 600 * SECOND_US
    assert (attempt.outcome, attempt.running_us, attempt.ended_us) == ("succeeded", held.running_us, held.released_us)
    assert (done.started_us, done.ended_us) == (held.running_us, held.released_us)
    records = sorted(cloud.inner.find(UsageRecord, job_id=job.id), key=lambda one: one.from_us)
    assert [one.state for one in records] == ["provisioning", "running"]
    assert (records[0].from_us, records[-1].to_us) == (held.held_us, held.released_us)
    charges = cloud.inner.find(Charge, job_id=job.id)
    assert sum(one.amount_nano for one in charges) == 3_600_000_000 * 600 // 3600
    assert held.settled
    cloud.at_rest()
    cloud.go(3 * HOUR_US)
    (invoice,) = cloud.inner.find(Invoice, organization_id=cloud.lab.id)
    assert (invoice.month, invoice.number, invoice.payable_nano) == ("2026-11", 1, 600_000_000)


def test_when_everything_has_ended_the_loop_only_asks_engines_how_they_are(cloud: SmallCloud) -> None:
    job = cloud.submit()
    cloud.until(lambda: cloud.ended(job))
    cloud.go(HOUR_US)
    wake_us = cloud.loop.next_wake_us(cloud.now_us)
    assert wake_us is not None
    assert wake_us > cloud.now_us
    ticks = cloud.loop.ticks
    cloud.go(HOUR_US)
    assert cloud.loop.ticks - ticks <= 4 * 60 + 10, "about two ticks for each report, one a minute"


def test_events_tell_the_story_in_order_and_never_of_the_future(cloud: SmallCloud) -> None:
    job = cloud.submit("prepare 2s; run 20s; exit 3", retry={"on": ["error"], "max": 1})
    cloud.until(lambda: cloud.ended(job))
    kinds = [event.kind for event in cloud.events(subject=job.id)]
    once = ["job_starting", "allocation_held", "allocation_running", "job_running", "allocation_released"]
    assert kinds == ["job_submitted", *once, "job_pending", "job_queued", *once, "job_failed"]
    assert [event.seq for event in cloud.events()] == list(range(1, len(cloud.events()) + 1))
    assert all(event.at_us <= cloud.now_us for event in cloud.events())
    first, second = cloud.attempts(job)
    assert first.ended_us is not None
    assert second.started_us == first.ended_us + SECOND_US, "the pause before the first retry counts from the end"
