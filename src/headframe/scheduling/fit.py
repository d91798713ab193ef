"""Where a gang fits: all of its tasks or none, as close together as asked, on the fullest nodes that can take it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headframe.fleet.records import Share, Slice
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.workloads.spec import Gpus, Resources, Spec

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Want:
    """What decides where a job may go. Two jobs with equal wants fit in the same places."""

    resources: Resources
    nodes_min: int
    nodes_max: int
    topology: str
    clusters: tuple[str, ...]

    @classmethod
    def of(cls, spec: Spec) -> Want:
        return cls(spec.resources, spec.nodes_min, spec.nodes_max, spec.topology, spec.clusters)

    @property
    def alternatives(self) -> tuple[Gpus | None, ...]:
        return self.resources.gpus or (None,)


def fit(capacity: Capacity, want: Want) -> tuple[Slice, ...] | None:
    """Slices for a whole gang, or None. Alternatives are tried in the order of preference that the job gave."""
    allowed = capacity.allowed(want.clusters)
    for gpus in concrete(capacity, want):
        counts = tasks_per_node(capacity, want.resources, gpus, allowed)
        if int(counts.sum()) < want.nodes_min:
            continue
        for rows in _domains(capacity, counts, want):
            size = min(want.nodes_max, int(counts[rows].sum()))
            return _take(capacity, want.resources, gpus, counts, rows, size)
    return None


def concrete(capacity: Capacity, want: Want) -> Iterator[Gpus | None]:
    """The alternatives; "any kind" of several devices is each kind by itself, as the parts of one job run in step."""
    for gpus in want.alternatives:
        if gpus is None or gpus.kind is not None or (gpus.count == 1 and want.nodes_max == 1):
            yield gpus
        else:
            yield from (replace(gpus, kind=kind) for kind in capacity.kinds)


def tasks_per_node(capacity: Capacity, resources: Resources, gpus: Gpus | None, allowed: NDArray[np.bool_]) -> Counts:
    """How many tasks each node could take now. Shape [nodes]."""
    counts = np.maximum(capacity.cpu, 0) // max(resources.cpu_milli, 1)
    counts = np.minimum(counts, np.maximum(capacity.memory, 0) // max(resources.memory_mib, 1))
    if resources.disk_mib:
        counts = np.minimum(counts, np.maximum(capacity.disk, 0) // resources.disk_mib)
    if gpus is not None:
        suits = suitable(capacity, gpus)
        if gpus.milli == WHOLE:
            free = ((capacity.gpu == WHOLE) & suits).sum(axis=1)
            counts = np.minimum(counts, free // gpus.count)
        else:
            counts = np.minimum(counts, np.where(suits, capacity.gpu // gpus.milli, 0).sum(axis=1))
    return np.where(allowed, counts, 0)


def suitable(capacity: Capacity, gpus: Gpus) -> NDArray[np.bool_]:
    """Devices of the asked kind and memory that are healthy, held or not. Shape [nodes, slots]."""
    mask = capacity.usable & (capacity.kind >= 0)
    if gpus.kind is not None:
        wanted = [number for number, kind in enumerate(capacity.kinds) if kind.lower() == gpus.kind.lower()]
        mask = mask & (capacity.kind == (wanted[0] if wanted else -2))
    if gpus.memory_min_gib is not None:
        mask = mask & (capacity.gib >= gpus.memory_min_gib)
    if gpus.memory_max_gib is not None:
        mask = mask & (capacity.gib <= gpus.memory_max_gib)
    return mask


def _domains(capacity: Capacity, counts: Counts, want: Want) -> Iterator[NDArray[np.int64]]:
    """Sets of nodes that hold the whole gang, the closest first; none wider than the topology that was asked for.

    A level is a length of the nodes' domain path: the longest is one node, 2 the cluster, which is as wide as a gang
    gets: one engine starts it. Among domains of a level, the one with the least room that suffices wins; ties end on
    the name.
    """
    able = np.flatnonzero(counts)
    if want.nodes_max == 1 or len(able) == 1:
        yield able
        return
    depth = max((len(capacity.domains[row]) for row in able), default=0)
    widest = {"none": 2, "cluster": 2, "block": 3, "rack": 4}[want.topology]
    for level in range(depth, 1, -1):
        if level < widest and level < depth:
            return
        groups: dict[tuple[str, ...], list[int]] = {}
        for row in able:
            groups.setdefault(capacity.domains[row][:level], []).append(int(row))
        size = want.nodes_max if level == depth else want.nodes_min
        rooms = sorted((int(counts[rows].sum()), name) for name, rows in groups.items())
        for room, name in rooms:
            if room >= size:
                yield np.array(groups[name])
                return


def _take(
    capacity: Capacity, resources: Resources, gpus: Gpus | None, counts: Counts, rows: NDArray[np.int64], size: int
) -> tuple[Slice, ...]:
    """Best fit: nodes with the fewest free devices first (then the least CPU), filled one after the other."""
    free_gpu = capacity.gpu[rows].sum(axis=1) if capacity.gpu.size else np.zeros(len(rows), np.int64)
    order = rows[np.lexsort((rows, capacity.cpu[rows], free_gpu))]
    if size > 1:  # few nodes for a gang: those with the most room first, once the domain is chosen
        order = rows[np.lexsort((rows, free_gpu, -np.minimum(counts[rows], size)))]
    slices: list[Slice] = []
    for row in order:
        free = capacity.gpu[row].copy()
        for _ in range(min(int(counts[row]), size - len(slices))):
            shares = _shares(capacity, int(row), free, gpus) if gpus is not None else ()
            rank, node_id = len(slices), capacity.nodes[row].id
            held = (resources.cpu_milli, resources.memory_mib, resources.disk_mib)
            slices.append(Slice(rank, node_id, *held, shares))
        if len(slices) == size:
            break
    assert len(slices) == size, "a domain that was counted as large enough must hold the gang"
    return tuple(slices)


def _shares(capacity: Capacity, row: int, free: NDArray[np.int64], gpus: Gpus) -> tuple[Share, ...]:
    """Devices for one task: whole ones on one fast link where possible, a fraction on the fullest that fits."""
    suits = suitable(capacity, gpus)[row]
    able = [int(slot) for slot in np.flatnonzero(suits & (free >= gpus.milli))]
    held = capacity.devices[row]
    if gpus.milli < WHOLE:
        chosen = [min(able, key=lambda slot: (int(free[slot]), slot))]
    else:
        room: dict[str, int] = {}
        for slot in able:
            room[held[slot].links] = room.get(held[slot].links, 0) + 1

        def closeness(slot: int) -> tuple[bool, int, str, int]:
            links = held[slot].links
            return room[links] < gpus.count, room[links], links, slot

        chosen = sorted(sorted(able, key=closeness)[: gpus.count])
    for slot in chosen:
        free[slot] -= gpus.milli
    return tuple(Share(held[slot].id, held[slot].index, held[slot].kind, gpus.milli) for slot in chosen)
