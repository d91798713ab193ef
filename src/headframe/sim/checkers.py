"""What must hold after every tick. Each checker is a class with a line in `CHECKERS`; it raises `Violation`.

Checkers look at what was committed (as the store was handed it), at the warm world, at the engines' own view and, in
`Reloaded`, at the store itself. They keep tallies of their own of what they have seen, so that nothing
is taken on trust.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from headframe.base.changes import Changes
from headframe.base.quantities import MILLI
from headframe.control.ports import Store
from headframe.control.world import WARM, World
from headframe.engines.scripted import ScriptedEngine
from headframe.fleet.records import Accelerator, Allocation, Cluster, HoldState, Node
from headframe.jobs.records import Attempt, Job, JobState
from headframe.jobs.states import MOVES
from headframe.ledger.records import Invoice, Transfer
from headframe.ledger.wallets import Grant
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Charge
from headframe.tenants.records import Quota

HOLDING = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING})
RELOAD_EVERY = 16  # ticks between two comparisons of the warm world with the store


class Violation(Exception):
    """Something that must hold does not. `checker` names who saw it."""

    def __init__(self, checker: str, text: str) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker, self.text = checker, text


@dataclass(frozen=True, slots=True)
class Scene:
    """What checkers look at after a tick. `committed` are the changes written since the last look, in order."""

    tick: int
    now_us: int
    world: World
    store: Store
    engines: Mapping[str, ScriptedEngine]
    committed: Sequence[Changes]
    last: bool = False  # the world has ended: nothing more will come
    waiting: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)  # job -> why, at the end

    def rows(self, *kinds: type[Any]) -> Iterable[Any]:
        """The committed rows of some classes, in order."""
        return (row for changes in self.committed for row in changes.rows if isinstance(row, kinds))

    def held(self) -> list[Allocation]:
        """The allocations that hold something now."""
        warm = self.world.all(Allocation).values()
        return sorted((one for one in warm if one.state is not HoldState.RELEASED), key=lambda one: one.id)


class Checker(Protocol):
    def look(self, scene: Scene) -> None: ...


class Devices:
    """No accelerator holds more than 1000 thousandths, no node more than it has, and every part lies where it says."""

    def look(self, scene: Scene) -> None:
        milli: dict[str, int] = defaultdict(int)
        used: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for allocation in scene.held():
            for part in allocation.slices:
                totals = used[part.node_id]
                totals[0] += part.cpu_milli
                totals[1] += part.memory_mib
                totals[2] += part.disk_mib
                for share in part.shares:
                    milli[share.accelerator_id] += share.milli
                    device = scene.world.get(Accelerator, share.accelerator_id)
                    if device is None or device.node_id != part.node_id or device.kind != share.kind:
                        raise Violation("Devices", f"{allocation.id} holds {share}, which is not on {part.node_id}")
        for name in sorted(milli):
            if milli[name] > MILLI:
                raise Violation("Devices", f"{milli[name]} thousandths of {name} are held")
        for name in sorted(used):
            node = scene.world.get(Node, name)
            if node is None:
                raise Violation("Devices", f"something is held on {name}, which does not exist")
            if any(
                held > has
                for held, has in zip(used[name], (node.cpu_milli, node.memory_mib, node.disk_mib), strict=True)
            ):
                raise Violation("Devices", f"{used[name]} (cpu, memory, disk) are held on {node}")


class Gangs:
    """All of a gang or none of it: on record, and at the engine; and a job holds exactly when its state says so."""

    def look(self, scene: Scene) -> None:
        holds: dict[str, str] = {}
        for allocation in scene.held():
            job = scene.world.get(Job, allocation.job_id)
            if job is None:
                raise Violation("Gangs", f"{allocation.id} is held for {allocation.job_id}, which has ended")
            if allocation.job_id in holds:
                raise Violation("Gangs", f"{allocation.job_id} holds {allocation.id} and {holds[allocation.job_id]}")
            holds[allocation.job_id] = allocation.id
            size = len(allocation.slices)
            if not job.spec.nodes_min <= size <= job.spec.nodes_max:
                raise Violation("Gangs", f"{allocation.id} has {size} parts for {job.spec.nodes_min} nodes")
            if [part.rank for part in allocation.slices] != list(range(size)):
                raise Violation("Gangs", f"the ranks of {allocation.id} are not 0 to {size - 1}")
            if allocation.generation != job.attempt:
                raise Violation("Gangs", f"{allocation.id} is of attempt {allocation.generation}, not {job.attempt}")
            self._same_cluster(scene, allocation)
        for job_id, job in sorted(scene.world.all(Job).items()):
            if (job.state in HOLDING and not job.parent) is not (job_id in holds):
                raise Violation("Gangs", f"{job_id} is {job.state}, but holds {holds.get(job_id, 'nothing')}")

    def _same_cluster(self, scene: Scene, allocation: Allocation) -> None:
        cluster = scene.world.get(Cluster, allocation.cluster_id)
        for part in allocation.slices:
            node = scene.world.get(Node, part.node_id)
            if cluster is None or node is None or node.cluster_id != cluster.id:
                raise Violation("Gangs", f"{allocation.id} reaches outside of {allocation.cluster_id}: {part.node_id}")


class Once:
    """At the engines no job runs twice, nothing runs that is not held, and what runs is what was decided. What was
    given up with its cluster may live on there, out of sight: `Silence` sees to its end."""

    def __init__(self) -> None:
        self._given_up: set[str] = set()

    def look(self, scene: Scene) -> None:
        held = {one.id: one for one in scene.held()}
        self._given_up |= given_up(scene)
        live: dict[str, str] = {}
        for name, engine in sorted(scene.engines.items()):
            if engine.violations:
                raise Violation("Once", f"{name}: {engine.violations[0]}")
            for launch in engine.live():
                if launch.allocation_id in self._given_up:
                    continue
                if launch.job_id in live:
                    raise Violation("Once", f"{launch.job_id} runs as {launch.allocation_id} and {live[launch.job_id]}")
                live[launch.job_id] = launch.allocation_id
                allocation = held.get(launch.allocation_id)
                if allocation is None:
                    raise Violation("Once", f"{launch.allocation_id} runs on {name}, but holds nothing on record")
                if launch.slices != allocation.slices or launch.generation != allocation.generation:
                    raise Violation("Once", f"{launch.allocation_id} runs on {name} otherwise than it was placed")


def given_up(scene: Scene) -> set[str]:
    """The allocations whose clusters have just been declared lost."""
    told = (event for changes in scene.committed for event in changes.events if event.kind == "cluster_lost")
    return {name for event in told for name in event.detail.get("allocations", ())}


class Tiles:
    """Usage records cover [held, metered) of each allocation without gap or overlap, and all of it when settled."""

    def __init__(self) -> None:
        self._reached: dict[str, int] = {}
        self._count: dict[str, int] = defaultdict(int)
        self._ran: dict[str, int] = defaultdict(int)

    def look(self, scene: Scene) -> None:
        newest: dict[str, Allocation] = {}
        for row in scene.rows(UsageRecord, Allocation):
            if isinstance(row, Allocation):
                newest[row.id] = row
                self._reached.setdefault(row.id, row.held_us)
        for row in scene.rows(UsageRecord):
            self._lay(row)
        for name, allocation in sorted(newest.items()):
            self._compare(name, allocation)

    def _lay(self, row: UsageRecord) -> None:
        if not row.allocation_id:
            return  # what is kept or counted, not held
        reached = self._reached.get(row.allocation_id)
        if reached != row.from_us or row.to_us <= row.from_us:
            raise Violation("Tiles", f"{row.id} covers {row.from_us} to {row.to_us}, but {reached} was reached before")
        if row.running_before_us != self._ran[row.allocation_id]:
            raise Violation("Tiles", f"{row.id} counts {row.running_before_us} us before, not {self._ran[row.id]}")
        self._reached[row.allocation_id] = row.to_us
        self._count[row.allocation_id] += 1
        if row.state == "running":
            self._ran[row.allocation_id] += row.to_us - row.from_us

    def _compare(self, name: str, allocation: Allocation) -> None:
        if self._count[name] != allocation.records or (
            allocation.records and self._reached[name] != allocation.metered_us
        ):
            raise Violation("Tiles", f"{name} is metered to {allocation.metered_us}, records to {self._reached[name]}")
        if not allocation.settled:
            return
        released, running = allocation.released_us, allocation.running_us
        if released is None or self._reached[name] != released:
            raise Violation("Tiles", f"{name} is settled to {self._reached[name]}, but was released at {released}")
        ran = 0 if running is None else released - running
        marks = (
            []
            if running is None
            else [one for one in allocation.marks if one[0] >= running and one[0] > allocation.held_us]
        )
        for (from_us, state), (to_us, _) in pairwise([*marks, (released, "")]):
            ran -= max(0, min(to_us, released) - from_us) if state != "running" else 0
        if self._ran[name] != ran:
            raise Violation("Tiles", f"{name} ran for {ran} us, of which {self._ran[name]} are metered as running")


class Ledger:
    """All accounts of a currency sum to zero, revenue equals charges, and credit is used before anything is owed."""

    def __init__(self) -> None:
        self._balances: dict[tuple[str, str], int] = defaultdict(int)
        self._charged: dict[tuple[str, str], int] = defaultdict(int)
        self._grants: dict[str, Grant] = {}

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            booked: dict[str, int] = defaultdict(int)
            self._grants |= {
                row.id: row for row in changes.rows if isinstance(row, Grant) and row.id not in self._grants
            }
            for row in changes.rows:
                if isinstance(row, Transfer):
                    self._book(row)
                    booked[row.source] += -row.amount_nano if row.debit.startswith("revenue:") else row.amount_nano
            for row in changes.rows:
                if isinstance(row, Charge):
                    self._charged[f"revenue:{row.meter}", row.currency] -= row.amount_nano
                    if booked[row.id] != row.amount_nano or (row.amount_nano < 0 and row.kind != "credit"):
                        raise Violation("Ledger", f"{row.id} is {row.amount_nano}, booked {booked[row.id]}")
        sums: dict[str, int] = defaultdict(int)
        for (_, currency), balance in sorted(self._balances.items()):
            sums[currency] += balance
        for currency, total in sorted(sums.items()):
            if total:
                raise Violation("Ledger", f"the accounts sum to {total} {currency}")
        for (account, currency), balance in sorted(self._balances.items()):
            if account.startswith("revenue:") and balance != self._charged[account, currency]:
                raise Violation("Ledger", f"{account} is {balance}, charges are {self._charged[account, currency]}")
        told = {key: balance for key, balance in scene.world.balances.items() if balance}
        if told != {key: balance for key, balance in self._balances.items() if balance}:
            raise Violation("Ledger", f"the warm balances {told} are not those booked: {dict(self._balances)}")

    def _book(self, row: Transfer) -> None:
        if row.amount_nano <= 0 or row.debit == row.credit:
            raise Violation("Ledger", f"{row} moves nothing")
        wallet = (f"wallet:{row.organization_id}", row.currency)
        self._balances[row.debit, row.currency] += row.amount_nano
        self._balances[row.credit, row.currency] -= row.amount_nano
        if self._balances[wallet] > 0:
            raise Violation("Ledger", f"{row.id} overdraws {wallet[0]} by {self._balances[wallet]}")
        old = any(  # over, and yet to be taken back: it pays for nothing more
            one.organization_id == row.organization_id and one.expires_us is not None and one.expires_us < row.at_us
            for one in self._grants.values()
        )
        owed = row.debit.startswith("receivable:") and row.kind in ("usage", "minimum")
        if owed and self._balances[wallet] < 0 and not old:
            raise Violation("Ledger", f"{row.id} is owed while {wallet[0]} holds {-self._balances[wallet]}")


class Quotas:
    """Nothing begins to hold what its organization, project or member may not hold at that moment."""

    def __init__(self) -> None:
        self._quotas: dict[str, Quota] = {}
        self._held: dict[str, Allocation] = {}

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            begun = []
            for row in changes.rows:
                if isinstance(row, Quota):
                    self._quotas[row.id] = row
                elif isinstance(row, Allocation):
                    if row.version == 1:
                        begun.append(row)
                    self._held[row.id] = row
                    if row.state is HoldState.RELEASED:
                        del self._held[row.id]
            for one in begun:
                for quota in self._quotas.values():
                    if quota.scope_id in _owners(one):
                        self._check(quota, one)

    def _check(self, quota: Quota, begun: Allocation) -> None:
        """A quota may have been lowered below what is held: it keeps out what would hold more of that meter."""
        asked = _amounts([begun])
        held = _amounts(one for one in self._held.values() if quota.scope_id in _owners(one))
        limits = (quota.gpu_milli, quota.cpu_milli, quota.memory_mib)
        for name, limit, more, all_of_it in zip(("gpu", "cpu", "memory"), limits, asked, held, strict=True):
            if limit is not None and more and all_of_it > limit:
                raise Violation("Quotas", f"{quota.scope_id} holds {name} {all_of_it} of {limit} with {begun.id}")
        theirs = [one for one in self._held.values() if quota.scope_id in _owners(one)]
        for kind, limit in quota.kinds.items():
            if _of_kind([begun], kind) and _of_kind(theirs, kind) > limit:
                raise Violation("Quotas", f"{quota.scope_id} holds more than {limit} of {kind} with {begun.id}")


def _of_kind(allocations: Iterable[Allocation], kind: str) -> int:
    """What they hold of a kind of accelerator, thousandths."""
    shares = (share for one in allocations for part in one.slices for share in part.shares)
    return sum(share.milli for share in shares if share.kind.lower() == kind.lower())


def _amounts(allocations: Iterable[Allocation]) -> tuple[int, int, int]:
    """GPU and CPU in thousandths, and memory in MiB, of all of them."""
    parts = [part for one in allocations for part in one.slices]
    return (
        sum(share.milli for part in parts for share in part.shares),
        sum(part.cpu_milli for part in parts),
        sum(part.memory_mib for part in parts),
    )


def _owners(allocation: Allocation) -> tuple[str, str, str]:
    return allocation.organization_id, allocation.project_id, allocation.member_id


class Reloaded:
    """The warm world is the one that a fresh start would load."""

    def look(self, scene: Scene) -> None:
        if scene.tick % RELOAD_EVERY and not scene.last:
            return
        stored = scene.store.load()
        for kind in sorted(WARM, key=lambda kind: kind.__name__):
            cold = {row.id: row for row in stored.get(kind, ())}
            warm = scene.world.tables[kind]
            if cold == warm:
                continue
            for name in sorted(cold.keys() | warm.keys()):
                if cold.get(name) != warm.get(name):
                    raise Violation("Reloaded", f"warm {warm.get(name)}, stored {cold.get(name)}")
        kept = {key: balance for key, balance in scene.store.balances().items() if balance}
        if kept != {key: balance for key, balance in scene.world.balances.items() if balance}:
            raise Violation("Reloaded", f"warm balances {dict(scene.world.balances)}, stored {kept}")
        if scene.store.last_event_seq() != scene.world.last_event_seq:
            raise Violation(
                "Reloaded", f"event {scene.world.last_event_seq} warm, {scene.store.last_event_seq()} stored"
            )


class Order:
    """Events are numbered 1, 2, 3 ..., so are each row's versions and all invoices; a fact comes once."""

    def __init__(self) -> None:
        self._seq = 0
        self._versions: dict[tuple[str, str], int] = {}
        self._invoices = 0

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            for event in changes.events:
                if event.seq != self._seq + 1:
                    raise Violation("Order", f"event {event.seq} ({event.kind}) follows event {self._seq}")
                self._seq = event.seq
            for row in changes.rows:
                key = (type(row).__name__, row.id)
                before, version = self._versions.get(key, 0), getattr(row, "version", 1)
                if version != before + 1:
                    raise Violation("Order", f"version {version} of {key} follows version {before}")
                self._versions[key] = version
                if isinstance(row, Invoice):
                    self._invoices += 1
                    if row.number != self._invoices:
                        raise Violation("Order", f"invoice {row.number} is the {self._invoices}th")


