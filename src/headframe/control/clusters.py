"""How clusters are: heard of or not, taking work or not, and what that means for the jobs that hold something there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from headframe.base.changes import NOTHING, Changes, Event, revised
from headframe.base.quantities import format_second, format_span
from headframe.control.observe import under_way
from headframe.control.world import World
from headframe.fleet.engine_words import Observation, Seen, Stop
from headframe.fleet.records import Allocation, Cluster, ClusterState
from headframe.jobs.life import observed
from headframe.jobs.records import ENDED, Job
from headframe.jobs.states import event
from headframe.scheduling.where import STORAGE

IN_VAIN = 3  # reports asked for and not answered, after which a cluster counts as unreachable
NO_ENGINE = "the server has no engine for it"


def unreachable(world: World, cluster_id: str, since_us: int, trouble: str, now_us: int) -> Changes:
    """Nothing is heard of a cluster: no new work goes there, and what it has stays its own until it is heard of again.

    What was ordered there may have begun, so nothing of it is started elsewhere: it would run, and be paid for, twice.
    """
    known: Cluster | None = world.get(Cluster, cluster_id)
    if known is None or known.unreachable_us is not None:
        return NOTHING
    since_us = min(since_us, now_us)
    row = replace(known, unreachable_us=since_us, trouble=trouble[:500], version=known.version + 1)
    why = f": {row.trouble.rstrip('.')}" if row.trouble else ""
    text = f"Cluster {known.name} cannot be reached since {format_second(since_us)}{why}. New work goes elsewhere."
    told = (
        f"Its cluster {known.name} cannot be reached since {format_second(since_us)}{why}. It may go on there, so it "
        "is not started elsewhere; what it used is counted when the cluster answers again."
    )
    return Changes((row,), (Event(now_us, "cluster_unreachable", known.id, text), *tell_jobs(world, row, told, now_us)))


def reachable(world: World, cluster_id: str, now_us: int) -> Changes:
    """A cluster answers, after it did not."""
    known: Cluster | None = world.get(Cluster, cluster_id)
    if known is None or known.unreachable_us is None:
        return NOTHING
    span = format_span(max(now_us - known.unreachable_us, 0))
    row = replace(known, unreachable_us=None, trouble="", version=known.version + 1)
    text = f"Cluster {known.name} answers again, after {span}."
    told = f"Its cluster {known.name} answers again, after {span}."
    return Changes((row,), (Event(now_us, "cluster_reachable", known.id, text), *tell_jobs(world, row, told, now_us)))


def tell_jobs(world: World, cluster: Cluster, text: str, now_us: int) -> list[Event]:
    """What happened to a cluster, in the story of each job that holds something there."""
    kind = "cluster_unreachable" if cluster.unreachable_us is not None else f"cluster_{cluster.state}"
    found = []
    for job_id, held in sorted(world.derived.held.items()):
        job: Job | None = world.get(Job, job_id)
        if job is not None and held.cluster_id == cluster.id:
            found.append(event(job, kind, now_us, text, cluster=cluster.id))
    return found


def given_up(world: World, cluster: Cluster, reason: str, now_us: int) -> Iterator[tuple[Allocation, Changes]]:
    """All that is held in a cluster that never comes back, by job, with what its end brings about.

    It ends as with its node, at the moment until which the engine was heard of. If it lives all the same, it is to be
    stopped: the order waits at the engine, and is given again by whatever report still shows it.
    """
    why = f"its cluster {cluster.name} is lost: {reason}"
    blind = sees_no_more(world, cluster)
    for job_id, held in sorted(world.derived.held.items()):
        this = under_way(world, held.id) if held.cluster_id == cluster.id else None
        if this is None:
            continue
        until_us = now_us if cluster.unreachable_us is None else cluster.unreachable_us
        ended = observed(
            this, Observation(held.id, held.generation, Seen.LOST, until_us, fault="node", detail=why), now_us
        )
        rows = tuple(
            revised(row, home="") if blind and isinstance(row, Job) and row.home == cluster.id else row
            for row in ended.rows
        )
        text = f"Cluster {cluster.name} was declared lost ({reason}); what it had of this job is counted no further."
        told = event(this.job, "cluster_lost", now_us, text, cluster=cluster.id, allocation=held.id)
        stop = Stop(held.id, held.generation, "its cluster was declared lost", "SIGKILL", 0)
        assert job_id == this.job.id
        yield held, Changes(rows, (told, *ended.events), (*ended.actions, stop))


def sees_no_more(world: World, cluster: Cluster) -> bool:
    """Whether the checkpoints that were written in a cluster are gone with it: no other one sees the same."""
    shared = cluster.labels.get(STORAGE)
    others = [one for one in world.all(Cluster).values() if one.id != cluster.id and one.state != ClusterState.LOST]
    return shared is None or not any(one.labels.get(STORAGE) == shared for one in others)


def homeless(world: World, cluster: Cluster, now_us: int) -> Iterator[Changes]:
    """Jobs that hold nothing and were bound to the checkpoints of a lost cluster may begin anywhere."""
    if not sees_no_more(world, cluster):
        return
    for job_id, job in sorted(world.all(Job).items()):
        if job.home == cluster.id and job_id not in world.derived.held and job.state not in ENDED:
            text = f"Its checkpoints were in cluster {cluster.name}, which is lost: it may start elsewhere, from anew."
            told = event(job, "checkpoint_lost", now_us, text, cluster=cluster.id)
            yield Changes((revised(job, home="", version=job.version + 1),), (told,))
