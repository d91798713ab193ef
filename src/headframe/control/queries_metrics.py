"""What people may see of what was measured: series as columns, and what has just been added to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headframe.base.errors import Forbidden
from headframe.base.quantities import SECOND_US
from headframe.control.context import Context
from headframe.control.metrics import Stretch
from headframe.control.ports import Reads
from headframe.control.queries import find_job
from headframe.control.queries_map import sees_all
from headframe.control.queries_nodes import find_node
from headframe.control.world import World
from headframe.tenants.roles import Caller

LATELY_US = 30 * SECOND_US


@dataclass(frozen=True, slots=True)
class Lately:
    """What was measured last. Whoever has all up to `from_us` or later goes on with `items`; others fetch anew."""

    from_us: int
    items: list[dict[str, Any]]


def columns(found: Sequence[Stretch]) -> list[dict[str, Any]]:
    """Series as they are told: what they are of, and a list for each column of their points."""
    return [
        {
            "subject": one.series.subject, "name": one.series.name, "part": one.series.part,
            "reported": one.series.reported, "at_us": [row.at_us for row in one.rows],
            "mean": [row.mean for row in one.rows], "low": [row.low for row in one.rows],
            "high": [row.high for row in one.rows],
            "step": [row.step for row in one.rows] if any(row.step is not None for row in one.rows) else None,
        }
        for one in found
    ]  # fmt: skip


def subjects_of_node(world: World, context: Context, caller: Caller, named: str) -> list[str]:
    """A node and its accelerators, for the operator: what is measured there tells of everybody's jobs."""
    if not sees_all(caller):
        raise Forbidden(
            "What is measured of a node tells of everybody's jobs on it: it is the operator's to see.",
            next_step="Your own jobs' measures: headframe metrics JOB.",
        )
    node, capacity = find_node(world, caller, named), world.derived.capacity
    row = capacity.row.get(node.id)
    return [node.id, *(device.id for device in (capacity.devices[row] if row is not None else ()))]


def lately(world: World, context: Context, caller: Caller, argument: str = "") -> Callable[[Reads], Lately]:
    """What was measured last of a job, or of a node and its accelerators; from memory, so that many may look."""
    if argument.startswith("nod_"):
        subjects = subjects_of_node(world, context, caller, argument)
    else:
        subjects = [find_job(world, context, caller, argument).id]
    newest = context.gauges.newest_points

    def read(reads: Reads) -> Lately:
        from_us, found = newest(subjects, LATELY_US)
        return Lately(from_us, columns(found))

    return read
