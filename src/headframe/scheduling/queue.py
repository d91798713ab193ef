"""Who comes first: waiting jobs in buckets of equals, so that a pass costs what it places and not what waits.

Jobs in one bucket have the same owner, class, priority and want: when the first of them cannot be placed, none can.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from headframe.jobs.records import Job
from headframe.scheduling.notice import notice_us
from headframe.scheduling.want import Want
from headframe.workloads.spec import Spec

CLASS_RANK = {"reserved": 0, "on-demand": 1, "spot": 2, "filler": 3}
CLASSES = tuple(CLASS_RANK)
LEADERS = 16  # lines of one want that are looked at between two looks at all
Waiting = tuple[int, str]  # (moment of submission, job id)


@dataclass(frozen=True, slots=True)
class Choice:
    """How a job chooses between clusters that have room; see `choose`.

    `prefer` is a word of `PREFERENCES` ("": the cloud's own); `near` are groups of names, one for each dataset, of
    which it is nearer to have one; `spill_us` is how long it waits for a better cluster.
    """

    prefer: str = ""
    near: tuple[tuple[str, ...], ...] = ()
    spill_us: int = 0

    @classmethod
    def of(cls, spec: Spec) -> Choice:
        if not (spec.prefer or spec.near or spec.spill_after_us):
            return ANY_CHOICE
        return cls(spec.prefer, spec.near, spec.spill_after_us)


ANY_CHOICE = Choice()


@dataclass(frozen=True, slots=True)
class Bucket:
    """What equals have in common. `parent_id` is set where a bound on parallel children sets its jobs apart.

    `span_us` is the max_duration of its jobs (None: not bounded), `reservation` the id of the one that they run in,
    `notice_us` how far off another one must be for them to start on its place (None: never; see `notice`), `choice` how
    they choose between clusters. `owners` are organization, project and member.
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
    notice_us: int | None = None
    choice: Choice = ANY_CHOICE
    owners: tuple[str, str, str] = field(init=False, repr=False, compare=False, default=("", "", ""))
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Remember the hash and the owners: buckets are looked up far more often than made."""
        key = (self.priority, self.project_id, self.member_id, self.want, self.parent_id, self.span_us)
        object.__setattr__(self, "_hash", hash(key))
        object.__setattr__(self, "owners", (self.organization_id, self.project_id, self.member_id))

    def __hash__(self) -> int:
        return self._hash

    @property
    def purchase(self) -> str:
        return CLASSES[self.rank]

    @classmethod
    def of(cls, job: Job, parallel: int, speeds: tuple[tuple[str, int], ...] = ()) -> Bucket:
        """The bucket of a job; `speeds` are those of its kind on what it may get, where it says none (see `speeds`)."""
        spec, want = job.spec, Want.of(job.spec, job.home)
        if speeds:
            want = replace(want, resources=replace(want.resources, speeds=speeds))
        return cls(
            CLASS_RANK[spec.purchase], spec.priority, job.organization_id, job.project_id, job.member_id,
            want, job.parent_id if parallel else None, spec.max_duration_us, spec.reservation,
            notice_us(spec), Choice.of(spec),
        )  # fmt: skip


Line = tuple[Bucket, list[Waiting]]


Rank = tuple[int | str, ...]
Key = Callable[[Bucket, Waiting], Rank]  # where a waiting job stands among all


class Ranking(Protocol):
    """An order in two steps: among the jobs of its own organization, and, by what that has, among all."""

    def inside(self, bucket: Bucket, one: Waiting) -> Rank:
        """Where a waiting job stands among those of its own organization."""
        ...

    def outside(self, bucket: Bucket, inside: Rank) -> Rank:
        """Where one stands among all that stands so among its own."""
        ...

    def branch(self, bucket: Bucket) -> str:
        """Whose starts may alter where those of a bucket stand among their own: a project, or a branch above it."""
        ...


def plain(bucket: Bucket, one: Waiting) -> Rank:
    """Class, priority, age: the order among owners who have all had the same."""
    return bucket.rank, -bucket.priority, *one


class _Plain:
    """`plain`, in which it makes no difference whose a job is."""

    def inside(self, bucket: Bucket, one: Waiting) -> Rank:
        return plain(bucket, one)

    def outside(self, bucket: Bucket, inside: Rank) -> Rank:
        return inside

    def branch(self, bucket: Bucket) -> str:
        return bucket.project_id


PLAIN = _Plain()


class Queue:
    """Waiting jobs, first in first out inside a bucket. Which bucket's turn it is, a key says.

    Besides it remembers what passes found, so that the next need not ask again: `looked_us` is when one last looked at
    all, `first` who then waited first for room, `leaders` who then came first of those with the same want; `fresh` are
    buckets with a job that no pass has looked at yet, and whether that is the first of its line; `asleep` are notes of
    what stood in the way of a bucket, `again` says when one that sleeps is to be looked at though nothing happens,
    `bound` are by want the buckets that other than room held back.
    """

    def __init__(self) -> None:
        self._buckets: dict[Bucket, list[Waiting]] = {}
        self._by_want: dict[Want, dict[Bucket, list[Waiting]]] = {}
        self._where: dict[str, tuple[Bucket, Waiting]] = {}
        self._by_speed: dict[Want, dict[Bucket, list[Waiting]]] = {}  # wants that say how fast they are on each kind
        self._by_line = False  # whether a look at a few lines of each want will do
        self.looked_us: int | None = None
        self.first: tuple[Bucket, ...] = ()
        self.leaders: dict[Want, list[Bucket]] = {}
        self.fresh: dict[Bucket, bool] = {}
        self.asleep: dict[Bucket, object] = {}
        self.again: dict[Bucket, int] = {}
        self.bound: dict[Want, dict[Bucket, None]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._where

    def add(self, job: Job, parallel: int, speeds: tuple[tuple[str, int], ...] = ()) -> None:
        if job.id in self._where:
            return
        bucket, key = Bucket.of(job, parallel, speeds), (job.submitted_us, job.id)
        line = self._buckets.get(bucket)
        if line is None:
            bucket, line = self._open(bucket)
        if line and key < line[-1]:
            insort(line, key)
        else:
            line.append(key)
        self._where[job.id] = bucket, key
        self.fresh[bucket] = line[0] is key or self.fresh.get(bucket, False)

    def _open(self, bucket: Bucket) -> tuple[Bucket, list[Waiting]]:
        """A new line. Equal wants are made one and the same, so that comparing them is quick."""
        line: list[Waiting] = []
        same = self._by_want.setdefault(bucket.want, {})
        first = next(iter(same), None)
        if first is not None:
            bucket = replace(bucket, want=first.want)
        elif bucket.want.resources.speeds:
            self._by_speed[bucket.want] = same
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
            self.bound.get(bucket.want, {}).pop(bucket, None)
            if not same:
                del self._by_want[bucket.want]
                self.leaders.pop(bucket.want, None)
                self.bound.pop(bucket.want, None)
                self._by_speed.pop(bucket.want, None)
            self.fresh.pop(bucket, None)
            self.asleep.pop(bucket, None)
            self.again.pop(bucket, None)

    def bidders(self) -> Iterator[tuple[Want, int]]:
        """Wants that say how fast they are on each kind, and how many jobs wait for each."""
        return ((want, sum(map(len, lines.values()))) for want, lines in self._by_speed.items())

    def looked(self, now_us: int, first: Iterable[Bucket], *, by_line: bool) -> None:
        """A pass has looked at all that waits; `first` are those that wait first for room.

        If `by_line`, passes until the next such look at no more than `LEADERS` lines of each want, those that come
        first when such a want is next looked at, besides what comes in.
        """
        self.looked_us, self.first = now_us, tuple(first)
        self.leaders, self._by_line = {}, by_line

    def refused(self, bucket: Bucket, *, by_room: bool) -> None:
        """A pass could not start the first of a bucket, for want of room or for another reason."""
        if by_room:
            self.bound.get(bucket.want, {}).pop(bucket, None)
        else:
            self.bound.setdefault(bucket.want, {})[bucket] = None

    def seen(self) -> None:
        """A pass has looked at all that came in. Who is the first of its line may come before the leaders."""
        for bucket, first in self.fresh.items():
            leaders = self.leaders.get(bucket.want)
            if first and leaders and bucket not in leaders:
                leaders.append(bucket)
                if len(leaders) > 4 * LEADERS:  # they are found anew when they are next asked for
                    del self.leaders[bucket.want]
        self.fresh.clear()

    def unbind(self) -> None:
        """Limits, or what they are parts of, have changed: nothing is known to stand in anybody's way."""
        self.asleep.clear()

    def wake(self, now_us: int) -> None:
        """Who sleeps and is to be looked at by now is as good as new."""
        for bucket in [bucket for bucket, at_us in self.again.items() if at_us <= now_us]:
            del self.again[bucket]
            self.fresh[bucket] = True

    def owners(self) -> Iterator[tuple[str, str, str]]:
        """Organization, project and member of each line."""
        return (bucket.owners for bucket in self._buckets)

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

    def front(self, count: int, key: Key = plain) -> list[tuple[Bucket, Waiting]]:
        """Those that come first, at most `count`, in order."""
        some = ((bucket, one) for bucket, line in self._buckets.items() for one in line[:count])
        return heapq.nsmallest(count, some, key=lambda each: key(*each))

    def in_order(
        self,
        visit: Callable[[Bucket, str], bool | None],
        ranking: Ranking = PLAIN,
        *,
        by_job: bool = False,
        quick: bool = False,
        useless: Callable[[Want], bool] = lambda _want: False,
        asleep: Callable[[Bucket], bool] | None = None,
    ) -> None:
        """Call `visit` with each waiting job in order; when it answers False, the rest of that bucket is left out, and
        when it answers None, all the rest.

        `visit` must not alter the queue. What `ranking` says of a job may grow from one visit to the next, as its owner
        gets more, but must not shrink. It must not shrink from one job of a bucket to the next either, unless `by_job`.

        Buckets of wants that are `useless`, and those that are `asleep`, are left out; both may become so while others
        are visited. If `quick`, they are so without even a key; but those that are fresh or among the first never are.
        """
        worth = self._worth(ranking, useless, asleep, by_job) if quick else self._by_want_of_all()
        groups = [_Group(want, lines, ranking, by_job) for want, some in worth for lines in _by_organization(some)]
        heap = [(ranking.outside(group.top[0], group.rank), number, 0) for number, group in enumerate(groups)]
        heapq.heapify(heap)
        starts: dict[str, int] = {}  # visits that went well, by who has more since: their keys may have grown
        while heap:
            was, number, made = heap[0]
            group = groups[number]
            bucket, one = group.top
            branch = ranking.branch(bucket)
            house = bucket.organization_id if branch == bucket.project_id else branch
            turn = starts.get(house, 0)
            if group.want is not None and useless(group.want):
                heapq.heappop(heap)
                continue
            if group.want is not None and asleep is not None and asleep(bucket):
                group.close()
            elif group.stale(starts.get(branch, 0)):
                pass
            elif made == turn or ranking.outside(bucket, group.rank) == was:
                answer = visit(bucket, one[1])
                if answer is None:
                    return
                if answer:
                    for owner in dict.fromkeys((house, branch)):
                        starts[owner] = starts.get(owner, 0) + 1
                    turn += 1
                    group.advance(starts[branch])
                else:
                    group.close()
            if group.heap:
                heapq.heapreplace(heap, (ranking.outside(group.top[0], group.rank), number, turn))
            else:
                heapq.heappop(heap)

    def _by_want_of_all(self) -> Iterator[tuple[Want | None, list[Line]]]:
        return ((want, list(alike.items())) for want, alike in self._by_want.items())

    def _worth(
        self,
        ranking: Ranking,
        useless: Callable[[Want], bool],
        asleep: Callable[[Bucket], bool] | None,
        by_job: bool,
    ) -> Iterator[tuple[Want | None, list[Line]]]:
        """The lines that are worth a look, by want; those that always are, together and without a want."""
        some = [bucket for bucket in dict.fromkeys((*self.first, *self.fresh)) if bucket in self._buckets]
        if asleep is not None and not by_job:  # who came in behind others changes nothing for a line that sleeps
            some = [bucket for bucket in some if self.fresh.get(bucket) or not asleep(bucket)]
        always = set(some)  # only asked
        yield None, [(bucket, self._buckets[bucket]) for bucket in some]
        for want, alike in self._by_want.items():
            if useless(want):
                continue
            chosen = self._chosen(want, alike, ranking)
            if asleep is not None:
                chosen = [bucket for bucket in chosen if not asleep(bucket)]
            yield want, [(bucket, alike[bucket]) for bucket in chosen if bucket not in always]

    def _chosen(self, want: Want, alike: Mapping[Bucket, list[Waiting]], ranking: Ranking) -> Iterable[Bucket]:
        """Of the lines of a want those that may be the next: all, or the leaders and those that a limit holds back."""
        if not self._by_line:
            return alike
        if want not in self.leaders:
            some: list[Bucket] = []
            if len(alike) > LEADERS:
                ranked = [(ranking.outside(one, ranking.inside(one, line[0])), one) for one, line in alike.items()]
                some = [bucket for _, bucket in heapq.nsmallest(LEADERS, ranked, key=lambda one: one[0])]
            self.leaders[want] = some
        bound = self.bound.get(want, {})
        leaders = [bucket for bucket in self.leaders[want] if bucket in alike and bucket not in bound]
        return [*leaders, *bound] if len(leaders) * 4 >= LEADERS else alike


def _by_organization(lines: list[Line]) -> Iterable[list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line[0].organization_id, []).append(line)
    return found.values()


class _Group:
    """Lines of one organization that are left out together, in an order of their own: what the organization as a whole
    has does not count among them. `heap` holds (rank, line, place in the line, starts of its branch until then).
    """

    def __init__(self, want: Want | None, lines: list[Line], ranking: Ranking, by_job: bool) -> None:
        self.want, self.lines, self._inside, self._by_job = want, lines, ranking.inside, by_job
        self.heap = [
            (ranking.inside(bucket, one), number, at, 0)
            for number, (bucket, line) in enumerate(lines)
            for at, one in enumerate(line if by_job else line[:1])
        ]
        heapq.heapify(self.heap)

    @property
    def top(self) -> tuple[Bucket, Waiting]:
        """Whose turn it is."""
        _, number, at, _ = self.heap[0]
        bucket, line = self.lines[number]
        return bucket, line[at]

    @property
    def rank(self) -> Rank:
        """Where that one stands among its own."""
        return self.heap[0][0]

    def stale(self, starts: int) -> bool:
        """Whether the foremost one's rank was too old, and has been made anew."""
        _, number, at, made = self.heap[0]
        if made == starts:
            return False
        bucket, line = self.lines[number]
        heapq.heapreplace(self.heap, (self._inside(bucket, line[at]), number, at, starts))
        return True

    def close(self) -> None:
        """Leave the rest of the foremost line out."""
        closed = heapq.heappop(self.heap)[1]
        if self._by_job:
            self.heap = [entry for entry in self.heap if entry[1] != closed]
            heapq.heapify(self.heap)

    def advance(self, starts: int) -> None:
        """On to the next job."""
        _, number, at, _ = self.heap[0]
        bucket, line = self.lines[number]
        if self._by_job or at + 1 == len(line):
            heapq.heappop(self.heap)
        else:
            heapq.heapreplace(self.heap, (self._inside(bucket, line[at + 1]), number, at + 1, starts))
