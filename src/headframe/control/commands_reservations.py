"""What people may ask of reservations: promise capacity for a time, and give it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from headframe.base.changes import Changes, gather
from headframe.base.errors import Conflict, Forbidden, Invalid, QuotaExceeded
from headframe.base.quantities import DAY_US, MINUTE_US, counted, format_second, parse_moment_us, parse_span_us
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization, find_project, is_same_house, nothing_here
from headframe.control.reservations import close, told
from headframe.control.timetable import lasting, now_held
from headframe.control.world import World
from headframe.fleet.records import Reservation, ReservationState
from headframe.scheduling.calendar import Claimed, refuse_overlap, settle, stock, together
from headframe.tenants.names import slug
from headframe.tenants.records import Organization
from headframe.tenants.roles import Caller, Permission

LONGEST_US = 366 * DAY_US
FARTHEST_US = 2 * 366 * DAY_US
LATE_US = 5 * MINUTE_US  # how far in the past a beginning may lie and still mean now
MOST = 1_000_000
OPEN_LIMIT = 1000  # reservations that have not ended, over all organizations


def create_reservation(
    world: World,
    context: Context,
    caller: Caller,
    *,
    name: str,
    kind: str | None = None,
    count: int | None = None,
    nodes: int | None = None,
    clusters: Iterable[str] = ("any",),
    starts: str | None = None,
    ends: str | None = None,
    lasts: str | None = None,
    organization: str | None = None,
    project: str | None = None,
) -> tuple[Changes, Reservation]:
    """Promise capacity: `count` accelerators of a kind, or whole `nodes`, from `starts` (now) until `ends`.

    The operator's admins may promise anything that is there to anybody; others what their organization's quota of
    GPUs admits. Raises `Overlap`, naming what stands in the way, when it cannot all be kept.
    """
    house = find_organization(world, context, caller, organization)
    home = find_project(world, context, caller, project, house.id) if project or caller.project_id else None
    caller.need(Permission.RESERVATIONS_WRITE, house.id, home.id if home else None)
    _check_size(kind, count, nodes)
    from_us, to_us = _span(context.now_us, starts, ends, lasts)
    wanted = Reservation(
        context.ids.new("rsv"), house.id, slug(name, field="name"), from_us, to_us, home.id if home else None,
        kind or "", count or 0, nodes or 0, tuple(clusters) or ("any",), member_id=caller.member_id,
        created_us=context.now_us,
    )  # fmt: skip
    opened = sorted(world.all(Reservation).values(), key=lambda one: one.id)
    if len(opened) >= OPEN_LIMIT:
        raise Conflict(f"There are {OPEN_LIMIT} reservations already.", next_step="Cancel some that are not needed.")
    if any(one.organization_id == house.id and one.name == name for one in opened):
        raise Conflict(f"There is a reservation {name!r} already.", next_step="Choose another name.")
    placed = find_place(world, context, wanted, names_for(opened, caller))
    if not (caller.operator and caller.may(Permission.ORGANIZATIONS_WRITE, house.id)):
        _check_quota(world, house, placed, opened)
    words = f"{size_of(placed)} reserved for {house.name} from {format_second(from_us)} to {format_second(to_us)}."
    return Changes(
        (placed,), (told(placed, "reservation_created", context.now_us, words, by=caller.member_id),)
    ), placed


def find_place(world: World, context: Context, wanted: Reservation, names: Mapping[str, str]) -> Reservation:
    """The reservation with its place; raises `Overlap` when there is none for all of it."""
    others = [
        one
        for one in world.all(Reservation).values()
        if together(one, wanted.from_us, wanted.to_us) and one is not wanted
    ]
    claimed = Claimed.of(others, lasting(world, wanted.from_us, context.now_us), now_held(world))
    placed = settle(world.derived.capacity, wanted, claimed)
    refuse_overlap(placed, others, names, stock(world.derived.capacity, wanted))
    return placed


def cancel_reservation(
    world: World, context: Context, caller: Caller, ref: str, *, reason: str = ""
) -> tuple[Changes, Reservation]:
    """Give a reservation back. Its jobs are stopped, with their warning; one that has ended stays as it is."""
    found = find_reservation(world, context, caller, ref)
    caller.need(Permission.RESERVATIONS_WRITE, found.organization_id, found.project_id)
    if not found.open:
        return Changes(), found
    words = f"Cancelled{f': {reason}' if reason else ''}."
    cancelled = replace(
        found, state=ReservationState.CANCELLED, reason=reason or "cancelled", version=found.version + 1
    )  # fmt: skip
    ended = told(cancelled, "reservation_cancelled", context.now_us, words, by=caller.member_id)
    stops = gather(close(world, cancelled, context.now_us))
    return Changes((cancelled,), (ended,)) + stops, cancelled


def find_reservation(world: World, context: Context, caller: Caller, ref: str) -> Reservation:
    """A reservation by id or name; of several of one name the one that is open, else the newest."""
    found: Reservation | None = world.get(Reservation, ref) or context.reads.get(Reservation, ref)
    if found is None:
        mine = [one for one in world.all(Reservation).values() if one.name == ref]
        mine = [one for one in mine if caller.operator or one.organization_id == caller.organization_id]
        mine.sort(key=lambda one: (one.organization_id != caller.organization_id, one.id))
        if not mine:
            mine = context.reads.find(
                Reservation, organization_id=caller.organization_id, name=ref, newest=True, limit=1
            )  # fmt: skip
        found = mine[0] if mine else None
    if found is None or not is_same_house(caller, found.organization_id):
        raise nothing_here("reservation", ref)
    if caller.project_id is not None and found.project_id not in (None, caller.project_id):
        raise nothing_here("reservation", ref)
    caller.need(Permission.RESERVATIONS_READ, found.organization_id, caller.project_id or found.project_id)
    return found


def names_for(reservations: Iterable[Reservation], caller: Caller) -> dict[str, str]:
    """What the caller may know others' reservations by: all of them for the operator, else the own ones."""
    return {one.id: one.name for one in reservations if is_same_house(caller, one.organization_id)}


