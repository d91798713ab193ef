"""How clusters are: heard of or not, taking work or not, and what that means for the jobs that hold something there."""

from __future__ import annotations

from dataclasses import replace

from headframe.base.changes import NOTHING, Changes, Event
from headframe.base.quantities import format_second, format_span
from headframe.control.world import World
from headframe.fleet.records import Cluster
from headframe.jobs.records import Job
from headframe.jobs.states import event

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
