"""What happens to a job, its attempt and its allocation when the engine says something, or time passes.

All functions are pure: records and the moment in, `Changes` out. The three records of one attempt are handed around
together as `Try`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, revised
from headframe.base.quantities import MINUTE_US, SECOND_US, format_mib, format_span
from headframe.fleet.engine_words import SAMPLED, Observation, Seen, Signal
from headframe.fleet.records import Allocation, HoldState, Slice
from headframe.jobs.records import ENDED, Attempt, Job, JobState
from headframe.jobs.states import event, move

DEFAULT_GRACE_US = 10 * SECOND_US
# What a further attempt knows nothing of.
FRESH: dict[str, Any] = {
    "stop_reason": "", "stop_at_us": None, "warned": False, "yields_to": "", "yields_us": None,
}  # fmt: skip
BACKOFF_FIRST_US = SECOND_US
BACKOFF_LIMIT_US = 5 * MINUTE_US
MOST_NAMED = 8  # nodes that the story of a start names
AFTER_OUR_FAULT = "retry_after_node_failure"  # until it runs again, its time is that of our repair
# Why a job was told to end -> the state it then ends in, and how that is told.
STOP_ENDS = {
    "user": (JobState.STOPPED, "stopped by a member"),
    "parent": (JobState.STOPPED, "stopped with the job it belongs to"),
    "budget_exhausted": (JobState.STOPPED, "stopped because a budget is used up"),
    "credit_exhausted": (JobState.STOPPED, "stopped because the prepaid credit is used up"),
    "reservation_ended": (JobState.STOPPED, "stopped at the end of its reservation"),
    "max_duration": (JobState.FAILED, "ended because its max_duration was reached"),
}


@dataclass(frozen=True, slots=True)
class Try:
    """A job with the attempt that is under way and what that attempt holds."""

    job: Job
    attempt: Attempt
    allocation: Allocation


def begin(
    job: Job, cluster_id: str, region_id: str, slices: tuple[Slice, ...], now_us: int, note: str = "",
    names: Mapping[str, str] | None = None,
) -> Changes:  # fmt: skip
    """A place was found: the next attempt holds it from now on. `note` is what else its owner should know of it,
    `names` are what its nodes are called."""
    number = job.attempt + 1
    suffix = f"{job.id.partition('_')[2]}.{number}"
    allocation = Allocation(
        id=f"alc_{suffix}", organization_id=job.organization_id, project_id=job.project_id, member_id=job.member_id,
        job_id=job.id, cluster_id=cluster_id, generation=number, purchase=job.spec.purchase, slices=slices,
        held_us=now_us, metered_us=now_us, labels=job.spec.labels,
        marks=((now_us, "repair"),) if job.reason == AFTER_OUR_FAULT else (),
    )  # fmt: skip
    attempt = Attempt(f"att_{suffix}", job.id, number, allocation.id, now_us)
    nodes = sorted({(names or {}).get(part.node_id, part.node_id) for part in slices})
    where = ", ".join(nodes[:MOST_NAMED]) + (f" and {len(nodes) - MOST_NAMED} more" if len(nodes) > MOST_NAMED else "")
    moved, told = move(
        job, JobState.STARTING, "placed", now_us, f"Attempt {number} starts on {where}.{note}",
        attempt=number, claim=(),
    )  # fmt: skip
    held = event(
        job, "allocation_held", now_us, f"It holds {_held(slices)}.",
        allocation=allocation.id, generation=number, purchase=allocation.purchase,
        region=region_id, cluster=cluster_id, slices=[_document(part) for part in slices], member=job.member_id,
        repair=bool(allocation.marks),
    )  # fmt: skip
    return Changes((moved, attempt, allocation), (told, held))


def _held(slices: tuple[Slice, ...]) -> str:
    """`2 GPU, 8 CPU, 64 GiB of memory`, over all tasks."""
    gpu = sum(share.milli for part in slices for share in part.shares)
    cpu, memory = sum(part.cpu_milli for part in slices), sum(part.memory_mib for part in slices)
    return f"{f'{gpu / 1000:g} GPU, ' if gpu else ''}{cpu / 1000:g} CPU, {format_mib(memory)} of memory"


def _document(part: Slice) -> dict[str, Any]:
    """A slice as plain values; by hand, as a burst of starts makes thousands of them."""
    shares = [
        {"accelerator_id": one.accelerator_id, "index": one.index, "kind": one.kind, "milli": one.milli}
        for one in part.shares
    ]
    return {
        "rank": part.rank, "node_id": part.node_id, "cpu_milli": part.cpu_milli, "memory_mib": part.memory_mib,
        "disk_mib": part.disk_mib, "shares": shares,
    }  # fmt: skip


def observed(this: Try, seen: Observation, now_us: int) -> Changes:
    """The engine says what it sees of this attempt. A repeat, or news of an attempt that has ended, changes nothing."""
    if seen.generation != this.attempt.number or this.attempt.outcome or this.allocation.id != seen.allocation_id:
        return NOTHING
    told, this = _story(this, seen, now_us)
    began: Changes = NOTHING
    if seen.seen in (Seen.RUNNING, Seen.EXITED, Seen.LOST) and this.allocation.running_us is None:
        # Whatever ran says since when; what ended without that was stopped before it ran.
        started_us = seen.running_us or (seen.at_us if seen.seen == Seen.RUNNING else None)
        if started_us is not None:
            began, this = _run(this, seen, min(started_us, now_us))
    if seen.seen in (Seen.PREPARING, Seen.RUNNING):
        return told + began
    if seen.seen == Seen.ABSENT and this.allocation.state == HoldState.STARTING and not this.job.stop_reason:
        return told  # the launch was lost on its way: dispatch repeats it
    outcome, detail = _outcome(this, seen)
    return told + began + _end(this, outcome, detail, seen, now_us)


def _story(this: Try, seen: Observation, now_us: int) -> tuple[Changes, Try]:
    """Record the engine's new sentences, and what it measured."""
    fresh = seen.story[this.attempt.story :]
    attempt = revised(
        this.attempt,
        story=max(len(seen.story), this.attempt.story),
        pid=seen.pid or this.attempt.pid,
        resumed_from=seen.resumed_from or this.attempt.resumed_from,
        cpu_us=max(seen.use.get("cpu_us", 0), this.attempt.cpu_us),
        memory_peak_mib=max(seen.use.get("memory_peak_mib", 0), this.attempt.memory_peak_mib),
        checkpoint_us=seen.checkpoint_us or this.attempt.checkpoint_us,
        sampled=_sampled(this.attempt, seen),
    )
    if attempt == this.attempt:
        return NOTHING, this
    attempt = revised(attempt, version=this.attempt.version + 1)
    at_us = min(seen.at_us, now_us)
    events = [event(this.job, "engine_says", at_us, line, attempt=attempt.number) for line in fresh]
    return Changes((attempt,), tuple(events)), revised(this, attempt=attempt)


