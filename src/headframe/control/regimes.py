"""Which clusters are scheduled by which rules: the cloud's own, unless a cluster's labels name others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headframe.base.errors import Invalid
from headframe.control.world import World
from headframe.fleet.records import Cluster, Node, Slice
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.order import ORDERS, Rules, order_named

ORDER, PREEMPT, MOVES = "order", "preempt", "moves"  # labels of clusters
SWITCH = {"on": True, "off": False}
BY_PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Regime:
    """Rules, and the ids of the clusters that they hold for (None: all)."""

    rules: Rules
    clusters: frozenset[str] | None = None  # only asked

    def narrow(self, world: World, capacity: Capacity) -> None:
        """Leave nothing ready in a scratch capacity but nodes of these clusters."""
        if self.clusters is None:
            return
        for row, node in enumerate(capacity.nodes):
            capacity.ready[row] &= node.cluster_id in self.clusters
        capacity.touch()

    def claims(self, world: World) -> Mapping[str, tuple[Slice, ...]]:
        """The places that are kept in these clusters."""
        claims = world.derived.claims
        if self.clusters is None:
            return claims
        nodes = world.all(Node)
        return {
            job_id: slices
            for job_id, slices in claims.items()
            if slices[0].node_id not in nodes or nodes[slices[0].node_id].cluster_id in self.clusters
        }


def regimes(world: World) -> list[Regime]:
    """All regimes, in a fixed order; one that holds for all where no cluster differs."""
    found: dict[tuple[str, bool, bool], list[str]] = {}
    for cluster in world.all(Cluster).values():
        rules = rules_of(cluster, world.rules)
        found.setdefault((rules.order, rules.by_priority, rules.moves), []).append(cluster.id)
    made = [
        Regime(replace(world.rules, order=order, by_priority=said, moves=moves), frozenset(found[order, said, moves]))
        for order, said, moves in sorted(found)
    ]
    return made if len(made) > 1 else [Regime(made[0].rules if made else world.rules)]


def rules_of(cluster: Cluster, rules: Rules) -> Rules:
    """The rules of one cluster; a label that says nothing known says nothing."""
    order = cluster.labels.get(ORDER, rules.order)
    by_priority = cluster.labels.get(PREEMPT) == BY_PRIORITY or (PREEMPT not in cluster.labels and rules.by_priority)
    moves = SWITCH.get(cluster.labels.get(MOVES, ""), rules.moves)
    return replace(rules, order=order if order in ORDERS else rules.order, by_priority=by_priority, moves=moves)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise `Invalid` when the labels that choose rules name what is not there."""
    if ORDER in labels:
        order_named(labels[ORDER], field=f"label {ORDER}")
    if labels.get(PREEMPT, BY_PRIORITY) not in (BY_PRIORITY, "class"):
        raise Invalid(
            f"label {PREEMPT} is {labels[PREEMPT]!r}.", field=f"label {PREEMPT}", value=labels[PREEMPT],
            allowed=f"class, {BY_PRIORITY}",
        )  # fmt: skip
    if labels.get(MOVES, "on") not in SWITCH:
        raise Invalid(
            f"label {MOVES} is {labels[MOVES]!r}.", field=f"label {MOVES}", value=labels[MOVES], allowed="on, off"
        )
