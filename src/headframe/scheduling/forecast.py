"""When a waiting job is expected to start: exactly for the first in line, by sums for those further back.

For the first in line a place is searched on what runs (`backfill.shadow`). Further back the queue is gone through with
one number, the devices of the wanted kinds: whoever is ahead takes them as soon as there are enough, and gives them
back when it is expected to end. That leaves out how devices are scattered, so it may be too early, never exact.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headframe.fleet.records import Slice
from headframe.scheduling.backfill import NEVER_US, Ending
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.want import Want

AHEAD_LIMIT = 2000  # waiting jobs that are gone through


@dataclass(frozen=True, slots=True)
class Expected:
    """When a job is expected to start; `source` says from what that follows.

    "estimates": ends of running jobs, promised or learned. "kept": the end of a reservation, or of who waits before it
    and has a place. "guess": among them jobs of which nobody knows how long they run. "queue": those, and all who wait
    before it. "reservation": the beginning of its own. "quota": ends of its owner's other jobs.
    """

    start_us: int
    source: str


def through_the_queue(
    capacity: Capacity, want: Want, ahead: Sequence[tuple[Want, int]], endings: Iterable[Ending], now_us: int
) -> int | None:
    """The moment at which a job's turn comes and enough of its kinds is free; None when that never happens.

    `ahead` are the requests before it, each with how long it will run.
    """
    pool = _Pool(capacity, want)
    ends = [(max(one.likely_us, now_us), amount) for one in endings if (amount := pool.held(one.slices))]
    heapq.heapify(ends)
    at_us, free = now_us, pool.free
    for other, lasts_us in [*ahead, (want, 0)]:
        need = pool.need(other)
        while free < need and ends:
            end_us, amount = heapq.heappop(ends)
            at_us, free = max(at_us, end_us), free + amount
        if free < need:
            return None
        free -= need
        if need:
            heapq.heappush(ends, (min(at_us + lasts_us, NEVER_US), need))
    return at_us


class _Pool:
    """The devices of the kinds that a want could use, as one number; cores, where it wants no device."""

    def __init__(self, capacity: Capacity, want: Want) -> None:
        kinds = [gpus.kind for gpus in want.resources.gpus]
        self.by_cores = not kinds
        self.every = None in kinds
        self.kinds = {kind.lower() for kind in kinds if kind}  # only asked
        if self.by_cores:
            self.free = int(capacity.cpu[capacity.ready].clip(min=0).sum())
        else:
            numbers = [at for at, kind in enumerate(capacity.kinds) if self.every or kind.lower() in self.kinds]
            mask = capacity.usable & capacity.ready[:, None]
            self.free = sum(int(capacity.gpu[mask & (capacity.kind == at)].clip(min=0).sum()) for at in numbers)

    def held(self, slices: Iterable[Slice]) -> int:
        """How much of the pool slices hold."""
        if self.by_cores:
            return sum(part.cpu_milli for part in slices)
        return sum(
            share.milli
            for part in slices
            for share in part.shares
            if self.every or not share.kind or share.kind.lower() in self.kinds
        )

    def need(self, want: Want) -> int:
        """The least that a want takes of the pool."""
        if self.by_cores:
            return want.resources.cpu_milli * want.nodes_min
        sizes = [
            gpus.count * gpus.milli
            for gpus in want.resources.gpus
            if self.every or gpus.kind is None or gpus.kind.lower() in self.kinds
        ]
        return min(sizes, default=0) * want.nodes_min
