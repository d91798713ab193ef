"""What is said between control and an engine: actions go down, observations and node reports come up.

Every action carries (allocation, generation). All are idempotent: the same launch twice is one launch; a stop of
something unknown is an observation that it is gone. An engine refuses an older generation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headframe.fleet.records import Accelerator, Node, Slice

# What an engine may tell of how busy a task was, summed over its looks, so that it stays small however long a job runs.
# Never the basis of a bill. A look tells of the time since the one before: `sampled_us` is that time summed,
# `cpu_idle_us` the part of it with less than 5 % of one core used for each task, `cpu_peak_milli` the most cores that
# were used in one such stretch. The same for accelerators, each by its own time: `gpu_us`, `gpu_idle_us` (less than
# 5 % busy), `gpu_busy_us` (time x how busy), `gpus_used` (how many were ever busy), `gpu_peak_mib` (most memory used on
# one). `gpu_guessed_us` is the part of `gpu_us` that no driver told, taken from the use of CPU. `step_first` and
# `step_last` are the first and the newest step that a job reported of itself, with the moments of both.
SAMPLED = (
    "sampled_us", "cpu_idle_us", "cpu_peak_milli", "gpu_us", "gpu_idle_us", "gpu_busy_us", "gpu_guessed_us",
    "gpus_used", "gpu_peak_mib", "step_first", "step_first_us", "step_last", "step_last_us",
)  # fmt: skip


# The reason of a node that its own cluster drains begins so: it ends when the cluster says so, unlike our operators'.
CLUSTER_DRAINS = "in its cluster: "


class Seen(StrEnum):
    """What an engine sees of an allocation."""

    PREPARING = "preparing"  # files, environment, image
    RUNNING = "running"
    EXITED = "exited"  # all tasks ended; `exit_code` decides
    FAILED = "failed"  # could not be started: `detail` says why (the job's fault or the engine's, see `fault`)
    LOST = "lost"  # the engine had it and cannot say how it ended (machine restarted)
    ABSENT = "absent"  # the engine knows nothing of it


@dataclass(frozen=True, slots=True)
class Launch:
    """Start these tasks. `work` is the job's specification as plain JSON; `env` and `secrets` come ready to set.

    `secrets` must never be logged or written where other tenants can read.
    """

    allocation_id: str
    generation: int
    job_id: str
    job_name: str
    organization_id: str
    organization_number: int
    project_id: str
    slices: tuple[Slice, ...]
    work: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    datasets: tuple[tuple[str, str], ...] = ()  # (name in the job, content hash of the manifest)


@dataclass(frozen=True, slots=True)
class Stop:
    """End it: `signal` first, SIGKILL to the whole tree after `grace_us`."""

    allocation_id: str
    generation: int
    reason: str
    signal: str = "SIGTERM"
    grace_us: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the tasks and let them go on (a warning before a stop)."""

    allocation_id: str
    generation: int
    signal: str = "SIGUSR1"


@dataclass(frozen=True, slots=True)
class Forget:
    """The end is on record: the engine may drop what it keeps of the allocation (logs and outputs stay)."""

    allocation_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What an engine sees now of one allocation.

    `at_us` is when that state began (for EXITED the exact end). `running_us` is when the tasks began to run, repeated
    in every later observation, so that a lost RUNNING costs nothing. `exit_code` is 0..255, or 128 + signal. `fault` is
    "job", "node" or "engine": whose failure a FAILED or LOST is. `story` are sentences worth telling (warnings such
    as a missing sandbox, an environment built, a checkpoint passed over), in order; an engine repeats them until
    the allocation is forgotten and the loop records each once.
    """

    allocation_id: str
    generation: int
    seen: Seen
    at_us: int
    running_us: int | None = None
    exit_code: int | None = None
    fault: str = "job"
    detail: str = ""
    pid: int | None = None
    resumed_from: str = ""
    checkpoint_us: int | None = None
    story: tuple[str, ...] = ()
    use: dict[str, int] = field(default_factory=dict)  # cpu_us, memory_peak_mib, SAMPLED


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An engine says that its cluster does not answer. It need not: a cluster of which nothing is heard for a while
    counts as unreachable, too. The next report ends it.
    """

    at_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """A full observation of one engine: all allocations it knows, all nodes it has."""

    at_us: int
    observations: tuple[Observation, ...]
    nodes: tuple[Node, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
