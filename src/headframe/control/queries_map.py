"""The fleet as a map: where every accelerator stands, and one byte of state and one of value for each.

A map comes in two parts: a layout, which changes only when machines come or go, and frames, which are small enough to
be told every second. Cells stand in the layout's order: sites by name, racks, nodes, accelerators by their number; a
machine without accelerators has one cell, which stands for its cores.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from re import split
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headframe.base.errors import Invalid
from headframe.control.context import Context
from headframe.control.gauges import UNKNOWN, Gauges
from headframe.control.ports import Reads
from headframe.control.world import World
from headframe.fleet.records import (
    Accelerator,
    Allocation,
    Cluster,
    ClusterState,
    Node,
    NodeState,
    Region,
    Reservation,
    ReservationState,
)  # fmt: skip
from headframe.jobs.records import Job
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.tenants.records import Organization, Project
from headframe.tenants.roles import Caller, Permission

# The bits of a cell's state.
HELD, RESERVED, DRAINING, FAILED, UNREACHABLE = 1, 2, 4, 8, 16
STATES = {"held": HELD, "reserved": RESERVED, "draining": DRAINING, "failed": FAILED, "unreachable": UNREACHABLE}
# Values from 0 to TOP go from `low` to `high`, or are places in `names`; the last two say why there is none.
TOP, HIDDEN, NOTHING = 253, 254, 255
MOST_NAMED = 5  # by organization, project or job; all others are one
GAUGES = {  # (unit, low, high; None: as high as the highest)
    "use": ("percent", 0, 100),
    "memory": ("percent", 0, 100),
    "power": ("watt", 0, None),
    "temperature": ("celsius", 20, 100),
    "errors": ("count", 0, None),
}
OWNERS = ("organization", "project", "job")
BY = ("held", *GAUGES, *OWNERS)
_COLUMNS = {"use": "use_percent", "power": "power_w", "temperature": "temperature_c", "errors": "errors"}
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rack:
    """Nodes side by side: `nodes` of them, from the layout's node number `first` on."""

    name: str
    first: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster and its racks."""

    id: str
    name: str
    region: str
    racks: tuple[Rack, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands. `id` changes with it. `cells` counts the cells of each node, `kinds` says what they are
    ("" for cores, one kind for each with commas where they differ), both in the order of `node_ids`."""

    id: str
    sites: tuple[Site, ...]
    node_ids: tuple[str, ...]
    node_names: tuple[str, ...]
    kinds: tuple[str, ...]
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A holder that cells are coloured by, and how many it holds."""

    id: str
    name: str
    cells: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The state and the value of every cell now, each a byte, as base64. `counts` are cells by state (a cell may be in
    several; "idle" is in none); values mean `unit` from `low` to `high`, or places in `names`."""

    layout: str
    by: str
    unit: str
    low: int
    high: int
    names: tuple[Named, ...]
    counts: dict[str, int]
    states: str
    values: str


