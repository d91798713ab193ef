"""Find a thing by a part of its name or the beginning of its id, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_map import sees_all
from headframe.control.world import World
from headframe.fleet.records import Cluster, Node
from headframe.jobs.records import Job
from headframe.tenants.records import Member, Organization, Project
from headframe.tenants.roles import Caller, Permission

MOST = 20
MOST_OF_A_KIND = 6


@dataclass(frozen=True, slots=True)
class Found:
    """Something of that name or id. `kind` is job, node, cluster, project, member or organization."""

    kind: str
    id: str
    name: str
    state: str = ""


def find_anything(world: World, context: Context, caller: Caller, text: str) -> Callable[[Reads], tuple[Found, ...]]:
    """What the caller may see that is called so: the names that begin with the text come first."""
    text = text.strip().lower()
    known = [*_warm(world, caller, text)] if text else []
    where: dict[str, Any] = {} if sees_all(caller) else {"organization_id": caller.organization_id}
    if caller.project_id is not None:
        where["project_id"] = caller.project_id
    sees_jobs = caller.may(Permission.JOBS_READ, caller.organization_id, caller.project_id)

    def read(reads: Reads) -> tuple[Found, ...]:
        jobs: dict[str, Job] = {}
        if text and sees_jobs:
            column = "id__prefix" if text.startswith("job_") else "name__prefix"
            more: dict[str, Any] = {column: text, **where}
            jobs = {job.id: job for job in reads.find(Job, newest=True, limit=MOST_OF_A_KIND, **more)}
        ended = [Found("job", job.id, job.name, job.state.value) for job in jobs.values()]
        seen = {(one.kind, one.id) for one in known}
        found = known + [one for one in ended if (one.kind, one.id) not in seen]
        found.sort(key=lambda one: (not one.name.lower().startswith(text), one.id != text))
        return tuple(found[:MOST])

    return read


def _warm(world: World, caller: Caller, text: str) -> Iterator[Found]:
    """What the warm world has of that name: jobs that have not ended, machines, and who there is."""
    sees_fleet = caller.may(Permission.FLEET_READ, caller.organization_id, caller.project_id)
    kinds: tuple[type[Any], ...] = (Job, Project, Member, Organization, *((Node, Cluster) if sees_fleet else ()))
    for kind in kinds:
        count = 0
        for record in world.all(kind).values():
            if text not in record.name.lower() and not record.id.startswith(text):
                continue
            if not _sees(caller, record):
                continue
            state = getattr(record, "state", "")
            yield Found(kind.__name__.lower(), record.id, record.name, str(state))
            count += 1
            if count == MOST_OF_A_KIND:
                break


def _sees(caller: Caller, record: Any) -> bool:
    if isinstance(record, Node | Cluster):
        return True
    right = Permission.JOBS_READ if isinstance(record, Job) else Permission.TENANTS_READ
    home = record.id if isinstance(record, Organization) else record.organization_id
    project = record.id if isinstance(record, Project) else getattr(record, "project_id", None)
    return caller.may(right, home, project)
