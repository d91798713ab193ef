"""What operators may ask of the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from headframe.base.changes import Changes, Event, gather
from headframe.base.errors import Conflict, Invalid, NotFound
from headframe.control.commands_clusters import find_cluster
from headframe.control.context import Context
from headframe.control.regimes import check_labels
from headframe.control.world import World
from headframe.fleet.records import Allocation, Cluster, Node, NodeState, Region
from headframe.jobs.life import make_way
from headframe.jobs.records import Job
from headframe.scheduling.elastic import can_return
from headframe.scheduling.packing import DEFAULT, LABEL, packing_named
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.readers import taint

MARKS = 100  # labels, and taints, that a node may have


def drain_node(
    world: World, context: Context, caller: Caller, node_id: str, *, reason: str = "", move: bool = False
) -> tuple[Changes, Node]:
    """Place nothing new on a node; what runs there goes on.

    With `move`, jobs that can go on from a checkpoint are warned, as they asked for, and make way.
    """
    node = _node(world, caller, node_id)
    changes, drained = _set(context, caller, node, NodeState.DRAINING, reason or "drained by an operator")
    if move:
        changes = gather([changes, *_moved(world, node, context.now_us)])
    return changes, drained


def movable(world: World, node_id: str) -> list[tuple[Job, Allocation]]:
    """The jobs on a node that can go on elsewhere from a checkpoint, and do not make way already; by allocation."""
    found = []
    for _, held in sorted(world.derived.on_node.get(node_id, {}).items()):
        job: Job | None = world.get(Job, held.job_id)
        if job is not None and can_return(job.spec) and not job.yields_to and job.yields_us is None:
            found.append((job, held))
    return found


def _moved(world: World, node: Node, now_us: int) -> Iterator[Changes]:
    for job, held in movable(world, node.id):
        text = f"Its node {node.name} is drained: it goes on elsewhere from its newest checkpoint."
        yield make_way(job, held, "", "drain", job.spec.warn_before_stop_us, now_us, text)


def resume_node(world: World, context: Context, caller: Caller, node_id: str) -> tuple[Changes, Node]:
    """Place work on a node again."""
    node = _node(world, caller, node_id)
    if node.state == NodeState.DOWN:
        raise Conflict(
            f"Node {node.name} is down{f': {node.reason}' if node.reason else ''}.",
            next_step="Mend it: it takes work again as soon as it is reported ready.",
        )
    return _set(context, caller, node, NodeState.READY, "")


def mark_node(
    world: World,
    context: Context,
    caller: Caller,
    node_id: str,
    *,
    labels: Sequence[str] = (),
    taints: Sequence[str] = (),
) -> tuple[Changes, Node]:
    """Set labels (`key=value`) and taints (`key` or `key=value`) of a node; `key-` takes one away.

    A taint keeps away jobs that do not tolerate it; what runs there goes on.
    """
    node = _node(world, caller, node_id)
    held = {_key(taint): taint for taint in node.taints}
    for written in taints:
        key, value = _written(written, "taints")
        held.pop(key, None)
        if value is not None:
            held[key] = value
    changed = replace(node, labels=_labelled(node.labels, labels), taints=tuple(sorted(held.values())))
    if len(changed.taints) > MARKS:
        raise Invalid(f"A node has at most {MARKS} taints.", field="taints", allowed=f"at most {MARKS}")
    if changed == node:
        return Changes(), node
    changed = replace(changed, version=node.version + 1)
    taints = changed.taints
    text = f"Node {node.name} is marked: labels: {_said(changed.labels)}; taints: {', '.join(taints) or 'none'}."
    return Changes((changed,), (_marked(context, caller, node.id, "node", text),)), changed


def mark_cluster(
    world: World, context: Context, caller: Caller, cluster_id: str, *, labels: Sequence[str] = ()
) -> tuple[Changes, Cluster]:
    """Set labels (`key=value`) of a cluster; `key-` takes one away. `packing`, `order` and `preempt` choose."""
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    found = find_cluster(world, cluster_id)
    kept = _labelled(found.labels, labels)
    packing_named(kept.get(LABEL, DEFAULT))
    check_labels(kept)
    if kept == found.labels:
        return Changes(), found
    changed = replace(found, labels=kept, version=found.version + 1)
    text = f"Cluster {found.name} has the labels: {_said(kept)}."
    return Changes((changed,), (_marked(context, caller, found.id, "cluster", text),)), changed


def _labelled(known: Mapping[str, str], changes: Sequence[str]) -> dict[str, str]:
    """Labels after these changes, in the order of their names."""
    kept = dict(known)
    for written in changes:
        key, value = _written(written, "labels")
        if value is None:
            kept.pop(key, None)
        elif "=" not in value:
            raise Invalid(
                f"The label {value!r} has no value.",
                field="labels",
                value=value,
                allowed="key=value, or key- to remove",
            )
        else:
            kept[key] = value.partition("=")[2]
    if len(kept) > MARKS:
        raise Invalid(f"There are at most {MARKS} labels.", field="labels", allowed=f"at most {MARKS}")
    return dict(sorted(kept.items()))


def _said(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items()) or "none"


def _marked(context: Context, caller: Caller, subject: str, kind: str, text: str) -> Event:
    return Event(context.now_us, f"{kind}_marked", subject, text, detail={"by": caller.member_id})


def _key(mark: str) -> str:
    return mark.partition("=")[0]


def _written(mark: str, field: str) -> tuple[str, str | None]:
    """(key, the mark), or (key, None) for one that is to be taken away."""
    if mark.endswith("-") and "=" not in mark:
        return str(taint(mark[:-1], field)), None
    found = str(taint(mark, field))
    return _key(found), found


def open_cluster(world: World, context: Context, region: Region, cluster: Cluster) -> tuple[Changes, Cluster]:
    """Put a cluster and its region on record when they are not there yet; called by `serve`.

    One that is there keeps its region and engine, as bills and open allocations rest on them; labels are added to it.
    """
    known: Cluster | None = world.get(Cluster, cluster.id)
    if known is not None and (known.region_id, known.engine) != (region.id, cluster.engine):
        raise Conflict(
            f"Cluster {cluster.name} is on record with the engine {known.engine} in {known.region_id}.",
            next_step="Leave engine and region of a cluster as they were, or give it another name.",
        )
    packing_named(cluster.labels.get(LABEL, DEFAULT))
    check_labels(cluster.labels)
    if known is not None:
        labels = dict(sorted({**known.labels, **cluster.labels}.items()))
        kept = replace(known, labels=labels, version=known.version + 1)
        return (Changes((kept,)), kept) if labels != known.labels else (Changes(), known)
    rows = [row for row in (region, cluster) if world.get(type(row), row.id) is None]
    events = [Event(context.now_us, f"{type(row).__name__.lower()}_opened", row.id, row.name) for row in rows]
    return Changes(tuple(rows), tuple(events)), cluster


def _node(world: World, caller: Caller, node_id: str) -> Node:
    caller.need(Permission.FLEET_WRITE, caller.organization_id)
    nodes = world.all(Node)
    node: Node | None = nodes.get(node_id) or next((one for one in nodes.values() if one.name == node_id), None)
    if node is None:
        raise NotFound(f"There is no node {node_id!r}.", next_step="See `headframe nodes`.")
    return node


def _set(context: Context, caller: Caller, node: Node, state: NodeState, reason: str) -> tuple[Changes, Node]:
    if node.state == state and node.reason == reason:
        return Changes(), node
    changed = replace(node, state=state, reason=reason, version=node.version + 1)
    text = f"Node {node.name} is {state} by order{f': {reason}' if reason else ''}."
    return Changes(
        (changed,), (Event(context.now_us, f"node_{state}", node.id, text, detail={"by": caller.member_id}),)
    ), changed
