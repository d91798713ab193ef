"""What people may see of the fleet in use: how much of each node is held, and who holds an accelerator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Allocation
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
