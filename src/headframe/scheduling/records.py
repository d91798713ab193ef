"""The records of scheduling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FairUse:
    """What an organization or a project has used lately: what is longer ago counts less, by half every half-life.

    `id` is the organization's or the project's. Amounts are thousandths of a GPU and of a core, and MiB, times
    seconds, as they count at the step `step` (steps of a 1024th of the half-life, since 1970).
    """

    id: str
    organization_id: str
    step: int = 0
    gpu_milli: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    version: int = 1
