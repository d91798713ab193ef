"""Routes of the fleet: regions, clusters, nodes, accelerators; drain and resume, and a cluster that is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import Page, document, page_shape, shape
from headframe.api.wire import Authenticated, Body, Call, Cursor, Limit, Named, answer
from headframe.control.commands_clusters import drain_cluster, lose_cluster, resume_cluster
from headframe.control.commands_fleet import drain_node, mark_cluster, mark_node, resume_node
from headframe.control.queries_fleet import Held, Holder, Losses, held_of_nodes, holders, losses
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["fleet"])

NodeId = Annotated[str, Path(max_length=200)]


@dataclass
class NodeInUse(shape(Node)):  # type: ignore[misc]
    """A machine, and what is held of it."""

    held: Held


@dataclass
class AcceleratorInUse(shape(Accelerator)):  # type: ignore[misc]
    """A device, and who holds how much of it: whole it is 1000 thousandths."""

    holders: list[Holder]


class DrainOrder(Body):
    """`move`: jobs that can go on elsewhere from a checkpoint do so."""

    reason: Annotated[str, Field(max_length=200)] = ""
    move: bool = False


class LossOrder(Body):
    """`confirm` is the cluster's name, as this cannot be undone."""

    confirm: Annotated[str, Field(max_length=200)]
    reason: Annotated[str, Field(max_length=200)]


Written = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]


class ClusterMarks(Body):
    """Labels as `key=value`; `key-` takes one away."""

    labels: Written = []


class Marks(ClusterMarks):
    """Labels as `key=value`, taints as `key` or `key=value`; `key-` takes one away."""

    taints: Written = []


@router.get("/regions", response_model=page_shape(Region))
def regions(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Where there are clusters."""
    return _page(call, Region, limit, cursor)


@router.get("/clusters", response_model=page_shape(Cluster))
def clusters(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The clusters, each under one engine."""
    return _page(call, Cluster, limit, cursor)


@router.post("/clusters/{cluster_id}/marks", response_model=shape(Cluster))
def mark_a_cluster(call: Authenticated, cluster_id: NodeId, body: ClusterMarks) -> Response:
    """Set or take away labels of a cluster (operator only). `packing` chooses how its nodes are filled."""
    return call.run(mark_cluster, cluster_id, labels=body.labels)


@router.post("/clusters/{cluster_id}/drain", response_model=shape(Cluster))
def drain_a_cluster(call: Authenticated, cluster_id: NodeId, body: DrainOrder | None = None) -> Response:
    """Let a cluster finish what it has and take nothing new (operator only)."""
    order = body or DrainOrder()
    return call.run(drain_cluster, cluster_id, reason=order.reason, move=order.move)


@router.post("/clusters/{cluster_id}/resume", response_model=shape(Cluster))
def resume_a_cluster(call: Authenticated, cluster_id: NodeId) -> Response:
    """Let a cluster take work again that was drained, or declared lost (operator only)."""
    return call.run(resume_cluster, cluster_id)


@router.get("/clusters/{cluster_id}/losses", response_model=Losses)
def losses_of_a_cluster(call: Authenticated, cluster_id: NodeId) -> Response:
    """What would end if a cluster were declared lost now (operator only)."""
    return answer(call.ask(losses, cluster_id))


@router.post("/clusters/{cluster_id}/lost", response_model=shape(Cluster))
def lose_a_cluster(call: Authenticated, cluster_id: NodeId, body: LossOrder) -> Response:
    """Give up a cluster that cannot be reached and never comes back (operator only). What it held ends, charged until
    it was last heard of; jobs go on elsewhere by their retry rules. It takes nothing until it is resumed."""
    return call.run(lose_cluster, cluster_id, confirm=body.confirm, reason=body.reason)


@router.get("/nodes", response_model=page_shape(NodeInUse))
def nodes(call: Authenticated, cluster: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The machines, and what is held of them now."""
    page = _part(call, Node, limit, cursor, **({} if cluster is None else {"cluster_id": cluster}))
    held = call.ask(held_of_nodes, [node.id for node in page.items])
    return answer(replace(page, items=[{**document(node), "held": held[node.id]} for node in page.items]))


@router.get("/accelerators", response_model=page_shape(AcceleratorInUse))
def accelerators(call: Authenticated, node: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The devices, and who holds them now."""
    page = _part(call, Accelerator, limit, cursor, **({} if node is None else {"node_id": node}))
    held = call.ask(holders, [device.id for device in page.items])
    return answer(replace(page, items=[{**document(each), "holders": held[each.id]} for each in page.items]))


@router.post("/nodes/{node_id}/drain", response_model=shape(Node))
def drain(call: Authenticated, node_id: NodeId, body: DrainOrder | None = None) -> Response:
    """Let a node finish what it has and take nothing new (operator only)."""
    order = body or DrainOrder()
    return call.run(drain_node, node_id, reason=order.reason, move=order.move)


@router.post("/nodes/{node_id}/resume", response_model=shape(Node))
def resume(call: Authenticated, node_id: NodeId) -> Response:
    """Let a node take work again (operator only)."""
    return call.run(resume_node, node_id)


@router.post("/nodes/{node_id}/marks", response_model=shape(Node))
def mark(call: Authenticated, node_id: NodeId, body: Marks) -> Response:
    """Set or take away labels and taints of a node (operator only)."""
    return call.run(mark_node, node_id, labels=body.labels, taints=body.taints)


def _page(call: Call, kind: type[Any], limit: int, cursor: str | None) -> Response:
    return answer(_part(call, kind, limit, cursor))


def _part(call: Call, kind: type[Any], limit: int, cursor: str | None, **where: Any) -> Page:
    """The fleet is the same for everybody who may see it at all."""
    call.caller.need(Permission.FLEET_READ, call.caller.organization_id, call.caller.project_id)
    return call.part(kind, limit=limit, cursor=cursor, **where)
