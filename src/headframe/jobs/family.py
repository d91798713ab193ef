"""Jobs that belong together: children of an array or of a schedule, and jobs that wait for others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from headframe.base.changes import NOTHING, Changes
from headframe.base.quantities import format_moment
from headframe.jobs.records import ENDED, Job, JobState
from headframe.jobs.states import event, move

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def next_fire_us(cron: str, after_us: int) -> int:
    """The first moment after `after_us` that a cron expression (five fields, UTC) names."""
    moment = next(CronSim(cron, _EPOCH + timedelta(microseconds=after_us)))
    return (moment - _EPOCH) // timedelta(microseconds=1)


def array_children(parent: Job, ids: Iterable[str]) -> list[Job]:
    """One job for each index of the parent's array; `$HEADFRAME_ARRAY_INDEX` tells it which."""
    array = parent.spec.array
    assert array is not None
    child = replace(parent, parent=False, parent_id=parent.id, spec=replace(parent.spec, array=None))
    indices = range(array.first, array.last + 1)
    return [
        replace(child, id=child_id, name=f"{parent.name}-{index}", array_index=index)
        for index, child_id in zip(indices, ids, strict=True)
    ]


def fire(parent: Job, child_id: str, busy: bool, now_us: int) -> Changes:
    """The schedule's moment has come: start a child, unless the one before still runs; set the next moment."""
    assert parent.spec.cron is not None
    next_us = next_fire_us(parent.spec.cron, max(now_us, parent.not_before_us))
    later = replace(parent, not_before_us=next_us, version=parent.version + 1)
    if busy:
        text = "The run due now is left out: the one before has not ended."
        return Changes((later,), (event(parent, "schedule_skipped", now_us, text),))
    child = replace(
        parent,
        id=child_id,
        name=f"{parent.name}-{format_moment(now_us)[:16]}",
        parent=False,
        parent_id=parent.id,
        spec=replace(parent.spec, cron=None),
        version=1,
        state=JobState.QUEUED,
        reason="scheduled",
        submitted_us=now_us,
        not_before_us=0,
        children_failed=0,
    )
    told = event(child, "job_submitted", now_us, f"Started by the schedule of {parent.id}.", parent=parent.id)
    return Changes((later, child), (told,))


def child_ended(parent: Job, child: Job, open_children: int) -> Changes:
    """Count a child's end; an array's parent ends with its last child."""
    failed = parent.children_failed + (child.state != JobState.SUCCEEDED)
    counted = replace(parent, children_failed=failed)
    if open_children or parent.state in ENDED or (parent.spec.cron and not parent.stop_reason):
        if failed == parent.children_failed:
            return NOTHING
        return Changes((replace(counted, version=parent.version + 1),))
    assert child.ended_us is not None
    if parent.stop_reason:
        state, reason, text = JobState.STOPPED, parent.stop_reason, "Stopped with all of its children."
    elif failed:
        state, reason, text = JobState.FAILED, "children_failed", f"{failed} of its children did not succeed."
    else:
        state, reason, text = JobState.SUCCEEDED, "succeeded", "All of its children succeeded."
    moved, told = move(counted, state, reason, child.ended_us, text, ended_us=child.ended_us)
    return Changes((moved,), (told,))


def dependency_ended(waiting: Job, ended: Job, now_us: int) -> Changes:
    """A job that `waiting` waits for has ended: one less to wait for, or the end of waiting in vain."""
    if waiting.state in ENDED or ended.id not in waiting.after:
        return NOTHING
    if ended.state != JobState.SUCCEEDED:
        text = f"It waited for {ended.name} ({ended.id}), which {ended.state}."
        moved, told = move(waiting, JobState.STOPPED, "dependency_failed", now_us, text, ended_us=now_us)
        return Changes((moved,), (told,))
    rest = tuple(job_id for job_id in waiting.after if job_id != ended.id)
    return Changes((replace(waiting, after=rest, version=waiting.version + 1),))


def release(job: Job, now_us: int) -> Changes:
    """A pending job whose time has come and that waits for nobody joins the queue."""
    if job.state != JobState.PENDING or job.parent or job.after or job.not_before_us > now_us:
        return NOTHING
    moved, told = move(job, JobState.QUEUED, "ready", now_us, "Nothing holds it back any more: it joins the queue.")
    return Changes((moved,), (told,))


def started(parent: Job, now_us: int) -> Changes:
    """The first child of an array started: so has the parent."""
    if parent.state != JobState.PENDING or parent.spec.cron:
        return NOTHING
    moved, told = move(parent, JobState.RUNNING, "children_run", now_us, "Its first child started.", started_us=now_us)
    return Changes((moved,), (told,))


def stop_parent(parent: Job, open_children: bool, reason: str, now_us: int, text: str) -> Changes:
    """Tell a parent to end: it keeps the reason until its last child has ended."""
    if parent.state in ENDED or parent.stop_reason:
        return NOTHING
    if open_children:
        marked = replace(parent, stop_reason=reason, version=parent.version + 1)
        return Changes((marked,), (event(parent, "job_stop_ordered", now_us, text),))
    moved, told = move(parent, JobState.STOPPED, reason, now_us, text, ended_us=now_us, stop_reason=reason)
    return Changes((moved,), (told,))
