"""What one pass of placing looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headframe.fleet.records import Slice
from headframe.jobs.records import Attempt, Job
from headframe.scheduling.agenda import Agenda
from headframe.scheduling.borrowing import Borrowing
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.elastic import Runner
from headframe.scheduling.fit import Tiers
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.order import (
    DEFAULT,
    ORDERS,
    RULES,
    TOP_PRIORITY,
    Facts,
    Order,
    Rules,
    among_all,
    fair,
    fair_key,
)
from headframe.scheduling.preempt import Holders
from headframe.scheduling.queue import Bucket, Queue, Rank, Waiting
from headframe.scheduling.shares import Shares
from headframe.scheduling.want import Want, least
from headframe.tenants.records import Quota

Slices = tuple[Slice, ...]


@dataclass(slots=True)
class Snapshot:
    """All that placing looks at. `capacity`, `holdings`, `borrowing` and `running` are scratch copies: a pass uses
    them up.

    `quotas` by the id of what they limit. `parallel` is how many children of a parent may run at once (0 or absent: any
    number), `running` how many do. `blocked` says why a scope may start nothing now (a budget, a credit), or "";
    `short` why a limit on money does not cover what these slices cost at least, or "". `order` is who comes first;
    `agenda` knows what is promised for later. `holders` are those who hold something (None: nobody is ever stopped),
    `attempts` theirs by allocation; `claims` the places that are kept while others make way, by job; `leaving` who
    makes way (by job), and for whom; `runners` gives the running jobs that can go on elsewhere or in another size.
    `price` is what slices cost an hour in a region (nano-units); `tiers` are kept for `choose`. `whole` is what is free
    also in clusters that other rules schedule (None: there are none). `wanted` are wants for which the pass found no
    room, whether it looked at who waits or not.
    """

    capacity: Capacity
    queue: Queue
    jobs: Mapping[str, Job]
    quotas: Mapping[str, Quota]
    holdings: Holdings
    parallel: Mapping[str, int]
    running: dict[str, int]
    blocked: Callable[[str, str, str], str]
    short: Callable[[Bucket, Slices], str] = lambda _bucket, _slices: ""
    refused: dict[Bucket, str] = field(default_factory=dict)
    now_us: int = 0
    order: Order = ORDERS[DEFAULT]
    agenda: Agenda | None = None
    rules: Rules = RULES
    borrowing: Borrowing | None = None
    shares: Shares | None = None
    holders: Holders | None = None
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    claims: Mapping[str, Slices] = field(default_factory=dict)
    leaving: Mapping[str, str] = field(default_factory=dict)
    remaining: Callable[[Job], int | None] = lambda job: job.spec.max_duration_us
    runners: Callable[[], Sequence[Runner]] = tuple
    price: Callable[[Bucket, str, Slices], int] = lambda _bucket, _region_id, _slices: 0
    tiers: dict[object, Tiers] = field(default_factory=dict)
    whole: Capacity | None = None
    wanted: dict[Want, None] = field(default_factory=dict)

    def key(self, bucket: Bucket, one: Waiting) -> Rank:
        """Where a waiting job stands in the order."""
        return self.outside(bucket, self.inside(bucket, one))

    def inside(self, bucket: Bucket, one: Waiting) -> Rank:
        """Where it stands among those of its own organization."""
        if self.order.key is fair:  # asked for thousands of times in a pass: straight, without `facts`
            level = bucket.priority if self.now_us - one[0] < self.rules.patience_us else TOP_PRIORITY
            share = () if self.shares is None else (self.shares.of(bucket.project_id),)
            return fair_key(bucket.rank, self._borrows(bucket), level, share, one)
        return self.order.key(self.facts(bucket, one, self.jobs[one[1]] if self.order.by_job else None))

    def outside(self, bucket: Bucket, inside: Rank) -> Rank:
        """Where one stands in the order that stands so among its own."""
        if self.order.key is not fair or self.shares is None:
            return inside
        return among_all(inside, self.shares.of(bucket.organization_id))

    def branch(self, bucket: Bucket) -> str:
        """Whose starts may alter where those of a bucket stand among their own: the project's, by its share; where
        anything is guaranteed, those of all that borrow of each other."""
        borrowing = self.borrowing
        if borrowing is None or not self.order.by_share or not borrowing.tree.contested:
            return bucket.project_id
        return borrowing.tree.path(bucket.owners)[-2]

    def facts(self, bucket: Bucket, one: Waiting, job: Job | None = None, more_us: int = 0, done_us: int = 0) -> Facts:
        """What the order looks at; `job` only where jobs of a bucket differ, `more_us` what it has run lately, and
        `done_us` how much less it has left by that. Who runs does not wait."""
        least_of = least(bucket.want)
        begun_us = one[0] if job is None else max(one[0], job.not_before_us)
        waited_us = 0 if done_us else max(self.now_us - begun_us, 0)
        left_us = self.remaining(job) if job is not None else None
        return Facts(
            one[1], one[0], bucket.rank, bucket.priority, least_of["gpu_milli"],
            None if left_us is None else max(left_us - done_us, 0), job.ran_us + more_us if job is not None else 0,
            waited_us, self._borrows(bucket), self._share(bucket), waited_us >= self.rules.patience_us,
        )  # fmt: skip

    def _borrows(self, bucket: Bucket) -> int:
        if self.borrowing is None or not self.order.by_share or not self.borrowing.tree.contested:
            return 0
        return self.borrowing.borrows(bucket.owners, least(bucket.want))

    def _share(self, bucket: Bucket) -> tuple[int, ...]:
        if self.shares is None or not self.order.by_share:
            return ()
        return self.shares.of(bucket.organization_id), self.shares.of(bucket.project_id)

    def take(self, bucket: Bucket, slices: Slices) -> None:
        """Use up what a placed job holds."""
        amounts = needs(slices)
        self.capacity.hold(slices)
        self.holdings.add(amounts, bucket.owners)
        if self.borrowing is not None:
            self.borrowing.change(bucket.owners, amounts)
        if self.shares is not None:
            self.shares.forget(bucket.organization_id)
            self.shares.forget(bucket.project_id)
        if bucket.parent_id is not None:
            self.running[bucket.parent_id] = self.running.get(bucket.parent_id, 0) + 1
