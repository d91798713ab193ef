"""A small cloud on a virtual clock for the tests of control: the real loop and store, an engine that follows scripts.

Time stands still unless a test lets it go on: `go` passes a span of it, `until` passes as much as a condition needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

from headframe.base.changes import Event
from headframe.base.quantities import HOUR_US, SECOND_US, parse_moment_us
from headframe.control.commands_fleet import open_cluster
from headframe.control.commands_jobs import stop_job, submit_job
from headframe.control.commands_prices import set_price
from headframe.control.commands_tenancy import create_member, create_organization, open_cloud
from headframe.control.context import Context
from headframe.control.loop import Loop
from headframe.control.queries import story
from headframe.control.world import WARM, World
from headframe.engines.scripted import ScriptedEngine, Temper
from headframe.fleet.records import Accelerator, Allocation, Cluster, Node, Region
from headframe.jobs.life import deadline_us
from headframe.jobs.records import ENDED, Attempt, Job, JobState
from headframe.sim.clock import CountedIds, VirtualClock
from headframe.sim.faults import Doom, FragileEngine, FragileStore, Killed
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization, Project, Role
from headframe.tenants.roles import Caller

DUSK_US = parse_moment_us("2026-11-30T22:10:00Z", field="moment")
USD = 1_000_000_000


class NoChance:
    """No chance at all: the least that is possible happens, and no answer is lost."""

    def below(self, limit: int) -> int:
        return 0


class OpenVault:
    """Seals by writing a word before."""

    def seal(self, text: str) -> str:
        return f"sealed:{text}"

    def unseal(self, sealed: str) -> str:
        return sealed.removeprefix("sealed:")


class NoBlobs:
    def missing(self, organization_id: str, hashes: Any) -> list[str]:
        return list(hashes)


class SmallCloud:
    """One cluster of `nodes` nodes with 8 cores, 16 GiB and `gpus` H100 each; or several, one in each region.

    A GPU costs 3.60 USD an hour, all else nothing.

    `owner` is the operator's owner; `anna` (member) and `adam` (admin) belong to the organization "lab".
    """

    def __init__(self, url: str = "sqlite://", *, nodes: int = 1, gpus: int = 2, more: tuple[str, ...] = ()) -> None:
        self.clock = VirtualClock(DUSK_US)
        self.doom = Doom()
        self.inner = SqlStore(url)
        self.store = FragileStore(self.inner, self.doom)
        self.ids = CountedIds(1)
        self.nodes, self.devices, self.engine = self._cluster("clu_1", "", nodes, gpus)
        self.engines = {"clu_1": self.engine}
        self.engines |= {f"clu_{name}": self._cluster(f"clu_{name}", f"{name}_", nodes, gpus)[2] for name in more}
        self.complaints: list[BaseException] = []
        self.after_tick: Callable[[], None] = lambda: None
        self.boots = 0
        self.boot()
        opening = self.run(open_cloud)
        self.owner = Caller(opening.organization.id, opening.member.id, opening.key.id, Role.OWNER, operator=True)
        self.run(open_cluster, Region("reg_1", "north"), Cluster("clu_1", "reg_1", "main", "scripted"))
        for name in more:
            region = Region(f"reg_{name}", f"of-{name}")
            self.run(open_cluster, region, Cluster(f"clu_{name}", region.id, name, "scripted"))
        self.run(set_price, self.owner, meter="gpu:H100", amount="3.60 USD")
        self.lab: Organization = self.run(create_organization, self.owner, name="lab")
        self.anna = self.member("anna", Role.MEMBER)
        self.adam = self.member("adam", Role.ADMIN)
        self.go(SECOND_US)
        assert len(self.world.all(Node)) == nodes * len(self.engines)

    def _cluster(
        self, cluster: str, mark: str, nodes: int, gpus: int
    ) -> tuple[list[Node], list[Accelerator], ScriptedEngine]:
        made = [Node(f"nod_{mark}{n}", cluster, f"{mark}node-{n}", 8000, 16384, 100_000) for n in range(nodes)]
        devices = [
            Accelerator(f"acc_{node.id}_{index}", node.id, index, "H100", "nvidia", 81_559)
            for node in made
            for index in range(gpus)
        ]
        engine = ScriptedEngine(
            made, devices, true_us=lambda: self.clock.true_us, stamp_us=self.clock.machine_us,
            rng=NoChance(), temper=Temper(delay_least_us=1000, delay_most_us=1000),
        )  # fmt: skip
        return made, devices, engine

    def close(self) -> None:
        self.inner.close()

    # The program.

    @property
    def world(self) -> World:
        return self.loop.world

    @property
    def now_us(self) -> int:
        return self.clock.true_us

    def boot(self) -> None:
        """Start the program on what the store holds."""
        self.boots += 1
        ports = {name: FragileEngine(engine, self.doom) for name, engine in self.engines.items()}
        self.loop = loop = Loop(self.store, ports, self.ids, OpenVault(), NoBlobs(), self.now_us)
        loop.complain = self.complaints.append
        for name, port in ports.items():
            port.start(partial(loop.deliver, name))

    def tick(self) -> None:
        try:
            self.loop.tick(self.now_us)
        except Killed:
            self.boot()
        else:
            self.after_tick()

    def settle(self) -> None:
        """Tick as often as the loop wants to at this moment."""
        for _ in range(50):
            self.tick()
            due_us = self.loop.next_wake_us(self.now_us)
            if due_us is None or due_us > self.now_us:
                return
        raise AssertionError(f"the loop does not come to rest: {self.complaints}")

    def go(self, span_us: int) -> None:
        """Let time pass, with everything that is due in it."""
        end_us = self.now_us + span_us
        while True:
            self.settle()
            dues = (*(one.next_due_us() for one in self.engines.values()), self.loop.next_wake_us(self.now_us))
            next_us = min((due for due in dues if due is not None), default=end_us)
            if next_us > end_us:
                break
            self.clock.advance_to(max(next_us, self.now_us))
            for engine in self.engines.values():
                engine.advance()
        self.clock.advance_to(end_us)
        self.settle()

    def until(self, condition: Callable[[], bool], limit_us: int = 2 * HOUR_US) -> None:
        """Let time pass until something holds."""
        end_us = self.now_us + limit_us
        self.settle()
        while not condition():
            dues = (*(one.next_due_us() for one in self.engines.values()), self.loop.next_wake_us(self.now_us))
            next_us = min(due for due in dues if due is not None)
            assert next_us <= end_us, "it never came about"
            self.clock.advance_to(max(next_us, self.now_us))
            for engine in self.engines.values():
                engine.advance()
            self.settle()

    # What people do.

    def run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.answer(self.loop.run(command, *args, **kwargs))

    def ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.answer(self.loop.ask(question, *args, **kwargs))

    def answer(self, future: Future[Any]) -> Any:
        self.settle()
        return future.result(timeout=0)

    def member(self, name: str, role: Role) -> Caller:
        member = self.run(create_member, self.owner, name=name, role=role, organization="lab")
        return Caller(self.lab.id, member.id, f"key_{name}", role)

    def document(self, run: str = "run 30s; exit 0", **more: Any) -> dict[str, Any]:
        resources = {"gpu": "H100:1", "cpu": 1, "memory": "1GB", **more.pop("resources", {})}
        return {"run": run, "resources": resources, **more}

    def submit(self, run: str = "run 30s; exit 0", *, caller: Caller | None = None, **more: Any) -> Job:
        job: Job = self.run(submit_job, caller or self.anna, self.document(run, **more), project="default", env={})
        return job

    def stop(self, job: Job, caller: Caller | None = None, grace_us: int | None = None) -> Job:
        told: Job = self.run(stop_job, caller or self.anna, job.id, grace_us=grace_us)
        return told

    # What can be seen.

    def job(self, job: Job | str) -> Job:
        found = self.inner.get(Job, job if isinstance(job, str) else job.id)
        assert found is not None
        return found

    def ended(self, *jobs: Job) -> bool:
        return all(self.job(job).state in ENDED for job in jobs)

    def is_(self, job: Job, state: JobState) -> Callable[[], bool]:
        return lambda: self.job(job).state == state

    def attempts(self, job: Job) -> list[Attempt]:
        return sorted(self.inner.find(Attempt, job_id=job.id), key=lambda one: one.number)

    def allocations(self, job: Job) -> list[Allocation]:
        return sorted(self.inner.find(Allocation, job_id=job.id), key=lambda one: one.generation)

    def story(self, job: Job, caller: Caller | None = None) -> dict[str, Any]:
        told: dict[str, Any] = self.ask(story, caller or self.anna, job.id)(self.inner)
        return told

    def events(self, kind: str | None = None, subject: str | None = None) -> list[Event]:
        told = self.inner.events(limit=100_000, subject=subject)
        return [event for event in told if kind in (None, event.kind)]

    def project(self) -> Project:
        return next(one for one in self.world.all(Project).values() if one.organization_id == self.lab.id)

    def context(self) -> Context:
        return Context(self.now_us, self.ids, self.inner, OpenVault(), NoBlobs(), self.loop.spending)

    def at_rest(self) -> None:
        """Nothing is held, nothing waits to be charged, the engine keeps nothing, and nothing needs a tick soon."""
        assert not self.world.all(Allocation)
        assert not self.world.all(Attempt)
        for engine in self.engines.values():
            assert engine.known() == []
            assert engine.violations == []
        assert not self.world.derived.held
        assert not self.world.derived.unsettled


def plain(value: Any) -> Any:
    """Anything derived as plain data that can be compared; order of keys does not count, that of lists does."""
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(plain(getattr(value, one.name)) for one in fields(value)))
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def derived(world: World) -> dict[str, Any]:
    """What follows from the rows, as far as decisions may depend on it."""
    one, capacity = world.derived, world.derived.capacity
    return {
        "queue": {bucket: tuple(line) for bucket, line in one.queue._buckets.items()},
        "order": _order(world),
        "holdings": {key: amount for key, amount in one.holdings._held.items() if amount},
        "held": dict(one.held),
        "unsettled": dict(one.unsettled),
        "attempt": dict(one.attempt),
        "children": {key: sorted(ids) for key, ids in one.children.items()},
        "running": dict(one.running_children),
        "dependents": {key: sorted(ids) for key, ids in one.dependents.items()},
        "parallel": dict(one.parallel),
        "quotas": dict(one.quotas),
        "claims": dict(one.claims),
        "leaving": dict(one.leaving),
        "borrowed": {key: used for key in one.borrowing.tree.slots if (used := one.borrowing.used(*key))},
        "holders": {name: sorted(row) for name, row in one.holders.by_class.items()},
        "free": [array.tolist() for array in (capacity.cpu, capacity.memory, capacity.disk, capacity.gpu)],
        "able": [capacity.ready.tolist(), capacity.usable.tolist()],
    }


def _order(world: World) -> list[str]:
    order: list[str] = []

    def visit(bucket: object, job_id: str) -> bool:
        order.append(job_id)
        return True

    world.derived.queue.in_order(visit)
    return order


def same_when_reloaded(cloud: SmallCloud) -> None:
    """The warm world is the one that a fresh start would load, with all that follows from it."""
    store, warm = cloud.inner, cloud.world
    cold = World.of(store.load(), store.balances(), store.last_event_seq(), store.last_invoice(), store.last_transfer())
    for kind in WARM:
        assert warm.tables[kind] == cold.tables[kind], kind.__name__
    assert derived(warm) == derived(cold)
    assert {key: one for key, one in warm.balances.items() if one} == {
        k: one for k, one in cold.balances.items() if one
    }
    assert (warm.last_event_seq, warm.last_invoice) == (cold.last_event_seq, cold.last_invoice)
    # Every moment at which time alone changes something is among the timers of both.
    for world in (warm, cold):
        known = set(world.derived.timers)
        for job in world.all(Job).values():
            due_us = deadline_us(job, world.derived.held.get(job.id))
            assert due_us is None or (due_us, job.id) in known or due_us <= cloud.now_us


def digest(store: SqlStore, *kinds: type[Any]) -> str:
    """SHA-256 over all rows of some classes, in the order of ids."""
    total = hashlib.sha256()
    for kind in kinds:
        for row in store.find(kind, limit=10_000):
            total.update(repr(replace(row, version=0) if hasattr(row, "version") else row).encode())
    return total.hexdigest()
