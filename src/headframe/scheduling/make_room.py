"""Making room for one waiting job: the law of its cloud, the trial, and the sentences that are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from headframe.base.quantities import HOUR_US
from headframe.fleet.records import Allocation, Slice
from headframe.jobs.records import Job
from headframe.scheduling.backfill import Ground
from headframe.scheduling.borrowing import Borrowing, Owners
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.defrag import make_one_place
from headframe.scheduling.elastic import Found, Runner, shrink
from headframe.scheduling.judge import seek, within
from headframe.scheduling.limits import needs
from headframe.scheduling.plan import MakeWay
from headframe.scheduling.preempt import (
    STOPPABLE_RANK,
    TRIES,
    WORK,
    Holders,
    Victim,
    beats,
    candidates,
    cheapest,
)
from headframe.scheduling.queue import CLASS_RANK, CLASSES, Bucket
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.want import least

REARRANGEMENTS = 4  # waiting jobs of one pass for which it is tried


@dataclass(frozen=True, slots=True)
class Made:
    """Room that can be made: the place, who makes way for it, and the sentence that the waiting job is told."""

    slices: tuple[Slice, ...]
    victims: tuple[Victim, ...]
    stops: tuple[MakeWay, ...]
    text: str


class Room:
    """Making room, over one pass. `wake_us` is when it may come out otherwise though nothing happens."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.wake_us: int | None = None
        self._tries, self._work = TRIES, WORK
        self._by_rank: dict[int, list[Victim]] = {}
        self._gone: dict[str, None] = {}  # allocations that make way by this pass
        self._owing: Borrowing | None = None
        self._runners: Sequence[Runner] | None = None
        self._away: dict[str, None] = {}  # jobs that come back smaller, or elsewhere
        self._rearrangements = REARRANGEMENTS

    def look_again(self, at_us: int) -> None:
        """At this moment a pass may decide otherwise."""
        self.wake_us = at_us if self.wake_us is None else min(self.wake_us, at_us)

    def moment(self) -> int | None:
        """The moment noted so far; from now on another one is noted."""
        noted, self.wake_us = self.wake_us, None
        return noted

    @property
    def owing(self) -> Borrowing | None:
        """What is borrowed when all who make way are gone and all whose place is kept have it."""
        if self._owing is None and self.snapshot.borrowing is not None:
            self._owing = self.snapshot.borrowing.copy()
            holders = self.snapshot.holders
            rows = holders.by_project.values() if holders is not None and self.snapshot.leaving else ()
            for one in (one for row in rows for one in row.values()):
                if one.job_id in self.snapshot.leaving:
                    self._owing.change(_owners(one), needs(one.slices), -1)
        return self._owing

    def may_help(self) -> bool:
        """Whether there can be anybody who makes way for another job, or comes back otherwise, at little cost."""
        snapshot, holders = self.snapshot, self.snapshot.holders
        if snapshot.agenda is not None and self._rearrangements > 0 and (self._runners is None or self._runners):
            return True
        if holders is None or self._tries <= 0 or self._work <= 0:
            return False
        if snapshot.borrowing is not None and snapshot.borrowing.tree.contested:
            return True
        ranks = range(len(CLASSES))
        return any(purchase in holders.by_class for rank in ranks for purchase in _below(snapshot, rank))

    def find(self, bucket: Bucket, job: Job) -> Made | None:
        """Who may make way for this job, so that it fits for certain; None when that cannot be, or is not lawful."""
        snapshot, holders = self.snapshot, self.snapshot.holders
        if holders is None or self._tries <= 0 or self._work <= 0 or bucket.reservation is not None:
            return None
        law = _Law(self, bucket, job)
        if not law.any(holders):
            return None
        agenda = snapshot.agenda
        same = law.same(), agenda.sort(bucket, job) if agenda is not None else None
        if holders.hopeless.get(same) == holders.epoch:
            return None
        self._tries -= 1
        ground = agenda.ground(*agenda.horizon(bucket, job)) if agenda is not None else Ground(snapshot.capacity)
        victims = [one for one in self._victims(holders, law, bucket) if one.allocation.id not in self._gone]
        self._work -= len(victims)
        found = None
        if victims:
            found = cheapest(victims, _Trial(self, bucket, job, ground))
        if found is not None:  # by nobody, where those who leave already make it possible: then it waits for them
            return _told(bucket, job, *found) if found[1] else None
        if not (law.reclaims or snapshot.order.takes_turns or snapshot.leaving or self._gone):
            _remember(holders, same)
        return None

    def _victims(self, holders: Holders, law: _Law, bucket: Bucket) -> list[Victim]:
        """All that this law lets a job stop. Where only the class counts, jobs of a class share one list."""
        snapshot = self.snapshot
        simple = not (law.reclaims or snapshot.order.takes_turns or snapshot.rules.by_priority)
        found = self._by_rank.get(bucket.rank) if simple else None
        if found is None:
            found = candidates(holders, law, snapshot.jobs, snapshot.attempts, snapshot.now_us)
            if simple:
                self._by_rank[bucket.rank] = found
        return found

    def rearrange(self, bucket: Bucket, job: Job) -> Found | None:
        """Room by jobs that come back smaller, or, where the rules say so, elsewhere."""
        snapshot, agenda = self.snapshot, self.snapshot.agenda
        if agenda is None or bucket.reservation is not None or self._rearrangements <= 0:
            return None
        if self._runners is None:
            self._runners = snapshot.runners()
        if not self._runners or within(snapshot, bucket, least(bucket.want)) is not None:
            return None
        self._rearrangements -= 1
        ground = agenda.ground()
        found = shrink(ground, bucket, job, self._runners, self._away)
        if found is None and snapshot.rules.moves:
            told = agenda.search(bucket, job)
            waits_us = told.start_us - snapshot.now_us if told is not None else HOUR_US
            found = make_one_place(ground, bucket, job, waits_us, self._runners, self._away)
        if found is None or within(snapshot, bucket, needs(found.slices)) is not None:
            return None
        return found

    def leave(self, stops: tuple[MakeWay, ...]) -> None:
        """These end, to come back otherwise: nobody else may ask it of them in this pass."""
        for one in stops:
            self._gone[one.allocation_id] = None
            self._away[one.job_id] = None

    def settle(self, bucket: Bucket, made: Made) -> None:
        """These make way: for the rest of the pass they are on their way out."""
        owing = self.owing
        for one in made.victims:
            self._gone[one.allocation.id] = None
            if owing is not None:
                owing.change(_owners(one.allocation), needs(one.allocation.slices), -1)
        if owing is not None:
            owing.change(bucket.owners, needs(made.slices))


