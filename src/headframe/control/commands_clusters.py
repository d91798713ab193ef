"""What operators may ask of whole clusters: take no new work, take it again; and that one is given up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from headframe.base.changes import Changes, Event, gather
from headframe.base.errors import Conflict, Invalid, NotFound
from headframe.control.clusters import given_up, homeless, tell_jobs
from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster, ClusterState
from headframe.jobs.life import make_way
from headframe.jobs.records import Job
from headframe.scheduling.elastic import can_return
from headframe.scheduling.where import STORAGE
from headframe.tenants.roles import Caller, Permission


def find_cluster(world: World, cluster_id: str) -> Cluster:
    """A cluster by id or name; raises `NotFound`."""
    clusters = world.all(Cluster)
    found: Cluster | None = clusters.get(cluster_id)
    found = found or next((one for _, one in sorted(clusters.items()) if one.name == cluster_id), None)
    if found is None:
        raise NotFound(f"There is no cluster {cluster_id!r}.", next_step="See `headframe clusters`.")
    return found


def drain_cluster(
    world: World, context: Context, caller: Caller, cluster_id: str, *, reason: str = "", move: bool = False
) -> tuple[Changes, Cluster]:
    """Start nothing new on a cluster; what runs there goes on.

    With `move`, jobs that can go on elsewhere from a checkpoint are warned, as they asked for, and make way.
    """
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    known = find_cluster(world, cluster_id)
    reason = reason or "drained by an operator"
    drained = replace(known, state=ClusterState.DRAINING, reason=reason)
    changes = Changes()
    if drained != known:
        drained = replace(drained, version=known.version + 1)
        text = f"Cluster {known.name} takes no new work: {reason}."
        told = f"Its cluster {known.name} is drained ({reason}): it runs on there, and nothing new starts beside it."
        by = {"by": caller.member_id}
        ordered = Event(context.now_us, "cluster_draining", known.id, text, detail=by)
        changes = Changes((drained,), (ordered, *tell_jobs(world, drained, told, context.now_us)))
    if move:
        changes = gather([changes, *_moved(world, drained, context.now_us)])
    return changes, drained


def resume_cluster(world: World, context: Context, caller: Caller, cluster_id: str) -> tuple[Changes, Cluster]:
    """Start work on a cluster again that was drained, or given up."""
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    known = find_cluster(world, cluster_id)
    if known.state == ClusterState.READY:
        return Changes(), known
    row = replace(known, state=ClusterState.READY, reason="", version=known.version + 1)
    text = f"Cluster {known.name} takes work again."
    told = f"Its cluster {known.name} takes work again."
    ordered = Event(context.now_us, "cluster_ready", known.id, text, detail={"by": caller.member_id})
    return Changes((row,), (ordered, *tell_jobs(world, row, told, context.now_us))), row


def lose_cluster(
    world: World, context: Context, caller: Caller, cluster_id: str, *, confirm: str, reason: str
) -> tuple[Changes, Cluster]:
    """Give up a cluster that never comes back. What it held ends when it was last heard of, and jobs go on elsewhere by
    their rules. It takes nothing until it is resumed; what still runs there when it is heard of again is stopped.

    `confirm` is its name, typed: this cannot be undone. A cluster that answers is not lost.
    """
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    known, now_us = find_cluster(world, cluster_id), context.now_us
    if confirm != known.name:
        raise Invalid(
            "Declaring a cluster lost cannot be undone.", field="confirm", value=confirm,
            allowed=f"the cluster's name, {known.name}",
        )  # fmt: skip
    if not reason.strip():
        raise Invalid("A cluster is lost for a reason.", field="reason", allowed="why, for those whose jobs it ends")
    if known.state == ClusterState.LOST:
        return Changes(), known
    if known.unreachable_us is None:
        raise Conflict(
            f"Cluster {known.name} answers: what runs there would be paid for by nobody.",
            next_step=f"Take it out of use with `headframe clusters drain {known.name}`, and stop its jobs.",
        )
    reason = reason.strip()
    row = replace(known, state=ClusterState.LOST, reason=reason, version=known.version + 1)
    ends = list(given_up(world, known, reason, now_us))
    text = f"Cluster {known.name} was declared lost: {reason}. What it held has ended."
    detail = {"by": caller.member_id, "allocations": [held.id for held, _ in ends]}
    ordered = Event(now_us, "cluster_lost", known.id, text, detail=detail)
    parts = [Changes((row,), (ordered,)), *(changes for _, changes in ends), *homeless(world, known, now_us)]
    return gather(parts), row


def _moved(world: World, cluster: Cluster, now_us: int) -> Iterator[Changes]:
    """Those jobs of a drained cluster that may end at a checkpoint and find it elsewhere make way."""
    shared = cluster.labels.get(STORAGE)
    open_elsewhere = any(
        one.takes_work and one.id != cluster.id and one.labels.get(STORAGE) == shared
        for one in world.all(Cluster).values()
    )
    if shared is None or not open_elsewhere:
        return
    for job_id, held in sorted(world.derived.held.items()):
        job: Job | None = world.get(Job, job_id)
        if held.cluster_id == cluster.id and job is not None and can_return(job.spec) and _is_new(job, held):
            text = f"Its cluster {cluster.name} is drained: it goes on elsewhere from its newest checkpoint."
            yield make_way(job, held, "", "drain", job.spec.warn_before_stop_us, now_us, text)


def _is_new(job: Job, held: Allocation) -> bool:
    return not job.yields_to and job.yields_us is None
