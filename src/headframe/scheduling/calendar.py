"""The capacity calendar: which devices are promised when, where a reservation finds its place, what overlaps.

A reservation is kept on named devices, each with its part of the node's CPU, memory and disk. So whether a promise
can be kept is never a matter of luck: what else may be placed there must be gone in time (`scheduling.backfill`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from headframe.base.errors import Overlap
from headframe.base.quantities import counted, format_second
from headframe.fleet.records import Accelerator, Reservation, Share, Slice
from headframe.scheduling.capacity import WHOLE, Capacity

Cell = tuple[str, str]  # (node id, "cpu", "memory", "disk" or the id of an accelerator)
NODE_CELLS = ("cpu", "memory", "disk")


def cells(slices: Iterable[Slice], sign: int = 1, into: Counter[Cell] | None = None) -> Counter[Cell]:
    """What slices hold, one amount for each resource of each node and each accelerator (MiB, thousandths)."""
    found: Counter[Cell] = Counter() if into is None else into
    for part in slices:
        node = part.node_id
        found[node, "cpu"] += sign * part.cpu_milli
        found[node, "memory"] += sign * part.memory_mib
        found[node, "disk"] += sign * part.disk_mib
        for share in part.shares:
            found[node, share.accelerator_id] += sign * share.milli
    return found


def slices_of(amounts: Mapping[Cell, int]) -> tuple[Slice, ...]:
    """Cells as slices again, one for each node: the form in which capacity is held and released."""
    by_node: dict[str, dict[str, int]] = {}
    for (node, name), amount in sorted(amounts.items()):
        if amount:
            by_node.setdefault(node, {})[name] = amount
    return tuple(
        Slice(
            rank, node, held.pop("cpu", 0), held.pop("memory", 0), held.pop("disk", 0),
            tuple(Share(device, 0, "", milli) for device, milli in held.items()),
        )
        for rank, (node, held) in enumerate(by_node.items())
    )  # fmt: skip


def rest(reservation: Reservation, held: Iterable[Slice]) -> tuple[Slice, ...]:
    """What a reservation promises beyond what its own jobs (`held`) hold already: free for them, for nobody else."""
    promised = cells(reservation.slices)
    used = cells(held)
    return slices_of({cell: max(amount - used[cell], 0) for cell, amount in promised.items()})


def together(reservation: Reservation, from_us: int, to_us: int) -> bool:
    """Whether a reservation is in force at any moment of [from_us, to_us)."""
    return reservation.open and reservation.from_us < to_us and from_us < reservation.to_us


@dataclass(frozen=True, slots=True)
class Claimed:
    """What of the fleet a new promise cannot have: other promises of that time, and what runs beyond its beginning.

    `promised` and `lasting` are sums by cell; `now` is what anything holds now, which is merely better left alone.
    """

    promised: Mapping[Cell, int]
    lasting: Mapping[Cell, int]
    now: Mapping[Cell, int]

    @classmethod
    def of(cls, reservations: Iterable[Reservation], lasting: Iterable[Slice], now: Iterable[Slice] = ()) -> Claimed:
        promised: Counter[Cell] = Counter()
        for one in reservations:
            cells(one.slices, into=promised)
        return cls(promised, cells(lasting), cells(now))

    def of_node(self, node_id: str, name: str) -> int:
        return self.promised.get((node_id, name), 0) + self.lasting.get((node_id, name), 0)

    def has(self, node_id: str, device_id: str) -> bool:
        """Whether somebody else has a device."""
        return self.of_node(node_id, device_id) > 0


def settle(capacity: Capacity, wanted: Reservation, claimed: Claimed) -> Reservation:
    """The reservation with a place for as much of it as possible; what it has already and can keep, it keeps.

    All of it lies in one cluster: where it lies already, else the smallest with room for all of it, else the largest.
    `lacking` is what finds no place. Ties end on names.
    """
    rows = [int(row) for row in capacity.allowed(wanted.clusters).nonzero()[0]]
    kept = _kept(capacity, set(rows), wanted, claimed)
    missing = _size(wanted) - sum(1 if wanted.nodes else len(devices) for devices in kept.values())
    if missing > 0:
        free = [row for row in rows if not wanted.nodes or row not in kept]
        rooms = [room for row in free if (room := _room(capacity, row, wanted, claimed, kept.get(row, ()))) is not None]
        home = next((capacity.nodes[row].cluster_id for row in kept), None) or _cluster(rooms, missing)
        for room in _chosen([one for one in rooms if one.cluster_id == home], missing):
            more = room.devices if wanted.nodes else room.devices[:missing]
            kept[room.row] = (*kept.get(room.row, ()), *more)
            missing -= 1 if wanted.nodes else len(more)
    slices = tuple(_part(capacity, rank, row, kept[row]) for rank, row in enumerate(sorted(kept)))
    return replace(wanted, slices=slices, lacking=missing)


def stock(capacity: Capacity, wanted: Reservation) -> int:
    """How many accelerators, or whole nodes, of the kind of a reservation there are, whatever is held or broken."""
    rows = capacity.emptied().allowed(wanted.clusters).nonzero()[0]
    each = [
        [not wanted.kind or one.kind.lower() == wanted.kind.lower() for one in capacity.devices[row]] for row in rows
    ]
    if wanted.nodes:
        return sum(all(suits) and (bool(suits) or not wanted.kind) for suits in each)
    return sum(sum(suits) for suits in each)


def refuse_overlap(
    placed: Reservation, others: Sequence[Reservation], names: Mapping[str, str], there_are: int
) -> None:
    """Raise `Overlap` when a new reservation lacks a place, and name what stands in its way.

    `names` gives what the caller may see of the other reservations: their names by id; all others are nameless.
    `there_are` is how many of its kind there are at all.
    """
    if not placed.lacking:
        return
    size = _size(placed)
    asked = counted(size, f"{placed.kind} {'node' if placed.nodes else 'accelerator'}".strip())
    there = [
        f"{names.get(one.id, 'another organization')} ({format_second(one.from_us)} to {format_second(one.to_us)})"
        for one in sorted(others, key=lambda one: (one.from_us, one.id))
    ]
    shown = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
    text = f"Only {size - placed.lacking} of the {asked} can be promised for that time"
    free = "the rest is drained or broken, or jobs without an end in sight hold it"
    why = f"; reserved then already: {shown}." if there else f": {free}."
    if there_are < size:
        why = f": there {'is' if there_are == 1 else 'are'} {there_are or 'none'} here."
    raise Overlap(
        f"{text}{why}",
        next_step="Ask for less, for another time or another cluster; see `headframe reservations`.",
        details={
            "asked": size, "available": size - placed.lacking,
            "overlaps": [
                {"reservation": one.id if one.id in names else None, "from_us": one.from_us, "to_us": one.to_us}
                for one in soonest(others)
            ],
        },
    )  # fmt: skip


def soonest(others: Iterable[Reservation]) -> list[Reservation]:
    """Reservations by their beginning, at most twenty: enough for an answer."""
    return sorted(others, key=lambda one: (one.from_us, one.id))[:20]


def inside(capacity: Capacity, free: Iterable[Slice]) -> Capacity:
    """A capacity that holds nothing but what is free of a reservation, for its own jobs.

    On a node where others run beyond their part, its jobs get what is really there.
    """
    narrow = capacity.nothing()
    there: list[Slice] = []
    for part in free:
        row = capacity.row.get(part.node_id)
        if row is None:
            continue
        shares = tuple(replace(share, milli=min(share.milli, _free_milli(capacity, share))) for share in part.shares)
        there.append(
            replace(
                part, cpu_milli=min(part.cpu_milli, max(int(capacity.cpu[row]), 0)),
                memory_mib=min(part.memory_mib, max(int(capacity.memory[row]), 0)),
                disk_mib=min(part.disk_mib, max(int(capacity.disk[row]), 0)), shares=shares,
            )
        )  # fmt: skip
    narrow.release(there)
    return narrow


def _free_milli(capacity: Capacity, share: Share) -> int:
    place = capacity.slot.get(share.accelerator_id)
    return max(int(capacity.gpu[place]), 0) if place is not None else 0


def _size(wanted: Reservation) -> int:
    return wanted.nodes or wanted.count


def _fits_kind(device: Accelerator, wanted: Reservation) -> bool:
    return device.usable and (not wanted.kind or device.kind.lower() == wanted.kind.lower())


def _kept(
    capacity: Capacity, rows: set[int], wanted: Reservation, claimed: Claimed
) -> dict[int, tuple[Accelerator, ...]]:
    """What a reservation has and can keep, by row: healthy devices of ready nodes that are promised to nobody else."""
    kept: dict[int, tuple[Accelerator, ...]] = {}
    for part in wanted.slices:
        row = capacity.row.get(part.node_id)
        if row is None or row not in rows:
            continue
        had = {share.accelerator_id for share in part.shares}
        devices = tuple(
            one
            for one in capacity.devices[row]
            if one.id in had and _fits_kind(one, wanted) and not claimed.promised.get((part.node_id, one.id))
        )
        if len(devices) == len(capacity.devices[row]) if wanted.nodes else devices:
            kept[row] = devices
    return kept


class _Room(NamedTuple):
    """What a reservation could have on one node: these devices, of which whole nodes count as one."""

    row: int
    cluster_id: str
    devices: tuple[Accelerator, ...]
    size: int
    busy: bool  # something runs there now


def _room(
    capacity: Capacity, row: int, wanted: Reservation, claimed: Claimed, own: Sequence[Accelerator]
) -> _Room | None:
    """What a reservation could have on a node beside its `own`; None for nothing."""
    node, devices = capacity.nodes[row], capacity.devices[row]
    mine = {one.id for one in own}
    able = [
        one for one in devices if one.id not in mine and _fits_kind(one, wanted) and not claimed.has(node.id, one.id)
    ]
    able.sort(key=lambda one: (claimed.now.get((node.id, one.id), 0), one.index, one.id))
    totals = dict(zip(NODE_CELLS, (node.cpu_milli, node.memory_mib, node.disk_mib), strict=True))
    taken = {name: claimed.of_node(node.id, name) for name in NODE_CELLS}
    if wanted.nodes:
        if len(able) < len(devices) or (wanted.kind and not devices) or any(taken.values()):
            return None
        size = 1
    else:
        parts = [(total - taken[name]) * len(devices) // total for name, total in totals.items() if total]
        able = able[: max(min([len(able), *(part - len(own) for part in parts)]), 0)]
        size = len(able)
    busy = any(claimed.now.get((node.id, one.id), 0) for one in able)
    return _Room(row, node.cluster_id, tuple(able), size, busy) if size else None


def _cluster(rooms: Sequence[_Room], missing: int) -> str:
    """The smallest cluster with room for so much, else the largest."""
    sizes: Counter[str] = Counter()
    for room in rooms:
        sizes[room.cluster_id] += room.size
    enough = [(size, name) for name, size in sizes.items() if size >= missing]
    return min(enough)[1] if enough else max(((size, name) for name, size in sizes.items()), default=(0, ""))[1]


def _chosen(rooms: Sequence[_Room], missing: int) -> Iterator[_Room]:
    """Rooms to take: quiet ones first, then large ones; the last is the smallest that suffices."""
    left = sorted(rooms, key=lambda room: (room.busy, -room.size, room.row))
    for place, room in enumerate(left):
        if missing <= 0:
            return
        if room.size >= missing:
            yield min(
                (one for one in left[place:] if one.size >= missing), key=lambda one: (one.busy, one.size, one.row)
            )
            return
        missing -= room.size
        yield room


def _part(capacity: Capacity, rank: int, row: int, devices: Sequence[Accelerator]) -> Slice:
    """These devices with their part of the node; all of its devices bring all of the node."""
    node, total = capacity.nodes[row], len(capacity.devices[row])
    taken, of = (len(devices), total) if total else (1, 1)
    cpu, memory, disk = (amount * taken // of for amount in (node.cpu_milli, node.memory_mib, node.disk_mib))
    chosen = sorted(devices, key=lambda one: (one.index, one.id))
    return Slice(rank, node.id, cpu, memory, disk, tuple(Share(one.id, one.index, one.kind, WHOLE) for one in chosen))
