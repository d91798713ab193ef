"""Who comes first: waiting jobs in buckets of equals, so that a pass costs what it places and not what waits.

Jobs in one bucket have the same owner, class, priority and want: when the first of them cannot be placed, none can.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass

from headframe.jobs.records import Job
from headframe.scheduling.fit import Want

CLASS_RANK = {"reserved": 0, "on-demand": 1, "spot": 2, "filler": 3}
CLASSES = tuple(CLASS_RANK)
Waiting = tuple[int, str]  # (moment of submission, job id)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What equals have in common. `parent_id` is set where a bound on parallel children sets its jobs apart.

    `span_us` is the max_duration of its jobs (None: not bounded), `reservation` the id of the one that they run in.
    """

    rank: int
    priority: int
    organization_id: str
    project_id: str
    member_id: str
    want: Want
    parent_id: str | None = None
    span_us: int | None = None
    reservation: str | None = None

    @property
    def purchase(self) -> str:
        return CLASSES[self.rank]

    @property
    def owners(self) -> tuple[str, str, str]:
        """Organization, project, member."""
        return self.organization_id, self.project_id, self.member_id

    @classmethod
    def of(cls, job: Job, parallel: int) -> Bucket:
        spec = job.spec
        return cls(
            CLASS_RANK[spec.purchase], spec.priority, job.organization_id, job.project_id, job.member_id,
            Want.of(spec), job.parent_id if parallel else None, spec.max_duration_us, spec.reservation,
        )  # fmt: skip


Key = Callable[[Bucket, Waiting], tuple[int | str, ...]]


def plain(bucket: Bucket, one: Waiting) -> tuple[int | str, ...]:
    """Class, priority, age: the order among owners who have all had the same."""
    return bucket.rank, -bucket.priority, *one


class Queue:
    """Waiting jobs, first in first out inside a bucket. Which bucket's turn it is, a key says."""

    def __init__(self) -> None:
        self._buckets: dict[Bucket, list[Waiting]] = {}
        self._where: dict[str, tuple[Bucket, Waiting]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._where

    def add(self, job: Job, parallel: int) -> None:
        if job.id in self._where:
            return
        bucket, key = Bucket.of(job, parallel), (job.submitted_us, job.id)
        line = self._buckets.setdefault(bucket, [])
        if line and key < line[-1]:
            insort(line, key)
        else:
            line.append(key)
        self._where[job.id] = bucket, key

    def remove(self, job_id: str) -> None:
        found = self._where.pop(job_id, None)
        if found is None:
            return
        bucket, key = found
        line = self._buckets[bucket]
        del line[bisect_left(line, key)]
        if not line:
            del self._buckets[bucket]

    def bucket(self, job_id: str) -> Bucket | None:
        found = self._where.get(job_id)
        return found[0] if found else None

    def ahead(self, job_id: str, key: Key = plain) -> int:
        """How many waiting jobs come before this one."""
        return self._ahead(*self._where[job_id], key)

    def ahead_of(self, job: Job, bucket: Bucket, key: Key = plain) -> int:
        """How many waiting jobs would come before one that does not wait here."""
        return self._ahead(bucket, (job.submitted_us, job.id), key)

    def _ahead(self, bucket: Bucket, one: Waiting, key: Key) -> int:
        mine = key(bucket, one)
        return sum(key(other, each) < mine for other, line in self._buckets.items() for each in line)

    def in_order(self, visit: Callable[[Bucket, str], bool], key: Key = plain, *, by_job: bool = False) -> None:
        """Call `visit` with each waiting job in order; when it answers False, the rest of that bucket is left out.

        `visit` must not alter the queue. What `key` says of a job may grow from one visit to the next, as its owner
        gets more, but must not shrink. It must not shrink from one job of a bucket to the next either, unless `by_job`.
        """
        lines = [(bucket, line) for bucket, line in self._buckets.items()]
        closed: set[Bucket] = set()  # only asked, never iterated
        if by_job:
            lines = [(bucket, [one]) for bucket, line in lines for one in line]
        heap = [(key(bucket, line[0]), number, 0) for number, (bucket, line) in enumerate(lines)]
        heapq.heapify(heap)
        while heap:
            was, number, at = heap[0]
            bucket, line = lines[number]
            if by_job and bucket in closed:
                heapq.heappop(heap)
                continue
            now = key(bucket, line[at])
            if now > was:
                heapq.heapreplace(heap, (now, number, at))
                continue
            if not visit(bucket, line[at][1]):
                heapq.heappop(heap)
                closed.add(bucket)
            elif at + 1 < len(line):
                heapq.heapreplace(heap, (key(bucket, line[at + 1]), number, at + 1))
            else:
                heapq.heappop(heap)
