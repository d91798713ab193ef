"""What engines see, held against what is on record: the first stage of a tick."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, gather, revised
from headframe.base.quantities import format_mib
from headframe.control.dispatch import Dispatch
from headframe.control.world import World
from headframe.fleet.engine_words import CLUSTER_DRAINS, Observation, Report, Seen
from headframe.fleet.records import Accelerator, Allocation, HoldState, Node, NodeState
from headframe.jobs.life import Try, observed
from headframe.jobs.records import Job

OVER = frozenset({Seen.EXITED, Seen.FAILED, Seen.LOST})


def under_way(world: World, allocation_id: str) -> Try | None:
    """The attempt that holds an allocation, with its job; None when it has ended or was never ours."""
    allocation: Allocation | None = world.get(Allocation, allocation_id)
    attempt = world.derived.attempt.get(allocation_id)
    if allocation is None or attempt is None or allocation.state == HoldState.RELEASED:
        return None
    job: Job | None = world.get(Job, allocation.job_id)
    return Try(job, attempt, allocation) if job is not None else None


def heard(world: World, dispatch: Dispatch, cluster_id: str, seen: Observation, now_us: int) -> Changes:
    """One observation. What runs though nothing holds it is ended; what has ended is let go."""
    this = under_way(world, seen.allocation_id)
    if this is not None:
        return observed(this, seen, now_us)
    if seen.seen in OVER:
        dispatch.forget(cluster_id, seen.allocation_id, seen.generation)
    elif seen.seen in (Seen.RUNNING, Seen.PREPARING):
        dispatch.kill(cluster_id, seen.allocation_id, seen.generation)
        text = "Something ran that nothing on record holds: it is ended."
        return Changes(events=(Event(now_us, "orphan_ended", seen.allocation_id, text),))
    return NOTHING


def missing(world: World, dispatch: Dispatch, cluster_id: str, report: Report, now_us: int) -> list[Observation]:
    """Compare a full report with the allocations open on that cluster; repeat orders that got lost.

    Returns an observation that it is absent for each one that the engine should have and has not.
    """
    seen = {one.allocation_id: one for one in report.observations}
    absent = []
    for allocation in [one for one in world.derived.held.values() if one.cluster_id == cluster_id]:
        one = seen.get(allocation.id)
        if one is None:
            if report.at_us <= max(allocation.held_us, allocation.running_us or 0):
                continue  # the report may be older than the launch
            if allocation.state == HoldState.STARTING:
                dispatch.launch(world, allocation, now_us)
            elif allocation.state == HoldState.STOPPING:
                # The launch may still be on its way, before this order: the engine's answer to it is certain.
                dispatch.stop(world, allocation, now_us)
            else:
                absent.append(Observation(allocation.id, allocation.generation, Seen.ABSENT, now_us, fault="node"))
        elif allocation.state == HoldState.STOPPING and one.seen not in OVER:
            dispatch.stop(world, allocation, now_us)
    return absent


def hardware(world: World, cluster_id: str, report: Report, now_us: int) -> Changes:
    """Nodes and devices as the engine reports them; what it no longer reports is down, or unhealthy."""
    nodes = [replace(node, cluster_id=cluster_id) for node in report.nodes if _own(world, cluster_id, node.id)]
    parts = [_node(world, node, now_us) for node in nodes]
    ours = {node.id for node in nodes}
    parts += [_device(world, device, now_us) for device in report.accelerators if device.node_id in ours]
    if report.nodes:
        reported = {node.id for node in report.nodes}
        devices = {device.id for device in report.accelerators}
        for node in world.all(Node).values():
            if node.cluster_id == cluster_id and node.id not in reported and node.state != NodeState.DOWN:
                parts.append(_node(world, replace(node, state=NodeState.DOWN, reason="not reported"), now_us))
        for device in world.all(Accelerator).values():
            if device.node_id in reported and device.id not in devices and device.healthy:
                parts.append(_device(world, replace(device, healthy=False, reason="not reported"), now_us))
    return gather(parts)


def _own(world: World, cluster_id: str, node_id: str) -> bool:
    """Whether a node is of this cluster, or of none yet: no engine speaks for the nodes of another."""
    known: Node | None = world.get(Node, node_id)
    return known is None or known.cluster_id == cluster_id


def _node(world: World, told: Node, now_us: int) -> Changes:
    known: Node | None = world.get(Node, told.id)
    if known is None:
        text = f"Node {told.name} joins with {told.cpu_milli / 1000:g} CPU and {format_mib(told.memory_mib)}."
        return _write(replace(told, version=1), "node_joined", text, now_us)
    state, reason = told.state, told.reason
    if known.state == NodeState.DRAINING and not known.reason.startswith(CLUSTER_DRAINS):
        state, reason = known.state, known.reason  # an operator's order outlives reports, and the node's death
    labels = {**told.labels, **known.labels}
    merged = replace(
        told, state=state, reason=reason, labels=labels, taints=known.taints or told.taints, version=known.version
    )
    if merged == known:
        return NOTHING
    if state != known.state:
        text = f"Node {told.name} is {state}{f': {reason}' if reason else ''}."
        return _write(replace(merged, version=known.version + 1), f"node_{state}", text, now_us)
    return Changes((replace(merged, version=known.version + 1),))


def _device(world: World, told: Accelerator, now_us: int) -> Changes:
    known: Accelerator | None = world.get(Accelerator, told.id)
    if known is None:
        return Changes((replace(told, version=1),))
    if revised(told, version=known.version) == known:
        return NOTHING
    row = replace(told, version=known.version + 1)
    if told.healthy == known.healthy:
        return Changes((row,))
    kind = "accelerator_healthy" if told.healthy else "accelerator_unhealthy"
    return _write(row, kind, f"{told.kind} {told.index} of {told.node_id}: {told.reason or 'healthy'}.", now_us)


def _write(row: Any, kind: str, text: str, now_us: int) -> Changes:
    return Changes((row,), (Event(now_us, kind, row.id, text),))
