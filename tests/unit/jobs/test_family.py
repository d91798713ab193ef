"""Arrays, schedules and jobs that wait for others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headframe.base.quantities import MINUTE_US, format_moment, parse_moment_us
from headframe.jobs.family import (
    array_children,
    child_ended,
    dependency_ended,
    fire,
    next_fire_us,
    release,
    started,
    stop_parent,
)
from headframe.jobs.records import Job, JobState
from headframe.workloads.spec import Array, Spec

NOON = parse_moment_us("2026-11-22T12:00:00Z", field="moment")


def job(state: JobState = JobState.PENDING, name: str = "1", **fields: Any) -> Job:
    spec = fields.pop("spec", Spec("train"))
    return Job(f"job_{name}", "org", "prj", "mem", "train", spec, NOON, state, **fields)


def parent(state: JobState = JobState.RUNNING, **fields: Any) -> Job:
    fields.setdefault("spec", Spec("train", array=Array(3, 5)))
    return job(state, "parent", parent=True, **fields)


@pytest.mark.parametrize(
    ("cron", "after", "fires"),
    [
        ("* * * * *", "2026-11-22T12:00:00Z", "2026-11-22T12:01:00.000000Z"),
        ("0 12 * * *", "2026-11-22T11:59:59.999999Z", "2026-11-22T12:00:00.000000Z"),
        ("0 12 * * *", "2026-11-22T12:00:00Z", "2026-11-23T12:00:00.000000Z"),
        ("30 3 29 2 *", "2026-11-22T12:00:00Z", "2028-02-29T03:30:00.000000Z"),
        ("0 0 1 1 *", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00.000000Z"),
    ],
)
def test_a_schedule_fires_strictly_after_the_moment(cron: str, after: str, fires: str) -> None:
    assert format_moment(next_fire_us(cron, parse_moment_us(after, field="after"))) == fires


def test_an_array_makes_a_child_of_each_index() -> None:
    children = array_children(parent(JobState.QUEUED), ["job_a", "job_b", "job_c"])
    assert [(one.id, one.array_index, one.name) for one in children] == [
        ("job_a", 3, "train-3"), ("job_b", 4, "train-4"), ("job_c", 5, "train-5"),
    ]  # fmt: skip
    assert all(one.parent_id == "job_parent" and not one.parent and one.spec.array is None for one in children)


def test_a_schedule_starts_a_fresh_child_and_sets_its_next_moment() -> None:
    spec = Spec("train", cron="0 * * * *")
    nightly = parent(JobState.PENDING, spec=spec, not_before_us=NOON, children_failed=2)
    later, child = fire(nightly, "job_child", busy=False, now_us=NOON + MINUTE_US).rows
    assert (later.not_before_us, later.state) == (NOON + 60 * MINUTE_US, JobState.PENDING)
    assert (child.state, child.parent_id, child.spec.cron) == (JobState.QUEUED, "job_parent", None)
    assert (child.version, child.children_failed, child.not_before_us) == (1, 0, 0)
    assert child.submitted_us == NOON + MINUTE_US


def test_a_schedule_leaves_out_a_run_while_one_is_open_and_does_not_catch_up() -> None:
    spec = Spec("train", cron="0 * * * *")
    nightly = parent(JobState.PENDING, spec=spec, not_before_us=NOON)
    changes = fire(nightly, "job_child", busy=True, now_us=NOON + 600 * MINUTE_US)
    (later,) = changes.rows
    assert later.not_before_us == NOON + 660 * MINUTE_US
    assert [event.kind for event in changes.events] == ["schedule_skipped"]


@pytest.mark.parametrize("failed", [0, 1])
def test_a_parent_ends_with_its_last_child(failed: int) -> None:
    child = job(JobState.SUCCEEDED, ended_us=NOON)
    assert not child_ended(parent(), child, 1)
    (ended,) = child_ended(parent(children_failed=failed), child, 0).rows
    assert ended.state == (JobState.FAILED if failed else JobState.SUCCEEDED)
    assert ended.ended_us == NOON


def test_a_parent_counts_children_that_did_not_succeed() -> None:
    child = job(JobState.FAILED, ended_us=NOON)
    (counted,) = child_ended(parent(children_failed=1), child, 2).rows
    assert (counted.children_failed, counted.state) == (2, JobState.RUNNING)
    (ended,) = child_ended(counted, child, 0).rows
    assert (ended.children_failed, ended.state, ended.reason) == (3, JobState.FAILED, "children_failed")


def test_a_parent_that_was_stopped_ends_stopped_and_a_schedule_goes_on_otherwise() -> None:
    child = job(JobState.SUCCEEDED, ended_us=NOON)
    (stopped,) = child_ended(parent(stop_reason="user"), child, 0).rows
    assert (stopped.state, stopped.reason) == (JobState.STOPPED, "user")
    scheduled = parent(JobState.PENDING, spec=Spec("train", cron="0 * * * *"))
    assert not child_ended(scheduled, child, 0)
    (ended,) = child_ended(replace(scheduled, stop_reason="user"), child, 0).rows
    assert ended.state == JobState.STOPPED


def test_one_dependency_less_or_the_end_of_waiting_in_vain() -> None:
    waiting = job(after=("job_a", "job_b"))
    (less,) = dependency_ended(waiting, job(JobState.SUCCEEDED, "a"), NOON).rows
    assert (less.after, less.state) == (("job_b",), JobState.PENDING)
    for state in (JobState.FAILED, JobState.STOPPED):
        (ended,) = dependency_ended(waiting, job(state, "b"), NOON).rows
        assert (ended.state, ended.reason, ended.ended_us) == (JobState.STOPPED, "dependency_failed", NOON)
    assert not dependency_ended(waiting, job(JobState.SUCCEEDED, "c"), NOON)
    assert not dependency_ended(replace(waiting, state=JobState.STOPPED), job(JobState.SUCCEEDED, "a"), NOON)


def test_who_waits_for_nobody_and_whose_time_has_come_joins_the_queue() -> None:
    (ready,) = release(job(not_before_us=NOON), NOON).rows
    assert ready.state == JobState.QUEUED
    assert not release(job(not_before_us=NOON + 1), NOON)
    assert not release(job(after=("job_a",)), NOON)
    assert not release(parent(JobState.PENDING), NOON)
    assert not release(job(JobState.RUNNING), NOON)


def test_a_parent_starts_with_its_first_child_but_a_schedule_never_does() -> None:
    (running,) = started(parent(JobState.PENDING), NOON).rows
    assert (running.state, running.started_us) == (JobState.RUNNING, NOON)
    assert not started(running, NOON)
    assert not started(parent(JobState.PENDING, spec=Spec("train", cron="0 * * * *")), NOON)


def test_a_parent_is_told_to_end_once() -> None:
    (marked,) = stop_parent(parent(), True, "user", NOON, "").rows
    assert (marked.state, marked.stop_reason) == (JobState.RUNNING, "user")
    assert not stop_parent(marked, True, "user", NOON, "")
    (ended,) = stop_parent(parent(JobState.PENDING), False, "user", NOON, "").rows
    assert (ended.state, ended.ended_us) == (JobState.STOPPED, NOON)
