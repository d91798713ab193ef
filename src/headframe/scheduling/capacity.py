"""What is free, as numpy arrays: one row a node, one column an accelerator slot of the node.

A hold or a release alters a few array cells and notes the nodes it touched; whatever is kept for a kind of task (its
board, see `boards`) looks again at those nodes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headframe.fleet.records import Accelerator, Cluster, Node, NodeState, Region, Slice
from headframe.scheduling.boards import Boards
from headframe.scheduling.demand import Demand
from headframe.scheduling.packing import judges
from headframe.scheduling.packing_simple import Packing
from headframe.scheduling.where import Places, Where

WHOLE = 1000
RECENT = 1024  # changes that are remembered one by one
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Capacity:
    """Free resources of every node, in the order of node ids.

    Arrays of shape [nodes]: `cpu` (thousandths of a core), `memory`, `disk` (MiB), `ready` (bool), `stamp` (the number
    of the last change). Of shape [nodes, slots]: `gpu` (free thousandths), `gib` (data-sheet memory), `kind` (index
    into `kinds`, -1: no device), `usable` (bool: healthy, and not used by
    others of its cluster), `link` (number of the fast link between devices of its kind on its node, -1: none).
    `clock` counts changes of nodes, and `stamp` is the last one of each.
    `places` knows where nodes are and what they are called; `demand` what is asked for lately. Change nothing in the
    arrays but by `hold`, `release`, `renew` and `touch`.
    """

    def __init__(
        self,
        regions: Mapping[str, Region],
        clusters: Mapping[str, Cluster],
        nodes: Iterable[Node],
        accelerators: Iterable[Accelerator],
        demand: Demand | None = None,
        packing: Packing | None = None,
    ) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.id)
        self.clusters = dict(clusters)
        self.row = {node.id: row for row, node in enumerate(self.nodes)}
        self.devices: list[list[Accelerator]] = [[] for _ in self.nodes]
        for device in sorted(accelerators, key=lambda device: (device.node_id, device.index, device.id)):
            if device.node_id in self.row:
                self.devices[self.row[device.node_id]].append(device)
        count, slots = len(self.nodes), max((len(row) for row in self.devices), default=0)
        self.cpu = np.array([node.cpu_milli for node in self.nodes], np.int64)
        self.memory = np.array([node.memory_mib for node in self.nodes], np.int64)
        self.disk = np.array([node.disk_mib for node in self.nodes], np.int64)
        self.ready = np.array([self._takes_work(node) for node in self.nodes], bool)
        self.stamp = np.zeros(count, np.int64)
        self.gpu = np.zeros((count, slots), np.int64)
        self.gib = np.zeros((count, slots), np.int64)
        self.kind = np.full((count, slots), -1, np.int64)
        self.link = np.full((count, slots), -1, np.int64)
        self.usable = np.zeros((count, slots), bool)
        self.slot: dict[str, tuple[int, int]] = {}
        self.kinds: list[str] = sorted({device.kind for row in self.devices for device in row})
        self._fill()
        self.mixed = bool(((self.kind >= 0) & (self.kind != self.kind[:, :1])).any()) if slots else False
        self.linked = bool(((self.kind >= 0) & (self.link != self.link[:, :1])).any()) if slots else False
        self.full = (self.cpu.copy(), self.memory.copy(), self.disk.copy(), self.gpu.copy())
        self.cpu -= np.array([node.taken_cpu_milli for node in self.nodes], np.int64)
        self.memory -= np.array([node.taken_memory_mib for node in self.nodes], np.int64)
        self.places = Places(regions, clusters, self.nodes)
        self.judges = judges(self.nodes, clusters, packing)
        self.shared: dict[str, Any] = {}  # what packings know of the fleet, whatever is held
        self.demand = demand if demand is not None else Demand()
        self.possible: dict[object, None] = {}  # wants known to fit when nothing is held
        self.wants: dict[Any, Any] = {}  # the tasks of a want here, see `fit.tasks_of`
        self.prices: dict[str, float] = {}  # of kinds, in this pass, see `kinds.asked`
        self.code: dict[str, int] = {}  # number of a kind, however it is written
        for number, kind in enumerate(self.kinds):
            self.code.setdefault(kind.lower(), number)
        self.clock = 0
        self._recent: list[int] = []  # rows, in the order in which they changed last
        self.boards = Boards()
        self._empty: Capacity | None = None

    def _takes_work(self, node: Node) -> bool:
        """Whether anything new may start on a node, as its own state and its cluster's say."""
        return node.state == NodeState.READY and self.clusters[node.cluster_id].takes_work

    def _fill(self) -> None:
        """The arrays of devices, from the records."""
        number = {kind: index for index, kind in enumerate(self.kinds)}
        for row, held in enumerate(self.devices):
            names = sorted({(device.links, device.kind) for device in held if device.links})
            links = {name: index for index, name in enumerate(names)}
            for slot, device in enumerate(held):
                self.slot[device.id] = row, slot
                self.gpu[row, slot] = WHOLE
                self.gib[row, slot] = device.nominal_gib
                self.kind[row, slot] = number[device.kind]
                self.link[row, slot] = links.get((device.links, device.kind), -1)
                self.usable[row, slot] = device.usable

    @property
    def domains(self) -> list[tuple[str, ...]]:
        """By node: region, cluster, then the topology from wide to near, then the node."""
        return self.places.paths

    def hold(self, slices: Iterable[Slice], sign: int = -1) -> None:
        """Take (`sign` -1) or give back (+1) what slices hold; nodes or devices that are gone are passed over."""
        cpu, memory, disk, gpu, places = self.cpu, self.memory, self.disk, self.gpu, self.slot
        for part in slices:
            row = self.row.get(part.node_id)
            if row is None:
                continue
            self._note(row)
            cpu[row] += sign * part.cpu_milli
            memory[row] += sign * part.memory_mib
            if part.disk_mib:
                disk[row] += sign * part.disk_mib
            for share in part.shares:
                place = places.get(share.accelerator_id)
                if place is not None:
                    gpu[place] += sign * share.milli

    def _note(self, row: int) -> None:
        """A node has changed."""
        self.clock += 1
        self.stamp[row] = self.clock
        self._recent.append(row)
        if len(self._recent) > 2 * RECENT:
            del self._recent[:RECENT]

    def release(self, slices: Iterable[Slice]) -> None:
        self.hold(slices, +1)

    def touch(self, rows: Any = slice(None)) -> None:
        """Say that these rows of the arrays have been changed by hand."""
        self.clock += 1
        self.stamp[rows] = self.clock
        self._recent.clear()

    def changed(self, since: int) -> Ints:
        """Rows that have changed after a state of the clock, ascending."""
        count = self.clock - since
        if count <= len(self._recent):
            return np.array(sorted(set(self._recent[-count:])), np.int64) if count else np.zeros(0, np.int64)
        return np.flatnonzero(self.stamp > since)

    def renew(self, record: Any) -> bool:
        """Take in a changed node, device or cluster without building anything anew; False when it changes more."""
        if isinstance(record, Node):
            done = self._renew_node(record)
        elif isinstance(record, Cluster):
            done = self._renew_cluster(record)
        else:
            done = isinstance(record, Accelerator) and self._renew_device(record)
        if done:
            self._empty = None
            self.possible.clear()
        return done

    def _renew_node(self, node: Node) -> bool:
        row = self.row.get(node.id)
        if row is None:
            return False
        known = self.nodes[row]
        if (known.cluster_id, known.topology, known.name) != (node.cluster_id, node.topology, node.name):
            return False
        sizes = ((self.cpu, "cpu_milli"), (self.memory, "memory_mib"), (self.disk, "disk_mib"))
        for place, (array, field) in enumerate(sizes):
            array[row] += getattr(node, field) - getattr(known, field)
            self.full[place][row] = getattr(node, field)
        self.cpu[row] += known.taken_cpu_milli - node.taken_cpu_milli
        self.memory[row] += known.taken_memory_mib - node.taken_memory_mib
        self.nodes[row] = node
        self.ready[row] = self._takes_work(node)
        if (known.labels, known.taints) != (node.labels, node.taints):
            self.places.relabel(self.nodes)
            self.boards = Boards()
            self.shared.clear()
        self.touch(row)
        return True

    def _renew_cluster(self, cluster: Cluster) -> bool:
        known = self.clusters.get(cluster.id)
        named = (cluster.region_id, cluster.name, cluster.labels)
        if known is not None and (known.region_id, known.name, known.labels) != named:
            return False
        self.clusters = {**self.clusters, cluster.id: cluster}
        if known is not None and known.takes_work != cluster.takes_work:
            rows = [row for row, node in enumerate(self.nodes) if node.cluster_id == cluster.id]
            for row in rows:
                self.ready[row] = self._takes_work(self.nodes[row])
            self.touch(rows)
        return True

    def _renew_device(self, device: Accelerator) -> bool:
        place = self.slot.get(device.id)
        if place is None:
            return False
        row, slot = place
        known = self.devices[row][slot]
        for name in ("node_id", "index", "kind", "nominal_gib", "links"):
            if getattr(known, name) != getattr(device, name):
                return False
        self.devices[row][slot] = device
        self.usable[place] = device.usable
        self.touch(row)
        return True

    def _copy(self) -> Capacity:
        """The same fleet with its own arrays of what is free; what does not change is shared."""
        other = object.__new__(Capacity)
        other.__dict__.update(self.__dict__)
        for name in ("cpu", "memory", "disk", "gpu", "ready", "usable", "stamp"):
            setattr(other, name, getattr(self, name).copy())
        other._recent = []
        return other

    def scratch(self) -> Capacity:
        """A copy for trying things out. Its boards begin as copies of these, each when it is first asked for."""
        other = self._copy()
        other.boards = self.boards.below(self)
        return other

    def emptied(self) -> Capacity:
        """A copy with nothing held, nothing draining and nothing broken: could the request ever fit?"""
        if self._empty is None:
            other = self._copy()
            other.cpu, other.memory, other.disk, other.gpu = (array.copy() for array in self.full)
            other.ready, other.usable = np.ones_like(self.ready), self.kind >= 0
            other.boards, other._empty = Boards(), other
            self._empty = other
        return self._empty.scratch()

    def nothing(self) -> Capacity:
        """A copy with nothing free, to which a part can be given by `release`."""
        other = self._copy()
        for name in ("cpu", "memory", "disk", "gpu"):
            setattr(other, name, np.zeros_like(getattr(self, name)))
        other.boards = Boards()
        return other

    def allowed(self, clusters: tuple[str, ...], where: Where | None = None) -> Bools:
        """Ready nodes that a job's `clusters:` admits: "any", or cluster names, region names, or `label=value`.

        `where` says more: all that a job asks of a node's name, labels and taints. Shape [nodes].
        """
        return self.ready & self.places.mask(where or Where(clusters))
