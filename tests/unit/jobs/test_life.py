"""The table of moves, and what each observation does to a job, its attempt and its allocation in every state."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from typing import Any

import pytest

from headframe.base.changes import Changes
from headframe.base.errors import IllegalMove
from headframe.base.quantities import MINUTE_US, SECOND_US
from headframe.fleet.engine_words import Observation, Seen, Signal
from headframe.fleet.records import Allocation, HoldState, Share, Slice
from headframe.jobs.life import (
    BACKOFF_LIMIT_US,
    DEFAULT_GRACE_US,
    STOP_ENDS,
    Try,
    begin,
    deadline_us,
    observed,
    stop,
    timed,
    warn,
)
from headframe.jobs.records import ENDED, Attempt, Job, JobState
from headframe.jobs.states import MOVES, move
from headframe.workloads.spec import Retry, Spec

NOW = 1_000 * SECOND_US
HELD = NOW - 100 * SECOND_US
RAN = NOW - 60 * SECOND_US
OPEN = (JobState.STARTING, JobState.RUNNING, JobState.STOPPING)


def job(state: JobState = JobState.QUEUED, **fields: Any) -> Job:
    spec = fields.pop("spec", Spec("train"))
    return Job("job_1", "org", "prj", "mem", "train", spec, HELD - SECOND_US, state, **fields)


def a_try(state: JobState, *, reason: str = "user", **fields: Any) -> Try:
    """A job with an attempt in one of its open states."""
    ran = RAN if state != JobState.STARTING else None
    hold = {"starting": HoldState.STARTING, "running": HoldState.RUNNING, "stopping": HoldState.STOPPING}[state]
    stopped = {"stop_reason": reason, "stop_at_us": NOW} if state == JobState.STOPPING else {}
    one = job(state, attempt=1, started_us=ran, **stopped, **fields)
    part = Slice(0, "nod", 1000, 1024, 0)
    held = Allocation(
        "alc_1.1", "org", "prj", "mem", one.id, "clu", 1, "on-demand", (part,), HELD, hold, ran, metered_us=HELD
    )
    return Try(one, Attempt("att_1.1", one.id, 1, held.id, HELD, ran), held)


def see(what: Seen, at_us: int = NOW - SECOND_US, **fields: Any) -> Observation:
    return Observation("alc_1.1", 1, what, at_us, **fields)


def after(this: Try, changes: Changes) -> Try:
    """The three records as the changes leave them."""
    for row in changes.rows:
        name = type(row).__name__.lower()
        assert row.version == getattr(this, name).version + 1, "each version once, in order"
        this = replace(this, **{name: row})
    return this


# The table.


@pytest.mark.parametrize(("state", "to"), list(product(JobState, JobState)))
def test_a_move_is_made_exactly_when_it_is_in_the_table(state: JobState, to: JobState) -> None:
    if to not in MOVES[state]:
        with pytest.raises(IllegalMove, match=r"job_1.*report"):
            move(job(state), to, "why", NOW, "")
        return
    moved, told = move(job(state), to, "why", NOW, "A sentence.")
    assert (moved.state, moved.reason, moved.version) == (to, "why", 2)
    assert (told.kind, told.at_us, told.subject, told.reason) == (f"job_{to}", NOW, "job_1", "A sentence.")
    assert told.detail["from"] == state


def test_nothing_leads_out_of_an_end_and_every_state_is_reached() -> None:
    assert set(MOVES) == set(JobState)
    assert all(not MOVES[state] for state in ENDED)
    reached = {to for moves in MOVES.values() for to in moves}
    assert reached == set(JobState)


# Observations.


@pytest.mark.parametrize(("state", "seen"), list(product(OPEN, Seen)))
def test_every_observation_in_every_open_state_and_again(state: JobState, seen: Seen) -> None:
    this = a_try(state)
    ran = seen in (Seen.RUNNING, Seen.EXITED, Seen.LOST)
    one = see(seen, running_us=RAN if ran else None, exit_code=0 if seen == Seen.EXITED else None)
    now = after(this, observed(this, one, NOW))
    over = seen in (Seen.EXITED, Seen.FAILED, Seen.LOST) or (seen == Seen.ABSENT and state != JobState.STARTING)
    assert (now.allocation.state == HoldState.RELEASED) is over
    assert bool(now.attempt.outcome) is over
    if over:
        assert now.job.state not in OPEN
        assert now.allocation.released_us == now.attempt.ended_us == NOW - SECOND_US
    elif seen == Seen.RUNNING:
        assert now.allocation.running_us == now.attempt.running_us == RAN
        assert now.job.state == (JobState.RUNNING if state == JobState.STARTING else state)
    else:
        assert now == this
    assert not observed(now, one, NOW + SECOND_US), "a repeat changes nothing"


@pytest.mark.parametrize(("state", "seen"), list(product(OPEN, Seen)))
def test_news_of_another_generation_changes_nothing(state: JobState, seen: Seen) -> None:
    this = a_try(state)
    for generation in (0, 2):
        assert not observed(this, replace(see(seen, running_us=RAN, exit_code=0), generation=generation), NOW)
    assert not observed(this, replace(see(seen), allocation_id="alc_1.2"), NOW)


def test_an_exit_overtakes_running_and_tells_when_it_began() -> None:
    this = a_try(JobState.STARTING)
    one = see(Seen.EXITED, running_us=RAN, exit_code=0)
    changes = observed(this, one, NOW)
    now = after(this, changes)
    assert (now.allocation.running_us, now.allocation.released_us) == (RAN, NOW - SECOND_US)
    assert (now.job.state, now.job.started_us, now.job.ended_us) == (JobState.SUCCEEDED, RAN, NOW - SECOND_US)
    assert [event.kind for event in changes.events] == [
        "allocation_running", "job_running", "allocation_released", "job_succeeded",
    ]  # fmt: skip
    assert not observed(now, see(Seen.RUNNING, running_us=RAN), NOW)


def test_what_ended_before_it_ran_never_ran() -> None:
    now = after(this := a_try(JobState.STARTING), observed(this, see(Seen.EXITED, exit_code=1), NOW))
    assert (now.allocation.running_us, now.job.started_us, now.job.state) == (None, None, JobState.FAILED)


@pytest.mark.parametrize(
    ("began", "ended", "running_us", "released_us"),
    [
        (HELD - 5, HELD - 4, HELD, HELD),  # the engine's clock lags behind ours
        (NOW + 5, NOW + 9, NOW, NOW),  # or runs ahead of it
        (RAN, RAN - 5, RAN, RAN),  # or was set back while it ran
        (RAN, NOW, RAN, NOW),
    ],
)
def test_moments_are_held_to_held_running_released_now(
    began: int, ended: int, running_us: int, released_us: int
) -> None:
    now = after(this := a_try(JobState.STARTING), observed(this, see(Seen.EXITED, ended, running_us=began), NOW))
    assert (now.allocation.running_us, now.allocation.released_us) == (running_us, released_us)


def test_the_story_is_told_once_line_by_line_and_what_was_measured_only_grows() -> None:
    this = a_try(JobState.STARTING)
    first = see(Seen.PREPARING, story=("No sandbox.",), use={"cpu_us": 5})
    second = see(Seen.RUNNING, running_us=RAN, pid=7, story=("No sandbox.", "Resumed."), use={"cpu_us": 9})
    changes = observed(this, first, NOW)
    assert [(event.kind, event.reason) for event in changes.events] == [("engine_says", "No sandbox.")]
    now = after(this, changes)
    changes = observed(now, second, NOW)
    assert [event.reason for event in changes.events if event.kind == "engine_says"] == ["Resumed."]
    now = after(now, changes)
    assert not observed(now, first, NOW), "an old observation that comes late takes nothing back"
    now = after(now, observed(now, see(Seen.EXITED, exit_code=0, running_us=RAN), NOW))
    assert (now.attempt.pid, now.attempt.cpu_us, now.attempt.story) == (7, 9, 2)


# What becomes of the job.

FAULTS = {
    "error": see(Seen.EXITED, exit_code=3, running_us=RAN),
    "node_failure": see(Seen.LOST, fault="node"),
}


@pytest.mark.parametrize("outcome", FAULTS)
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_an_attempt_is_repeated_while_retries_are_left(outcome: str, named: bool, failures: int) -> None:
    spec = Spec("train", retry=Retry((outcome,) if named else (), 2))
    this = a_try(JobState.RUNNING, spec=spec, failures=failures, warned=True)
    now = after(this, observed(this, FAULTS[outcome], NOW))
    assert (now.attempt.outcome, now.allocation.faulted) == (outcome, outcome == "node_failure")
    if not named or failures == 2:
        assert (now.job.state, now.job.reason) == (JobState.FAILED, outcome)
        return
    pause_us = SECOND_US << failures if outcome == "error" else 0
    assert now.job.state == (JobState.PENDING if pause_us else JobState.QUEUED)
    assert now.job.not_before_us == NOW - SECOND_US + pause_us
    assert (now.job.failures, now.job.warned, now.job.ended_us) == (failures + 1, False, None)


def test_the_pause_before_a_retry_is_bounded() -> None:
    spec = Spec("train", retry=Retry(("error",), 100))
    this = a_try(JobState.RUNNING, spec=spec, failures=60)
    now = after(this, observed(this, FAULTS["error"], NOW))
    assert now.job.not_before_us == NOW - SECOND_US + BACKOFF_LIMIT_US


@pytest.mark.parametrize("fault", ["job", "node", "engine"])
def test_whose_fault_a_failed_start_is_decides_what_is_charged_and_repeated(fault: str) -> None:
    this = a_try(JobState.STARTING)
    now = after(this, observed(this, see(Seen.FAILED, fault=fault, detail="no image"), NOW))
    ours = fault != "job"
    assert (now.attempt.outcome, now.allocation.faulted) == ("node_failure" if ours else "error", ours)
    assert now.job.state == (JobState.PENDING if ours else JobState.FAILED), "what never ran is tried after a pause"
    assert now.attempt.detail == "no image"


@pytest.mark.parametrize("reason", [*STOP_ENDS, "preemption"])
@pytest.mark.parametrize("seen", [Seen.EXITED, Seen.LOST, Seen.ABSENT, Seen.FAILED])
def test_a_job_that_was_told_to_end_ends_as_its_order_says(reason: str, seen: Seen) -> None:
    this = a_try(JobState.STOPPING, reason=reason)
    now = after(this, observed(this, see(seen, exit_code=143 if seen == Seen.EXITED else None), NOW))
    if reason == "preemption":
        assert now.job.state == JobState.QUEUED
        assert (now.job.stop_reason, now.job.stop_at_us) == ("", None)
        return
    assert (now.job.state, now.job.reason) == (STOP_ENDS[reason][0], reason)
    assert now.job.stop_reason == reason


def test_a_job_that_succeeds_while_it_is_told_to_end_has_succeeded() -> None:
    this = a_try(JobState.STOPPING)
    assert after(this, observed(this, see(Seen.EXITED, exit_code=0), NOW)).job.state == JobState.SUCCEEDED


# Beginning, stopping, time.


def test_an_attempt_begins_with_its_allocation() -> None:
    part = Slice(0, "nod", 1000, 1024, 0)
    moved, attempt, held = begin(waiting := job(attempt=2, failures=2), "clu", "reg", (part,), NOW).rows
    assert (moved.state, moved.attempt, moved.version) == (JobState.STARTING, 3, waiting.version + 1)
    assert (attempt.number, held.generation, attempt.allocation_id, held.id) == (3, 3, "alc_1.3", "alc_1.3")
    assert (held.held_us, held.metered_us, held.state) == (NOW, NOW, HoldState.STARTING)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.QUEUED])
def test_a_job_that_holds_nothing_is_stopped_at_once(state: JobState) -> None:
    (moved,) = stop(job(state), None, "user", NOW, "", DEFAULT_GRACE_US).rows
    assert (moved.state, moved.ended_us, moved.stop_reason) == (JobState.STOPPED, NOW, "user")


@pytest.mark.parametrize("state", [JobState.STARTING, JobState.RUNNING])
def test_a_stop_is_ordered_once(state: JobState) -> None:
    this = a_try(state)
    now = after(this, stop(this.job, this.allocation, "user", NOW, "", 5 * SECOND_US))
    assert (now.job.state, now.job.stop_at_us) == (JobState.STOPPING, NOW + 5 * SECOND_US)
    assert now.allocation.state == HoldState.STOPPING
    assert not stop(now.job, now.allocation, "budget_exhausted", NOW, "", 0)
    for end in ENDED:
        assert not stop(job(end), None, "user", NOW, "", 0)


def test_time_warns_once_and_then_stops() -> None:
    spec = Spec("train", max_duration_us=10 * MINUTE_US, warn_before_stop_us=MINUTE_US)
    this = a_try(JobState.RUNNING, spec=spec)
    assert deadline_us(this.job, this.allocation) == RAN + 9 * MINUTE_US
    assert not timed(this.job, this.allocation, RAN + 9 * MINUTE_US - 1)
    changes = timed(this.job, this.allocation, RAN + 9 * MINUTE_US)
    assert changes.actions == (Signal("alc_1.1", 1, "SIGUSR1"),)
    now = after(this, changes)
    assert now.job.warned
    assert not warn(now.job, now.allocation, NOW, "")
    assert deadline_us(now.job, now.allocation) == RAN + 10 * MINUTE_US
    assert not timed(now.job, now.allocation, RAN + 10 * MINUTE_US - 1)
    now = after(now, timed(now.job, now.allocation, RAN + 10 * MINUTE_US))
    assert (now.job.state, now.job.stop_reason) == (JobState.STOPPING, "max_duration")
    assert deadline_us(now.job, now.allocation) is None


def test_time_alone_brings_nothing_to_who_waits_for_jobs_or_has_no_limit() -> None:
    assert deadline_us(job(JobState.PENDING, not_before_us=5), None) == 5
    assert deadline_us(job(JobState.PENDING, not_before_us=5, after=("job_0",)), None) is None
    for state in OPEN:
        this = a_try(state)
        assert deadline_us(this.job, this.allocation) is None
    limited = a_try(JobState.STARTING, spec=Spec("train", max_duration_us=1))
    assert deadline_us(limited.job, limited.allocation) is None, "preparing is not counted"


def test_the_event_of_a_start_tells_all_that_a_slice_says() -> None:
    part = Slice(2, "nod_1", 1000, 2048, 4096, (Share("acc_1", 3, "H100", 500),))
    told = asdict(part)
    assert begin(job(), "clu", "reg", (part,), NOW).events[-1].detail["slices"] == [
        {**told, "shares": [*told["shares"]]}
    ]
