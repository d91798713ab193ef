"""What must hold of time: reservations are kept, nobody delays whoever waits first, sizes and places do not flap."""

from __future__ import annotations

from headframe.base.quantities import MINUTE_US, SECOND_US
from headframe.fleet.records import Allocation, HoldState, Reservation, ReservationState
from headframe.jobs.records import Job, JobState
from headframe.scheduling.calendar import cells
from headframe.scheduling.elastic import STAY_US
from headframe.scheduling.notice import USEFUL_US, notice_us
from headframe.sim.checkers import Checker, Scene, Violation

SLACK_US = MINUTE_US  # grace, an engine's answer, and a look at the wrong moment


class Reserved:
    """Nothing begins on the devices of a reservation but its own jobs, or what is gone when it begins."""

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            for row in changes.rows:
                if isinstance(row, Allocation) and row.version == 1:
                    self._begun(scene, row)
        for one in scene.world.all(Reservation).values():
            if one.state is ReservationState.ACTIVE and scene.now_us > one.to_us + SLACK_US:
                raise Violation("Reserved", f"{one.id} is in force {scene.now_us - one.to_us} us after its end")

    def _begun(self, scene: Scene, held: Allocation) -> None:
        job: Job | None = scene.world.get(Job, held.job_id) or scene.store.get(Job, held.job_id)
        assert job is not None
        for one in sorted(scene.world.all(Reservation).values(), key=lambda one: one.id):
            own = job.spec.reservation == one.id
            devices = {cell for cell in cells(one.slices) if cell[1] not in ("cpu", "memory", "disk")}
            inside = [cell for cell in cells(held.slices) if cell in devices]
            if own:
                self._inside(one, held, devices)
            elif inside and not self._gone_by(scene, one, job, held):
                raise Violation("Reserved", f"{held.id} begins on {inside[0]}, which is reserved by {one.id}")

    @staticmethod
    def _inside(one: Reservation, held: Allocation, devices: set[tuple[str, str]]) -> None:
        used = {cell for cell in cells(held.slices) if cell[1] not in ("cpu", "memory", "disk")}
        nodes = {part.node_id for part in one.slices}
        if held.held_us < one.from_us or not used <= devices or not nodes >= {part.node_id for part in held.slices}:
            raise Violation("Reserved", f"{held.id} begins outside of its reservation {one.id}")

    @staticmethod
    def _gone_by(scene: Scene, one: Reservation, job: Job, held: Allocation) -> bool:
        notice = notice_us(job.spec)
        learned = scene.world.durations.expect(job).long_us is not None
        if notice is not None and held.held_us + (USEFUL_US if learned else notice) <= one.from_us:
            return True
        own: Reservation | None = scene.world.get(Reservation, job.spec.reservation) if job.spec.reservation else None
        if own is not None and own.to_us <= one.from_us:
            return True  # it ends with its own reservation, which has the device before this one
        longest_us = job.spec.max_duration_us
        return longest_us is not None and held.held_us + longest_us <= one.from_us


class InTime:
    """When a reservation begins, its place is empty but for its own jobs, and for those who are being killed."""

    def look(self, scene: Scene) -> None:
        for one in sorted(scene.world.all(Reservation).values(), key=lambda one: one.id):
            if one.state is not ReservationState.ACTIVE or scene.now_us < one.from_us + SLACK_US:
                continue
            devices = {cell for cell in cells(one.slices) if cell[1] not in ("cpu", "memory", "disk")}
            for held in scene.held():
                job = scene.world.get(Job, held.job_id)
                if held.state is HoldState.STOPPING or (job is not None and job.spec.reservation == one.id):
                    continue
                if any(cell in devices for cell in cells(held.slices)) and held.held_us < one.from_us:
                    raise Violation("InTime", f"{held.id} is still on the place of {one.id}")


class FirstInLine:
    """The first of the queue starts when it was told, or earlier, as long as it stays the first and all are honest.

    For worlds in which every job runs as long as it promises, all have one priority, and nothing goes wrong. What it
    was told before it was the first does not count, nor before somebody began who comes before it: one that waited for
    other jobs, or for its turn in an array, takes the place that its age gives it.
    """

    def __init__(self) -> None:
        self._first = ""
        self._told_us = 0
        self._since_us = 0  # what it was told before does not count

    def look(self, scene: Scene) -> None:
        world = scene.world
        first: list[str] = []

        def visit(_bucket: object, job_id: str) -> bool:
            first.append(job_id)
            return False

        world.derived.queue.in_order(visit)
        job_id = first[0] if first else ""
        job = world.get(Job, job_id) if job_id else None
        if job_id != self._first or (job is not None and self._passed(scene, job)):
            self._first, self._told_us, self._since_us = job_id, 0, scene.now_us
        waits = job is not None and job.state is JobState.QUEUED and not job.claim
        if waits and self._told_us and scene.now_us > self._told_us + SLACK_US:
            late = (scene.now_us - self._told_us) // SECOND_US
            raise Violation("FirstInLine", f"{job_id} was to start {late} s ago and has waited first since")
        shadow = world.derived.shadows.get(job_id)
        known = shadow is not None and shadow.source in ("estimates", "kept") and shadow.made_us >= self._since_us
        if shadow is not None and known and (not self._told_us or shadow.start_us < self._told_us):
            self._told_us = shadow.start_us

    @staticmethod
    def _passed(scene: Scene, first: Job) -> bool:
        """Whether somebody has just begun who comes before the one that waits first."""
        rows = [row for changes in scene.committed for row in changes.rows]
        begun = [row.job_id for row in rows if isinstance(row, Allocation) and row.version == 1]
        jobs = [scene.world.get(Job, name) or scene.store.get(Job, name) for name in begun]
        return any((job.submitted_us, job.id) < (first.submitted_us, first.id) for job in jobs if job is not None)


class Steadiness:
    """A job that changes its size or place has stayed where it was for a while."""

    def __init__(self) -> None:
        self._running_us: dict[str, int] = {}

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            for row in changes.rows:
                if isinstance(row, Allocation) and row.running_us is not None:
                    self._running_us[row.job_id] = row.running_us
            for told in changes.events:
                if told.kind != "preemption_ordered" or told.detail["cause"] not in ("grow", "move"):
                    continue
                stayed_us = told.at_us - self._running_us.get(told.subject, 0)
                if stayed_us < STAY_US:
                    raise Violation("Steadiness", f"{told.subject} is to {told.detail['cause']} after {stayed_us} us")


TIME: tuple[type[Checker], ...] = (Reserved, InTime, Steadiness)
HONEST: tuple[type[Checker], ...] = (FirstInLine,)  # for worlds in which everybody keeps to what is promised