class Places:
    """Where the cells of a layout are in the arrays of what is free; holds as long as that `capacity` does.

    One row a cell: `rows` and `slots` say where it is in the capacity's arrays, `bare` that it stands for cores,
    `ids` and `memory` (MiB) tell of the accelerator.
    """

    def __init__(self, world: World, capacity: Capacity) -> None:
        clusters = world.all(Cluster)
        order = sorted(range(len(capacity.nodes)), key=lambda row: _stands(clusters, capacity.nodes[row]))
        devices = [capacity.devices[row] for row in order]
        counts = np.array([max(len(held), 1) for held in devices], np.int64)
        self.capacity = capacity
        self.order = np.array(order, np.int64)
        self.counts = counts
        self.rows: Ints = np.repeat(self.order, counts)
        self.slots: Ints = np.arange(len(self.rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.bare = np.repeat(np.array([not held for held in devices], bool), counts)
        self.cell_of = np.zeros((len(order), max(capacity.gpu.shape[1], 1)), np.int64)
        self.cell_of[self.rows, self.slots] = np.arange(len(self.rows))
        self.ids = [device.id if device is not None else "" for held in devices for device in held or (None,)]
        self.memory = np.array([device.memory_mib if device is not None else 0 for held in devices
                                for device in held or (None,)], np.int64)  # fmt: skip
        self.layout = _layout(world, [capacity.nodes[row] for row in order], devices)
        self._told = -1
        self._gauges: Ints = np.empty(0, np.int64)

    def gauges(self, gauges: Gauges) -> Ints:
        """Where the gauges of the cells are."""
        if self._told != len(gauges):
            self._told = len(gauges)
            self._gauges = gauges.rows(self.ids)
        return self._gauges

    def of_nodes(self, by_row: NDArray[Any]) -> NDArray[Any]:
        """A value of each node, in the capacity's order, as one of each cell."""
        return by_row[self.rows]

    def shares(self, allocations: Iterable[Allocation]) -> Iterator[tuple[int, int, Allocation]]:
        """(cell, thousandths, holder) of all that is held."""
        slot, row, cell_of = self.capacity.slot, self.capacity.row, self.cell_of
        for held in allocations:
            for part in held.slices:
                for share in part.shares:
                    place = slot.get(share.accelerator_id)
                    if place is not None:
                        yield int(cell_of[place]), share.milli, held
                at = row.get(part.node_id)
                if not part.shares and at is not None and not self.capacity.devices[at]:
                    yield int(cell_of[at, 0]), WHOLE, held


def places(world: World) -> Places:
    """The places of the fleet as it is; made anew when machines come or go."""
    capacity = world.derived.capacity
    known = capacity.shared.get("map")
    if known is None:
        known = capacity.shared["map"] = Places(world, capacity)
    assert isinstance(known, Places)
    return known


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Names in the order that people expect: node-2 before node-10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in split(r"([0-9]{1,18})", text))


def _stands(clusters: Any, node: Node) -> tuple[Any, ...]:
    cluster: Cluster | None = clusters.get(node.cluster_id)
    site = cluster.name if cluster is not None else node.cluster_id
    return natural(site), node.cluster_id, tuple(map(natural, node.topology)), natural(node.name), node.id


def _layout(world: World, nodes: list[Node], devices: list[list[Accelerator]]) -> Layout:
    kinds = tuple(_kinds([device.kind for device in held]) for held in devices)
    cells = tuple(max(len(held), 1) for held in devices)
    sites = tuple(_sites(world, nodes))
    ids, names = tuple(node.id for node in nodes), tuple(node.name for node in nodes)
    told = sha256(repr((sites, ids, names, kinds, cells)).encode()).hexdigest()[:12]
    return Layout(told, sites, ids, names, kinds, cells)


def _kinds(kinds: list[str]) -> str:
    """One kind for all, or one for each."""
    return ",".join(kinds if len(set(kinds)) > 1 else kinds[:1])


def _sites(world: World, nodes: list[Node]) -> Iterator[Site]:
    first = 0
    for cluster_id, standing in groupby(nodes, key=lambda node: node.cluster_id):
        racks = []
        for topology, row in groupby(standing, key=lambda node: node.topology):
            count = sum(1 for _ in row)
            racks.append(Rack(" / ".join(topology), first, count))
            first += count
        cluster: Cluster | None = world.get(Cluster, cluster_id)
        region: Region | None = world.get(Region, cluster.region_id) if cluster is not None else None
        yield Site(
            cluster_id, cluster.name if cluster is not None else cluster_id, region.name if region else "", tuple(racks)
        )


def fleet_map(world: World, context: Context, caller: Caller) -> Layout:
    """Where everything stands."""
    caller.need(Permission.FLEET_READ, caller.organization_id, caller.project_id)
    return places(world).layout


def fleet_frame(world: World, context: Context, caller: Caller, by: str = "use") -> Callable[[Reads], Frame]:
    """The state of every cell, and what it is coloured by. Of what others hold no measure and no name is told.

    The question gathers, on the loop's thread; what it returns puts the frame together on any thread.
    """
    caller.need(Permission.FLEET_READ, caller.organization_id, caller.project_id)
    by = by or "use"
    if by not in BY:
        raise Invalid(f"by is {by!r}.", field="by", value=by, allowed=", ".join(BY))
    here, now_us = places(world), context.now_us
    states, free = _states(world, here), _free(here)
    told: tuple[Bytes, tuple[Named, ...]] | None = None
    if by in OWNERS:
        told = _owners(world, caller, here, by)
    hidden = None if sees_all(caller) or by not in GAUGES else foreign_cells(world, caller, here)
    gauges = context.gauges
    rows = here.gauges(gauges) if by in GAUGES else here.rows

    def read(reads: Reads) -> Frame:
        unit, low, high, names = "percent", 0, 100, tuple[Named, ...]()
        if told is not None:
            unit, high, (values, names) = "", 0, told
        elif by == "held":
            values = _scaled(100 * (WHOLE - free) // WHOLE, 0, 100)
        else:
            unit, low, values_now, high = _measured(here, gauges, rows, by, now_us)
            values = _scaled(values_now, low, high)
        if hidden is not None:
            values[hidden] = HIDDEN
        counts = {name: int(((states & bit) > 0).sum()) for name, bit in STATES.items()}
        counts["idle"] = int((states == 0).sum())
        return Frame(
            here.layout.id, by, unit, low, high, names, counts,
            b64encode(states.tobytes()).decode(), b64encode(values.tobytes()).decode(),
        )  # fmt: skip

    return read


def _free(here: Places) -> Ints:
    """Free thousandths of every cell."""
    capacity = here.capacity
    gpu: Ints = np.zeros(len(here.rows), np.int64)
    if capacity.gpu.shape[1]:
        gpu = capacity.gpu[here.rows, here.slots]
    if here.bare.any():
        cores = WHOLE * np.maximum(capacity.cpu, 0) // np.maximum(capacity.full[0], 1)
        gpu = np.where(here.bare, here.of_nodes(cores), gpu)
    return np.clip(gpu, 0, WHOLE)


def _states(world: World, here: Places) -> Bytes:
    capacity = here.capacity
    clusters = world.all(Cluster)
    away = {name: _of_cluster(one) for name, one in clusters.items()}
    bits = np.zeros(len(capacity.nodes), np.uint8)
    for row, node in enumerate(capacity.nodes):
        found = away.get(node.cluster_id, 0)
        if node.state != NodeState.READY:
            found |= DRAINING if node.state == NodeState.DRAINING else FAILED
        if found:
            bits[row] = found
    states: Bytes = here.of_nodes(bits)
    states[_free(here) < WHOLE] |= HELD
    if capacity.gpu.shape[1]:
        states[~here.bare & ~capacity.usable[here.rows, here.slots]] |= FAILED
    for reservation in world.all(Reservation).values():
        if reservation.state == ReservationState.ACTIVE:
            for part in reservation.slices:
                for share in part.shares:
                    place = capacity.slot.get(share.accelerator_id)
                    if place is not None:
                        states[here.cell_of[place]] |= RESERVED
    return states


def _of_cluster(cluster: Cluster) -> int:
    draining = DRAINING if cluster.state != ClusterState.READY else 0
    return draining | (UNREACHABLE if cluster.unreachable_us is not None else 0)


def sees_all(caller: Caller) -> bool:
    """Whether the caller may know who holds what, everywhere."""
    return caller.project_id is None and caller.may(Permission.ORGANIZATIONS_WRITE, caller.organization_id)


def foreign_cells(world: World, caller: Caller, here: Places) -> NDArray[np.bool_]:
    """The cells of which somebody holds a part whose jobs the caller may not see."""
    hidden = np.zeros(len(here.rows), bool)
    own: dict[tuple[str, str], bool] = {}  # of each owner once: they are few, and shares are many
    foreign = []
    for held in world.derived.held.values():
        owner = held.organization_id, held.project_id
        if owner not in own:
            own[owner] = caller.may(Permission.JOBS_READ, *owner)
        if not own[owner]:
            foreign.append(held)
    hidden[np.array([cell for cell, _, _ in here.shares(foreign)], np.int64)] = True
    return hidden


def _measured(here: Places, gauges: Gauges, rows: Ints, by: str, now_us: int) -> tuple[str, int, Ints, int]:
    """(unit, low, value of every cell, high)."""
    unit, low, most = GAUGES[by]
    if by == "memory":
        used = gauges.column("memory_mib", rows, now_us)
        values = np.where(used == UNKNOWN, UNKNOWN, 100 * used // np.maximum(here.memory, 1))
    else:
        values = gauges.column(_COLUMNS[by], rows, now_us)
    if most is None:
        step = 100 if by == "power" else 1
        most = max(-(-int(values.max(initial=0)) // step) * step, step)
    return unit, low, values, most


def _scaled(values: Ints, low: int, high: int) -> Bytes:
    spread = TOP * (np.clip(values, low, high) - low) // max(high - low, 1)
    return np.where(values == UNKNOWN, NOTHING, spread).astype(np.uint8)


def _owners(world: World, caller: Caller, here: Places, by: str) -> tuple[Bytes, tuple[Named, ...]]:
    """Who holds each cell most: one of the largest holders, one of the others, or somebody who is not to be named."""
    holders = np.full(len(here.rows), -1, np.int64)
    most = np.zeros(len(here.rows), np.int64)
    numbers: dict[str, int] = {}
    for cell, milli, held in here.shares(world.derived.held.values()):
        if milli > most[cell]:
            shown = caller.may(Permission.JOBS_READ, held.organization_id, held.project_id)
            owner = getattr(held, f"{by}_id") if shown else ""
            holders[cell], most[cell] = numbers.setdefault(owner, len(numbers)), milli
    counted = Counter({owner: int((holders == number).sum()) for owner, number in numbers.items() if owner})
    ranked = sorted(counted, key=lambda owner: (-counted[owner], owner))
    names = [Named(owner, _name(world, by, owner), counted[owner]) for owner in ranked[:MOST_NAMED]]
    rest = ranked[MOST_NAMED:]
    if rest:
        names.append(Named("", f"{len(rest)} other{'s' if len(rest) > 1 else ''}", sum(counted[one] for one in rest)))
    code = np.full(len(numbers) + 1, NOTHING, np.uint8)
    for owner, number in numbers.items():
        code[number] = HIDDEN if not owner else min(ranked.index(owner), MOST_NAMED) if rest else ranked.index(owner)
    values: Bytes = code[holders]
    return values, tuple(names)


def _name(world: World, by: str, owner: str) -> str:
    kind: type[Any] = {"organization": Organization, "project": Project, "job": Job}[by]
    found = world.get(kind, owner)
    return owner if found is None else str(found.name)
