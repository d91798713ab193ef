"""What people may see of the fleet in use: how much of each node is held, who holds an accelerator, and what would end
with a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headframe.control.clusters import given_up
from headframe.control.commands_clusters import find_cluster
from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Allocation, HoldState
from headframe.jobs.records import Job
from headframe.tenants.roles import Caller, Permission


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a node now; `gpus` are the healthy accelerators that it has."""

    cpu_milli: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpu_milli: int = 0
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a part of an accelerator, in thousandths. What belongs to others has no name."""

    milli: int
    job_id: str | None = None
    job_name: str | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """What a job loses with its cluster: its attempt ends, counted until `until_us`. `then` is what becomes of the job:
    the state that it goes on in, such as queued or failed."""

    job_id: str
    job_name: str
    organization_id: str
    project_id: str
    allocation_id: str
    state: HoldState
    running_us: int | None
    until_us: int
    then: str


@dataclass(frozen=True, slots=True)
class Losses:
    """What ends when a cluster is declared lost. `unreachable_us` is None while it answers: then it cannot be."""

    cluster: str
    unreachable_us: int | None
    items: list[Loss]


def losses(world: World, context: Context, caller: Caller, cluster_id: str) -> Losses:
    """What would end if a cluster were declared lost now."""
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    cluster, found = find_cluster(world, cluster_id), []
    for held, changes in given_up(world, cluster, "", context.now_us):
        job = next(row for row in changes.rows if isinstance(row, Job))
        ended = next(row for row in changes.rows if isinstance(row, Allocation) and row.released_us is not None)
        found.append(
            Loss(
                job.id, job.name, job.organization_id, job.project_id, held.id, held.state, held.running_us,
                ended.released_us or held.held_us, job.state.value,
            )
        )  # fmt: skip
    return Losses(cluster.name, cluster.unreachable_us, found)


def held_of_nodes(world: World, context: Context, caller: Caller, node_ids: Sequence[str]) -> dict[str, Held]:
    """What is held of these nodes."""
    derived = world.derived
    return {node_id: held_of(world, node_id, derived.on_node.get(node_id, {}).values()) for node_id in node_ids}


def held_of(world: World, node_id: str, holding: Iterable[Allocation]) -> Held:
    """What these allocations hold of a node."""
    capacity = world.derived.capacity
    row = capacity.row.get(node_id)
    parts = [part for held in holding for part in held.slices if part.node_id == node_id]
    return Held(
        cpu_milli=sum(part.cpu_milli for part in parts),
        memory_mib=sum(part.memory_mib for part in parts),
        disk_mib=sum(part.disk_mib for part in parts),
        gpu_milli=sum(share.milli for part in parts for share in part.shares),
        gpus=0 if row is None else sum(device.healthy for device in capacity.devices[row]),
    )


def holders(
    world: World, context: Context, caller: Caller, accelerator_ids: Sequence[str]
) -> dict[str, tuple[Holder, ...]]:
    """Who holds these accelerators: by name where the caller may see the job."""
    found: dict[str, list[Holder]] = {one: [] for one in accelerator_ids}
    for job_id, allocation in sorted(world.derived.held.items()):
        shown = caller.may(Permission.JOBS_READ, allocation.organization_id, allocation.project_id)
        job: Job | None = world.get(Job, job_id) if shown else None
        for share in (share for part in allocation.slices for share in part.shares):
            if share.accelerator_id in found:
                named = (job_id, job.name) if job is not None else (None, None)
                found[share.accelerator_id].append(Holder(share.milli, *named))
    return {one: tuple(found[one]) for one in found}
