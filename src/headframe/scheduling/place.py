"""One pass over the queue: who starts where, and who makes way for whom."""

from __future__ import annotations

from headframe.base.quantities import SECOND_US
from headframe.fleet.records import Slice
from headframe.jobs.records import Job
from headframe.scheduling import choose
from headframe.scheduling.backfill import HEADS
from headframe.scheduling.borrowing import Shortage
from headframe.scheduling.fit import may_fit
from headframe.scheduling.judge import Verdict, barred, judge, within
from headframe.scheduling.kinds import asked
from headframe.scheduling.limits import needs
from headframe.scheduling.make_room import Room, stands, takes
from headframe.scheduling.plan import Claim, MakeWay, Plan, Start
from headframe.scheduling.queue import Bucket
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.want import Want, least

PASS_LIMIT = 1000  # placements in one pass; the next pass goes on, so that a tick stays short
FEW = 200  # so many waiting jobs are all looked at in every pass
LOOK_US = 5 * SECOND_US  # of more, all are looked at so often
FIRST = 4 * HEADS  # of those that wait for room, so many are looked at in every pass
ROOM_REASONS = frozenset({"no_capacity", "quota", "borrowing"})  # for which it may help that others make way

__all__ = ["PASS_LIMIT", "Snapshot", "Verdict", "judge", "least", "place"]


def place(snapshot: Snapshot) -> Plan:
    """What starts now, in order, and what each job holds; who has to end for whom; and which places are kept."""
    return _Pass(snapshot).run()


