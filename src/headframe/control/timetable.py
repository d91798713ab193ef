"""What is on record about the time to come, for scheduling: reservations, and when what runs will have ended."""

from __future__ import annotations

from collections.abc import Iterator

from headframe.base.quantities import SECOND_US, format_second
from headframe.control.ports import Reads
from headframe.control.world import World
from headframe.fleet.records import Allocation, HoldState, Node, Reservation, Slice
from headframe.jobs.life import DEFAULT_GRACE_US
from headframe.jobs.records import ENDED, Attempt, Job
from headframe.scheduling.agenda import Timetable
from headframe.scheduling.backfill import NEVER_US, Ending
from headframe.scheduling.calendar import cells
from headframe.scheduling.notice import STOPPABLE, notice_us
from headframe.scheduling.queue import CLASS_RANK
from headframe.scheduling.waiting import Around

MARGIN_US = 5 * SECOND_US  # what an engine may take beyond a job's grace
RECALLED = 2000  # jobs on record from which a program that starts learns how long jobs run


def timetable(world: World, now_us: int) -> Timetable:
    """All that a pass must know of the time to come. Nothing is worked out before it is asked for."""
    derived = world.derived

    def on_node(node_id: str) -> Iterator[Ending]:
        return (ending(world, held, now_us) for held in derived.on_node.get(node_id, {}).values())

    return Timetable(
        reservations=world.all(Reservation),
        held=lambda name: [part for held in held_in(world, name) for part in held.slices],
        on_node=on_node,
        endings=lambda: endings(world, now_us),
        expect=world.durations.expect,
        shadows=derived.shadows,
    )


def endings(world: World, now_us: int) -> Iterator[Ending]:
    """All that runs, in order of likely end."""

    def look(allocation_id: str) -> Ending | None:
        held: Allocation | None = world.get(Allocation, allocation_id)
        return ending(world, held, now_us) if held is not None else None

    return world.derived.endings.soonest(now_us, look)


def around(world: World, now_us: int) -> Around:
    """What a question about waiting may look at besides the pass."""
    held = world.derived.held
    return Around(
        tuple(held.values()), {one.job_id: one for one in endings(world, now_us)}, world.all(Reservation)
    )  # fmt: skip


def ending(world: World, held: Allocation, now_us: int) -> Ending:
    """When an allocation ends, for others: what a reservation's job gives back stays with the reservation."""
    sure_us = sure_end_us(world, held, now_us)
    job: Job | None = world.get(Job, held.job_id)
    if job is None:
        return Ending(now_us, now_us, held.slices, held.job_id)
    if held.purchase == "reserved":
        return Ending(sure_us, sure_us, held.slices, held.job_id, "reservation")
    ran_us = max(now_us - held.running_us, 0) if held.running_us is not None else 0
    left_us, source = world.durations.expect(job).left_us(ran_us)
    likely_us = min(now_us + left_us, sure_us)
    always = held.purchase in STOPPABLE
    return Ending(
        sure_us, likely_us, held.slices, held.job_id, source, held.held_us, notice_us(job.spec), always
    )  # fmt: skip


def sure_end_us(world: World, held: Allocation, now_us: int) -> int:
    """When an allocation has ended for certain: by what its job promised, or when a reservation of its place begins."""
    job: Job | None = world.get(Job, held.job_id)
    inside = job.spec.reservation if job is not None else None
    ends = [promised_end_us(world, held, now_us)]
    for share in (share for part in held.slices for share in part.shares):
        promised = world.derived.promised.get(share.accelerator_id, ())
        ends += [max(one.from_us, now_us) for one in promised if one.id != inside][:1]
    return min(ends)


def promised_end_us(world: World, held: Allocation, now_us: int) -> int:
    """When an allocation ends by its own reservation's end, or its job's max_duration; else never.

    What still prepares is taken to run from now on.
    """
    job: Job | None = world.get(Job, held.job_id)
    if job is None:
        return now_us
    if job.stop_at_us is not None and held.state == HoldState.STOPPING:
        return max(job.stop_at_us + MARGIN_US, now_us)
    ends = []
    reservation: Reservation | None = world.get(Reservation, job.spec.reservation) if job.spec.reservation else None
    if reservation is not None:
        ends.append(reservation.to_us)
    if job.spec.max_duration_us is not None:
        began_us = held.running_us if held.running_us is not None else now_us
        ends.append(began_us + job.spec.max_duration_us + DEFAULT_GRACE_US + MARGIN_US)
    return max(min(ends), now_us) if ends else NEVER_US


