"""What organizations and projects have used lately, from the usage records as they are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headframe.base.changes import Changes, revised
from headframe.control.world import World
from headframe.metering.records import UsageRecord
from headframe.scheduling.records import FairUse
from headframe.scheduling.shares import add


def fair_use(world: World, rows: Iterable[Any]) -> Changes:
    """Count new usage records in, for their organization and their project."""
    fresh: dict[str, FairUse] = {}
    for row in rows:
        if not isinstance(row, UsageRecord):
            continue
        amounts = {
            "gpu_milli": sum(amount for meter, amount in row.quantities.items() if meter.startswith("gpu:")),
            "cpu_milli": row.quantities.get("cpu", 0), "memory_mib": row.quantities.get("memory", 0),
        }  # fmt: skip
        for owner in (row.organization_id, row.project_id):
            known = fresh.get(owner) or world.get(FairUse, owner) or FairUse(owner, row.organization_id, version=0)
            fresh[owner] = add(known, amounts, row.from_us, row.to_us, world.rules.half_life_us)
    return Changes(tuple(revised(one, version=one.version + 1) for _, one in sorted(fresh.items())))
