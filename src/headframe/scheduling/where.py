"""Where nodes are and what they are called: clusters, labels, taints and topology, as masks and codes by node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headframe.fleet.records import Cluster, Node, Region

ALL_TAINTS = "*"  # a toleration of every taint
MASKS = 1000  # answers remembered, so that nobody can fill the memory by asking
STORAGE = "storage"  # a label: clusters with the same value see the same checkpoints
CLUSTER_LEVEL, BLOCK_LEVEL = 2, 3  # lengths of a node's path: (region, cluster, block, ..., rack, node)


@dataclass(frozen=True, slots=True)
class Where:
    """Which nodes a job admits, whatever is free there.

    `clusters`: any of these names of clusters, regions or `label=value`. `labels`: all of these `label=value`. Labels
    are a node's or its cluster's.
    `nodes`: one of these names or ids (empty: any). `tolerations`: taints that it bears, `key` or `key=value`.
    `within`: of each of these groups one name, as in `clusters`, as data stays there. `home`: the id of a cluster whose
    checkpoints it must see. `only`: ids of clusters ("" and empty: any).
    """

    clusters: tuple[str, ...] = ("any",)
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    within: tuple[tuple[str, ...], ...] = ()
    home: str = ""
    only: tuple[str, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Remember the hash: it is asked for far more often than made."""
        key = (self.clusters, self.labels, self.nodes, self.tolerations, self.within, self.home, self.only)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash


ANYWHERE = Where()


def marks(cluster: Cluster) -> tuple[str, ...]:
    """The labels of a cluster as `label=value`, which hold for all of its nodes."""
    return tuple(f"{name}={value}" for name, value in sorted(cluster.labels.items()))


