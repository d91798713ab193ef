"""Who comes first: waiting jobs in buckets of equals, so that a pass costs what it places and not what waits.

Jobs in one bucket have the same owner, class, priority and want: when the first of them cannot be placed, none can.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

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
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Remember the hash: buckets are looked up far more often than made."""
        key = (self.priority, self.project_id, self.member_id, self.want, self.parent_id, self.span_us)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

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
    """Waiting jobs, first in first out inside a bucket. Which bucket's turn it is, a key says.

    Besides it remembers what passes found, so that the next need not ask again: `looked_us` is when one last looked at
    all, `first` who then waited first for room; `fresh` are buckets with a job that no pass has looked at yet,
    `asleep` notes of what stood in the way of a bucket.
    """

    def __init__(self) -> None:
        self._buckets: dict[Bucket, list[Waiting]] = {}
        self._by_want: dict[Want, dict[Bucket, list[Waiting]]] = {}
        self._where: dict[str, tuple[Bucket, Waiting]] = {}
        self.looked_us: int | None = None
        self.first: tuple[Bucket, ...] = ()
        self.fresh: dict[Bucket, None] = {}
        self.asleep: dict[Bucket, object] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._where

    def add(self, job: Job, parallel: int) -> None:
        if job.id in self._where:
            return
        bucket, key = Bucket.of(job, parallel), (job.submitted_us, job.id)
        line = self._buckets.get(bucket)
        if line is None:
            bucket, line = self._open(bucket)
        if line and key < line[-1]:
            insort(line, key)
        else:
            line.append(key)
        self._where[job.id] = bucket, key
        self.fresh[bucket] = None

    def _open(self, bucket: Bucket) -> tuple[Bucket, list[Waiting]]:
        """A new line. Equal wants are made one and the same, so that comparing them is quick."""
        line: list[Waiting] = []
        same = self._by_want.setdefault(bucket.want, {})
        first = next(iter(same), None)
        if first is not None:
            bucket = replace(bucket, want=first.want)
        self._buckets[bucket] = same[bucket] = line
        return bucket, line

    def remove(self, job_id: str) -> None:
        found = self._where.pop(job_id, None)
        if found is None:
            return
        bucket, key = found
        line = self._buckets[bucket]
        del line[bisect_left(line, key)]
        if not line:
            del self._buckets[bucket]
            same = self._by_want[bucket.want]
            del same[bucket]
            if not same:
                del self._by_want[bucket.want]
            self.fresh.pop(bucket, None)
            self.asleep.pop(bucket, None)

    def looked(self, now_us: int, first: Iterable[Bucket]) -> None:
        """A pass has looked at all that waits; `first` are those that wait first for room."""
        self.looked_us, self.first = now_us, tuple(first)

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

    def in_order(
        self,
        visit: Callable[[Bucket, str], bool],
        key: Key = plain,
        *,
        by_job: bool = False,
        useless: Callable[[Want], bool] | None = None,
        asleep: Callable[[Bucket], bool] = lambda _bucket: False,
    ) -> None:
        """Call `visit` with each waiting job in order; when it answers False, the rest of that bucket is left out.

        `visit` must not alter the queue. What `key` says of a job may grow from one visit to the next, as its owner
        gets more, but must not shrink. It must not shrink from one job of a bucket to the next either, unless `by_job`.

        With `useless`, buckets of wants that are, and those that are `asleep`, are left out without even a key, unless
        they are fresh or among the first; both may become so while others are visited.
        """
        always = {bucket for bucket in (*self.first, *self.fresh) if bucket in self._buckets}  # only asked
        lines = self._lines(always, useless, asleep)
        owner = list(range(len(lines)))  # the line's number among buckets
        if by_job:
            owner = [number for number, (_, line) in enumerate(lines) for _ in line]
            lines = [(bucket, [one]) for bucket, line in lines for one in line]
        closed: set[int] = set()  # only asked, never iterated
        turn = 0  # how many visits have gone well: keys of before may have grown since
        heap = [(key(bucket, line[0]), number, 0, turn) for number, (bucket, line) in enumerate(lines)]
        heapq.heapify(heap)
        while heap:
            was, number, at, made = heap[0]
            bucket, line = lines[number]
            out = useless is not None and bucket not in always and (useless(bucket.want) or asleep(bucket))
            if out or owner[number] in closed:
                heapq.heappop(heap)
                continue
            now = was if made == turn else key(bucket, line[at])
            if now > was:
                heapq.heapreplace(heap, (now, number, at, turn))
                continue
            if not visit(bucket, line[at][1]):
                heapq.heappop(heap)
                closed.add(owner[number])
                continue
            turn += 1
            if at + 1 < len(line):
                heapq.heapreplace(heap, (key(bucket, line[at + 1]), number, at + 1, turn))
            else:
                heapq.heappop(heap)

    def _lines(
        self, always: Collection[Bucket], useless: Callable[[Want], bool] | None, asleep: Callable[[Bucket], bool]
    ) -> list[tuple[Bucket, list[Waiting]]]:
        """The lines that are worth a look."""
        if useless is None:
            return list(self._buckets.items())
        lines = [
            (bucket, line)
            for want, alike in self._by_want.items()
            if not useless(want)
            for bucket, line in alike.items()
            if bucket not in always and not asleep(bucket)
        ]
        some = dict.fromkeys((*self.first, *self.fresh))
        return lines + [(bucket, self._buckets[bucket]) for bucket in some if bucket in always]
