"""From an allocation to the usage records that tile it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from headframe.base.quantities import HOUR_US
from headframe.fleet.records import Allocation, Slice
from headframe.metering.records import UsageRecord


def hour_start_us(moment_us: int) -> int:
    """The start of the UTC hour that holds the moment."""
    return moment_us - moment_us % HOUR_US


def quantities(slices: tuple[Slice, ...]) -> dict[str, int]:
    """What all slices hold together, by meter: accelerators and cores in thousandths, memory and disk in MiB.

    A meter of which nothing is held is left out.
    """
    held: dict[str, int] = {}
    for part in slices:
        for share in part.shares:
            held[f"gpu:{share.kind}"] = held.get(f"gpu:{share.kind}", 0) + share.milli
        held["cpu"] = held.get("cpu", 0) + part.cpu_milli
        held["memory"] = held.get("memory", 0) + part.memory_mib
        held["disk"] = held.get("disk", 0) + part.disk_mib
    return {meter: held[meter] for meter in sorted(held) if held[meter] > 0}


def meter(allocation: Allocation, region_id: str, until_us: int) -> tuple[tuple[UsageRecord, ...], Allocation]:
    """The records of [metered so far, `until_us` or the release if earlier), and the allocation that remembers them.

    Cuts are made where the state changes and at each UTC hour, hence also between days and months. Time before
    `running_us` is "provisioning", later time "running" or as `marks` say. An allocation that never ran is all
    provisioning, or all repair. A moment that is told too late (a release dated before `metered_us`) changes no record.
    """
    start = allocation.metered_us if allocation.records else allocation.held_us
    released = allocation.released_us
    end = max(start, until_us if released is None else min(until_us, released))
    settled = released is not None and end >= released
    held = quantities(allocation.slices)
    records: list[UsageRecord] = []
    ran_us = allocation.running_metered_us
    for from_us, to_us, state in _pieces(start, end, states_of(allocation)):
        records.append(
            UsageRecord(
                id=f"{allocation.id}.{allocation.records + len(records)}",
                allocation_id=allocation.id,
                job_id=allocation.job_id,
                organization_id=allocation.organization_id,
                project_id=allocation.project_id,
                member_id=allocation.member_id,
                purchase=allocation.purchase,
                region_id=region_id,
                state=state,
                from_us=from_us,
                to_us=to_us,
                quantities=held,
                last=state == "running" and settled and to_us == end,
                running_before_us=ran_us,
                faulted=allocation.faulted,
                labels=allocation.labels,
            )
        )
        ran_us += to_us - from_us if state == "running" else 0
    after = replace(
        allocation,
        metered_us=end,
        records=allocation.records + len(records),
        running_metered_us=ran_us,
        settled=settled,
        version=allocation.version + 1,
    )
    return tuple(records), after


def states_of(allocation: Allocation) -> list[tuple[int, str]]:
    """The states of an allocation and the moments from which they hold, in order of time; the first from all time on.

    A mark at the very beginning says what kind of time it is until it runs; later marks count from when it runs.
    """
    marks, running_us = allocation.marks, allocation.running_us
    first = marks[0][1] if marks and marks[0][0] <= allocation.held_us else "provisioning"
    states = [(-(1 << 62), first)]
    if running_us is not None:
        states.append((running_us, "running"))
        states += [(at_us, state) for at_us, state in marks if at_us >= running_us and at_us > allocation.held_us]
    return states


def _pieces(start: int, end: int, states: list[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """[start, end) cut where the state changes and at each hour: (from, to, state)."""
    place = 0
    while start < end:
        while place + 1 < len(states) and states[place + 1][0] <= start:
            place += 1
        stop = min(end, hour_start_us(start) + HOUR_US)
        if place + 1 < len(states):
            stop = min(stop, states[place + 1][0])
        yield start, stop, states[place][1]
        start = stop
