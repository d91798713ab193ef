"""What a trace can be replayed under: policies put together from the scheduler's own orders, packings and choices.

Three ways to decide, each by the product's own function: a pass over the queue (`place`), after which what runs runs
on; turns (`turns`), under which running jobs make way; and kinds by price (`throughput`), where kinds differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from headframe.base.errors import Invalid
from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.jobs.records import Job
from headframe.scheduling import throughput
from headframe.scheduling.fit import fit
from headframe.scheduling.likely import Likely
from headframe.scheduling.limits import Holdings
from headframe.scheduling.order import ORDERS, Facts, Key, Order
from headframe.scheduling.place import PASS_LIMIT, place
from headframe.scheduling.queue import Queue
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.turns import Turns, drained_us, no_straggler
from headframe.scheduling.want import Want
from headframe.sim.trace_jobs import MILLION, Fleet
from headframe.sim.trace_replay import Active, Floor, Policy, Slices
from headframe.workloads.spec import Spec

QUANTUM_US = HOUR_US
ROUND_US = 6 * MINUTE_US
RENEW_EVERY = 10  # decisions between two looks at what is likely
_LAS = ORDERS["least-attained-service"].key


class Wants:
    """What jobs of a trace ask for on a fleet, made once for each size and set of kinds."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._made: dict[tuple[int, tuple[str, ...]], Want | None] = {}

    def of(self, one: Active) -> Want | None:
        """Any kind on which it runs at all, in the order of the fleet; None when it could never run."""
        return self.on(one.job.gpus, tuple(kind for kind in self._fleet.kinds if one.job.speed(kind) > 0))

    def on(self, gpus: int, kinds: tuple[str, ...]) -> Want | None:
        known = self._made.get((gpus, kinds), False)
        if known is not False:
            return known if isinstance(known, Want) else None
        found = [want for kind in kinds if (want := self._fleet.want(gpus, kind)) is not None]
        same = [want for want in found if want.nodes_min == found[0].nodes_min]
        want = None
        if same:  # alternatives are sets of devices for a gang of one size
            every = tuple(each for want in same for each in want.resources.gpus)
            want = replace(same[0], resources=replace(same[0].resources, gpus=every))
        self._made[gpus, kinds] = want
        return want


class Passes:
    """Passes over the queue: what runs runs to its end."""

    moves = False
    quantum_us: int | None = None

    def __init__(self, order: Order, every_us: int | None = None) -> None:
        self.every_us = every_us
        self._order = order
        self._queue = Queue()
        self._jobs: dict[str, Job] = {}
        self._wants: Wants | None = None

    def arrive(self, floor: Floor, one: Active) -> bool:
        self._wants = self._wants or Wants(floor.fleet)
        want = self._wants.of(one)
        if want is None or fit(floor.capacity.emptied(), want) is None:
            return False
        job = one.job
        spec = Spec(job.id, resources=want.resources, nodes_min=want.nodes_min, nodes_max=want.nodes_max)
        owner = job.owner or "all"
        record = Job(job.id, owner, owner, owner, job.id, spec, job.submitted_us)
        self._jobs[job.id] = record
        self._queue.add(record, 0)
        return True

    def end(self, floor: Floor, one: Active) -> None:
        """Nothing is kept of a job that runs."""

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices] | None:
        if not len(self._queue):
            return None
        starts: dict[str, Slices] = {}
        snapshot = Snapshot(
            capacity=floor.capacity.scratch(), queue=self._queue, jobs=self._jobs, quotas={}, holdings=Holdings(),
            parallel={}, running={}, blocked=lambda *_: "", order=self._order, now_us=now_us,
            remaining=lambda job: floor.active[job.id].left_us,
        )  # fmt: skip
        while True:
            found = place(snapshot).starts
            for start in found:
                self._queue.remove(start.job.id)
                del self._jobs[start.job.id]
                starts[start.job.id] = start.slices
            if len(found) < PASS_LIMIT:
                return starts


