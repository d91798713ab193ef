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

CLASS_RANK = {"reserved": 0, "on-demand": 1, "spot": 2}


@dataclass(frozen=True, slots=True)
class Bucket:
    """What equals have in common. `parent_id` is set where a bound on parallel children sets its jobs apart."""

    rank: int
    priority: int
    organization_id: str
    project_id: str
    member_id: str
    want: Want
    parent_id: str | None = None

    @property
    def purchase(self) -> str:
        return next(name for name, rank in CLASS_RANK.items() if rank == self.rank)

    @classmethod
    def of(cls, job: Job, parallel: int) -> Bucket:
        spec = job.spec
        return cls(
            CLASS_RANK[spec.purchase], spec.priority, job.organization_id, job.project_id, job.member_id,
            Want.of(spec), job.parent_id if parallel else None,
        )  # fmt: skip


class Queue:
    """Waiting jobs, first in first out inside a bucket; buckets by class, then priority, then their oldest job."""

    def __init__(self) -> None:
        self._buckets: dict[Bucket, list[tuple[int, str]]] = {}
        self._where: dict[str, tuple[Bucket, tuple[int, str]]] = {}

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

    def ahead(self, job_id: str) -> int:
        """How many waiting jobs come before this one."""
        return self._ahead(*self._where[job_id])

    def ahead_of(self, job: Job, bucket: Bucket) -> int:
        """How many waiting jobs would come before one that does not wait here."""
        return self._ahead(bucket, (job.submitted_us, job.id))

    def _ahead(self, bucket: Bucket, key: tuple[int, str]) -> int:
        mine = (bucket.rank, -bucket.priority, key)
        return sum(
            bisect_left([(other.rank, -other.priority, item) for item in line], mine)
            for other, line in self._buckets.items()
        )

    def in_order(self, visit: Callable[[Bucket, str], bool]) -> None:
        """Call `visit` with each waiting job in order; when it answers False, the rest of that bucket is left out.

        `visit` must not alter the queue.
        """
        lines = list(self._buckets.items())
        heap = [((bucket.rank, -bucket.priority, line[0]), number, 0) for number, (bucket, line) in enumerate(lines)]
        heapq.heapify(heap)
        while heap:
            _, number, at = heapq.heappop(heap)
            bucket, line = lines[number]
            if visit(bucket, line[at][1]) and at + 1 < len(line):
                heapq.heappush(heap, ((bucket.rank, -bucket.priority, line[at + 1]), number, at + 1))