def size_of(reservation: Reservation) -> str:
    """`32 x H100`, or `4 whole nodes of H100`."""
    kind = reservation.kind or "any kind"
    return (
        f"{counted(reservation.nodes, 'whole node')} of {kind}"
        if reservation.nodes
        else f"{reservation.count} x {kind}"
    )


def _check_size(kind: str | None, count: int | None, nodes: int | None) -> None:
    if (count is None) == (nodes is None):
        raise Invalid(
            "A reservation is of accelerators or of whole nodes.",
            field="count", allowed="count (with kind), or nodes; one of them",
        )  # fmt: skip
    for field, value in (("count", count), ("nodes", nodes)):
        if value is not None and not 1 <= value <= MOST:
            raise Invalid(f"{field} is {value}.", field=field, value=value, allowed=f"1 to {MOST}")
    if kind is not None and not kind.strip():
        raise Invalid("kind is empty.", field="kind", allowed="a kind such as H100, or none for any")


def _span(now_us: int, starts: str | None, ends: str | None, lasts: str | None) -> tuple[int, int]:
    """From when until when; a beginning that has just passed is now."""
    from_us = now_us if starts is None else parse_moment_us(starts, field="starts")
    if from_us < now_us - LATE_US or from_us > now_us + FARTHEST_US:
        raise Invalid(
            f"starts is {format_second(from_us) if abs(from_us) < 1 << 53 else starts!r}.",
            field="starts", value=starts, allowed="now, or a moment of the next two years",
        )  # fmt: skip
    from_us = max(from_us, now_us)
    if (ends is None) == (lasts is None):
        raise Invalid("A reservation needs an end.", field="ends", allowed="ends (a moment) or lasts (such as 3d)")
    to_us = parse_moment_us(ends, field="ends") if lasts is None else from_us + parse_span_us(lasts, field="lasts")
    if not MINUTE_US <= to_us - from_us <= LONGEST_US:
        raise Invalid(
            "It ends before it begins, or lasts too short or too long.",
            field="ends" if ends is not None else "lasts", value=ends or lasts, allowed="from 1m to 366d after starts",
        )  # fmt: skip
    return from_us, to_us


def _check_quota(world: World, house: Organization, placed: Reservation, opened: Iterable[Reservation]) -> None:
    """What an organization may reserve by itself: no more at any time than its quota of GPUs."""
    quota = world.derived.quotas.get(house.id)
    if quota is None or quota.gpu_milli is None:
        raise Forbidden(
            f"{house.name} has no quota of GPUs, within which it could reserve by itself.",
            next_step="Ask the operator of this cloud to reserve for you, or to set a quota.",
        )
    own = [one for one in opened if one.organization_id == house.id and together(one, placed.from_us, placed.to_us)]
    wanted = 1000 * sum(len(part.shares) for one in (*own, placed) for part in one.slices)
    if wanted > quota.gpu_milli:
        raise QuotaExceeded(
            f"The quota of {house.name} is {counted(quota.gpu_milli / 1000, 'GPU')}; with this, {wanted / 1000:g} "
            "would be reserved at one time.",
            next_step="Reserve less, or ask for a larger quota.",
        )