def _sampled(attempt: Attempt, seen: Observation) -> dict[str, int]:
    """How busy it was, from whichever looked longer: observations may come late."""
    longer = seen.use.get("sampled_us", 0) > attempt.sampled.get("sampled_us", 0)
    return {name: seen.use[name] for name in SAMPLED if name in seen.use} if longer else attempt.sampled


def _run(this: Try, seen: Observation, started_us: int) -> tuple[Changes, Try]:
    """All tasks run: time is charged from here."""
    at_us = max(started_us, this.allocation.held_us)
    state = HoldState.RUNNING if this.allocation.state == HoldState.STARTING else this.allocation.state
    allocation = revised(this.allocation, running_us=at_us, state=state, version=this.allocation.version + 1)
    attempt = revised(this.attempt, running_us=at_us, version=this.attempt.version + 1)
    rows: list[Any] = [allocation, attempt]
    events = [event(this.job, "allocation_running", at_us, "Its time counts from here.", allocation=allocation.id)]
    job = this.job
    if job.state == JobState.STARTING:
        waited = format_span(at_us - this.attempt.started_us)
        text = f"Attempt {attempt.number} runs, {waited} after its place was found."
        job, told = move(job, JobState.RUNNING, "running", at_us, text, started_us=job.started_us or at_us)
        rows.append(job)
        events.append(told)
    return Changes(tuple(rows), tuple(events)), Try(job, attempt, allocation)


def _outcome(this: Try, seen: Observation) -> tuple[str, str]:
    """(outcome of the attempt, what to say about it)."""
    if seen.seen == Seen.EXITED:
        if seen.exit_code == 0:
            return "succeeded", "exit code 0"
        return "error", seen.detail or f"exit code {seen.exit_code}"
    if seen.seen == Seen.FAILED:
        return ("error" if seen.fault == "job" else "node_failure"), seen.detail or "could not be started"
    if seen.seen == Seen.ABSENT and this.job.stop_reason:
        return "stopped", "the engine has nothing left of it"
    return "node_failure", seen.detail or "the node lost it"