DOUBLINGS = 10  # of a job's turns: ever fewer interruptions, as for jobs that have had much


def _below(snapshot: Snapshot, rank: int) -> Iterator[str]:
    """The purchases of which some may have to make way for a class."""
    own_class = snapshot.rules.by_priority or snapshot.order.takes_turns
    for place, purchase in enumerate(CLASSES):
        if (place == rank and own_class) or (place > rank and place >= STOPPABLE_RANK):
            yield purchase


class _Law:
    """Whom one job may stop; see `preempt`."""

    def __init__(self, room: Room, bucket: Bucket, job: Job) -> None:
        self._room, self._bucket, self._job = room, bucket, job
        self._snapshot = room.snapshot
        self._asked = least(bucket.want)
        owing = room.owing
        self.reclaims = owing is not None and owing.own(bucket.owners, self._asked) and self._has_waited()

    def _has_waited(self) -> bool:
        """Whether an owner has waited for long enough to take back what is its own: short gaps fill by themselves."""
        ready_us = max(self._job.submitted_us, self._job.not_before_us) + self._snapshot.rules.reclaim_after_us
        if ready_us > self._snapshot.now_us:
            self._room.look_again(ready_us)
        return ready_us <= self._snapshot.now_us

    def same(self) -> object:
        """Equal for jobs that may stop the same jobs for the same place."""
        bucket = self._bucket
        owners = bucket.owners if self.reclaims or self._snapshot.quotas else ()
        return bucket.want, bucket.rank, bucket.priority if self._snapshot.rules.by_priority else 0, owners

    def any(self, holders: Holders) -> bool:
        """Whether there can be anybody at all, at little cost."""
        return self.reclaims or any(purchase in holders.by_class for purchase in self.classes())

    def classes(self) -> Iterator[str]:
        return _below(self._snapshot, self._bucket.rank)

    def owes(self, sample: Allocation) -> bool:
        owing = self._room.owing
        if not self.reclaims or owing is None:
            return False
        mine = sample.project_id == self._bucket.project_id
        return mine or owing.owed(self._bucket.owners, self._asked, _owners(sample), needs(sample.slices))

    def cause(self, job: Job, allocation: Allocation) -> str:
        bucket, snapshot = self._bucket, self._snapshot
        rank = CLASS_RANK[allocation.purchase]
        if rank < bucket.rank:
            return ""
        found = beats(bucket.rank, bucket.priority, rank, job.spec.priority, by_priority=snapshot.rules.by_priority)
        if not found and self._turn_over(job, allocation, rank):
            found = "turn"
        owing = self._room.owing
        if not found and self.reclaims and owing is not None:
            held = needs(allocation.slices)
            found = "reclaim" if owing.owed(bucket.owners, self._asked, _owners(allocation), held) else ""
        return found

    def _turn_over(self, job: Job, allocation: Allocation, rank: int) -> bool:
        """Whether a running job has had its quantum, and this one would still come before it after a quantum.

        Only a job with checkpoints gives up a turn; each of its turns is twice as long as the one before, so that
        it gets done even if it saves nothing.
        """
        snapshot, quantum_us = self._snapshot, self._snapshot.rules.quantum_us
        retries = "preemption" in job.spec.retry.on and job.spec.checkpoints is not None
        if not snapshot.order.takes_turns or rank != self._bucket.rank or allocation.running_us is None or not retries:
            return False
        over_us = allocation.running_us + (quantum_us << min(max(job.attempt - 1, 0), DOUBLINGS))
        if over_us > snapshot.now_us:
            self._room.look_again(over_us)
            return False
        theirs = Bucket.of(job, 0)
        ran_us = snapshot.now_us - allocation.running_us
        running = snapshot.facts(theirs, (job.submitted_us, job.id), job, ran_us, ran_us)
        waiting = snapshot.facts(self._bucket, (self._job.submitted_us, self._job.id), self._job, quantum_us)
        return snapshot.order.key(waiting) < snapshot.order.key(running)


