"""Reservations through time: they begin, are kept when nodes fail, and end; who is in the way is stopped in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from headframe.base.changes import Changes, Event
from headframe.base.errors import Invalid
from headframe.base.quantities import DAY_US, MINUTE_US, SECOND_US, format_second
from headframe.control.advance import stop_family
from headframe.control.timetable import MARGIN_US, held_in, in_the_way, lasting, now_held, promised_end_us
from headframe.control.world import World
from headframe.fleet.records import Allocation, Reservation, ReservationState
from headframe.jobs.life import DEFAULT_GRACE_US, stop, warn
from headframe.jobs.records import ENDED, Job, JobState
from headframe.scheduling.calendar import Claimed, settle, together
from headframe.tenants.records import Project

AGAIN_US = 10 * SECOND_US  # how often a place is looked for in vain
WARNING_MOST_US = DAY_US + MINUTE_US  # how long before a moment the first warning may be due


def told(reservation: Reservation, kind: str, at_us: int, words: str, **detail: Any) -> Event:
    """An event about a reservation."""
    return Event(
        at_us, kind, reservation.id, words, reservation.organization_id, reservation.project_id or "",
        {
            "name": reservation.name, "from_us": reservation.from_us, "to_us": reservation.to_us,
            "lacking": reservation.lacking, **detail,
        },
    )  # fmt: skip


# What time brings.


def keep_reservations(world: World, now_us: int) -> Iterator[Changes]:
    """All that reservations need in a tick: what is due, and another place for what has lost its own."""
    opened = world.all(Reservation)
    if not opened:
        return
    yield from reservations_due(world, now_us)
    derived = world.derived
    short = any(one.lacking for one in opened.values()) and now_us - derived.settled_us >= AGAIN_US
    if short or derived.settled_fleet != derived.fleet_changes:
        derived.settled_fleet, derived.settled_us = derived.fleet_changes, now_us
        moved: list[str] = []
        for changes in reservations_kept(world, now_us):
            moved.append(changes.rows[0].id)
            yield changes
        for reservation_id in moved:
            yield from _clear(world, world.all(Reservation)[reservation_id], now_us)


def reservations_due(world: World, now_us: int) -> Iterator[Changes]:
    """Beginnings and ends that are due, and who has to go for them. A generator: apply each change before the next."""
    for reservation_id in sorted(world.all(Reservation)):
        reservation: Reservation | None = world.get(Reservation, reservation_id)
        if reservation is None:
            continue
        if now_us >= reservation.to_us:
            ended = replace(
                reservation, state=ReservationState.ENDED, reason="its time is over", version=reservation.version + 1
            )
            yield Changes((ended,), (told(ended, "reservation_ended", now_us, "Its time is over."),))
            yield from close(world, ended, now_us)
            continue
        if reservation.state == ReservationState.PLANNED and now_us >= reservation.from_us:
            begun = replace(reservation, state=ReservationState.ACTIVE, version=reservation.version + 1)
            words = "Its time has come: its jobs run there, and nobody else's."
            yield Changes((begun,), (told(begun, "reservation_began", now_us, words),))
        yield from _clear(world, reservation, now_us)
        yield from _wind_up(world, reservation, now_us)


def next_reservation_us(world: World, now_us: int) -> int | None:
    """When `reservations_due` has something to do next, at the earliest."""
    moments = []
    for reservation in world.all(Reservation).values():
        moments.append(reservation.to_us)
        if reservation.state == ReservationState.PLANNED:
            moments.append(reservation.from_us)
            for held in in_the_way(world, reservation):
                moments += _farewell(world, held, reservation.from_us)
        for held in held_in(world, reservation.id):
            moments += _farewell(world, held, reservation.to_us)
        if reservation.lacking:
            moments.append(world.derived.settled_us + AGAIN_US)
    return min((moment for moment in moments if moment > now_us), default=None)


def close(world: World, reservation: Reservation, now_us: int) -> Iterator[Changes]:
    """A reservation is over: whatever runs or waits for it ends, parents of arrays and schedules first."""
    jobs = [job for job in world.all(Job).values() if job.spec.reservation == reservation.id and job.state not in ENDED]
    words = f"Its reservation {reservation.name} {'has ended' if reservation.state == 'ended' else 'was cancelled'}."
    for job in sorted(jobs, key=lambda job: (not job.parent, job.id)):
        known: Job | None = world.get(Job, job.id)
        if known is not None:
            yield from stop_family(world, known, "reservation_ended", now_us, words, DEFAULT_GRACE_US)


def _farewell(world: World, held: Allocation, until_us: int) -> list[int]:
    """When a job that must be gone by a moment is warned and stopped, as far as that lies ahead of it."""
    job: Job | None = world.get(Job, held.job_id)
    if job is None or job.state not in (JobState.STARTING, JobState.RUNNING):
        return []
    stop_us = until_us - DEFAULT_GRACE_US - MARGIN_US
    return (
        [stop_us]
        if job.warned or not job.spec.warn_before_stop_us
        else [stop_us - job.spec.warn_before_stop_us, stop_us]
    )


def _send_off(world: World, held: Allocation, until_us: int, reason: str, words: str, now_us: int) -> Iterator[Changes]:
    """Warn and stop a job in time, so that it is gone by a moment."""
    job: Job | None = world.get(Job, held.job_id)
    if job is None or job.state not in (JobState.STARTING, JobState.RUNNING):
        return
    stop_us = until_us - DEFAULT_GRACE_US - MARGIN_US
    first_us = stop_us - job.spec.warn_before_stop_us
    if now_us >= stop_us:
        yield stop(job, held, reason, now_us, words, DEFAULT_GRACE_US)
    elif job.state == JobState.RUNNING and job.spec.warn_before_stop_us > 0 and now_us >= first_us:
        yield warn(job, held, now_us, words)


def _clear(world: World, reservation: Reservation, now_us: int) -> Iterator[Changes]:
    """Who holds something of the place of a reservation that begins soon goes in time."""
    if reservation.from_us - now_us > WARNING_MOST_US:
        return
    words = f"Its place is reserved from {format_second(reservation.from_us)} on."
    there = [
        held
        for held in in_the_way(world, reservation)
        if now_us >= reservation.from_us or promised_end_us(world, held, now_us) > reservation.from_us
    ]
    if any(_told_now(world, held, reservation.from_us, now_us) for held in there):
        moved = _another_place(world, reservation, there, now_us)
        if moved is not None:
            yield Changes((moved,), (_moved(reservation, moved, now_us),))
            return
    for held in there:
        yield from _send_off(world, held, reservation.from_us, "preemption", words, now_us)


def _told_now(world: World, held: Allocation, until_us: int, now_us: int) -> bool:
    """Whether this is the moment at which a job that must be gone by another is first told."""
    job: Job | None = world.get(Job, held.job_id)
    moments = _farewell(world, held, until_us)
    return job is not None and not job.warned and bool(moments) and now_us >= moments[0]


def _another_place(world: World, reservation: Reservation, there: list[Allocation], now_us: int) -> Reservation | None:
    """The reservation where nobody has to go for it; None when there is no such place for as much of it."""
    nodes = {part.node_id for held in there for part in held.slices}  # only asked
    quiet = replace(reservation, slices=tuple(part for part in reservation.slices if part.node_id not in nodes))
    from_us = max(reservation.from_us, now_us)
    stay = (
        part
        for held in world.derived.held.values()
        if held.purchase != "reserved" and promised_end_us(world, held, now_us) > from_us
        for part in held.slices
    )
    claimed = Claimed.of(_others(world, reservation, now_us), stay, now_held(world))
    after = settle(world.derived.capacity, quiet, claimed)
    if after.lacking > reservation.lacking or after.slices == reservation.slices:
        return None
    return replace(after, version=reservation.version + 1)


def _others(world: World, reservation: Reservation, now_us: int) -> list[Reservation]:
    """All other reservations of its time, as far as it lies ahead."""
    from_us = max(reservation.from_us, now_us)
    every = world.all(Reservation).values()
    return [one for one in every if one.id != reservation.id and together(one, from_us, reservation.to_us)]


def _wind_up(world: World, reservation: Reservation, now_us: int) -> Iterator[Changes]:
    """A reservation that ends soon: its jobs are warned and stopped."""
    if reservation.to_us - now_us > WARNING_MOST_US:
        return
    words = f"Its reservation {reservation.name} ends at {format_second(reservation.to_us)}."
    for held in held_in(world, reservation.id):
        yield from _send_off(world, held, reservation.to_us, "reservation_ended", words, now_us)


# What failing nodes bring.


def reservations_kept(world: World, now_us: int) -> Iterator[Changes]:
    """Find another place for what lies on nodes or devices that are gone, and for what has had none.

    To be called when the fleet has changed, or while something lacks a place.
    """
    capacity = world.derived.capacity
    for reservation_id in sorted(world.all(Reservation)):
        before: Reservation | None = world.get(Reservation, reservation_id)
        assert before is not None
        claimed = Claimed.of(
            _others(world, before, now_us), lasting(world, max(before.from_us, now_us), now_us), now_held(world)
        )
        after = settle(capacity, before, claimed)
        if (after.slices, after.lacking) == (before.slices, before.lacking):
            continue
        yield Changes((replace(after, version=before.version + 1),), (_moved(before, after, now_us),))


def _moved(before: Reservation, after: Reservation, now_us: int) -> Event:
    """What to tell of a reservation that has another place, or less or more of one."""
    nodes = ", ".join(part.node_id for part in after.slices) or "nowhere"
    if after.lacking > before.lacking:
        words = f"It cannot be kept: {after.lacking} of what was promised has no place now; the rest is on {nodes}."
        return told(after, "reservation_short", now_us, words)
    if after.lacking < before.lacking:
        left = f"{after.lacking} still lacks a place." if after.lacking else "It can be kept again."
        return told(after, "reservation_mended", now_us, f"More of it has a place, on {nodes}. {left}")
    return told(after, "reservation_moved", now_us, f"Its place is now on {nodes}.")


# What a job says.


def reserved_for(world: World, home: Project, purchase: str, ref: str | None) -> str | None:
    """The id of the reservation that a job of this project is to run in; None when it is not to run in any."""
    if purchase != "reserved":
        return None
    opened: list[Reservation] = list(world.all(Reservation).values())
    mine = [one for one in opened if one.organization_id == home.organization_id and one.project_id in (None, home.id)]
    if ref is not None:
        mine = [one for one in mine if ref in (one.id, one.name)]
    if not mine:
        named = f"reservation {ref!r}" if ref is not None else "reservation"
        raise Invalid(
            f"The project {home.name} has no {named} that has not ended.",
            field="reservation", value=ref, next_step="See `headframe reservations`, or use on-demand capacity.",
        )  # fmt: skip
    if len(mine) > 1:
        raise Invalid(
            "There are several reservations that the job could run in.",
            field="reservation", allowed=", ".join(sorted(one.name for one in mine)),
        )  # fmt: skip
    return mine[0].id