def facts_of(one: Active) -> Facts:
    """What an order may look at, of a job of a trace whose length is known."""
    job = one.job
    return Facts(
        job.id, job.submitted_us, gpu_milli=job.gpus * 1000, remaining_us=one.left_us, attained_us=one.had_us,
        waited_us=one.waited_us,
    )  # fmt: skip


class TakingTurns:
    """Turns: whoever comes first in the order runs, whether it ran before or not."""

    moves = True

    def __init__(
        self, key: Callable[[Facts], Key], *, quantum_us: int | None = None, every_us: int | None = None,
        settle: bool = True,
    ) -> None:  # fmt: skip
        self.quantum_us, self.every_us = quantum_us, every_us
        self._order_key, self._settle = key, settle
        self._turns = Turns()
        self._wants: Wants | None = None

    def arrive(self, floor: Floor, one: Active) -> bool:
        self._wants = self._wants or Wants(floor.fleet)
        want = self._wants.of(one)
        if want is None or fit(floor.capacity.emptied(), want) is None:
            return False
        self._turns.put(one.job.id, want, self._order_key(facts_of(one)))
        return True

    def end(self, floor: Floor, one: Active) -> None:
        self._turns.remove(one.job.id)

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices]:
        self._reorder(floor.running.values())
        dealt = self._turns.deal(floor.capacity.emptied())
        return self._turns.settle(floor.capacity.emptied(), dealt, floor.held) if self._settle else dealt

    def _reorder(self, jobs: Iterable[Active]) -> None:
        """Put jobs where they stand by now."""
        for one in jobs:
            want = self._wants.of(one) if self._wants else None
            assert want is not None, "what has arrived could have a place"
            self._turns.put(one.job.id, want, self._order_key(facts_of(one)))


class NoStraggler(TakingTurns):
    """Turns for the least GPU time left, and for whoever would hold up the end of all."""

    def __init__(self, every_us: int | None = None) -> None:
        super().__init__(self._key, every_us=every_us)
        self._drained_us = 0

    def _key(self, facts: Facts) -> Key:
        return no_straggler(facts, self._drained_us)

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices]:
        left = ((one.left_us, one.job.gpus) for one in floor.active.values())
        self._drained_us = drained_us(left, floor.fleet.gpus) - (self.every_us or 0)
        self._reorder(floor.active.values())
        return super().decide(floor, now_us)


class Learned(TakingTurns):
    """Turns for the least GPU time that is likely to be needed, by what earlier jobs of the same size took."""

    def __init__(self, every_us: int | None = None) -> None:
        super().__init__(self._key, every_us=every_us, quantum_us=QUANTUM_US)
        self._likely = Likely()
        self._decisions = 0

    def _key(self, facts: Facts) -> Key:
        left_us = self._likely.left_us(facts.gpu_milli, facts.attained_us)
        return ORDERS["shortest-service"].key(replace(facts, remaining_us=left_us))

    def end(self, floor: Floor, one: Active) -> None:
        super().end(floor, one)
        self._likely.learn(one.job.gpus * 1000, one.job.work_us)

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices]:
        self._decisions += 1
        if self._decisions % RENEW_EVERY == 0:
            self._likely.renew([(one.job.gpus * 1000, one.had_us) for one in floor.active.values()])
            self._reorder(floor.active.values())
        return super().decide(floor, now_us)


