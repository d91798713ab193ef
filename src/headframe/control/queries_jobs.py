"""What lists of jobs are made of: who owns what by name, and how many there are of each sort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_spend import ALL
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Allocation, Node
from headframe.jobs.records import Job, JobState
from headframe.tenants.records import Member, Organization, Project
from headframe.tenants.roles import Caller
from headframe.workloads.spec import Gpus, Spec

# How people ask for states, in the order in which they look for them.
SORTS: dict[str, tuple[JobState, ...]] = {
    "waiting": (JobState.PENDING, JobState.QUEUED),
    "running": (JobState.STARTING, JobState.RUNNING, JobState.STOPPING),
    "succeeded": (JobState.SUCCEEDED,),
    "failed": (JobState.FAILED,),
    "stopped": (JobState.STOPPED,),
}
MOST_PLACES, MOST_CARDS = 64, 64  # nodes that a job's placement shows; devices of each
COLUMNS = {"project": "project_id", "owner": "member_id", "state": "state", "organization": "organization_id"}


def names_of(world: World, context: Context, caller: Caller, organization_id: str) -> dict[str, dict[str, str]]:
    """A question: the projects and members of an organization by id ("all": of each), and the organizations that the
    caller may see."""
    houses = [caller.organization_id] if not caller.operator else sorted(world.all(Organization))
    named = {house: world.all(Organization)[house].name for house in houses}
    shown = named if organization_id == ALL else {organization_id: ""}
    return {
        "projects": _names(world.all(Project), shown),
        "members": _names(world.all(Member), dict.fromkeys(shown, "")),
        "organizations": named,
    }


def _names(rows: Mapping[str, Any], shown: Mapping[str, str]) -> dict[str, str]:
    """Names by id; of several organizations, each behind the name of its own."""
    whole = [(shown[row.organization_id], row.name, row.id) for row in rows.values() if row.organization_id in shown]
    return {record_id: f"{house} / {name}" if house else name for house, name, record_id in sorted(whole)}


def counts(reads: Reads, where: Mapping[str, Any]) -> dict[str, int]:
    """How many jobs there are of each sort, and under "" of all."""
    by_state = {row["state"]: row["count"] for row in reads.tally(Job, ["state"], **where)}
    found = {name: sum(by_state.get(state.value, 0) for state in states) for name, states in SORTS.items()}
    return {"": sum(by_state.values()), **found}


def groups(reads: Reads, by: str, where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Jobs by project, owner or state: each group with how many of each sort it has, the largest first."""
    found: dict[str, dict[str, int]] = {}
    sort_of = {state.value: name for name, states in SORTS.items() for state in states}
    for row in reads.tally(Job, sorted({COLUMNS[by], "state"}), **where):
        key = sort_of[row["state"]] if by == "state" else row[COLUMNS[by]]
        group = found.setdefault(key, dict.fromkeys(SORTS, 0))
        group[sort_of[row["state"]]] += row["count"]
    listed = [{"key": key, "counts": each, "count": sum(each.values())} for key, each in found.items()]
    return sorted(listed, key=lambda one: (-one["count"], one["key"]))


def asks(spec: Spec) -> str:
    """What a job asks for in a few words: `2x H100:8`, `4 CPU`."""
    tasks = f"{spec.nodes_max}x " if spec.nodes_max > 1 else ""
    if spec.resources.gpus:
        return tasks + " or ".join(_gpus(one) for one in spec.resources.gpus)
    return f"{tasks}{spec.resources.cpu_milli / 1000:g} CPU"


def _gpus(one: Gpus) -> str:
    count = f"{one.milli / 1000:g}" if one.milli < 1000 else str(one.count)
    low, high = one.memory_min_gib, one.memory_max_gib
    memory = "" if low is None and high is None else f":{low}GB" if low == high else f":{low or ''}..{high or ''}GB"
    return f"{one.kind or 'GPU'}{memory}:{count}"


def placement(reads: Reads, held: Allocation) -> list[dict[str, Any]]:
    """The nodes of an allocation, each with its accelerators and how much of each the job holds."""
    found = []
    for part in sorted(held.slices, key=lambda one: one.rank)[:MOST_PLACES]:
        node: Node | None = reads.get(Node, part.node_id)
        shares = {share.accelerator_id: share.milli for share in part.shares}
        cards = reads.find(Accelerator, node_id=part.node_id, limit=MOST_CARDS)
        found.append(
            {
                "rank": part.rank, "node_id": part.node_id, "name": node.name if node else part.node_id,
                "there": node is not None, "cpu_milli": part.cpu_milli, "memory_mib": part.memory_mib,
                "kinds": sorted({share.kind for share in part.shares}),
                "cards": [
                    (card.index, shares.get(card.id, 0), card.healthy)
                    for card in sorted(cards, key=lambda one: one.index)
                ],
            }
        )  # fmt: skip
    return found
