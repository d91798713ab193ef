"""What is free, as numpy arrays: one row a node, one column an accelerator slot of the node.

Cost of a question is a few vector operations over all nodes; of a hold or release, a few array cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from headframe.fleet.records import Accelerator, Cluster, Node, NodeState, Region, Slice

WHOLE = 1000


class Capacity:
    """Free resources of every node, in the order of node ids.

    Arrays of shape [nodes]: `cpu` (thousandths of a core), `memory`, `disk` (MiB), `ready` (bool). Of shape
    [nodes, slots]: `gpu` (free thousandths), `gib` (data-sheet memory), `kind` (index into `kinds`, -1: no device),
    `usable` (bool: healthy). By node: `domains` (region, cluster, then the topology from wide to near).
    """

    def __init__(
        self,
        regions: Mapping[str, Region],
        clusters: Mapping[str, Cluster],
        nodes: Iterable[Node],
        accelerators: Iterable[Accelerator],
    ) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.id)
        self.row = {node.id: row for row, node in enumerate(self.nodes)}
        devices: list[list[Accelerator]] = [[] for _ in self.nodes]
        for device in sorted(accelerators, key=lambda device: (device.node_id, device.index, device.id)):
            if device.node_id in self.row:
                devices[self.row[device.node_id]].append(device)
        slots = max((len(row) for row in devices), default=0)
        count = len(self.nodes)
        self.cpu = np.array([node.cpu_milli for node in self.nodes], np.int64)
        self.memory = np.array([node.memory_mib for node in self.nodes], np.int64)
        self.disk = np.array([node.disk_mib for node in self.nodes], np.int64)
        self.ready = np.array([node.state == NodeState.READY for node in self.nodes], bool)
        self.gpu = np.zeros((count, slots), np.int64)
        self.gib = np.zeros((count, slots), np.int64)
        self.kind = np.full((count, slots), -1, np.int64)
        self.usable = np.zeros((count, slots), bool)
        self.devices = devices
        self.kinds: list[str] = sorted({device.kind for row in devices for device in row})
        self.slot: dict[str, tuple[int, int]] = {}
        for row, held in enumerate(devices):
            for slot, device in enumerate(held):
                self.slot[device.id] = row, slot
                self.gpu[row, slot] = WHOLE
                self.gib[row, slot] = device.nominal_gib
                self.kind[row, slot] = self.kinds.index(device.kind)
                self.usable[row, slot] = device.healthy
        self.domains = [_domain(regions, clusters, node) for node in self.nodes]
        self.possible: dict[object, None] = {}  # wants known to fit when nothing is held
        self.full = (self.cpu.copy(), self.memory.copy(), self.disk.copy(), self.gpu.copy())

    def hold(self, slices: Iterable[Slice], sign: int = -1) -> None:
        """Take (`sign` -1) or give back (+1) what slices hold; nodes or devices that are gone are passed over."""
        for part in slices:
            row = self.row.get(part.node_id)
            if row is None:
                continue
            self.cpu[row] += sign * part.cpu_milli
            self.memory[row] += sign * part.memory_mib
            self.disk[row] += sign * part.disk_mib
            for share in part.shares:
                place = self.slot.get(share.accelerator_id)
                if place is not None:
                    self.gpu[place] += sign * share.milli

    def release(self, slices: Iterable[Slice]) -> None:
        self.hold(slices, +1)

    def emptied(self) -> Capacity:
        """A copy with nothing held, nothing draining and nothing broken: could the request ever fit?"""
        other = object.__new__(Capacity)
        other.__dict__.update(self.__dict__)
        other.cpu, other.memory, other.disk, other.gpu = (array.copy() for array in self.full)
        other.ready, other.usable = np.ones_like(self.ready), self.kind >= 0
        return other

    def scratch(self) -> Capacity:
        """A copy for trying things out; what does not change is shared."""
        other = object.__new__(Capacity)
        other.__dict__.update(self.__dict__)
        other.cpu, other.memory, other.disk, other.gpu = (
            array.copy() for array in (self.cpu, self.memory, self.disk, self.gpu)
        )
        return other

    def nothing(self) -> Capacity:
        """A copy in which nothing is free: what is then given back is all that may be used."""
        other = self.scratch()
        for array in (other.cpu, other.memory, other.disk, other.gpu):
            array[...] = 0
        return other

    def allowed(self, clusters: tuple[str, ...]) -> NDArray[np.bool_]:
        """Nodes that a job's `clusters:` admits: "any", or cluster names, region names, or `label=value`."""
        mask = self.ready.copy()
        if "any" in clusters or not clusters:
            return mask
        wanted = set(clusters)
        for row, node in enumerate(self.nodes):
            labels = {f"{name}={value}" for name, value in sorted(node.labels.items())}
            mask[row] &= not wanted.isdisjoint({*self.domains[row][:2], *labels})
        return mask


def _domain(regions: Mapping[str, Region], clusters: Mapping[str, Cluster], node: Node) -> tuple[str, ...]:
    cluster = clusters[node.cluster_id]
    return (regions[cluster.region_id].name, cluster.name, *node.topology, node.id)
