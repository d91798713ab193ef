"""Where a gang fits: all of its tasks or none, as close together as asked, on the nodes that packing prefers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headframe.fleet.records import Accelerator, Share, Slice
from headframe.scheduling import task as tasks
from headframe.scheduling.boards import best
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.scheduling.kinds import by_gain
from headframe.scheduling.task import Task, suitable
from headframe.scheduling.want import Want
from headframe.scheduling.where import Where
from headframe.workloads.spec import Gpus, Resources

Counts = NDArray[np.int64]
Tiers = tuple[tuple[str, ...], ...]  # ids of clusters, the best first; an empty tuple means all of them
EVERYWHERE: Tiers = ((),)
_FREE_UNIT = 1 << 40  # above any sum of free thousandths of GPUs in a domain

__all__ = ["Counts", "concrete", "fit", "fit_on", "suitable", "tasks_of", "tasks_per_node"]


def fit(capacity: Capacity, want: Want, tiers: Tiers = EVERYWHERE) -> tuple[Slice, ...] | None:
    """Slices for a whole gang, or None. Alternatives are tried in the order of preference that the job gave, or, when
    it says how fast it is on each kind, by what it gains above their prices; each in the clusters of one tier after the
    other."""
    tasks = by_gain(want, tasks_of(capacity, want), capacity.prices)
    for one in tasks if tiers == EVERYWHERE else _by_tier(tasks, tiers):
        if want.nodes_max > 1:
            slices = _gang(capacity, want, one)
            if slices is not None:
                return slices
            continue
        if not capacity.boards.counted(capacity, one).total:
            continue
        row, slot = best(capacity, one)
        if row >= 0:
            return tuple(_slices(capacity, one, row, 1, 0, slot))
    return None


def _by_tier(found: Iterable[Task], tiers: Tiers) -> Iterator[Task]:
    """Each task in each tier."""
    for one in found:
        for only in tiers:
            yield replace(one, where=replace(one.where, only=only)) if only else one


def fit_on(capacity: Capacity, want: Want, row: int) -> tuple[Slice, ...] | None:
    """Slices for a gang of one task on this very node, or None."""
    for one in tasks_of(capacity, want):
        if tasks.tasks_on(capacity, one, np.array([row]))[0]:
            return tuple(_slices(capacity, one, row, 1, 0))
    return None


def may_fit(capacity: Capacity, want: Want) -> bool:
    """Whether there is room for the tasks of a gang anywhere, together or apart: if not, it cannot fit."""
    return any(capacity.boards.counted(capacity, one).total >= want.nodes_min for one in tasks_of(capacity, want))


def tasks_of(capacity: Capacity, want: Want) -> tuple[Task, ...]:
    """The tasks that a want may consist of here, in the order of preference."""
    known: dict[Want, tuple[Task, ...]] = capacity.wants
    found = known.get(want)
    if found is None:
        if len(known) >= 10_000:  # so that nobody can fill the memory by asking
            known.clear()
        found = known[want] = tuple(want.task(gpus) for gpus in concrete(capacity, want))
    return found


def concrete(capacity: Capacity, want: Want) -> Iterator[Gpus | None]:
    """The alternatives; "any kind" for a gang is each kind by itself, as the parts of one job run in step.

    So it is where it is known how fast the job is on each, the fastest first.
    """
    speeds = {kind.lower(): speed for kind, speed in want.resources.speeds}
    for gpus in want.alternatives:
        if gpus is None or gpus.kind is not None or (want.nodes_max == 1 and not speeds):
            yield gpus
        else:
            kinds = sorted(capacity.kinds, key=lambda kind: (-speeds.get(kind.lower(), 0), kind))
            yield from (replace(gpus, kind=kind) for kind in kinds)


def tasks_per_node(capacity: Capacity, resources: Resources, gpus: Gpus | None, allowed: NDArray[np.bool_]) -> Counts:
    """How many tasks each node could take now. Shape [nodes]."""
    one = Task(resources.cpu_milli, resources.memory_mib, resources.disk_mib, gpus, Where(tolerations=("*",)))
    return np.where(allowed, tasks.tasks_on(capacity, one, slice(None)), 0)


def _gang(capacity: Capacity, want: Want, one: Task) -> tuple[Slice, ...] | None:
    """All tasks of a gang in the narrowest domain that takes them, none wider than the topology that was asked for.

    A level is a length of the nodes' paths: the longest is one node, 2 the cluster, which is as wide as a gang gets,
    as one engine starts it. Among domains of a level, the one with the least room that suffices wins; ties end on the
    name. A gang without a fixed size takes one node whole-sized only, unless nothing wider is asked for.
    """
    board = capacity.boards.counted(capacity, one)
    if board.total < want.nodes_min:
        return None
    counts = board.counts
    able = np.flatnonzero(counts)
    places, widest = capacity.places, capacity.places.level(want.topology)
    for level in range(places.node_level, widest - 1, -1):
        codes = places.codes[level][able]
        room = np.bincount(codes, weights=counts[able]).astype(np.int64)
        fits = room >= (want.nodes_max if level == places.node_level > widest else want.nodes_min)
        if fits.any():
            domain = int(np.where(fits, room, _FREE_UNIT).argmin())
            size = min(want.nodes_max, int(room[domain]))
            slices: list[Slice] = []
            for row, number in _seats(capacity, counts, able[codes == domain], size, level):
                slices += _slices(capacity, one, row, number, len(slices))
            return tuple(slices)
    return None


def _seats(
    capacity: Capacity, counts: NDArray[np.int32], rows: Counts, size: int, level: int
) -> Iterator[tuple[int, int]]:
    """(row, tasks) of as few parts of a domain as hold the gang: full ones, then the smallest that takes the rest."""
    places = capacity.places
    if level == places.node_level:
        yield int(rows[0]), size
        return
    part = places.codes[level + 1][rows]
    part = part - part.min()  # the parts of a domain have numbers in a row
    room = np.bincount(part, weights=counts[rows]).astype(np.int64)
    free = np.bincount(part, weights=np.maximum(capacity.gpu[rows], 0).sum(axis=1)).astype(np.int64)
    while size:
        enough = room >= size
        tight = room * _FREE_UNIT + free  # of equal ones, that with the fewest free GPUs
        if enough.any():
            chosen = int(np.where(enough, tight, np.iinfo(np.int64).max).argmin())
        else:
            chosen = int((room * _FREE_UNIT - free).argmax())
        number = min(size, int(room[chosen]))
        yield from _seats(capacity, counts, rows[part == chosen], number, level + 1)
        size -= number
        room[chosen] = 0


def _slices(capacity: Capacity, one: Task, row: int, number: int, rank: int, slot: int = -1) -> Iterator[Slice]:
    """What tasks of a gang hold on one node, from this rank on."""
    node_id = capacity.nodes[row].id
    free: list[int] = capacity.gpu[row].tolist()
    devices = capacity.devices[row]
    if one.exclusive:
        whole = tuple(Share(device.id, device.index, device.kind, WHOLE) for device in devices if device.usable)
        yield Slice(rank, node_id, int(capacity.cpu[row]), int(capacity.memory[row]), int(capacity.disk[row]), whole)
        return
    able = suitable(capacity, one.gpus, row).tolist() if one.gpus is not None else []
    if one.linked and one.gpus is not None:
        able = _one_link(capacity, row, able, free, one.gpus, number)
    for place in range(number):
        shares: tuple[Share, ...] = ()
        if one.gpus is not None:
            chosen = [slot] if slot >= 0 else _devices(devices, able, free, one.gpus)
            for at in chosen:
                free[at] -= one.gpus.milli
            shares = tuple(Share(devices[at].id, devices[at].index, devices[at].kind, one.gpus.milli) for at in chosen)
        yield Slice(rank + place, node_id, one.cpu_milli, one.memory_mib, one.disk_mib, shares)


def _one_link(capacity: Capacity, row: int, able: list[bool], free: list[int], gpus: Gpus, number: int) -> list[bool]:
    """Only the devices of the tightest fast link that holds all of the tasks; one without a link is by itself."""
    links = [link if link >= 0 else -1 - slot for slot, link in enumerate(capacity.link[row].tolist())]
    rooms: dict[int, int] = {}
    for slot, link in enumerate(links):
        if able[slot]:
            units = free[slot] // gpus.milli if gpus.milli < WHOLE else int(free[slot] == WHOLE)
            rooms[link] = rooms.get(link, 0) + units
    _, chosen = min((room, link) for link, room in rooms.items() if room // gpus.count >= number)
    return [fits and link == chosen for fits, link in zip(able, links, strict=True)]


def _devices(devices: list[Accelerator], able: list[bool], free: list[int], gpus: Gpus) -> list[int]:
    """Slots for one task: whole ones of one kind on one fast link where possible, a fraction on the fullest."""
    fits = [slot for slot, suits in enumerate(able) if suits and free[slot] >= gpus.milli]
    if gpus.milli < WHOLE:
        return [min(fits, key=lambda slot: (free[slot], slot))]
    if gpus.count == 1 and len({devices[slot].links for slot in fits}) == 1:
        return fits[:1]
    kinds: dict[str, int] = {}
    room: dict[tuple[str, str], int] = {}
    for slot in fits:
        kind, links = devices[slot].kind, devices[slot].links
        kinds[kind] = kinds.get(kind, 0) + 1
        room[kind, links] = room.get((kind, links), 0) + 1
    kind = min((number, kind) for kind, number in kinds.items() if number >= gpus.count)[1]

    def closeness(slot: int) -> tuple[bool, int, str, int]:
        links = devices[slot].links
        return room[kind, links] < gpus.count, room[kind, links], links, slot

    return sorted(sorted((slot for slot in fits if devices[slot].kind == kind), key=closeness)[: gpus.count])
