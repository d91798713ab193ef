"""What must hold of order: who makes way for whom, what is borrowed, and what counts as used."""

from __future__ import annotations

from collections import defaultdict

from headframe.base.changes import Event
from headframe.fleet.records import Allocation
from headframe.jobs.records import Job, JobState
from headframe.metering.records import UsageRecord
from headframe.scheduling.limits import METERS, needs
from headframe.scheduling.queue import CLASS_RANK
from headframe.scheduling.records import FairUse
from headframe.sim.checkers import Quotas, Scene, Violation
from headframe.tenants.records import Quota, Scope

STOPPABLE = CLASS_RANK["spot"]
PATIENCE = 3  # looks in a row for which a place may be kept though nobody leaves


class MakingWay:
    """Jobs make way by rule only, are warned as they asked, come back, and their places are used or given up."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._warned_us: dict[str, int] = {}
        self._idle: dict[str, int] = defaultdict(int)

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            orders = {one.subject: one for one in changes.events if one.kind == "preemption_ordered"}
            for row in changes.rows:
                if isinstance(row, Job):
                    self._job(row, orders)
                    self._jobs[row.id] = row
        left = set(scene.world.derived.leaving.values())  # only asked
        for job_id in sorted(scene.world.derived.claims):
            self._idle[job_id] = 0 if job_id in left else self._idle[job_id] + 1
            if self._idle[job_id] > PATIENCE:
                raise Violation("MakingWay", f"a place is kept for {job_id}, but nobody leaves it")

    def _job(self, job: Job, orders: dict[str, Event]) -> None:
        before = self._jobs.get(job.id)
        if job.yields_to and (before is None or not before.yields_to) and job.id in orders:
            self._lawful(job, self._jobs.get(job.yields_to), orders[job.id])
            self._warned_us[job.id] = orders[job.id].at_us
        if before is None:
            return
        stopped = job.state is JobState.STOPPING and before.state is JobState.RUNNING
        if stopped and job.stop_reason == "preemption" and before.yields_us is not None and job.stop_at_us is not None:
            given_us = before.yields_us - self._warned_us[job.id]
            if given_us < job.spec.warn_before_stop_us:
                raise Violation("MakingWay", f"{job.id} was given {given_us} us instead of its warning time")
        ended = before.state is JobState.STOPPING and before.stop_reason == "preemption"
        if ended and job.state is JobState.FAILED and job.reason == "preemption" and "preemption" in job.spec.retry.on:
            raise Violation("MakingWay", f"{job.id} made way and does not come back")
        if ended and job.reason == "retry_after_preemption" and job.failures != before.failures:
            raise Violation("MakingWay", f"{job.id} made way, and that counts as its failure")

    @staticmethod
    def _lawful(job: Job, whom: Job | None, order: Event) -> None:
        if whom is None or whom.state is not JobState.QUEUED:
            raise Violation("MakingWay", f"{job.id} makes way for {job.yields_to}, which does not wait")
        theirs, mine, cause = CLASS_RANK[job.spec.purchase], CLASS_RANK[whom.spec.purchase], order.detail["cause"]
        lawful = {
            "class": theirs > mine and theirs >= STOPPABLE,
            "priority": theirs == mine and job.spec.priority < whom.spec.priority,
            "reclaim": theirs >= mine,
            "turn": theirs == mine and "preemption" in job.spec.retry.on and job.spec.checkpoints is not None,
        }.get(cause, True)  # moves and shrinking are of one's own making
        if not lawful:
            raise Violation("MakingWay", f"{job.id} ({job.spec.purchase}) makes way for {whom.id} by {cause}")


class Borrowed(Quotas):
    """Nothing begins to hold more than its project or organization may hold with what it may borrow."""

    def _check(self, quota: Quota, begun: Allocation) -> None:
        if quota.scope is Scope.MEMBER:
            return
        asked = needs(begun.slices)
        for meter, more in quota.borrow.items():
            held = sum(
                needs(one.slices)[meter]
                for one in self._held.values()
                if quota.scope_id in (one.organization_id, one.project_id)
            )
            bound = quota.guaranteed.get(meter, 0) + more
            if asked[meter] and held > bound:
                raise Violation("Borrowed", f"{quota.scope_id} holds {held} {meter} of {bound} with {begun.id}")


class FairUses:
    """What counts as used lately is what the usage records say, less what has faded."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], int] = defaultdict(int)
        self._records = 0

    def look(self, scene: Scene) -> None:
        for row in scene.rows(UsageRecord):
            self._records += 1
            amounts = {
                "gpu_milli": sum(amount for meter, amount in row.quantities.items() if meter.startswith("gpu:")),
                "cpu_milli": row.quantities.get("cpu", 0), "memory_mib": row.quantities.get("memory", 0),
            }  # fmt: skip
            for owner in (row.organization_id, row.project_id):
                for meter in METERS:
                    self._used[owner, meter] += amounts[meter] * (row.to_us - row.from_us)
        if not scene.last:
            return
        for (owner, meter), used in sorted(self._used.items()):
            use = scene.world.get(FairUse, owner)
            counted = getattr(use, meter) if use is not None else 0
            # Half-lives are days, worlds hours: a little has faded, and each record is rounded down once.
            if not used // 1_000_000 * 9 // 10 - self._records <= counted <= used // 1_000_000:
                raise Violation("FairUses", f"{counted} {meter} count for {owner}, which used {used // 1_000_000}")