def makes_way_later(world: World, job: Job, slices: tuple[Slice, ...], now_us: int) -> str:
    """What to tell a job that starts on a place that is reserved for later, if it need not have ended by then."""
    shares = [share for part in slices for share in part.shares] if world.derived.promised else []
    begins = [one.from_us for share in shares for one in world.derived.promised.get(share.accelerator_id, ())[:1]]
    span_us, until_us = job.spec.max_duration_us, min(begins, default=NEVER_US)
    if job.spec.reservation is not None or until_us == NEVER_US or (span_us or NEVER_US) <= until_us - now_us:
        return ""
    moment = format_second(until_us)
    return f" Its place is reserved from {moment} on: if it still runs then, it is warned in time and makes way."


def lasting(world: World, from_us: int, now_us: int) -> Iterator[Slice]:
    """What is held by jobs that need not have ended by a moment and that nothing may stop then."""
    for held in world.derived.held.values():
        if (
            held.purchase not in STOPPABLE
            and held.purchase != "reserved"
            and sure_end_us(world, held, now_us) > from_us
        ):
            yield from held.slices


def now_held(world: World) -> Iterator[Slice]:
    for held in world.derived.held.values():
        yield from held.slices


def held_in(world: World, reservation_id: str) -> list[Allocation]:
    """What the jobs of a reservation hold, by id."""
    found = []
    for _, held in sorted(world.derived.reserved.items()):
        job: Job | None = world.get(Job, held.job_id)
        if job is not None and job.spec.reservation == reservation_id:
            found.append(held)
    return found


def in_the_way(world: World, reservation: Reservation) -> list[Allocation]:
    """Who has to go for a reservation: those on its devices, or on nodes that it has wholly; by id.

    Where a node's CPU, memory or disk does not suffice then, jobs go that came knowing that they would (see `notice`),
    the lowest class and the latest first.
    """
    own = {held.id for held in held_in(world, reservation.id)}
    found: dict[str, Allocation] = {}
    for part in reservation.slices:
        there = [held for name, held in world.derived.on_node.get(part.node_id, {}).items() if name not in own]
        devices = {share.accelerator_id for share in part.shares}
        stay = []
        for held in there:
            shares = (share for one in held.slices if one.node_id == part.node_id for share in one.shares)
            if reservation.nodes or any(share.accelerator_id in devices for share in shares):
                found[held.id] = held
            else:
                stay.append(held)
        for held in _crowding(world, reservation, part, stay):
            found[held.id] = held
    return [found[name] for name in sorted(found)]


def _crowding(world: World, reservation: Reservation, part: Slice, there: list[Allocation]) -> Iterator[Allocation]:
    """Those beside a reservation's devices on a node who go because the node is too small for both."""
    node: Node | None = world.get(Node, part.node_id)
    if node is None or not there:
        return
    used = cells((one for held in there for one in held.slices if one.node_id == node.id), into=cells((part,)))
    over = {name: used[node.id, name] - total for name, total in
            (("cpu", node.cpu_milli), ("memory", node.memory_mib), ("disk", node.disk_mib))}  # fmt: skip
    for held in sorted(there, key=lambda one: (-CLASS_RANK[one.purchase], -one.held_us, one.id)):
        if max(over.values()) <= 0:
            return
        job: Job | None = world.get(Job, held.job_id)
        notice = notice_us(job.spec) if job is not None else None
        knew = held.held_us >= reservation.created_us and notice is not None
        if knew or held.purchase in STOPPABLE:
            freed = cells(one for one in held.slices if one.node_id == node.id)
            over = {name: amount - freed[node.id, name] for name, amount in over.items()}
            yield held


def recall(world: World, reads: Reads) -> None:
    """Learn from the jobs on record that ended last, as a program does that starts."""
    states = tuple(sorted(ENDED))
    jobs = {job.id: job for job in reads.find(Job, state=states, newest=True, limit=RECALLED) if not job.parent}
    attempts = reads.find(Attempt, job_id=tuple(jobs), limit=2 * RECALLED) if jobs else []
    held = {one.id: one for one in reads.find(Allocation, job_id=tuple(jobs), limit=2 * RECALLED)} if jobs else {}
    for one in sorted(attempts, key=lambda one: (one.ended_us or 0, one.id)):
        world.learn(jobs[one.job_id], one, held.get(one.allocation_id))
    world.derived.queue_again()
