"""What operators may ask of the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headframe.base.changes import Changes, Event
from headframe.base.errors import Conflict, Invalid, NotFound
from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Cluster, Node, NodeState, Region
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.readers import taint

MARKS = 100  # labels, and taints, that a node may have


def drain_node(
    world: World, context: Context, caller: Caller, node_id: str, *, reason: str = ""
) -> tuple[Changes, Node]:
    """Place nothing new on a node; what runs there goes on."""
    node = _node(world, caller, node_id)
    return _set(context, caller, node, NodeState.DRAINING, reason or "drained by an operator")


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
    kept, held = dict(node.labels), {_key(taint): taint for taint in node.taints}
    for written in labels:
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
    for written in taints:
        key, value = _written(written, "taints")
        held.pop(key, None)
        if value is not None:
            held[key] = value
    changed = replace(node, labels=dict(sorted(kept.items())), taints=tuple(sorted(held.values())))
    if max(len(changed.labels), len(changed.taints)) > MARKS:
        raise Invalid(f"A node has at most {MARKS} labels and taints.", field="labels", allowed=f"at most {MARKS}")
    if changed == node:
        return Changes(), node
    changed = replace(changed, version=node.version + 1)
    names = [f"{name}={value}" for name, value in changed.labels.items()]
    said = "; ".join(
        f"{word}: {', '.join(marks) or 'none'}" for word, marks in (("labels", names), ("taints", changed.taints))
    )
    text = f"Node {node.name} is marked: {said}."
    return Changes(
        (changed,), (Event(context.now_us, "node_marked", node.id, text, detail={"by": caller.member_id}),)
    ), changed


def _key(mark: str) -> str:
    return mark.partition("=")[0]


def _written(mark: str, field: str) -> tuple[str, str | None]:
    """(key, the mark), or (key, None) for one that is to be taken away."""
    if mark.endswith("-") and "=" not in mark:
        return str(taint(mark[:-1], field)), None
    found = str(taint(mark, field))
    return _key(found), found


def open_cluster(world: World, context: Context, region: Region, cluster: Cluster) -> tuple[Changes, Cluster]:
    """Put a cluster and its region on record when they are not there yet; called by `serve`."""
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
