"""A Slurm cluster's nodes and GPUs as the fleet knows them; what others of its users hold counts as taken."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headframe.engines.machine import DATA_SHEET_MIB, kind_of
from headframe.engines.slurm_held import Held
from headframe.engines.slurm_settings import SlurmSettings
from headframe.engines.slurm_words import Devices, NodeRow, Switches, hosts
from headframe.fleet.engine_words import CLUSTER_DRAINS
from headframe.fleet.records import Accelerator, Node, NodeState

DISK_MIB = 1 << 20  # what a node is taken to have where Slurm is not told: the shared file system's is not counted
_SIZE = re.compile(r"(\d+)gb\b", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,63}")


@dataclass(slots=True)
class SlurmFleet:
    """What the controller last said of the nodes."""

    cluster_id: str
    cluster: str
    settings: SlurmSettings
    rows: dict[str, NodeRow] = field(default_factory=dict)  # by node id
    switches: Switches = field(default_factory=Switches)
    _taken: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def take_in(self, rows: Iterable[NodeRow], switches: Switches) -> None:
        partitions = set(filter(None, self.settings.partition.split(",")))
        fit = [row for row in rows if not partitions or partitions & set(row.partitions)]
        self.rows = {self.node_id(row.name): row for row in fit}
        self.switches = switches

    def node_id(self, name: str) -> str:
        return f"nod_{self.cluster}_{name}"

    @property
    def names(self) -> dict[str, str]:
        """Slurm's names by node id."""
        return {key: row.name for key, row in self.rows.items()}

    @property
    def addresses(self) -> dict[str, str]:
        return {key: row.address for key, row in self.rows.items()}

    def kind(self, slurm_type: str) -> str:
        """Our name of a type: `h100` and `nvidia_h100_80gb_hbm3` are H100."""
        return kind_of(slurm_type) if slurm_type else self.settings.gpu_kind.upper()

    def gres(self, node_id: str, kinds: Iterable[str]) -> tuple[Devices, ...]:
        """What to ask Slurm for on a node, by its own types, for devices of these kinds (one for each)."""
        row = self.rows.get(node_id)
        types = {self.kind(one.kind): one.kind for one in (row.gpus if row is not None else ())}
        counts: dict[str, int] = {}
        for kind in kinds:
            name = types.get(kind, kind.lower())
            counts[name] = counts.get(name, 0) + 1
        return tuple(Devices(name, counts[name]) for name in sorted(counts))

    def records(self, held: Iterable[Held]) -> tuple[tuple[Node, ...], tuple[Accelerator, ...]]:
        """All nodes and devices; `held` are our allocations that Slurm has started or is about to."""
        ours: dict[str, list[int]] = {}
        leased: dict[str, set[int]] = {}
        for one in held:
            for node_id, asked in self._parts(one):
                known = ours.setdefault(node_id, [0, 0, 0])
                for place in range(3):
                    known[place] += asked[place]
            for node_id, asked in one.asked.items():
                leased.setdefault(node_id, set()).update(asked[3:])
        nodes: list[Node] = []
        cards: list[Accelerator] = []
        for node_id, row in sorted(self.rows.items()):
            cpus, memory, gpus = self._others(node_id, row, ours.get(node_id, [0, 0, 0]))
            nodes.append(self._node(node_id, row, cpus, memory))
            cards += self._cards(node_id, row, gpus, leased.get(node_id, set()))
        return tuple(nodes), tuple(cards)

    def _parts(self, one: Held) -> Iterable[tuple[str, list[int]]]:
        """What it holds of each node in Slurm, which may have chosen others than it was meant for."""
        if self.settings.pinned:
            return one.asked.items()
        with contextlib.suppress(ValueError):  # it may be a user's own leader that says where it is
            return zip((self.node_id(name) for name in hosts(one.places)), one.asked.values(), strict=False)
        return ()

    def _others(self, node_id: str, row: NodeRow, ours: list[int]) -> tuple[int, int, int]:
        """What others hold: all that is held but ours. The controller's words on nodes and our knowledge of jobs are
        of two moments, so only what was seen twice counts."""
        now = (
            max(0, row.cpus_held - ours[0]), max(0, row.memory_held_mib - ours[1]),
            max(0, sum(one.count for one in row.gpus_held) - ours[2]),
        )  # fmt: skip
        before = self._taken.get(node_id, now)
        self._taken[node_id] = now
        return min(now[0], before[0]), min(now[1], before[1]), min(now[2], before[2])

    def _node(self, node_id: str, row: NodeRow, cpus: int, memory_mib: int) -> Node:
        state, reason = NodeState.READY, ""
        if row.down:
            state, reason = NodeState.DOWN, row.reason or f"Slurm says {row.state}"
        elif row.draining:
            state, reason = NodeState.DRAINING, CLUSTER_DRAINS + (row.reason or "drained")
        labels = {"engine": "slurm"} | {name: "yes" for name in row.features if _LABEL.fullmatch(name)}
        return Node(
            node_id, self.cluster_id, row.name, row.cpus * 1000, row.memory_mib, row.disk_mib or DISK_MIB, state,
            reason, labels, self.switches.above.get(row.name, ()), fake=self.settings.pretended,
            taken_cpu_milli=cpus * 1000, taken_memory_mib=memory_mib,
        )  # fmt: skip

    def _cards(self, node_id: str, row: NodeRow, others: int, leased: set[int]) -> list[Accelerator]:
        """The devices by number. Slurm alone knows which of them a job gets, so others' are counted off from the end,
        where none of ours is leased."""
        found: list[Accelerator] = []
        for devices in row.gpus:
            kind = self.kind(devices.kind)
            for _one in range(devices.count):
                index = len(found)
                found.append(Accelerator(
                    f"acc_{self.cluster}_{row.name}_{index}", node_id, index, kind,
                    "fake" if self.settings.pretended else _vendor(kind), self._memory_mib(kind, devices.kind),
                    fake=self.settings.pretended,
                ))  # fmt: skip
        free = [card.index for card in reversed(found) if card.index not in leased]
        taken = set(free[:others])
        return [card if card.index not in taken else _taken(card) for card in found]

    def _memory_mib(self, kind: str, slurm_type: str) -> int:
        size = _SIZE.search(slurm_type)
        known: Mapping[str, int] = self.settings.gpu_memory_mib
        return known.get(kind) or (int(size[1]) << 10 if size else DATA_SHEET_MIB.get(kind, 16 << 10))


def _vendor(kind: str) -> str:
    return "amd" if kind.startswith("MI") else "nvidia"


def _taken(card: Accelerator) -> Accelerator:
    return Accelerator(
        card.id, card.node_id, card.index, card.kind, card.vendor, card.memory_mib, fake=card.fake, taken=True
    )
