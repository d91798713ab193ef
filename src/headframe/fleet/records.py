"""The records of hardware and of who holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

# Sizes that accelerators are sold with, from the makers' data sheets: a driver reports a little less.
SOLD_GB = (2, 3, 4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 144, 180, 186, 192, 256, 288)


class NodeState(StrEnum):
    READY = "ready"
    DRAINING = "draining"  # runs what it has, takes nothing new
    DOWN = "down"  # not heard of, or its engine says that it is dead


class ClusterState(StrEnum):
    READY = "ready"
    DRAINING = "draining"  # runs what it has, takes nothing new
    LOST = "lost"  # given up: nothing is held there any more, and nothing new starts


class HoldState(StrEnum):
    """The life of an allocation."""

    STARTING = "starting"  # held, the engine prepares (free of charge)
    RUNNING = "running"
    STOPPING = "stopping"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Region:
    id: str
    name: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes under one engine. `engine` is a name of the engines' registry.

    `state` and `reason` are an operator's order. `unreachable_us` is since when nothing is heard of its engine (None:
    it is heard of), `trouble` why, as far as anybody knows.
    """

    id: str
    region_id: str
    name: str
    engine: str
    labels: dict[str, str] = field(default_factory=dict)
    state: ClusterState = ClusterState.READY
    reason: str = ""
    unreachable_us: int | None = None
    trouble: str = ""
    version: int = 1

    @property
    def takes_work(self) -> bool:
        """Whether anything new may start there."""
        return self.state == ClusterState.READY and self.unreachable_us is None


@dataclass(frozen=True, slots=True)
class Node:
    """One machine. `topology` goes from wide to near, such as ("block-1", "rack-7"). `fake` marks pretended devices.

    `taints` (`key` or `key=value`) keep away all jobs that do not tolerate them. `taken_cpu_milli` and
    `taken_memory_mib` are what others use of it, whom its cluster serves besides us.
    """

    id: str
    cluster_id: str
    name: str
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    state: NodeState = NodeState.READY
    reason: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    topology: tuple[str, ...] = ()
    fake: bool = False
    taints: tuple[str, ...] = ()
    taken_cpu_milli: int = 0
    taken_memory_mib: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device. `index` is its number on the node; `links` groups those with a fast link (NVLink domain). `taken`:
    others use it now, whom its cluster serves besides us.
    """

    id: str
    node_id: str
    index: int
    kind: str
    vendor: str
    memory_mib: int
    uuid: str = ""
    links: str = ""
    healthy: bool = True
    reason: str = ""
    fake: bool = False
    taken: bool = False
    version: int = 1

    @property
    def usable(self) -> bool:
        """Whether anything of ours may start on it."""
        return self.healthy and not self.taken

    @property
    def nominal_gib(self) -> int:
        """Memory as the data sheet says it: 81,559 MiB is an 80 GB card, 46,068 MiB a 48 GB one."""
        whole = -(-self.memory_mib // 1024)
        return next((size for size in SOLD_GB if whole <= size <= whole * 1.08), whole)


@dataclass(frozen=True, slots=True)
class Share:
    """A part of one accelerator: `milli` thousandths (1000 = whole)."""

    accelerator_id: str
    index: int
    kind: str
    milli: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What one task (rank) of a gang holds on one node."""

    rank: int
    node_id: str
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocation:
    """These resources, this job, this attempt, from `held_us` to `released_us`. The meter of the bill.

    `generation` is the job's attempt number: an engine refuses an older one. `running_us` is the moment from which
    time is charged. Its job is in `job_id`; owners are kept here so that money need not know jobs. `faulted` says
    that it ended through our fault (node failure), so that no minimum is charged. `metered_us` is how far usage
    records reach, `records` how many there are, `running_metered_us` how much running time they cover; `settled` that
    all of it is metered and charged, so that the loop need not keep it warm. `marks` are moments (ascending) from which
    its running time is of another kind: "stopped", "repair", or "running" again.
    """

    id: str
    organization_id: str
    project_id: str
    member_id: str
    job_id: str
    cluster_id: str
    generation: int
    purchase: str
    slices: tuple[Slice, ...]
    held_us: int
    state: HoldState = HoldState.STARTING
    running_us: int | None = None
    released_us: int | None = None
    reason: str = ""
    faulted: bool = False
    metered_us: int = 0
    records: int = 0
    running_metered_us: int = 0
    settled: bool = False
    marks: tuple[tuple[int, str], ...] = ()
    labels: dict[str, str] = field(default_factory=dict)  # the job's: its cost is told apart by them
    version: int = 1


class ReservationState(StrEnum):
    """The life of a reservation."""

    PLANNED = "planned"  # its time has not come
    ACTIVE = "active"  # its time has come: its jobs run there, and nobody else's
    ENDED = "ended"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity promised to an organization, or to one project of it, from `from_us` until `to_us`.

    Promised are `count` whole accelerators of `kind`, or, where `nodes` is not 0, that many whole nodes with nothing
    but such accelerators on them (`kind` "" is any, or none). `clusters` says where, as in a job. `slices` is the
    place that is kept for it now, each with the part of its node's CPU, memory and disk that goes with it; when nodes
    fail it is kept elsewhere, and `lacking` counts the accelerators or nodes for which there is no place at all.
    """

    id: str
    organization_id: str
    name: str
    from_us: int
    to_us: int
    project_id: str | None = None
    kind: str = ""
    count: int = 0
    nodes: int = 0
    clusters: tuple[str, ...] = ("any",)
    slices: tuple[Slice, ...] = ()
    lacking: int = 0
    state: ReservationState = ReservationState.PLANNED
    reason: str = ""
    member_id: str = ""
    created_us: int = 0
    version: int = 1

    @property
    def open(self) -> bool:
        return self.state in (ReservationState.PLANNED, ReservationState.ACTIVE)
