"""The records of use: what was held, what was counted, and how counting is defined."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A gap-free piece [from_us, to_us) of one allocation in one state, or of one meter of events. Written once.

    `id` is "<allocation id>.<number>" (or "<reading id>.<number>"), so that a repeat cannot be stored twice. `state` is
    "provisioning", "running" ("stopping" counts as running: the devices are still held by the job's processes),
    "stopped" (paused: only storage is charged), "repair" (held while we mend what is ours: free), or "counted" for
    meters of events. `quantities` are by meter: "gpu:<kind>" and "cpu" in thousandths held, "memory" and "disk" in MiB
    held; for a meter of events what came on top of what was counted for this piece before, which may be negative.
    `first` and `last` mark the ends of the allocation's running time; `running_before_us` is the running time before
    this piece; `faulted` that the allocation ended through our fault. `labels` are what the use is told apart by.
    `late_month` is the closed month that the use belongs to, when it was told of too late; "" otherwise.
    """

    id: str
    allocation_id: str
    job_id: str
    organization_id: str
    project_id: str
    member_id: str
    purchase: str
    region_id: str
    state: str
    from_us: int
    to_us: int
    quantities: dict[str, int] = field(default_factory=dict)
    last: bool = False
    running_before_us: int = 0
    faulted: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    late_month: str = ""


class Aggregation(StrEnum):
    """How the events of a window become one quantity."""

    SUM = "sum"
    COUNT = "count"
    MAX = "max"
    UNIQUE = "unique"
    LATEST = "latest"
    TIME_WEIGHTED = "time_weighted"  # a level that holds until the next event; the quantity is level x seconds


class Window(StrEnum):
    """The stretch of time (UTC) over which events are put together."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Meter:
    """How events are counted. `id` is its name, such as "tokens:input". Never changed once anything was counted.

    Counted are events of `event_type`; `path` leads to the number in their data, with dots (absent for count), and
    `group_by` are paths to what is told apart. `unit` is what one is called: "token", "GiB", "call".
    """

    id: str
    event_type: str
    aggregation: Aggregation
    unit: str
    path: str = ""
    group_by: tuple[str, ...] = ()
    window: Window = Window.HOUR
    created_us: int = 0
    used: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """Something used, as told from outside: a CloudEvent 1.0. A fact: unique by (source, id) of who tells it of whom.

    `id` is "<organization> <who tells> <source> <id of the event>"; only the last may hold a space, so no two are
    mistaken for each other.
    `arrival` counts them as they come in. `at_us` is when it happened, by the event's own word.
    """

    id: str
    arrival: int
    organization_id: str
    project_id: str
    type: str
    at_us: int
    received_us: int
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter of events shows for one project, group and window. `id` joins these.

    `value` is the quantity so far, all of which has become usage records (`records` of them).
    `level` is where a "time_weighted" meter stood at the end of the window: where it begins in the next.
    """

    id: str
    organization_id: str
    project_id: str
    meter: str
    labels: dict[str, str]
    from_us: int
    to_us: int
    value: int = 0
    level: int = 0
    records: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class Intake:
    """How far the events that came in have been counted: the `arrival` of the last one. There is one such record."""

    id: str
    arrival: int
    version: int = 1