def _end(this: Try, outcome: str, detail: str, seen: Observation, now_us: int) -> Changes:
    """The attempt is over: release what it held, and decide what becomes of the job."""
    allocation, attempt, job = this.allocation, this.attempt, this.job
    # A clock that was set back must not date the end before what is metered: a last piece, however short, must follow.
    metered_us = allocation.metered_us + 1 if allocation.records else 0
    at_us = max(min(seen.at_us, now_us), allocation.running_us or allocation.held_us, metered_us)
    faulted = outcome == "node_failure"
    if job.stop_reason and outcome in ("error", "stopped"):
        outcome = "preemption" if job.stop_reason == "preemption" else "stopped"
    released = revised(
        allocation, state=HoldState.RELEASED, released_us=at_us, faulted=faulted, reason=outcome,
        version=allocation.version + 1,
    )  # fmt: skip
    ended = revised(
        attempt, ended_us=at_us, outcome=outcome, detail=detail, exit_code=seen.exit_code, version=attempt.version + 1
    )
    why = " It ended through no fault of the job." if faulted else ""
    text = f"What it held is free again.{why}"
    freed = event(job, "allocation_released", at_us, text, allocation=allocation.id, faulted=faulted)
    ran_us = job.ran_us + (at_us - allocation.running_us if allocation.running_us is not None else 0)
    home = allocation.cluster_id if ended.checkpoint_us is not None and job.spec.checkpoints is not None else job.home
    moved, told = _after_attempt(revised(job, ran_us=ran_us, home=home), ended, at_us)
    return Changes((released, ended, moved), (freed, told))


def _after_attempt(job: Job, attempt: Attempt, at_us: int) -> tuple[Job, Event]:
    """Succeeded, stopped, another attempt, or failed."""
    outcome, code = attempt.outcome, attempt.exit_code
    if outcome == "succeeded":
        text = f"Attempt {attempt.number} succeeded."
        return move(job, JobState.SUCCEEDED, "succeeded", at_us, text, exit_code=code, ended_us=at_us)
    if job.stop_reason and job.stop_reason != "preemption":
        state, text = STOP_ENDS.get(job.stop_reason, (JobState.STOPPED, f"stopped: {job.stop_reason}"))
        return move(job, state, job.stop_reason, at_us, f"The job was {text}.", exit_code=code, ended_us=at_us)
    retry = job.spec.retry
    if outcome == "preemption" and outcome in retry.on:
        text = f"Attempt {attempt.number} made way; the next one follows, at the front of its line."
        return move(job, JobState.QUEUED, "retry_after_preemption", at_us, text, not_before_us=at_us, **FRESH)
    if outcome in retry.on and job.failures < retry.max:
        # A lost node's job may start elsewhere at once; what failed by itself, or never even ran, would fail again.
        again = outcome == "error" or (outcome == "node_failure" and attempt.running_us is None)
        pause_us = min(BACKOFF_FIRST_US << min(job.failures, 20), BACKOFF_LIMIT_US) if again else 0
        text = (
            f"Attempt {attempt.number} ended ({outcome}: {attempt.detail}); retry {job.failures + 1} of {retry.max} "
            f"follows{f' in {format_span(pause_us)}' if pause_us else ''}."
        )
        state = JobState.PENDING if pause_us else JobState.QUEUED
        return move(
            job, state, f"retry_after_{outcome}", at_us, text, failures=job.failures + 1,
            not_before_us=at_us + pause_us, **FRESH,
        )  # fmt: skip
    why = "no retries left" if outcome in retry.on else f"retry.on does not name {outcome}"
    text = f"Attempt {attempt.number} failed ({outcome}: {attempt.detail}); {why}."
    return move(job, JobState.FAILED, outcome, at_us, text, exit_code=code, ended_us=at_us)


def stop(job: Job, allocation: Allocation | None, reason: str, now_us: int, text: str, grace_us: int) -> Changes:
    """Tell a job to end. Without an allocation it ends at once; a second order changes nothing."""
    if job.state == JobState.STOPPING and job.stop_reason == "preemption" and reason != "preemption":
        final = revised(job, stop_reason=reason, version=job.version + 1)  # it was to come back: now it does not
        return Changes((final,), (event(job, "job_stop_ordered", now_us, text),))
    if job.state in ENDED or job.state == JobState.STOPPING:
        return NOTHING
    if allocation is None:
        moved, told = move(job, JobState.STOPPED, reason, now_us, text, ended_us=now_us, stop_reason=reason)
        return Changes((moved,), (told,))
    moved, told = move(
        job, JobState.STOPPING, reason, now_us, text, stop_reason=reason, stop_at_us=now_us + grace_us
    )  # fmt: skip
    held = revised(allocation, state=HoldState.STOPPING, reason=reason, version=allocation.version + 1)
    return Changes((moved, held), (told,))