class ByKind:
    """Kinds by price: every round each job gets the kind that is worth the most to it above its price, or none."""

    moves = True
    quantum_us: int | None = None

    def __init__(self, weight: str, every_us: int = ROUND_US) -> None:
        self.every_us: int | None = every_us
        self._weight, self._round_us = weight, every_us
        self._wants: Wants | None = None

    def arrive(self, floor: Floor, one: Active) -> bool:
        self._wants = self._wants or Wants(floor.fleet)
        return self._wants.of(one) is not None

    def end(self, floor: Floor, one: Active) -> None:
        """Nothing is kept of a job."""

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices]:
        jobs = list(floor.active.values())
        kinds = floor.fleet.kinds
        free = np.array([sum(group.nodes * group.gpus for group in floor.fleet.groups if group.kind == kind)
                         for kind in kinds], np.int64)  # fmt: skip
        gpus = np.array([one.job.gpus for one in jobs], np.int64)
        speeds = np.array([[one.job.speed(kind) for kind in kinds] for one in jobs], float) / MILLION
        weights = throughput.weigh(
            self._weight, np.array([one.had_us for one in jobs], np.int64),
            np.array([one.left_us for one in jobs], np.int64), gpus, self._round_us,
        )  # fmt: skip
        chosen = throughput.choose(speeds * (weights / gpus)[:, None], gpus, free)
        return self._places(floor, jobs, [kinds[kind] if kind >= 0 else "" for kind in chosen])

    def _places(self, floor: Floor, jobs: list[Active], chosen: list[str]) -> dict[str, Slices]:
        """Who keeps a kind keeps the place; the others are placed, the largest first."""
        assert self._wants is not None, "only what has arrived is decided on"
        capacity, holds = floor.capacity.emptied(), {}
        moving = []
        for one, kind in zip(jobs, chosen, strict=True):
            if kind and one.slices and one.slices[0].shares[0].kind == kind:
                capacity.hold(one.slices)
                holds[one.job.id] = one.slices
            elif kind:
                moving.append((-one.job.gpus, one.job.id, kind))
        for size, name, kind in sorted(moving):
            want = self._wants.on(-size, (kind,))
            slices = fit(capacity, want) if want is not None else None
            if slices is not None:
                capacity.hold(slices)
                holds[name] = slices
        return holds


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy that one can choose by its `meaning`. `knows`: it uses durations. `make` takes the length of a round, or
    None to decide whenever something happens."""

    name: str
    meaning: str
    make: Callable[[int | None], Policy]
    knows: bool = False


POLICIES: dict[str, Choice] = {
    choice.name: choice
    for choice in (
        Choice("fifo", "Strictly by age; nothing overtakes.", lambda every: Passes(ORDERS["fifo"], every)),
        Choice("fair", "By share, then age; what fits may overtake what does not.",
               lambda every: Passes(ORDERS["fair"], every)),
        Choice("sjf", "The shortest first; what runs runs to its end.",
               lambda every: Passes(ORDERS["shortest-first"], every), True),
        Choice("srtf", "The least time left first; running jobs make way.",
               lambda every: TakingTurns(ORDERS["shortest-first"].key, every_us=every), True),
        Choice("srsf", "The least GPU time left first; running jobs make way.",
               lambda every: TakingTurns(ORDERS["shortest-service"].key, every_us=every), True),
        Choice("las", "Who has had the least GPU time first; running jobs take turns.",
               lambda every: TakingTurns(_LAS, every_us=every, quantum_us=QUANTUM_US)),
        Choice("learned", "The least GPU time that is likely to be needed, by what earlier jobs of the same size took.",
               Learned),
        Choice("no-straggler", "The least GPU time left first, but before it whoever would hold up the end of all.",
               NoStraggler, True),
        Choice("by-kind", "The kind that is worth the most above its price; who has had little counts more.",
               lambda every: ByKind("fair", every or ROUND_US)),
        Choice("by-kind-shortest", "The same, when durations are known: who has little left counts more.",
               lambda every: ByKind("shortest", every or ROUND_US), True),
        Choice("by-kind-longest", "The same for a batch: who has the most left counts more, so that all end early.",
               lambda every: ByKind("longest", every or ROUND_US), True),
    )
}  # fmt: skip


def policy_named(name: str) -> Choice:
    """The policy of this name; raises `Invalid`."""
    found = POLICIES.get(name)
    if found is None:
        raise Invalid(f"There is no policy {name!r}.", field="--policy", value=name,
                      allowed=", ".join(POLICIES), next_step=f"One of: {', '.join(POLICIES)}.")  # fmt: skip
    return found
