"""What people may see of the fleet in use: how much of each node is held, and who holds an accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Accelerator
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
    found = {node_id: Held() for node_id in node_ids}
    for allocation in world.derived.held.values():
        for part in allocation.slices:
            if part.node_id in found:
                held = found[part.node_id]
                found[part.node_id] = replace(
                    held,
                    cpu_milli=held.cpu_milli + part.cpu_milli,
                    memory_mib=held.memory_mib + part.memory_mib,
                    disk_mib=held.disk_mib + part.disk_mib,
                    gpu_milli=held.gpu_milli + sum(share.milli for share in part.shares),
                )
    for device in world.all(Accelerator).values():
        if device.node_id in found and device.healthy:
            found[device.node_id] = replace(found[device.node_id], gpus=found[device.node_id].gpus + 1)
    return found


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
