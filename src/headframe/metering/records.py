"""The record of use."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A gap-free piece [from_us, to_us) of one allocation in one state. A fact: written once.

    `id` is "<allocation id>.<number>", so that a repeat cannot be stored twice. `state` is "provisioning" or
    "running" ("stopping" counts as running: the devices are still held by the job's processes). `quantities` are
    what was held during the piece, by meter: "gpu:<kind>" and "cpu" in thousandths, "memory" and "disk" in MiB.
    `first` and `last` mark the ends of the allocation's running time; `running_before_us` is the running time before
    this piece; `faulted` that the allocation ended through our fault.
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