class Places:
    """The fleet's names. `paths` gives by node its region, cluster, topology and id, from wide to near.

    `codes[level]`, of shape [nodes], numbers the distinct beginnings of that length in their order, for every level
    from the cluster to the node. All paths are brought to one length: a node with fewer levels than others has its
    block stand for those between block and rack, and a node without topology is alone in its block. `names` are what a
    cluster answers to, by its id.
    """

    def __init__(self, regions: Mapping[str, Region], clusters: Mapping[str, Cluster], nodes: Sequence[Node]) -> None:
        homes = [clusters[node.cluster_id] for node in nodes]
        self._names = [(regions[home.region_id].name, home.name) for home in homes]
        self.names = {one.id: frozenset((regions[one.region_id].name, one.name, *marks(one)))
                      for one in clusters.values() if one.region_id in regions}  # fmt: skip
        self._homes = [home.id for home in homes]
        self._shared = {one.id: marks(one) for one in clusters.values()}
        self._storage = {one.id: one.labels.get(STORAGE) or one.id for one in clusters.values()}
        rows: dict[str, list[int]] = {one: [] for one in sorted(self.names)}
        for row, home in enumerate(homes):
            rows[home.id].append(row)
        self._rows_of = {name: np.array(found, np.int64) for name, found in rows.items()}
        self.paths = [(*name, *node.topology, node.id) for name, node in zip(self._names, nodes, strict=True)]
        tiers = max((len(node.topology) for node in nodes), default=0)
        self.rack_level = CLUSTER_LEVEL + tiers if tiers > 1 else CLUSTER_LEVEL + tiers + 1
        self.node_level = CLUSTER_LEVEL + tiers + 1
        even = [_even(path, node.topology, tiers) for path, node in zip(self.paths, nodes, strict=True)]
        self.codes = {level: _numbers([path[:level] for path in even])
                      for level in range(CLUSTER_LEVEL, self.node_level + 1)}  # fmt: skip
        self.relabel(nodes)

    def relabel(self, nodes: Sequence[Node]) -> None:
        """Take in the nodes' labels and taints."""
        self._count = len(nodes)
        self._masks: dict[Where, NDArray[np.bool_]] = {}
        self._known: dict[str, list[int]] = {}  # rows by the name of a cluster, a region, or `label=value`
        self._called: dict[str, list[int]] = {}  # rows by name or id of the node
        self._admitted: dict[Where, tuple[str, ...]] = {}
        for row, (node, (region, cluster), home) in enumerate(zip(nodes, self._names, self._homes, strict=True)):
            shared = self._shared[home]
            labels = (f"{name}={value}" for name, value in sorted(node.labels.items()))
            for name in dict.fromkeys((region, cluster, *shared, *labels)):
                self._known.setdefault(name, []).append(row)
            for name in dict.fromkeys((node.name, node.id)):
                self._called.setdefault(name, []).append(row)
        self._taints = [(taint, row) for row, node in enumerate(nodes) for taint in node.taints]

    def level(self, topology: str) -> int:
        """The widest level at which a gang of this topology is still together."""
        levels = {"block": BLOCK_LEVEL, "rack": self.rack_level, "node": self.node_level, "nvlink": self.node_level}
        return min(levels.get(topology, CLUSTER_LEVEL), self.node_level)

    def mask(self, where: Where) -> NDArray[np.bool_]:
        """Nodes that are admitted, whatever their state. Shape [nodes]; not to be altered."""
        found = self._masks.get(where)
        if found is None:
            if len(self._masks) >= MASKS:
                self._masks.clear()
            found = self._masks[where] = self._mask(where)
        return found

    def rows_of(self, cluster_id: str) -> NDArray[np.int64]:
        """The rows of a cluster's nodes."""
        return self._rows_of.get(cluster_id, np.zeros(0, np.int64))

    def admitted(self, where: Where) -> tuple[str, ...]:
        """Ids of the clusters with a node that is admitted, in order."""
        found = self._admitted.get(where)
        if found is None:
            if len(self._admitted) >= MASKS:
                self._admitted.clear()
            mask = self.mask(where)
            found = self._admitted[where] = tuple(one for one, rows in self._rows_of.items() if mask[rows].any())
        return found

    def refusal(self, cluster_id: str, where: Where) -> tuple[str, str] | None:
        """Why nothing in a cluster is admitted, as (word, sentence); None when something is."""
        if cluster_id in self.admitted(where):
            return None
        names = self.names.get(cluster_id, frozenset())
        if where.only and cluster_id not in where.only:
            return "not_asked", "It is not asked for."
        if "any" not in where.clusters and not self.mask(Where(where.clusters, tolerations=(ALL_TAINTS,)))[
            self.rows_of(cluster_id)
        ].any():  # fmt: skip
            return "not_asked", "The job's clusters do not name it."
        for group in where.within:
            if not any(name in names for name in group):
                return "no_data", f"It needs data that stays in {', '.join(group)}."
        if where.home and self._storage.get(where.home, where.home) != self._storage.get(cluster_id):
            return "no_checkpoint", "Its newest checkpoint cannot be seen there."
        return "no_node", "No node there has the labels, names and taints that the job asks for."

    def _mask(self, where: Where) -> NDArray[np.bool_]:
        mask = np.ones(self._count, bool)
        if where.clusters and "any" not in where.clusters:
            mask = self._rows(self._known, where.clusters)
        for label in where.labels:
            mask = mask & self._rows(self._known, (label,))
        if where.nodes:
            mask = mask & self._rows(self._called, where.nodes)
        for group in where.within:
            mask = mask & self._rows(self._known, group)
        if where.only:
            mask = mask & self._within(lambda home: home in where.only)
        if where.home:
            storage = self._storage.get(where.home, where.home)
            mask = mask & self._within(lambda home: self._storage[home] == storage)
        borne = set(where.tolerations)
        for taint, row in self._taints:
            if borne.isdisjoint((taint, taint.partition("=")[0], ALL_TAINTS)):
                mask[row] = False
        return mask

    def _within(self, fits: Callable[[str], bool]) -> NDArray[np.bool_]:
        """The nodes of the clusters that fit."""
        mask = np.zeros(self._count, bool)
        for cluster_id, rows in self._rows_of.items():
            mask[rows] = fits(cluster_id)
        return mask

    def _rows(self, known: Mapping[str, list[int]], names: Iterable[str]) -> NDArray[np.bool_]:
        mask = np.zeros(self._count, bool)
        for name in names:
            mask[known.get(name, [])] = True
        return mask


def _even(path: tuple[str, ...], topology: tuple[str, ...], tiers: int) -> tuple[str, ...]:
    """A path with as many levels as the longest: blocks are repeated before the rack, nodes without any stand alone."""
    lacking = tiers - len(topology)
    if not topology:
        return (*path, *path[-1:] * lacking)
    if len(topology) == 1:
        return (*path[:3], *path[3:] * (lacking + 1))
    return (*path[:3], *path[2:3] * lacking, *path[3:])


def _numbers(names: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """Each name's number among the distinct ones in order."""
    number = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.array([number[name] for name in names], np.int64)