class Moves:
    """Every step of a job is in the table; an attempt ends once; an allocation goes one way."""

    HOLDS = (HoldState.STARTING, HoldState.RUNNING, HoldState.STOPPING, HoldState.RELEASED)

    def __init__(self) -> None:
        self._jobs: dict[str, JobState] = {}
        self._ended: set[str] = set()
        self._holds: dict[str, HoldState] = {}

    def look(self, scene: Scene) -> None:
        for row in scene.rows(Job, Attempt, Allocation):
            if isinstance(row, Job):
                before = self._jobs.get(row.id, row.state)
                if row.state is not before and row.state not in MOVES[before]:
                    raise Violation("Moves", f"{row.id} went from {before} to {row.state} ({row.reason})")
                self._jobs[row.id] = row.state
            elif isinstance(row, Attempt):
                if row.id in self._ended:
                    raise Violation("Moves", f"{row.id} ended, and then changed: {row}")
                if row.outcome:
                    self._ended.add(row.id)
            else:
                held = self._holds.get(row.id, row.state)
                if self.HOLDS.index(row.state) < self.HOLDS.index(held):
                    raise Violation("Moves", f"{row.id} went from {held} back to {row.state}")
                self._holds[row.id] = row.state


class Moments:
    """No moment on record lies in the future, and held <= running <= released, none of which changes once it is set."""

    def __init__(self) -> None:
        self._known: dict[str, Allocation] = {}

    def look(self, scene: Scene) -> None:
        for changes in scene.committed:
            for event in changes.events:
                if event.at_us > scene.now_us:
                    raise Violation("Moments", f"{event} lies {event.at_us - scene.now_us} us in the future")
        for row in scene.rows(Allocation):
            known = self._known.get(row.id, row)
            marks = [mark for mark in (row.held_us, row.running_us, row.released_us) if mark is not None]
            if marks != sorted(marks) or marks[-1] > scene.now_us:
                raise Violation("Moments", f"{row.id} has {marks} at {scene.now_us}")
            for old, new in ((known.running_us, row.running_us), (known.released_us, row.released_us)):
                if old is not None and old != new:
                    raise Violation("Moments", f"a moment of {row.id} changed from {old} to {new}")
            self._known[row.id] = row


