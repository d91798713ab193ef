"""The records of a job's life."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from headframe.fleet.records import Slice
from headframe.workloads.spec import Spec


class JobState(StrEnum):
    """The life of a job. A parent (array, cron) is RUNNING while any child is not ended."""

    PENDING = "pending"  # waits for a time or for other jobs
    QUEUED = "queued"  # waits for capacity
    STARTING = "starting"  # holds an allocation, the engine prepares
    RUNNING = "running"
    STOPPING = "stopping"  # has been told to end
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})


@dataclass(frozen=True, slots=True)
class Job:
    """A request and its life. `reason` says in one snake_case word why it is in its state.

    `attempt` counts from 1 (0: none yet). `parent_id` is set on the children of an array or of a schedule;
    `array_index` on an array's children. `parent` marks such a parent: it never holds an allocation itself.
    `not_before_us` keeps a retry or a cron child back. `stop_reason` is why it was told to end ("" while it was not).
    `failures` counts attempts that counted against `retry.max`. `after` are the ids of jobs that must still
    succeed first. `children_failed` counts a parent's children that did not succeed. `ran_us` is how long its ended
    attempts have run. `claim` is the place that is kept for it while others make way; `yields_to` is the id of the job
    that a running one makes way for, and `yields_us` when it is told to end. `home` is the id of the cluster where its
    newest checkpoint lies.
    """

    id: str
    organization_id: str
    project_id: str
    member_id: str
    name: str
    spec: Spec
    submitted_us: int
    state: JobState = JobState.QUEUED
    reason: str = ""
    parent: bool = False
    parent_id: str | None = None
    array_index: int | None = None
    attempt: int = 0
    failures: int = 0
    after: tuple[str, ...] = ()
    children_failed: int = 0
    not_before_us: int = 0
    started_us: int | None = None
    ended_us: int | None = None
    exit_code: int | None = None
    stop_reason: str = ""
    stop_at_us: int | None = None
    warned: bool = False
    ran_us: int = 0
    claim: tuple[Slice, ...] = ()
    yields_to: str = ""
    yields_us: int | None = None
    home: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `outcome` is "" while it lasts, then succeeded, error, node_failure, preemption or stopped."""

    id: str
    job_id: str
    number: int
    allocation_id: str
    started_us: int
    running_us: int | None = None
    ended_us: int | None = None
    exit_code: int | None = None
    outcome: str = ""
    detail: str = ""
    pid: int | None = None
    resumed_from: str = ""
    cpu_us: int = 0
    memory_peak_mib: int = 0
    story: int = 0  # how many sentences of the engine's story are on record
    checkpoint_us: int | None = None  # when its newest checkpoint was written
    sampled: dict[str, int] = field(default_factory=dict)  # how busy it was: `fleet.engine_words.SAMPLED`
    version: int = 1
