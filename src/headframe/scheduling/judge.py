"""What one pass looks at, and what a job would get at a point of it. `plan` and the explanations ask the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from headframe.jobs.records import Job
from headframe.scheduling import choose
from headframe.scheduling.borrowing import Shortage
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import fit, may_fit
from headframe.scheduling.limits import Binding, binding, needs
from headframe.scheduling.queue import Bucket
from headframe.scheduling.snapshot import Slices, Snapshot
from headframe.scheduling.want import Want, least


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a job starts, or why not: `reason` is placed, no_capacity, quota, borrowing, parallel, or a block.

    `bound` is the limit that binds, `shortage` what may be held on a branch of the quotas, `wait` the better cluster
    that is worth waiting for ("better_cluster").
    """

    slices: Slices | None
    reason: str = "placed"
    bound: Binding | None = None
    shortage: Shortage | None = None
    wait: choose.Wait | None = None


def judge(snapshot: Snapshot, bucket: Bucket, job: Job | None = None) -> Verdict:
    """What a job of this bucket would get at this point of the pass; `job` is the one, where it is known."""
    block = barred(snapshot, bucket)
    if block:
        return Verdict(None, block)
    verdict = seek(snapshot, bucket, job)
    if verdict.slices is None:
        return verdict
    reason = snapshot.short(bucket, verdict.slices)
    return Verdict(None, reason) if reason else verdict


def barred(snapshot: Snapshot, bucket: Bucket) -> str:
    """Why a job of this bucket may not start whatever is free, or ""."""
    block = snapshot.blocked(*bucket.owners)
    if not block and bucket.parent_id is not None:
        limit = snapshot.parallel.get(bucket.parent_id, 0)
        if limit and snapshot.running.get(bucket.parent_id, 0) >= limit:
            return "parallel"
    return block


def seek(snapshot: Snapshot, bucket: Bucket, job: Job | None = None) -> Verdict:
    """A place within quotas, or what is lacking; money is not asked for."""
    asked = least(bucket.want)
    quick = within(snapshot, bucket, asked)
    if quick is not None:
        return quick
    if bucket.reservation is None and not may_fit(snapshot.capacity, bucket.want):
        return Verdict(None, "no_capacity")
    room = snapshot.capacity if snapshot.agenda is None else snapshot.agenda.room(bucket, job)
    if isinstance(room, str):
        return Verdict(None, room)
    order = choose.tiers(snapshot, bucket)
    clear = snapshot.agenda.clear_room(bucket, job) if snapshot.agenda is not None else None
    slices = fit(clear, bucket.want, order) if clear is not None else None
    slices = slices or fit(room, bucket.want, order)
    if slices is None:
        return Verdict(None, "no_capacity")
    kept = choose.wait(snapshot, bucket, job, order, slices)
    if kept is not None:
        return Verdict(None, "better_cluster", wait=kept)
    amounts = needs(slices)
    beyond = within(snapshot, bucket, amounts) if amounts != asked else None
    if beyond is None:
        return Verdict(slices)
    for want in _narrower(room, bucket.want):
        slices = fit(room, want, order)
        if slices is not None and within(snapshot, bucket, needs(slices)) is None:
            return Verdict(slices)
    return beyond


def within(snapshot: Snapshot, bucket: Bucket, amounts: Mapping[str, int]) -> Verdict | None:
    """The refusal when `amounts` more would break a limit, or take more than may be borrowed; None when not."""
    bound = binding(snapshot.quotas, snapshot.holdings, bucket.owners, amounts)
    if bound is not None:
        return Verdict(None, "quota", bound)
    shortage = snapshot.borrowing.short(bucket.owners, amounts) if snapshot.borrowing is not None else None
    return None if shortage is None else Verdict(None, "borrowing", shortage=shortage)


def _narrower(room: Capacity, want: Want) -> Iterator[Want]:
    """Each alternative by itself, any kind as one kind after the other, with the least gang: a quota may admit it."""
    for gpus in want.alternatives:
        if gpus is not None and gpus.kind is None:
            for kind in room.kinds:
                one = replace(gpus, kind=kind)
                yield replace(want, resources=replace(want.resources, gpus=(one,)), nodes_max=want.nodes_min)
            continue
        chosen = () if gpus is None else (gpus,)
        yield replace(want, resources=replace(want.resources, gpus=chosen), nodes_max=want.nodes_min)
