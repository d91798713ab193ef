"""Time under our repair: what runs on hardware that is not well is marked, and free, until that is well again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, gather
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Allocation, HoldState, Node, NodeState
from headframe.metering.meter import states_of

REPAIR, RUNNING = "repair", "running"


def under_repair(world: World, rows: Iterable[Any], now_us: int) -> Changes:
    """Mark what runs on nodes and devices that have just changed (`rows`, which the world has taken in already).

    A gang is as well as the worst part that it holds. What the engine says has ended is no more among what is held.
    """
    touched = {row.id if isinstance(row, Node) else row.node_id for row in rows if isinstance(row, Node | Accelerator)}
    if not touched:
        return NOTHING
    held = {name: one for node_id in sorted(touched) for name, one in world.derived.on_node.get(node_id, {}).items()}
    return gather(_marked(world, held[name], now_us) for name in sorted(held))


def _marked(world: World, allocation: Allocation, now_us: int) -> Changes:
    if allocation.running_us is None or allocation.state not in (HoldState.RUNNING, HoldState.STOPPING):
        return NOTHING  # it is not charged yet
    why = _trouble(world, allocation)
    state = REPAIR if why else RUNNING
    last_us, last = states_of(allocation)[-1]
    if last == state:
        return NOTHING
    at_us = max(now_us, last_us, allocation.metered_us)
    marked = replace(allocation, marks=(*allocation.marks, (at_us, state)), version=allocation.version + 1)
    text = f"{why} Its time is free from here." if why else "What it holds is well again: its time counts from here."
    told = Event(
        at_us, "allocation_marked", allocation.job_id, text, allocation.organization_id, allocation.project_id,
        {"allocation": allocation.id, "state": state},
    )  # fmt: skip
    return Changes((marked,), (told,))


def _trouble(world: World, allocation: Allocation) -> str:
    """What of all that it holds is not well; "" when all is."""
    for part in allocation.slices:
        node: Node | None = world.get(Node, part.node_id)
        if node is not None and node.state == NodeState.DOWN:
            return f"Node {node.name} is down{f': {node.reason}' if node.reason else ''}."
        for share in part.shares:
            device: Accelerator | None = world.get(Accelerator, share.accelerator_id)
            if device is not None and not device.healthy:
                return f"{device.kind} {device.index} is unhealthy{f': {device.reason}' if device.reason else ''}."
    return ""
