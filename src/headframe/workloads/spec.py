"""The normalized request: what a job file says, with units resolved and defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass, field

RETRY_REASONS = ("node_failure", "preemption", "error")
TOPOLOGIES = ("none", "nvlink", "node", "rack", "block", "cluster")
PREFERENCES = ("cheapest", "listed", "packed")
PURCHASES = ("on-demand", "reserved", "spot", "filler")


@dataclass(frozen=True, slots=True)
class Gpus:
    """One acceptable set of accelerators for each node: `count` devices of `milli` thousandths each.

    `kind` None means any kind; memory bounds are the data sheet's GB per device (None: no bound). A fraction has
    count 1 and milli below 1000.
    """

    kind: str | None = None
    count: int = 1
    milli: int = 1000
    memory_min_gib: int | None = None
    memory_max_gib: int | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What each task (node of the gang) gets. `gpus` are alternatives in order of preference; empty: none.

    `speeds` is how fast a task runs on a kind, in thousandths, where the job says so (then the fastest comes first).
    """

    gpus: tuple[Gpus, ...] = ()
    cpu_milli: int = 1000
    cpu_max_milli: int | None = None
    memory_mib: int = 1024
    memory_max_mib: int | None = None
    disk_mib: int = 0
    shm_mib: int = 64
    speeds: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the job writes checkpoints (relative to its working folder) and how many are kept."""

    path: str
    keep: int = 3


@dataclass(frozen=True, slots=True)
class Retry:
    on: tuple[str, ...] = ("node_failure", "preemption")
    max: int = 3


@dataclass(frozen=True, slots=True)
class Array:
    """Indices `first`..`last` inclusive; at most `parallel` of them at once (0: no bound)."""

    first: int
    last: int
    parallel: int = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """A valid request. Times in microseconds, memory in MiB, money in nano-units.

    `files` is the content hash of an uploaded manifest. `datasets` are (name in the job, dataset, version).
    `nodes_min`..`nodes_max` tasks form the gang (equal unless elastic). `isolation` is "preferred" or "required".
    Every task's node carries all of `node_labels`, is one of `node_names` (names or ids; empty: any) and has no taint
    but `tolerations`; with `exclusive` each task holds its whole node. `prefer` is one of `PREFERENCES`, or "" for the
    cloud's own. On record the values of `env` are sealed. `within` and `near` follow from its datasets: groups of names
    of clusters, regions or labels, of each of which it must have one, or would rather.
    """

    name: str
    type: str = "batch"
    resources: Resources = field(default_factory=Resources)
    nodes_min: int = 1
    nodes_max: int = 1
    topology: str = "none"
    image: str | None = None
    python: str | None = None
    packages: tuple[str, ...] = ()
    files: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    datasets: tuple[tuple[str, str, str], ...] = ()
    checkpoints: Checkpoints | None = None
    setup: tuple[str, ...] = ()
    run: str = ""
    retry: Retry = field(default_factory=Retry)
    max_duration_us: int | None = None
    warn_before_stop_us: int = 0
    warn_signal: str = "SIGUSR1"
    priority: int = 50
    purchase: str = "on-demand"
    reservation: str | None = None  # a name in a job file; the id on record
    max_price_nano: int | None = None  # per GPU-hour, spot only
    budget_nano: int | None = None
    currency: str = "USD"
    cron: str | None = None
    array: Array | None = None
    after: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ("any",)
    prefer: str = ""
    spill_after_us: int = 0
    within: tuple[tuple[str, ...], ...] = ()
    near: tuple[tuple[str, ...], ...] = ()
    labels: dict[str, str] = field(default_factory=dict)  # what its cost is told apart by; sorted
    node_labels: dict[str, str] = field(default_factory=dict)
    node_names: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    exclusive: bool = False
    isolation: str = "preferred"
