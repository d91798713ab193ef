"""What decides where a job may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from headframe.scheduling.limits import kind_meter
from headframe.scheduling.task import Task
from headframe.scheduling.where import Where
from headframe.workloads.spec import Gpus, Resources, Spec


@dataclass(frozen=True, slots=True)
class Want:
    """What decides where a job may go. Two jobs with equal wants fit in the same places.

    `labels`: node labels that must all be there, as `label=value`; `nodes`: names or ids of nodes, one of which each
    task must be on (empty: any); `tolerations`: taints that it bears; `exclusive`: each task holds a whole node;
    `within`, `home`, `only`: see `Where`. `least` is where the function remembers its answer.
    """

    resources: Resources
    nodes_min: int
    nodes_max: int
    topology: str
    clusters: tuple[str, ...]
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    exclusive: bool = False
    within: tuple[tuple[str, ...], ...] = ()
    home: str = ""
    only: tuple[str, ...] = ()
    least: Mapping[str, int] | None = field(init=False, repr=False, compare=False, default=None)
    _where: Where | None = field(init=False, repr=False, compare=False, default=None)
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Remember the hash: wants are looked up far more often than made."""
        key = (self.resources, self.nodes_min, self.nodes_max, self.topology, self.clusters, self.labels, self.nodes,
               self.tolerations, self.exclusive, self.within, self.home, self.only)  # fmt: skip
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, spec: Spec, home: str = "") -> Want:
        """What a request wants; `home` is the cluster whose checkpoints it must see."""
        return cls(
            spec.resources, spec.nodes_min, spec.nodes_max, spec.topology, spec.clusters,
            tuple(sorted(f"{name}={value}" for name, value in spec.node_labels.items())),
            spec.node_names, spec.tolerations, spec.exclusive, spec.within, home,
        )  # fmt: skip

    @property
    def alternatives(self) -> tuple[Gpus | None, ...]:
        return self.resources.gpus or (None,)

    @property
    def where(self) -> Where:
        known = self._where
        if known is None:
            known = Where(self.clusters, self.labels, self.nodes, self.tolerations, self.within, self.home, self.only)
            object.__setattr__(self, "_where", known)
        return known

    def task(self, gpus: Gpus | None) -> Task:
        """One of its tasks, with one of its alternatives."""
        wanted = self.resources
        linked = self.topology == "nvlink" and gpus is not None
        return Task(wanted.cpu_milli, wanted.memory_mib, wanted.disk_mib, gpus, self.where, self.exclusive, linked)


def least(want: Want) -> Mapping[str, int]:
    """The least that a gang of this want can hold."""
    known = want.least
    if known is None:
        known = _least(want)
        object.__setattr__(want, "least", known)  # asked for thousands of times in a pass
    return known


def _least(want: Want) -> Mapping[str, int]:
    gpu = min((gpus.count * gpus.milli for gpus in want.resources.gpus), default=0)
    amounts = {
        "gpu_milli": gpu * want.nodes_min,
        "cpu_milli": want.resources.cpu_milli * want.nodes_min,
        "memory_mib": want.resources.memory_mib * want.nodes_min,
    }
    kinds = {gpus.kind for gpus in want.resources.gpus}  # only asked
    if len(kinds) == 1 and (kind := want.resources.gpus[0].kind) is not None:
        amounts[kind_meter(kind)] = amounts["gpu_milli"]
    return MappingProxyType(amounts)