class _Pass:
    """The state of one pass."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.room = Room(snapshot)
        self.starts: list[Start] = []
        self.why: dict[str, str] = {}
        self.claims: list[Claim] = []
        self.stops: list[MakeWay] = []
        self.dropped: list[str] = []
        self.kept: dict[str, tuple[Slice, ...]] = {}  # places kept from earlier passes, by job
        self.full: set[object] = set()  # only asked, never iterated
        self.cut = False
        self.live: dict[Want, bool] = {}  # whether a want may fit anywhere
        self.first: list[Bucket] = []  # who waits for room, in order

    def run(self) -> Plan:
        snapshot, queue = self.snapshot, self.snapshot.queue
        snapshot.capacity.prices = asked(snapshot.capacity, queue.bidders())
        for job_id, slices in sorted(snapshot.claims.items()):
            self._earlier(job_id, slices)
        if snapshot.borrowing is not None:
            snapshot.borrowing.tree.know(queue.owners())
        recently = queue.looked_us is not None and 0 <= snapshot.now_us - queue.looked_us < LOOK_US
        queue.wake(snapshot.now_us)
        quick = len(queue) > FEW and recently and not snapshot.order.strict
        queue.in_order(
            self._visit, snapshot, by_job=snapshot.order.by_job, quick=quick,
            useless=self._useless if quick else self._in_vain, asleep=self._asleep if quick and queue.asleep else None,
        )  # fmt: skip
        if not self.cut:
            queue.seen()
            if not quick:
                by_line = len(queue) > FEW and not snapshot.order.by_job
                queue.looked(snapshot.now_us, self.first, by_line=by_line)
        if queue.again:
            self.room.look_again(min(queue.again.values()))
        if self.cut:
            self.room.look_again(snapshot.now_us)
        elif quick and queue.looked_us is not None:  # who was left out may fit though nothing happens any more
            self.room.look_again(queue.looked_us + LOOK_US)
        wake_us = self.room.wake_us if snapshot.refused or queue.again or quick or self.cut else None
        return Plan(
            tuple(self.starts),
            tuple(self.stops),
            tuple(self.claims),
            tuple(self.dropped),
            snapshot.refused,
            wake_us,
            self.why,
        )

    def _useless(self, want: Want) -> bool:
        """Whether there is no room for a want anywhere, so that none who want that can start."""
        fits = self.live.get(want)
        if fits is None:
            capacity = self.snapshot.capacity
            fits = self.live[want] = may_fit(capacity.boards.parent() or capacity, want)
        if not fits:
            self.snapshot.wanted[want] = None
        return not fits

    def _in_vain(self, want: Want) -> bool:
        """Whether a look at those who want this changes nothing: there is no room for it, enough of those who wait
        first for room are known, nobody could have to make way, and no further place will be kept."""
        if self.live.get(want, True) or len(self.first) < FIRST:
            return False
        agenda = self.snapshot.agenda
        return (agenda is None or agenda.full) and not self.snapshot.order.strict and not self.room.may_help()

    def _asleep(self, bucket: Bucket) -> bool:
        """Whether what may be borrowed still stands in the way of a bucket."""
        note, borrowing = self.snapshot.queue.asleep.get(bucket), self.snapshot.borrowing
        return isinstance(note, Shortage) and borrowing is not None and borrowing.still(note)

    def _earlier(self, job_id: str, slices: tuple[Slice, ...]) -> None:
        """A place that was promised in an earlier pass: it starts, or goes on waiting, or the promise is void."""
        snapshot, bucket = self.snapshot, self.snapshot.queue.bucket(job_id)
        if bucket is None:
            return
        job = snapshot.jobs[job_id]
        if not stands(snapshot.capacity, slices):
            self.dropped.append(job_id)
        elif takes(snapshot.capacity, slices):
            allowed = not barred(snapshot, bucket) and within(snapshot, bucket, needs(slices)) is None
            if allowed and not snapshot.short(bucket, slices):
                self._start(bucket, job, slices)
            else:
                self.dropped.append(job_id)
        elif job_id not in snapshot.leaving.values():
            self.dropped.append(job_id)
        else:
            self.kept[job_id] = slices
            self._hold(bucket, job, slices)

    def _visit(self, bucket: Bucket, job_id: str) -> bool | None:
        """One job in order. False: none like it can start either; None: nobody else starts in this pass."""
        snapshot = self.snapshot
        if len(self.starts) + len(self.claims) >= PASS_LIMIT:
            self.cut = True
            return None
        job, agenda = snapshot.jobs[job_id], snapshot.agenda
        if job_id in snapshot.claims and job_id not in self.dropped:
            return True  # it starts already, or its place is kept
        same = (bucket.want, agenda.sort(bucket, job) if agenda is not None else None)
        if same in self.full:
            verdict = Verdict(None, barred(snapshot, bucket) or "no_capacity")
        else:
            verdict = judge(snapshot, bucket, job)
        if verdict.slices is not None:
            self._start(bucket, job, verdict.slices)
            return True
        if verdict.reason == "no_capacity":
            if same not in self.full:
                self.full.add(same)
                self.live[bucket.want] = may_fit(snapshot.capacity, bucket.want)
            if len(self.first) < FIRST:
                self.first.append(bucket)
        if verdict.reason == "no_capacity" and self._rearrange(bucket, job):
            return True
        snapshot.queue.again.pop(bucket, None)
        if verdict.reason in ROOM_REASONS and self._make_room(bucket, job, sleeps=verdict.shortage is not None):
            return True
        if verdict.wait is not None:
            self._keep_back(bucket, job, verdict.wait)
        snapshot.refused[bucket] = verdict.reason
        snapshot.queue.refused(bucket, by_room=verdict.reason == "no_capacity")
        if verdict.shortage is not None:
            snapshot.queue.asleep[bucket] = verdict.shortage
        else:
            snapshot.queue.asleep.pop(bucket, None)
        if verdict.reason == "no_capacity":
            snapshot.wanted[bucket.want] = None
            if agenda is not None:
                agenda.waits(bucket, job)
        return None if snapshot.order.strict else False

    def _keep_back(self, bucket: Bucket, job: Job, found: choose.Wait) -> None:
        """It waits for a better cluster: its place there is kept, and it is looked at again when it has waited."""
        self.room.look_again(found.until_us)
        if found.starts_us is not None and self.snapshot.agenda is not None:
            self.snapshot.agenda.waits(choose.kept_to(bucket, found.clusters), job)

    def _rearrange(self, bucket: Bucket, job: Job) -> bool:
        """Let elastic jobs shrink, or jobs move, before anybody is stopped for good; the place is kept from now on."""
        found = self.room.rearrange(bucket, job)
        if found is None or self.snapshot.short(bucket, found.slices):
            return False
        self.room.leave(found.stops)
        self.stops += found.stops
        self.claims.append(Claim(job, found.slices, found.text))
        self._hold(bucket, job, found.slices)
        return True

    def _make_room(self, bucket: Bucket, job: Job, *, sleeps: bool) -> bool:
        """Let others make way, when that is lawful and certain to be enough; the place is kept from now on."""
        room = self.room
        before = room.moment()
        found = room.find(bucket, job)
        if sleeps and room.wake_us is not None:
            self.snapshot.queue.again[bucket] = room.wake_us
        if before is not None:
            room.look_again(before)
        if found is None or self.snapshot.short(bucket, found.slices):
            return False
        room.settle(bucket, found)
        self.stops += found.stops
        self.claims.append(Claim(job, found.slices, found.text))
        self._hold(bucket, job, found.slices)
        return True

    def _start(self, bucket: Bucket, job: Job, slices: tuple[Slice, ...]) -> None:
        why = choose.why(self.snapshot, bucket, slices)
        if why:
            self.why[job.id] = why
        self._hold(bucket, job, slices)
        self.starts.append(Start(job, slices))

    def _hold(self, bucket: Bucket, job: Job, slices: tuple[Slice, ...]) -> None:
        self.snapshot.take(bucket, slices)
        if self.snapshot.agenda is not None:
            self.snapshot.agenda.started(bucket, job, slices)
