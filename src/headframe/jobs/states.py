"""The table of moves: which state a job may go to from which, and when it does. The docs' diagram is made from it."""

from __future__ import annotations

from typing import Any

from headframe.base.changes import Event, revised
from headframe.base.errors import IllegalMove
from headframe.jobs.records import Job, JobState

S = JobState
MOVES: dict[JobState, dict[JobState, str]] = {
    S.PENDING: {
        S.QUEUED: "its time has come, and the jobs that it waits for have succeeded",
        S.RUNNING: "a parent: its first child started",
        S.FAILED: "a parent: a child did not succeed",
        S.SUCCEEDED: "a parent: all of its children succeeded",
        S.STOPPED: "somebody stopped it, or a job that it waits for did not succeed",
    },
    S.QUEUED: {
        S.PENDING: "it is held back until a time",
        S.STARTING: "a place was found: an attempt begins",
        S.STOPPED: "somebody stopped it",
        S.FAILED: "it can no longer run, such as a secret that is gone",
    },
    S.STARTING: {
        S.RUNNING: "all of its tasks run",
        S.STOPPING: "it has been told to end",
        S.SUCCEEDED: "it ended with exit code 0 before it was seen running",
        S.PENDING: "the attempt failed; another one follows after a pause",
        S.QUEUED: "the attempt failed; another one follows",
        S.FAILED: "the attempt failed and was the last",
        S.STOPPED: "it ended after it had been told to",
    },
    S.RUNNING: {
        S.STOPPING: "it has been told to end",
        S.SUCCEEDED: "it ended with exit code 0",
        S.PENDING: "the attempt failed; another one follows after a pause",
        S.QUEUED: "the attempt failed; another one follows",
        S.FAILED: "the attempt failed and was the last",
        S.STOPPED: "a parent: it and its children were stopped",
    },
    S.STOPPING: {
        S.STOPPED: "it ended after it had been told to",
        S.FAILED: "it ended after it had been told to for a failure, such as its time being up",
        S.SUCCEEDED: "it ended with exit code 0 by itself",
        S.PENDING: "it made way; another attempt follows after a pause",
        S.QUEUED: "it made way; another attempt follows",
    },
    S.SUCCEEDED: {},
    S.FAILED: {},
    S.STOPPED: {},
}


def move(job: Job, to: JobState, reason: str, at_us: int, text: str, **fields: Any) -> tuple[Job, Event]:
    """The job in its next state, and the event that tells it. Raises `IllegalMove` for a step not in the table."""
    if to not in MOVES[job.state]:
        raise IllegalMove(
            f"Job {job.id} cannot go from {job.state} to {to} ({reason}).",
            next_step="This is a defect of Headframe: please report it with the job's story.",
            details={"job": job.id, "from": job.state, "to": to, "reason": reason, "attempt": job.attempt},
        )
    moved = revised(job, state=to, reason=reason, version=job.version + 1, **fields)
    detail = {"from": job.state.value, "to": to.value, "reason": reason, "attempt": moved.attempt}
    if moved.exit_code is not None:
        detail["exit_code"] = moved.exit_code
    return moved, event(moved, f"job_{to.value}", at_us, text, **detail)


def event(job: Job, kind: str, at_us: int, text: str, **detail: Any) -> Event:
    """An event about a job."""
    return Event(at_us, kind, job.id, text, job.organization_id, job.project_id, detail)
