"""What a pass decides: who starts where, who makes way for whom, and when to look again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from headframe.fleet.records import Slice
from headframe.jobs.records import Job
from headframe.scheduling.queue import Bucket


class Start(NamedTuple):
    """A job that starts now, and what it holds."""

    job: Job
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class MakeWay:
    """A running job that makes way: after `warn_us` it is told to end, for the job `for_job_id`.

    `cause` is "class", "reclaim", "priority" or "turn"; `text` is the sentence that both stories tell.
    """

    job_id: str
    allocation_id: str
    for_job_id: str
    cause: str
    text: str
    warn_us: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A waiting job's place on what others still hold: kept for it until they are gone."""

    job: Job
    slices: tuple[Slice, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass over the queue decides, in order. Nothing in it is done yet.

    `claims` are places promised to jobs for which `stops` make way. `dropped` are ids of jobs whose earlier claim
    no longer holds. `refused` says for each bucket that was looked at and cannot start why not. `wake_us` is when a
    pass may decide otherwise though nothing happens until then (None: never). `why` says of jobs that start, by id, why
    in this cluster, where there was a choice.
    """

    starts: tuple[Start, ...] = ()
    stops: tuple[MakeWay, ...] = ()
    claims: tuple[Claim, ...] = ()
    dropped: tuple[str, ...] = ()
    refused: Mapping[Bucket, str] = field(default_factory=dict)
    wake_us: int | None = None
    why: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.starts or self.stops or self.claims or self.dropped)