class Ends:
    """When arrivals and faults have stopped, everything ends: no job is left open, nothing is held, nothing runs.

    A job may stay only while it waits, with a reason that can be told.
    """

    def look(self, scene: Scene) -> None:
        if not scene.last:
            return
        for name, engine in sorted(scene.engines.items()):
            if engine.known():
                raise Violation("Ends", f"{name} still keeps {engine.known()[:3]}")
        left = sorted(scene.world.all(Allocation))
        if left:
            raise Violation("Ends", f"{scene.world.get(Allocation, left[0])} was never settled")
        attempts = sorted(scene.world.all(Attempt))
        if attempts:
            raise Violation("Ends", f"{scene.world.get(Attempt, attempts[0])} never ended")
        jobs = scene.world.all(Job)
        parents = {job.parent_id for job in jobs.values()}
        for name, job in sorted(jobs.items()):
            if job.parent and name in parents:
                continue
            if job.state not in (JobState.PENDING, JobState.QUEUED):
                raise Violation("Ends", f"{name} is still {job.state} ({job.reason})")
            if job.state is JobState.PENDING and not any(other in jobs for other in job.after):
                raise Violation("Ends", f"{name} is still pending ({job.reason}), though it waits for no job")
            why = scene.waiting.get(name)
            # All nodes are up and nothing is held, so that room is no reason.
            if not why or not why["text"] or why["reason"] in ("placed", "no_capacity", "parallel"):
                raise Violation("Ends", f"{name} is still {job.state} ({job.reason}), and the reason told is {why}")


CHECKERS: tuple[type[Checker], ...] = (
    Order, Moves, Moments, Devices, Gangs, Once, Tiles, Ledger, Quotas, Reloaded, Ends,
)  # fmt: skip
