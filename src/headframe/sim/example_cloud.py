"""A lively cloud to look at: three sites, five customers, two months of work behind it, and more coming all the time.

Everything is the real thing (loop, store, scheduler, prices, invoices) but the machines, which are scripted. The past
is lived through on a simulated clock until now; from then on it runs on the machine's. All is made of one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from headframe.base.changes import Changes
from headframe.base.errors import CallerError
from headframe.base.ports import Clock
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_moment
from headframe.control.commands_access import create_key, put_quota
from headframe.control.commands_fleet import drain_node, open_cluster
from headframe.control.commands_jobs import submit_job
from headframe.control.commands_money import grant_credit, put_budget
from headframe.control.commands_prices import set_price
from headframe.control.commands_reservations import create_reservation
from headframe.control.commands_tenancy import create_member, create_organization, create_project, open_cloud
from headframe.control.loop import Loop
from headframe.control.ports import Engine, Store
from headframe.engines.scripted import ScriptedEngine, Temper
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.jobs.records import Job
from headframe.ledger.close import month_of, month_span_us
from headframe.metering.defaults import default_meters
from headframe.metrics.records import Measured
from headframe.sim.clock import CountedIds, SeededRng
from headframe.sim.example_signs import signs, use_of
from headframe.sim.run import NoBlobs, PlainVault
from headframe.tenants.records import AtLimit, Role, Scope
from headframe.tenants.roles import Caller

GPUS = 8  # of a node
LATENCY_US = 2_000
SITES = (  # (cluster, region, accelerator, MiB, racks, nodes of a rack)
    ("fjord", "oslo", "H100", 81_559, 14, 6),
    ("delta", "rotterdam", "A100", 81_920, 10, 6),
    ("harbour", "lisbon", "L40S", 46_068, 8, 6),
)
PRICES = (
    ("gpu:H100", "2.49 USD", "*"), ("gpu:H100", "1.39 USD", "spot"), ("gpu:A100", "1.35 USD", "*"),
    ("gpu:L40S", "0.89 USD", "*"), ("cpu", "0.012 USD", "*"), ("memory", "0.0018 USD", "*"),
)  # fmt: skip
# (organization, projects, people, how much of the work is theirs, the budget of a month)
HOUSES = (
    ("atlas-research", ("pretraining", "evals", "data"), ("mira", "tomas", "yuki", "ines"), 40, "640000 USD"),
    ("pixel-foundry", ("video", "upscaling"), ("noor", "felix", "ada"), 24, "210000 USD"),
    ("helix-bio", ("folding", "docking"), ("ruth", "sam", "lena"), 18, "260000 USD"),
    ("tidal-speech", ("asr", "tts"), ("otto", "maja"), 12, "90000 USD"),
    ("kite-robotics", ("policies",), ("bo", "ivy"), 6, "30000 USD"),
)
NAMES = (
    "pretrain-{}b", "sft-{}b", "dpo-{}b", "distil-{}b", "eval-suite-{}", "ablation-{}", "tokenize-{}", "sweep-lr-{}",
    "render-{}", "fold-{}", "embed-{}", "rollout-{}", "asr-large-{}", "upscale-{}",
)  # fmt: skip


class Timeline:
    """The clock of the example: simulated until `go_live`, the machine's from then on. Never goes back."""

    def __init__(self, machine: Clock, begin_us: int) -> None:
        self._machine, self._now_us, self._live = machine, begin_us, False

    def now_us(self) -> int:
        return max(self._now_us, self._machine.now_us()) if self._live else self._now_us

    def advance_to(self, now_us: int) -> None:
        self._now_us = max(self._now_us, now_us)

    def go_live(self) -> None:
        self._live = True


@dataclass(slots=True)
class Customer:
    """An organization of the example, and its people as callers by name."""

    name: str
    projects: tuple[str, ...]
    share: int
    people: dict[str, Caller] = field(default_factory=dict)


