"""What a pass must know of the time to come: reservations, and the places of those who wait first.

`Agenda` says for each job on which capacity it may be placed now. It is the one place where classes, reservations and
estimates meet: reserved jobs run inside their reservation and nowhere else; all others beside what is promised; those
that come back by themselves when they are stopped also where a reservation is still far off (see `notice`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import merge

from headframe.base.quantities import MINUTE_US, SECOND_US
from headframe.fleet.records import Reservation, ReservationState, Slice
from headframe.jobs.records import Job
from headframe.scheduling.backfill import HEADS, NEVER_US, Ending, Ground, Outlook, Promise, Shadow, by_end, shadow
from headframe.scheduling.calendar import cells, inside, rest
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.durations import UNKNOWN, Estimate
from headframe.scheduling.notice import STOPPABLE, USEFUL_US
from headframe.scheduling.queue import Bucket

SLACK_US = 15 * SECOND_US  # beyond its max_duration a job gets its grace, and an engine takes its time
PATIENCE_US = 10 * MINUTE_US  # how long a job has waited before a mere guess keeps a place for it
REFRESH_US = 30 * SECOND_US  # how old the place that is kept for a waiting job may be


@dataclass(slots=True)
class Timetable:
    """What is on record about the time to come, as control hands it in.

    `reservations` are the open ones; `held` gives what a reservation's jobs hold; `on_node` what runs on a node,
    `endings` all that runs, in order of
    likely end; `expect` how long a job runs; `shadows` the places found in earlier passes, by job.
    """

    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    held: Callable[[str], Iterable[Slice]] = lambda _reservation_id: ()
    on_node: Callable[[str], Iterable[Ending]] = lambda _node_id: ()
    endings: Callable[[], Iterable[Ending]] = lambda: ()
    expect: Callable[[Job], Estimate] = lambda _job: UNKNOWN
    shadows: Mapping[str, Shadow] = field(default_factory=dict)
    heads: int = HEADS


class Agenda:
    """The time to come, as one pass sees and fills it. `shadows` are the places kept for waiting jobs by this pass."""

    def __init__(self, now_us: int, capacity: Capacity, table: Timetable) -> None:
        self._now_us, self._capacity, self._table = now_us, capacity, table
        self._rooms: dict[str, Capacity] = {}
        self._started: list[Ending] = []
        self.shadows: dict[str, Shadow] = {}
        self._far_us: list[int] = []
        firm = []
        for _, one in sorted(table.reservations.items()):
            if one.open and one.to_us > now_us:
                amounts = cells(rest(one, table.held(one.id)))
                firm.append(Promise(one.id, one.from_us, one.to_us, amounts, True, one.created_us))
                self._far_us.append(one.from_us)
        self.outlook = Outlook(now_us, capacity, firm, table.on_node)

    @property
    def known(self) -> tuple[str, ...]:
        """Waiting jobs of which earlier passes knew a place, by id."""
        return tuple(sorted(self._table.shadows))

    @property
    def full(self) -> bool:
        """Whether places are kept for as many waiting jobs as may be."""
        return len(self.shadows) >= self._table.heads

    def room(self, bucket: Bucket, job: Job | None = None) -> Capacity | str:
        """Where a job of this bucket may be placed now, or a stable word why it may not be placed at all."""
        if bucket.reservation is not None:
            return self._inside(bucket.reservation)
        return self.outlook.room(*self.horizon(bucket, job))

    def clear_room(self, bucket: Bucket, job: Job | None = None) -> Capacity | None:
        """What of `room` no reservation begins on before the job has ended for certain, where that is less: such a
        place is better, as nobody will have to make way there."""
        sure_us, likely_us = self._ends(bucket, job)
        wide = self.horizon(bucket, job)
        if bucket.reservation is not None or self.outlook.key(sure_us, likely_us) == self.outlook.key(*wide):
            return None
        return self.outlook.room(sure_us, likely_us)

    def beside_reservations(self, bucket: Bucket) -> Capacity:
        """As `room` for jobs outside of reservations, if nobody waited before them."""
        return self.outlook.room(self.horizon(bucket, None)[0], 0)

    def ground(self, sure_us: int = NEVER_US, likely_us: int = NEVER_US) -> Ground:
        """The room of a horizon, to try who may make way; by itself that of a job that never ends."""
        return self.outlook.ground(sure_us, likely_us)

    def sort(self, bucket: Bucket, job: Job | None = None) -> object:
        """Equal for jobs that get the same room, so that what did not fit for one need not be tried for another."""
        if bucket.reservation is not None:
            return bucket.reservation
        return *self.outlook.key(*self.horizon(bucket, job)), len(self.outlook.promises)

    def started(self, bucket: Bucket, job: Job, slices: tuple[Slice, ...]) -> None:
        """The pass decided that this job starts there now."""
        sure_us, likely_us = self._ends(bucket, job)
        always = bucket.purchase in STOPPABLE
        begun = Ending(sure_us, likely_us, slices, job.id, "", self._now_us, bucket.notice_us, always)
        if likely_us < NEVER_US:
            self._started.append(begun)
        room = self._rooms.get(bucket.reservation or "")
        if room is not None:
            room.hold(slices)
        self.outlook.take(slices, begun, bucket.reservation or "")

    def waits(self, bucket: Bucket, job: Job) -> None:
        """The pass found no room for this job: if it is one of the first, a place is kept for it."""
        if self.full or bucket.reservation is not None:
            return
        found = self._table.shadows.get(job.id)
        if found is None or found.start_us <= self._now_us or found.made_us < self._now_us - REFRESH_US:
            nowhere = Shadow(job.id, NEVER_US, (), self._now_us, "nowhere")
            found = self.search(bucket, job) or nowhere
        self.shadows[job.id] = found
        if found.source == "nowhere":
            return
        if found.source == "guess" and self._now_us - job.submitted_us < PATIENCE_US:
            return
        lasts_us = self._table.expect(job).long_us or NEVER_US
        promise = Promise(job.id, found.start_us, found.start_us + lasts_us, cells(found.slices), False)
        self.outlook.promise(promise)

    def search(self, bucket: Bucket, job: Job) -> Shadow | None:
        """When and where a job that finds no room now is expected to start."""
        lasts_us = self._table.expect(job).long_us or NEVER_US
        started = sorted(self._started, key=by_end)
        return shadow(self.outlook, bucket.want, job.id, lasts_us, merge(self._table.endings(), started, key=by_end))

    def _inside(self, reservation_id: str) -> Capacity | str:
        """What a reservation has left for its own jobs."""
        found = self._table.reservations.get(reservation_id)
        if found is None or not found.open or found.to_us <= self._now_us + 2 * SLACK_US:
            return "reservation_over"
        if found.state == ReservationState.PLANNED:
            return "reservation_not_begun"
        room = self._rooms.get(reservation_id)
        if room is None:
            room = inside(self._capacity, rest(found, self._table.held(reservation_id)))
            self._rooms[reservation_id] = room
        return room

    def _ends(self, bucket: Bucket, job: Job | None) -> tuple[int, int]:
        """When a job that starts now has ended: for certain, and in all likelihood."""
        sure_us = NEVER_US if bucket.span_us is None else self._now_us + bucket.span_us + SLACK_US
        long_us = self._table.expect(job).long_us if job is not None else None
        return sure_us, sure_us if long_us is None else min(self._now_us + long_us, sure_us)

    def horizon(self, bucket: Bucket, job: Job | None) -> tuple[int, int]:
        """As `_ends`, where a job that comes back after a stop counts as gone when a reservation begins far enough off.

        What would start from the beginning, and is expected to take longer than that, does not start there.
        """
        sure_us, likely_us = self._ends(bucket, job)
        if bucket.notice_us is None:
            return sure_us, likely_us
        notice_us = bucket.notice_us if likely_us == NEVER_US else USEFUL_US
        until_us = likely_us if likely_us < NEVER_US and bucket.notice_us > USEFUL_US else 0
        far = [one for one in self._far_us if one >= max(self._now_us + notice_us, until_us)]
        return min([sure_us, *far]), likely_us
