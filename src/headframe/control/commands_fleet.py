"""What operators may ask of the fleet."""

from __future__ import annotations

from dataclasses import replace

from headframe.base.changes import Changes, Event
from headframe.base.errors import Conflict, NotFound
from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Cluster, Node, NodeState, Region
from headframe.tenants.roles import Caller, Permission


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
