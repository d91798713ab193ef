"""The jobs of a trace and the machines that they are replayed on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from headframe.base.errors import Invalid
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.packing_simple import Packing
from headframe.scheduling.want import Want
from headframe.workloads.spec import Gpus, Resources

MILLION = 1_000_000
MOST_NODES, MOST_PER_NODE, MOST_KINDS = 100_000, 64, 16
ALLOWED = "groups such as 8xH100:8 (eight nodes of eight H100), with commas between"
_GROUP = re.compile(r"([0-9]{1,6})x([A-Za-z0-9][A-Za-z0-9_.-]{0,39}):([0-9]{1,2})")


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One line of a trace. `id` sorts by the order in the file.

    `work_us` is how long it runs alone at speed 1. `speeds` is its speed by kind in millionths; a kind that is not
    named runs it at speed 1, and 0 means that it cannot run there. `restart_us` is what a start costs it. `owner` and
    `model` are who asked and what it is, where the trace says so.
    """

    id: str
    submitted_us: int
    gpus: int
    work_us: int
    owner: str = ""
    model: str = ""
    restart_us: int | None = None
    speeds: Mapping[str, int] = field(default_factory=dict)

    def speed(self, kind: str) -> int:
        """Millionths of the speed at which `work_us` is told."""
        return self.speeds.get(kind, MILLION)


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that are alike: `nodes` of them with `gpus` devices of `kind` each."""

    nodes: int
    kind: str
    gpus: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines of a replay: one cluster, node ids in the order of the groups."""

    groups: tuple[Group, ...]

    @property
    def gpus(self) -> int:
        return sum(group.nodes * group.gpus for group in self.groups)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(group.kind for group in self.groups))

    @property
    def text(self) -> str:
        return ",".join(f"{group.nodes}x{group.kind}:{group.gpus}" for group in self.groups)

    def capacity(self, packing: Packing | None = None) -> Capacity:
        """All of it, free."""
        nodes: list[Node] = []
        devices: list[Accelerator] = []
        for group in self.groups:
            for _ in range(group.nodes):
                name = f"node_{len(nodes):06d}"
                nodes.append(Node(name, "trace", name, 1_000_000, 1 << 30, 1 << 30))
                devices += [
                    Accelerator(f"{name}_{index:02d}", name, index, group.kind, "", 80 << 10)
                    for index in range(group.gpus)
                ]
        clusters = {"trace": Cluster("trace", "trace", "trace", "scripted")}
        return Capacity({"trace": Region("trace", "trace")}, clusters, nodes, devices, packing=packing)

    def want(self, gpus: int, kind: str | None = None) -> Want | None:
        """What a job of so many GPUs asks for here, of one kind or of any; None when that is more than there is.

        It sits on one node where one is large enough, else on equal tasks of the largest size that divides it.
        """
        fitting = [group for group in self.groups if kind in (None, group.kind)]
        size = max((group.gpus for group in fitting), default=0)
        if not fitting or gpus > sum(group.nodes * group.gpus for group in fitting):
            return None
        each = gpus if gpus <= size else next(part for part in range(size, 0, -1) if gpus % part == 0)
        tasks = gpus // each
        if tasks > sum(group.nodes * (group.gpus // each) for group in fitting):
            return None
        one = Resources(gpus=(Gpus(kind, each),), cpu_milli=0, memory_mib=0)
        return Want(one, tasks, tasks, "none", ("any",))


def parse_fleet(text: str, *, field: str = "--fleet") -> Fleet:
    """Read `8xH100:8,4xA100:4`; raises `Invalid`."""
    groups = []
    for part in text.split(","):
        match = _GROUP.fullmatch(part.strip())
        if match is None:
            raise Invalid(f"{field} has {part.strip()!r}, which is not a group of nodes.", field=field, value=text,
                          allowed=ALLOWED)  # fmt: skip
        groups.append(Group(int(match[1]), match[2], int(match[3])))
    if not all(group.nodes and 0 < group.gpus <= MOST_PER_NODE for group in groups):
        raise Invalid(f"{field} has a group without nodes or with more than {MOST_PER_NODE} GPUs on one.",
                      field=field, value=text, allowed=ALLOWED)  # fmt: skip
    if sum(group.nodes for group in groups) > MOST_NODES or len(groups) > MOST_KINDS:
        raise Invalid(f"{field} is larger than {MOST_NODES} nodes or has more than {MOST_KINDS} groups.",
                      field=field, value=text, allowed=ALLOWED)  # fmt: skip
    return Fleet(tuple(groups))