def deadline_us(job: Job, allocation: Allocation | None) -> int | None:
    """The next moment at which `timed` has something to do for this job, if time alone can bring it."""
    if job.state == JobState.PENDING:
        return job.not_before_us if not job.after else None
    if job.state != JobState.RUNNING or allocation is None:
        return None
    due_us = _time_up_us(job, allocation)
    return due_us if job.yields_us is None else min(job.yields_us, due_us or job.yields_us)


def _time_up_us(job: Job, allocation: Allocation) -> int | None:
    """When its max_duration is up, or the warning of that is due."""
    if job.spec.max_duration_us is None:
        return None
    end_us = (allocation.running_us or allocation.held_us) + job.spec.max_duration_us
    return end_us if job.warned or not job.spec.warn_before_stop_us else end_us - job.spec.warn_before_stop_us


def timed(job: Job, allocation: Allocation, now_us: int) -> Changes:
    """Warn a running job whose time is nearly up; stop one whose time is up."""
    due_us = deadline_us(job, allocation)
    if due_us is None or now_us < due_us or job.state != JobState.RUNNING:
        return NOTHING
    if job.yields_us is not None and now_us >= job.yields_us:
        return stop(job, allocation, "preemption", now_us, "It makes way now.", DEFAULT_GRACE_US)
    if not job.warned and job.spec.warn_before_stop_us:
        return warn(job, allocation, now_us, f"Its max_duration ends in {format_span(job.spec.warn_before_stop_us)}.")
    assert job.spec.max_duration_us is not None
    text = f"Its max_duration of {format_span(job.spec.max_duration_us)} is reached."
    return stop(job, allocation, "max_duration", now_us, text, DEFAULT_GRACE_US)


def make_way(job: Job, allocation: Allocation, whom: str, cause: str, warn_us: int, now_us: int, text: str) -> Changes:
    """A running job makes way for the job `whom`: it is warned, and told to end when `warn_us` are over."""
    if job.state not in (JobState.STARTING, JobState.RUNNING):
        return NOTHING
    told = event(job, "preemption_ordered", now_us, text, cause=cause, attempt=job.attempt, warn_us=warn_us)
    yielding = revised(job, yields_to=whom)
    if job.state == JobState.STARTING or not warn_us:
        return Changes(events=(told,)) + stop(yielding, allocation, "preemption", now_us, text, DEFAULT_GRACE_US)
    signal = Signal(allocation.id, allocation.generation, job.spec.warn_signal)
    warned = revised(yielding, yields_us=now_us + warn_us, warned=True, version=job.version + 1)
    sent = event(job, "job_warned", now_us, f"{job.spec.warn_signal} sent: it ends in {format_span(warn_us)}.")
    return Changes((warned,), (told, sent), (signal,))


def stay(job: Job, now_us: int) -> Changes:
    """A job that was to make way need not: whoever wanted its place does so no more."""
    if job.state != JobState.RUNNING or not job.yields_to:
        return NOTHING
    kept = revised(job, yields_to="", yields_us=None, warned=False, version=job.version + 1)
    return Changes((kept,), (event(job, "preemption_revoked", now_us, "It stays: its place is not needed any more."),))


def claim(job: Job, slices: tuple[Slice, ...], now_us: int, text: str) -> Changes:
    """A place is kept for a waiting job while others make way; none (`slices` empty): it is kept no more."""
    if job.state != JobState.QUEUED or job.claim == slices:
        return NOTHING
    kept = revised(job, claim=slices, version=job.version + 1)
    return Changes((kept,), (event(job, "place_kept" if slices else "place_given_up", now_us, text),))


def warn(job: Job, allocation: Allocation, now_us: int, text: str) -> Changes:
    """Send the job its warning signal, once an attempt, so that it can save."""
    if job.warned:
        return NOTHING
    signal = Signal(allocation.id, allocation.generation, job.spec.warn_signal)
    warned = revised(job, warned=True, version=job.version + 1)
    told = event(job, "job_warned", now_us, f"{text} {job.spec.warn_signal} sent.", attempt=job.attempt)
    return Changes((warned,), (told,), (signal,))