class _Trial:
    """A copy of the snapshot from which jobs are let out."""

    def __init__(self, room: Room, bucket: Bucket, job: Job, ground: Ground) -> None:
        snapshot = room.snapshot
        owing = room.owing
        self._bucket, self._job = bucket, job
        self._asked, self._ground = least(bucket.want), ground
        self._view = replace(
            snapshot, capacity=ground.capacity, holdings=snapshot.holdings.copy(),
            borrowing=owing.copy() if owing is not None else None, agenda=None, refused={},
        )  # fmt: skip

    def may(self, victim: Victim) -> bool:
        borrowing = self._view.borrowing
        if victim.cause != "reclaim" or borrowing is None:
            return True
        held = needs(victim.allocation.slices)
        return borrowing.owed(self._bucket.owners, self._asked, _owners(victim.allocation), held)

    def release(self, victim: Victim) -> None:
        self._ground.release(victim.job.id, victim.allocation.slices)
        self._change(victim, 1)

    def hold(self, victim: Victim) -> None:
        self._ground.hold(victim.job.id, victim.allocation.slices)
        self._change(victim, -1)

    def _change(self, victim: Victim, sign: int) -> None:
        allocation = victim.allocation
        self._view.holdings.change(allocation, -sign)
        if self._view.borrowing is not None:
            self._view.borrowing.change(_owners(allocation), needs(allocation.slices), -sign)

    def fits(self) -> tuple[Slice, ...] | None:
        return seek(self._view, self._bucket, self._job).slices


def stands(capacity: Capacity, slices: tuple[Slice, ...]) -> bool:
    """Whether a place still exists: its nodes are ready and its devices healthy."""
    for part in slices:
        row = capacity.row.get(part.node_id)
        if row is None or not capacity.ready[row]:
            return False
        places = [capacity.slot.get(share.accelerator_id) for share in part.shares]
        if any(place is None or not capacity.usable[place] for place in places):
            return False
    return True


def takes(capacity: Capacity, slices: tuple[Slice, ...]) -> bool:
    """Whether all of a place that exists is free now."""
    capacity.hold(slices)
    free = all(
        min(capacity.cpu[row], capacity.memory[row], capacity.disk[row]) >= 0
        and all(capacity.gpu[capacity.slot[share.accelerator_id]] >= 0 for share in part.shares)
        for part, row in ((part, capacity.row[part.node_id]) for part in slices)
    )
    capacity.release(slices)
    return free


def _owners(allocation: Allocation) -> Owners:
    return allocation.organization_id, allocation.project_id, allocation.member_id


def _remember(holders: Holders, same: object) -> None:
    if len(holders.hopeless) >= 10_000:  # so that nobody can fill the memory by asking
        holders.hopeless.clear()
    holders.hopeless[same] = holders.epoch


def _told(bucket: Bucket, job: Job, slices: tuple[Slice, ...], victims: list[Victim]) -> Made:
    """The sentences. Whose job it is, is told inside an organization only."""
    stops = []
    for one in victims:
        same = one.job.organization_id == job.organization_id
        whom = f"job {job.name} ({job.id})" if same else "a job of another organization"
        text = f"It makes way for {whom}: {_why(one, bucket)}."
        warn_us = one.job.spec.warn_before_stop_us if one.allocation.running_us is not None else 0
        stops.append(MakeWay(one.job.id, one.allocation.id, job.id, one.cause, text, warn_us))
    causes: Mapping[str, str] = {one.cause: _why(one, bucket) for one in victims}
    count = f"{len(victims)} job{'s make' if len(victims) > 1 else ' makes'} way for it"
    text = f"{count}: {'; '.join(causes[cause] for cause in sorted(causes))}. Its place is kept until then."
    return Made(slices, tuple(victims), tuple(stops), text)


def _why(victim: Victim, bucket: Bucket) -> str:
    match victim.cause:
        case "class":
            return f"{bucket.purchase} comes before {victim.allocation.purchase}"
        case "priority":
            return f"priority {bucket.priority} comes before {victim.job.spec.priority}"
        case "turn":
            return "its turn is over"
        case _:
            return "its owner takes back what is guaranteed to it"