class ExampleCloud:
    """The cloud and its people. `live_through` brings it to now; `arrive` and `measure` keep it lively after that."""

    def __init__(self, store: Store, machine: Clock, *, seed: int = 1, scale: int = 100) -> None:
        self.machine, self.store = machine, store
        now_us = machine.now_us()
        self.begin_us = month_span_us(month_of(month_span_us(month_of(now_us))[0] - 1))[0]
        self.timeline = Timeline(machine, self.begin_us)
        self.ids = CountedIds(seed)
        self._rng = SeededRng(seed, "example cloud")
        self.engines = {cluster.id: self._engine(cluster, place, scale) for cluster, place in _clusters()}
        ports: dict[str, Engine] = {name: engine for name, engine in self.engines.items()}  # noqa: C416  another type
        self.loop = Loop(store, ports, self.ids, PlainVault(), NoBlobs(), self.begin_us, grace_us=DAY_US)
        self.complaints: list[BaseException] = []
        self.loop.complain = self.complaints.append
        self.loop.nudge = self._nudge
        self.customers: list[Customer] = []
        self.key = self.customer_key = ""
        self.operator: Caller | None = None
        self._due = True

    def _engine(self, cluster: Cluster, place: tuple[str, str, str, int, int, int], scale: int) -> ScriptedEngine:
        name, _, kind, memory_mib, racks, nodes = place
        machines, devices = [], []
        for rack in range(max(1, racks * scale // 100)):
            for number in range(nodes):
                node = Node(
                    f"nod_{name}{rack:02}{number:02}", cluster.id, f"{name}-{rack + 1:02}-{number + 1:02}", 192_000,
                    2_097_152, 8_000_000, topology=(f"rack-{rack + 1:02}",), fake=True,
                )  # fmt: skip
                machines.append(node)
                devices += [
                    Accelerator(f"acc_{node.id[4:]}_{index}", node.id, index, kind, "nvidia", memory_mib,
                                links="nvlink", fake=True)
                    for index in range(GPUS)
                ]  # fmt: skip
        return ScriptedEngine(
            machines, devices, true_us=self.timeline.now_us, stamp_us=self.timeline.now_us,
            rng=self._rng.fork(name), temper=Temper(delay_least_us=1000, delay_most_us=1000), busy=use_of,
        )  # fmt: skip

    # Time.

    def _nudge(self) -> None:
        self._due = True

    def _tick(self) -> None:
        for _ in range(200):
            self._due = False
            self.loop.tick(self.timeline.now_us())
            if self.complaints:
                raise self.complaints[0]
            self.timeline.advance_to(self.timeline.now_us() + LATENCY_US)
            self._advance()
            if not self._due and not self.loop.spending.released:
                return
        raise AssertionError("the loop does not come to rest")

    def _advance(self) -> None:
        for engine in self.engines.values():
            engine.advance()

    def _pass(self, until_us: int, step_us: int) -> None:
        """On to a moment, by way of each at which something happens."""
        while (now_us := self.timeline.now_us()) < until_us:
            due = [one for one in (engine.next_due_us() for engine in self.engines.values()) if one is not None]
            wake = self.loop.next_wake_us(now_us)
            if wake is not None and wake > now_us + MINUTE_US:
                due.append(wake)
            stop_us = now_us - now_us % step_us + step_us + SECOND_US
            next_us = min([stop_us, until_us, *(max(one, now_us) for one in due)])
            self.timeline.advance_to(next_us)
            self._advance()
            self._tick()

    def _run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer = self.loop.run(command, *args, **kwargs)
        self._tick()
        return answer.result(timeout=0)

    # The past.

    def live_through(self) -> None:
        """Two months, to now: sparse at first, and as busy as a cloud is at the end."""
        for cluster_id, engine in self.engines.items():
            engine.start(lambda item, cluster_id=cluster_id: self.loop.deliver(cluster_id, item))  # type: ignore[misc]
        self._open()
        end_us = self.machine.now_us()
        month_us = month_span_us(month_of(end_us))[0]
        recent_us = max(month_us, end_us - 30 * HOUR_US)
        self._work(month_us, jobs=70, hours=(30, 200), gpus=(8, 16, 32, 64), step_us=12 * HOUR_US)
        self._news(month_us)
        self._work(recent_us, jobs=130, hours=(8, 80), gpus=(4, 8, 16, 32, 64), step_us=6 * HOUR_US)
        self._work(end_us, jobs=150, hours=(1, 36), gpus=(1, 2, 4, 8, 8, 16, 32, 64), step_us=HOUR_US)
        self._trouble()
        self._pass(self.machine.now_us(), HOUR_US)
        self.timeline.go_live()

    def _open(self) -> None:
        opening = self._run(open_cloud)
        self.key = opening.key_text
        self.operator = Caller(opening.organization.id, opening.member.id, opening.key.id, Role.OWNER, operator=True)
        self._run(lambda world, context: (Changes(default_meters(context.now_us)), None))
        for cluster, (_, region, *_) in _clusters():
            self._run(open_cluster, Region(cluster.region_id, region), cluster)
        for meter, amount, purchase in PRICES:
            self._run(set_price, self.operator, meter=meter, amount=amount, purchase=purchase)
        for name, projects, people, share, _ in HOUSES:
            self._found(name, projects, people, share)
        self._tick()

    def _found(self, name: str, projects: tuple[str, ...], people: tuple[str, ...], share: int) -> None:
        house = self._run(create_organization, self.operator, name=name, prepaid=False)
        for title in projects:
            self._run(create_project, self.operator, name=title, organization=name)
        customer = Customer(name, projects, share)
        for place, person in enumerate(people):
            role = Role.OWNER if place == 0 else Role.ADMIN if place == 1 else Role.MEMBER
            member = self._run(
                create_member, self.operator, name=f"{person}@{name}.example", role=role, organization=name
            )  # fmt: skip
            key, text = self._run(create_key, self.operator, name="laptop", member=member.id)
            customer.people[person] = Caller(house.id, member.id, key.id, role)
            self.customer_key = self.customer_key or text
        self.customers.append(customer)

    def _work(
        self, until_us: int, *, jobs: int, hours: tuple[int, int], gpus: tuple[int, ...], step_us: int
    ) -> None:  # fmt: skip
        """Jobs, spread over the time until a moment."""
        begin_us = self.timeline.now_us()
        moments = sorted(begin_us + self._rng.below(max(1, until_us - begin_us)) for _ in range(jobs))
        for at_us in moments:
            self._pass(at_us, step_us)
            span_us = self._rng.between(hours[0] * 60, hours[1] * 60) * MINUTE_US
            self._order(span_us, self._rng.pick(gpus))
            self._tick()
        self._pass(until_us, step_us)

    def _order(self, span_us: int, gpus: int) -> None:
        """Somebody submits a job that runs for so long."""
        rng = self._rng
        customer = next(iter(self._weighted()))
        person = rng.pick(sorted(customer.people))
        place = SITES[(0, 0, 0, 1, 1, 2)[rng.below(6)]]
        nodes, each = (1, gpus) if gpus <= GPUS else (gpus // GPUS, GPUS)
        name = rng.pick(NAMES).format(rng.pick((1, 3, 7, 8, 13, 34, 70)))
        end = "exit 0" if rng.chance(880) else rng.pick(("exit 1", "exit 137"))
        seconds = span_us // SECOND_US
        document = {
            "name": name, "run": f"prepare 40s; checkpoint 30m; run {seconds}s; {end}", "nodes": nodes,
            "purchase": "spot" if rng.chance(150) and place[2] == "H100" else "on-demand",
            "max_duration": f"{seconds * 5 // 4}s", "retry": {"on": ["node_failure", "preemption"], "max": 3},
            "labels": {"team": rng.pick(("core", "applied", "infra"))}, "checkpoints": {"path": "ckpt", "keep": 2},
            "resources": {"gpu": f"{place[2]}:{each}", "cpu": 4 * each, "memory": f"{48 * each}GB"},
        }  # fmt: skip
        project = rng.pick(customer.projects)
        self.loop.run(_submitted, customer.people[person], document, project)

    def _weighted(self) -> Iterator[Customer]:
        """Customers by how much of the work is theirs."""
        whole = sum(one.share for one in self.customers)
        while True:
            place = self._rng.below(whole)
            for one in self.customers:
                place -= one.share
                if place < 0:
                    yield one
                    break

    def _news(self, month_us: int) -> None:
        """What the running month began with: new prices, budgets, quotas, credit, a reservation."""
        operator = self.operator
        self._run(set_price, operator, meter="gpu:H100", amount="2.29 USD")
        self._run(set_price, operator, meter="gpu:L40S", amount="0.95 USD")
        self._run(set_price, operator, meter="gpu:H100", amount="12 % off", organization="atlas-research")
        for customer, (name, *_, budget) in zip(self.customers, HOUSES, strict=True):
            owner = next(iter(customer.people.values()))
            self._run(
                put_budget, operator, scope=Scope.ORGANIZATION, scope_id=name, amount=budget, at_limit=AtLimit.WARN
            )
            self._run(put_quota, operator, scope=Scope.ORGANIZATION, scope_id=owner.organization_id, gpu_milli=480_000)
        self._run(grant_credit, operator, organization="kite-robotics", amount="2500 USD", given=True, note="welcome")
        starts = format_moment(self.machine.now_us() + 20 * HOUR_US)
        self._run(
            create_reservation, operator, organization="helix-bio", name="fold-week", kind="H100", nodes=4,
            starts=starts, lasts="5d",
        )  # fmt: skip

    def _trouble(self) -> None:
        """What an operator has to look after today."""
        fjord, delta, harbour = self.engines.values()
        rng = self._rng
        fjord.kill_node(rng.pick(fjord.node_ids()), "The machine lost power: PDU 2 of rack tripped.")
        delta.ail(rng.pick(delta.node_ids()), device_only=True)
        harbour.ail(rng.pick(harbour.node_ids()), device_only=True)
        self._pass(self.timeline.now_us() + MINUTE_US, HOUR_US)
        spare = sorted(self.loop.world.all(Node))[-1]
        self._run(drain_node, self.operator, spare, reason="firmware of the network cards")
        for _ in range(9):
            self._order(self._rng.between(3, 30) * HOUR_US, self._rng.pick((64, 64, 128, 32)))
        self._tick()

    # From now on.

    def arrive(self) -> None:
        """Somebody submits one more job, of minutes; any thread may call this."""
        self._order(self._rng.between(2, 25) * MINUTE_US, self._rng.pick((1, 2, 4, 8, 8, 16)))

    def measure(self, at_us: int, *, since: bool = False) -> Measured:
        """What the machines and jobs measure at a moment; any thread may call this. `since`: nothing of before a job
        ran."""
        world = self.loop.world
        held = [one for one in list(world.derived.held.values()) if one.running_us is not None]
        if since:
            held = [one for one in held if (one.running_us or 0) < at_us]
        return signs(held, list(world.all(Accelerator).values()), lambda job_id: world.get(Job, job_id), at_us)

    def job(self, job_id: str) -> Job | None:
        """A job, ended or not; any thread may ask."""
        found: Job | None = self.loop.world.get(Job, job_id) or self.store.get(Job, job_id)
        return found

    def device(self, accelerator_id: str) -> Accelerator | None:
        found: Accelerator | None = self.loop.world.get(Accelerator, accelerator_id)
        return found

    def nodes(self) -> list[str]:
        return list(self.loop.world.all(Node))


def _submitted(world: Any, context: Any, caller: Caller, document: dict[str, Any], project: str) -> Any:
    """A job, or nothing where a quota or a budget refuses it."""
    try:
        return submit_job(world, context, caller, document, project=project, env={})
    except CallerError:
        return Changes(), None


def _clusters() -> list[tuple[Cluster, tuple[str, str, str, int, int, int]]]:
    return [
        (Cluster(f"cls_{name}", f"reg_{region}", name, "scripted"), (name, region, kind, memory, racks, nodes))
        for name, region, kind, memory, racks, nodes in SITES
    ]
