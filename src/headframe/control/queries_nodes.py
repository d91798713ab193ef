"""What people may see of a node: itself in full, and who held it when. All of them: `queries_node_table`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headframe.base.changes import Event
from headframe.base.errors import Invalid
from headframe.base.quantities import DAY_US
from headframe.control.commands_fleet import movable
from headframe.control.context import Context
from headframe.control.gauges import Gauge
from headframe.control.ports import Reads
from headframe.control.queries_fleet import Held, Holder, held_of, holders
from headframe.control.queries_map import sees_all
from headframe.control.queries_tenancy import nothing_here
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Allocation, Cluster, ClusterState, Node, Region
from headframe.jobs.records import Job
from headframe.tenants.roles import Caller, Permission

PART, MOST_PARTS = 500, 40  # allocations that are looked through for one node's past
STORY = 200  # the newest events of a node
LONGEST_US = 92 * DAY_US


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator, who holds it, and what was measured of it last (None: nothing, or it is not for the caller).

    `nominal_gib` is its memory as it is sold.
    """

    accelerator: Accelerator
    nominal_gib: int
    holders: tuple[Holder, ...]
    gauge: Gauge | None


@dataclass(frozen=True, slots=True)
class Stay:
    """A part of a node that was held from one moment to another (None: still). What belongs to others has no name.

    `devices` are the numbers of the accelerators; there are none where only cores and memory were held.
    """

    from_us: int
    to_us: int | None
    running_us: int | None
    devices: tuple[int, ...]
    cpu_milli: int
    memory_mib: int
    reason: str = ""
    job_id: str | None = None
    job_name: str | None = None


@dataclass(frozen=True, slots=True)
class NodeInFull:
    """A machine: where it stands, what is held of it, its accelerators, and how many jobs could go on elsewhere."""

    node: Node
    state: str
    cluster: Cluster | None
    region: str
    held: Held
    devices: tuple[Device, ...]
    running: int
    movable: int


def state_of(world: World, node: Node) -> str:
    """The node's state in one word, that of its cluster included."""
    cluster: Cluster | None = world.get(Cluster, node.cluster_id)
    if cluster is not None and cluster.unreachable_us is not None:
        return "unreachable"
    if cluster is not None and cluster.state != ClusterState.READY and node.state == "ready":
        return "draining"
    return node.state.value


def find_node(world: World, caller: Caller, named: str) -> Node:
    """A node by id or name."""
    caller.need(Permission.FLEET_READ, caller.organization_id, caller.project_id)
    nodes = world.all(Node)
    found: Node | None = nodes.get(named) or next((one for _, one in sorted(nodes.items()) if one.name == named), None)
    if found is None:
        raise nothing_here("node", named)
    return found


def node_in_full(world: World, context: Context, caller: Caller, named: str) -> NodeInFull:
    """One node."""
    node = find_node(world, caller, named)
    cluster: Cluster | None = world.get(Cluster, node.cluster_id)
    region: Region | None = world.get(Region, cluster.region_id) if cluster is not None else None
    capacity = world.derived.capacity
    row = capacity.row.get(node.id)
    devices = capacity.devices[row] if row is not None else []
    holding = world.derived.on_node.get(node.id, {})
    by_device = holders(world, context, caller, [device.id for device in devices])
    everything = sees_all(caller)
    told = []
    for device in devices:
        own = everything or all(one.job_id is not None for one in by_device[device.id])
        gauge = context.gauges.newest(device.id) if own else None
        told.append(Device(device, device.nominal_gib, by_device[device.id], gauge))
    return NodeInFull(
        node, state_of(world, node), cluster, region.name if region is not None else "",
        held_of(world, node.id, holding.values()), tuple(told), len(holding), len(movable(world, node.id)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodePast:
    """Who held a node when, and what happened to it, the newest first. `complete` is False when older stays are left
    out because there are too many."""

    node_id: str
    from_us: int
    to_us: int
    stays: tuple[Stay, ...]
    events: tuple[Event, ...]
    complete: bool


def node_past(
    world: World, context: Context, caller: Caller, named: str, *, from_us: int | None = None, to_us: int | None = None
) -> Callable[[Reads], NodePast]:
    """Who held a node in a span of time (the last day), and what happened to it."""
    node = find_node(world, caller, named)
    end = context.now_us if to_us is None else to_us
    begin = end - DAY_US if from_us is None else from_us
    if not 0 < end - begin <= LONGEST_US:
        raise Invalid(
            "from must lie before to, and at most 92 days.", field="from", value=begin, allowed="0 to 92 days"
        )
    now = tuple(world.derived.on_node.get(node.id, {}).values())

    def read(reads: Reads) -> NodePast:
        past, complete = _past(reads, node, begin, end)
        known = {held.id: held for held in past} | {held.id: held for held in now if held.held_us < end}
        names = _names(reads, caller, known.values())
        stays = [
            _stay(part, held, names.get(held.job_id))
            for held in known.values()
            for part in held.slices
            if part.node_id == node.id
        ]
        stays.sort(key=lambda one: (-one.from_us, one.devices))
        events = reads.find(Event, subject=node.id, newest=True, limit=STORY)
        return NodePast(node.id, begin, end, tuple(stays), tuple(events), complete)

    return read


def _past(reads: Reads, node: Node, begin: int, end: int) -> tuple[list[Allocation], bool]:
    """Allocations that were released after the beginning and have a part on the node."""
    found: list[Allocation] = []
    after = None
    for _ in range(MOST_PARTS):
        some = reads.find(
            Allocation, cluster_id=node.cluster_id, released_us__ge=begin, held_us__lt=end, newest=True, limit=PART,
            after=after,
        )  # fmt: skip
        found += [held for held in some if any(part.node_id == node.id for part in held.slices)]
        if len(some) < PART:
            return found, True
        after = some[-1].id
    return found, False


def _names(reads: Reads, caller: Caller, held: Iterable[Allocation]) -> dict[str, str]:
    """The names of those jobs that the caller may see."""
    seen = sorted({
        one.job_id for one in held if caller.may(Permission.JOBS_READ, one.organization_id, one.project_id)
    })  # fmt: skip
    return {job.id: job.name for some in _parts(seen) for job in reads.find(Job, id=some, limit=PART)}


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(ids), PART):
        yield list(ids[first : first + PART])


def _stay(part: Any, held: Allocation, name: str | None) -> Stay:
    return Stay(
        from_us=held.held_us,
        to_us=held.released_us,
        running_us=held.running_us,
        devices=tuple(share.index for share in part.shares),
        cpu_milli=part.cpu_milli,
        memory_mib=part.memory_mib,
        reason=held.reason if name is not None else "",
        job_id=held.job_id if name is not None else None,
        job_name=name,
    )
