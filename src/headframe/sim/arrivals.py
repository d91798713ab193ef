"""Who asks for what, and when: organizations, their people and limits, their jobs, and what operators do meanwhile.

Everything goes in through the same commands as from the API. What is refused is refused; the world goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US, format_moment
from headframe.control.commands_access import create_dataset, put_quota
from headframe.control.commands_clusters import drain_cluster, lose_cluster, resume_cluster
from headframe.control.commands_contracts import agree
from headframe.control.commands_fleet import drain_node, open_cluster, resume_node
from headframe.control.commands_jobs import stop_job, submit_job
from headframe.control.commands_money import grant_credit, put_budget
from headframe.control.commands_prices import set_price
from headframe.control.commands_reservations import cancel_reservation, create_reservation
from headframe.control.commands_tenancy import create_member, create_organization, create_project, open_cloud
from headframe.control.queries import plan, story
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.jobs.records import Job
from headframe.sim.clock import SeededRng
from headframe.sim.scenarios import Scenario
from headframe.tenants.records import AtLimit, Organization, Project, Role, Scope
from headframe.tenants.roles import Caller

Ask = Callable[..., Future[Any]]
Order = tuple[int, Callable[[], None]]  # true moment, what is asked for then
PRICES = (
    ("gpu:H100", "2.990000001 USD"), ("gpu:*", "0.999999999 USD"), ("cpu", "0.021800003 USD"),
    ("memory", "0.002900007 USD"), ("disk", "0.000055001 USD"),
)  # fmt: skip
LIMITS = (AtLimit.STOP, AtLimit.STOP, AtLimit.STOP, AtLimit.BLOCK, AtLimit.WARN)
KINDS = (("H100", 81_559), ("A100", 81_920), ("L4", 23_034))


def fleet(scenario: Scenario, rng: SeededRng) -> list[tuple[Region, Cluster, list[Node], list[Accelerator]]]:
    """Clusters with their nodes and devices; two blocks of racks in each."""
    made = []
    for number in range(scenario.clusters):
        region = Region(f"reg_{number % 2}", ("north", "south")[number % 2])
        labels = {"storage": "nfs"} if scenario.spread and number != 1 else {}
        cluster = Cluster(
            f"clu_{number}", region.id, f"cluster-{number}", "scripted", labels={**labels, "tier": str(number)}
        )
        nodes, devices = [], []
        for place in range(scenario.nodes):
            name = f"node-{number}-{place}"
            node = Node(
                f"nod_{number}_{place}", cluster.id, name, cpu_milli=rng.pick((16_000, 32_000, 64_000)),
                memory_mib=rng.pick((65_536, 262_144)), disk_mib=1_000_000,
                topology=(f"block-{place % 2}", f"rack-{place}"), fake=True,
            )  # fmt: skip
            nodes.append(node)
            kind, memory_mib = KINDS[0] if place == 0 else rng.pick(KINDS)
            for index in range(rng.pick((2, 4, 4, 8))):
                devices.append(
                    Accelerator(
                        f"acc_{number}_{place}_{index}",
                        node.id,
                        index,
                        kind,
                        "nvidia",
                        memory_mib,
                        links=f"{name}-{index // 4}",
                        fake=True,
                    )
                )
        made.append((region, cluster, nodes, devices))
    return made


class People:
    """Everybody who uses this cloud. `ask` hands a command to the program and returns the answer to come."""

    def __init__(self, scenario: Scenario, rng: SeededRng, ask: Ask, now_us: Callable[[], int]) -> None:
        self._scenario, self._rng, self.ask, self._now_us = scenario, rng, ask, now_us
        self.operator: Caller | None = None
        self.callers: list[Caller] = []
        self.projects: list[Project] = []
        self.organizations: list[Organization] = []
        self._jobs: list[Future[Any]] = []
        self._named = 0

    # Before anything happens.

    def open(self, places: list[tuple[Region, Cluster, list[Node], list[Accelerator]]]) -> None:
        """Open the cloud; prices, tenants and their limits. `ask` answers at once here."""
        opening = self.ask(open_cloud).result()
        owner = opening.organization.id
        self.operator = Caller(owner, opening.member.id, opening.key.id, Role.OWNER, operator=True)
        for region, cluster, _, _ in places:
            self.ask(open_cluster, region, cluster).result()
        for meter, amount in PRICES:
            self.ask(set_price, self.operator, meter=meter, amount=amount).result()
        if self._scenario.spread:
            for meter, amount in (("gpu:*", "0.500000003 USD"), ("gpu:H100", "1.000000007 USD"), ("cpu", "0.01 USD")):
                self.ask(set_price, self.operator, meter=meter, amount=amount, region="south").result()
        for number in range(self._scenario.organizations):
            self._found(number)

    def _found(self, number: int) -> None:
        rng, operator, name = self._rng, self.operator, f"house-{number}"
        prepaid = rng.chance(self._scenario.prepaid_per_mille)
        house = self.ask(create_organization, operator, name=name, prepaid=prepaid).result()
        self.organizations.append(house)
        for person in range(rng.between(1, 3)):
            role = (Role.ADMIN, Role.MEMBER)[person > 0]
            member = self.ask(create_member, operator, name=f"m{person}@{name}", role=role, organization=name).result()
            self.callers.append(Caller(house.id, member.id, f"key_of_{member.id}", role))
        for title in ("research", "products")[: rng.between(1, 2)]:
            self.projects.append(self.ask(create_project, operator, name=title, organization=name).result())
        if self._scenario.spread:
            self._data(house)
        if prepaid:
            self._credit(house).result()
        if self._scenario.limits:
            for _ in range(2):
                self._limit().result()
        if self._scenario.guarantees:
            self._guarantee(house)
        if self._scenario.contracts:
            self._agree(name)

    def _data(self, house: Organization) -> None:
        """Datasets of an organization: one that is near somewhere, and one that stays somewhere."""
        caller = next(each for each in self.callers if each.organization_id == house.id)
        for name, stays in (("wiki", False), ("scans", True)):
            lives_in = (self._rng.pick(("north", "south", "tier=1", "cluster-0")),)
            self.ask(
                create_dataset, caller, name=name, manifest="0" * 64, size_bytes=1, files=1, lives_in=lives_in,
                stays=stays,
            ).result()  # fmt: skip

    def _agree(self, name: str) -> None:
        """An SLA from now on, and now and then accelerators that are reserved, used or not."""
        ends = format_moment(-(-self._now_us() // HOUR_US) * HOUR_US + 9 * 24 * HOUR_US)
        self.ask(
            agree, self.operator, organization=name, shape="sla", title="Uptime", ends=ends,
            steps=((999_000, 10), (self._rng.pick((950_000, 990_000)), 25)),
        ).result()  # fmt: skip
        if self._rng.chance(500):
            self.ask(
                agree, self.operator, organization=name, shape="reserved", title="Two H100", ends=ends,
                amount="1.900000001 USD", meter="gpu:H100", quantity="2",
            ).result()  # fmt: skip

    # While it runs.

    def submissions(self, begin_us: int) -> Iterator[Order]:
        """Jobs, spread over the first part of the world's time, some of them in bursts."""
        at_us = begin_us
        for _ in range(self._scenario.jobs):
            if not self._rng.chance(350):
                at_us = begin_us + self._rng.below(self._scenario.span_us * 4 // 5)
            yield at_us, self.submit

    def orders(self, begin_us: int) -> Iterator[Order]:
        """Everything else that people do."""
        choices = [self.stop, self.stop, self.drain, self.look, self.look]
        if self._scenario.spread:
            choices += [self.drain_cluster, self.drain_cluster, self.resume_cluster, self.price]
        if self._scenario.limits:
            choices += [self.limit, self.limit, self.price, self.credit]
        for _ in range(self._scenario.orders):
            yield begin_us + self._rng.below(self._scenario.span_us), self._rng.pick(choices)
        for _ in range(4 if self._scenario.spread else 0):  # mostly nothing is lost, and that is refused
            at_us = begin_us + self._rng.below(self._scenario.span_us)
            yield at_us, self.lose_clusters
            yield at_us + self._rng.below(HOUR_US), self.resume_cluster
        for _ in range(self._scenario.reservations):
            yield begin_us + self._rng.below(self._scenario.span_us * 2 // 3), self.reserve

    def submit(self) -> None:
        caller = self._rng.pick(self.callers)
        homes = [each.name for each in self.projects if each.organization_id == caller.organization_id]
        document = self.document()
        project = self._rng.pick([*homes, "default"])
        if self._scenario.honest:
            project = "default"  # one owner: whoever waits first stays the first
        if self._rng.chance(100):
            self.ask(plan, caller, document, project=project, env={})
        self._jobs.append(self.ask(submit_job, caller, document, project=project, env={}))

    def document(self) -> dict[str, Any]:
        """A job as somebody might write it."""
        rng = self._rng
        self._named += 1
        document: dict[str, Any] = {
            "name": f"job-{self._named}",
            "run": self._script(),
            "resources": self._resources(),
            "priority": rng.pick((10, 50, 50, 50, 90)),
            "retry": rng.pick((
                {"on": ["node_failure", "preemption"], "max": 3},
                {"on": ["node_failure", "preemption", "error"], "max": rng.between(0, 3)},
                {"on": [], "max": 0},
            )),
        }  # fmt: skip
        shape = rng.below(10)
        if shape == 0:
            document["array"] = {"index": f"0..{rng.between(1, 4)}", "parallel": rng.between(0, 2)}
        elif shape == 1:
            document["schedule"] = {"cron": f"*/{rng.pick((7, 15, 30))} * * * *"}
        elif shape in (2, 3):
            document["nodes"] = rng.pick((2, 2, 3, "1..3"))
            document["topology"] = rng.pick(("none", "block", "cluster"))
        elif shape in (4, 5) and self._known():
            document["after"] = [rng.pick(self._known()).id]
        if rng.chance(250):
            document["max_duration"] = f"{rng.between(20, 900)}s"
            if rng.chance(500):
                document["warn_before_stop"] = f"{rng.between(1, 15)}s"
        if rng.chance(200):
            document["budget"] = f"0.{rng.between(1, 999_999_999):09d} USD"
        if rng.chance(150):
            document["purchase"] = rng.pick(("spot", "reserved"))
        if self._scenario.purchases:
            document["purchase"] = rng.pick(self._scenario.purchases)
            document["priority"] = rng.pick((10, 50, 90))
        if self._scenario.rules.order == "least-attained-service" and rng.chance(700):
            document["checkpoints"] = {"path": "saved"}
        if rng.chance(100):
            document["clusters"] = [rng.pick(("cluster-0", "south", "tier=0", "any"))]
        if self._scenario.honest:
            seconds = rng.pick((30, 120, rng.between(60, 2400)))
            letters = "".join("abcdefghij"[int(digit)] for digit in str(self._named))  # each is a kind of its own
            document |= {"name": f"job-{letters}", "run": f"run {seconds}s; exit 0", "max_duration": f"{seconds + 5}s",
                         "priority": 50, "purchase": "on-demand", "budget": None, "warn_before_stop": None}  # fmt: skip
            document.pop("schedule", None)
        if self._scenario.elastic and rng.chance(600) and not {"array", "schedule"} & document.keys():
            run_us = rng.between(SECOND_US, self._scenario.longest_us)
            document |= {"run": f"run {run_us}us; checkpoint 2m; scales; exit 0", "checkpoints": {"path": "ckpt"},
                         "nodes": rng.pick((1, "1..2", "1..3")), "topology": "none", "max_duration": None,
                         "retry": {"on": ["node_failure", "preemption"], "max": 3}}  # fmt: skip
            document.pop("warn_before_stop", None)
        if self._scenario.spread:
            self._anywhere(document)
        return document

    def _anywhere(self, document: dict[str, Any]) -> None:
        """How a job chooses between clusters."""
        rng = self._rng
        prefer = rng.pick((None, None, "cheapest", "listed", "packed"))
        if prefer is not None:
            document["prefer"] = prefer
        if rng.chance(400):
            document["clusters"] = rng.pick((["cluster-1", "cluster-0"], ["south", "any"], ["tier=0", "north"]))
        if rng.chance(300):
            document["datasets"] = {"data": rng.pick(("wiki@1", "scans@1"))}
        if rng.chance(300):
            document["spill_after"] = rng.pick(("1m", "10m", "1h"))
        if rng.chance(500) and not {"array", "schedule"} & document.keys():
            run_us = rng.between(SECOND_US, self._scenario.longest_us)
            document |= {"run": f"run {run_us}us; checkpoint 1m; exit 0", "checkpoints": {"path": "ckpt"},
                         "retry": {"on": ["node_failure", "preemption"], "max": 3}}  # fmt: skip

    def _script(self) -> str:
        rng = self._rng
        attempts = []
        for _ in range(rng.between(1, 2)):
            longest = rng.pick((2 * SECOND_US, 90 * SECOND_US, self._scenario.longest_us))
            parts = [f"prepare {rng.below(2_000)}ms", f"run {rng.between(1, longest)}us"]
            parts.append(rng.pick(("exit 0", "exit 0", "exit 0", "exit 1")))
            if rng.chance(80):
                parts.append(f"fail {rng.pick(('job', 'node', 'engine'))}")
            if rng.chance(150):
                parts.append("stubborn")
            if rng.chance(100):
                parts.append("on-stop 0")
            attempts.append("; ".join(parts))
        return " | ".join(attempts)

    def _resources(self) -> dict[str, Any]:
        rng = self._rng
        resources: dict[str, Any] = {
            "cpu": rng.pick((1, 2, 4, 8, "2..6")),
            "memory": rng.pick(("1GB", "3GB", "16GB", "2GB..8GB")),
        }
        gpu = rng.pick((
            None, None, 0.5, 0.25, 1, 2, "H100:1", "H100:2", "A100:1", "24GB..:1", ["H100:2", "A100:2"],
            ["L4:1", "H100:1"],
        ))  # fmt: skip
        if gpu is not None:
            resources["gpu"] = gpu
        if rng.chance(200):
            resources["disk"] = "10GB"
        return resources

    def stop(self) -> None:
        jobs = self._known()
        if jobs:
            grace_us = self._rng.pick((None, 0, 30 * SECOND_US))
            self.ask(stop_job, self.operator, self._rng.pick(jobs).id, grace_us=grace_us)

    def drain(self) -> None:
        """Take a node out of use; `end` brings all of them back."""
        place = self._rng.below(self._scenario.clusters), self._rng.below(self._scenario.nodes)
        node_id = f"nod_{place[0]}_{place[1]}"
        if self._rng.chance(600):
            self.ask(drain_node, self.operator, node_id, reason="a new fan")
        else:
            self.ask(resume_node, self.operator, node_id)

    def drain_cluster(self) -> None:
        """Take a whole cluster out of use; `end` brings all of them back."""
        name = f"cluster-{self._rng.below(self._scenario.clusters)}"
        self.ask(drain_cluster, self.operator, name, reason="new switches", move=self._rng.chance(300))

    def resume_cluster(self) -> None:
        self.ask(resume_cluster, self.operator, f"cluster-{self._rng.below(self._scenario.clusters)}")

    def lose_clusters(self) -> None:
        """Give up whatever does not answer, though it may live; clusters that answer are not lost."""
        for number in range(self._scenario.clusters):
            name = f"cluster-{number}"
            self.ask(lose_cluster, self.operator, name, confirm=name, reason="nobody has heard of it")

    def reserve(self) -> None:
        """Promise some capacity to somebody, or give some back."""
        rng = self._rng
        self._named += 1
        if rng.chance(200) and self._named > 1:
            self.ask(cancel_reservation, self.operator, f"r{rng.between(1, self._named)}")
            return
        whole = rng.chance(300)
        self.ask(
            create_reservation, self.operator, name=f"r{self._named}", organization=rng.pick(self.organizations).name,
            kind=rng.pick(("H100", "A100", "L4", None)), count=None if whole else rng.between(1, 4),
            nodes=1 if whole else None, lasts=f"{rng.between(5, 60)}m",
            starts=format_moment(self._now_us() + rng.pick((1, 10 * MINUTE_US, rng.below(HOUR_US)))),
        )  # fmt: skip

    def look(self) -> None:
        """Ask for a story: it changes nothing, and must always have an answer."""
        jobs = self._known()
        if jobs:
            self.ask(story, self.operator, self._rng.pick(jobs).id)

    def limit(self) -> None:
        self._limit()

    def credit(self) -> None:
        self._credit(self._rng.pick(self.organizations))

    def price(self) -> None:
        """A price from now on, or from a moment soon to come."""
        rng = self._rng
        after_us = rng.pick((0, 0, 90 * SECOND_US, HOUR_US // 2))
        self.ask(
            set_price, self.operator, meter=rng.pick(("gpu:H100", "gpu:*", "cpu", "memory", "gpu:L4")),
            amount=f"{rng.below(4)}.{rng.below(10**9):09d} USD", region=rng.pick(("*", "*", "north")),
            purchase=rng.pick(("*", "*", "spot")),
            starts=format_moment(self._now_us() + after_us) if after_us else None,
            minimum=rng.pick(("60s", "60s", "1s", "600s")),
        )  # fmt: skip

    def _limit(self) -> Future[Any]:
        rng = self._rng
        house = rng.pick(self.organizations)
        project = rng.pick([each for each in self.projects if each.organization_id == house.id])
        scope, scope_id = rng.pick(((Scope.ORGANIZATION, house.id), (Scope.PROJECT, project.id)))
        if rng.chance(500):
            return self.ask(
                put_quota, self.operator, scope=scope, scope_id=scope_id, gpu_milli=rng.pick((None, 1000, 3500, 8000)),
                cpu_milli=rng.pick((None, 8000, 24_000)), memory_mib=rng.pick((None, 32_768)),
                jobs=rng.pick((None, 8, 20)),
            )  # fmt: skip
        amount = f"{rng.below(3)}.{rng.below(10**9):09d} USD"
        at_limit = rng.pick(LIMITS)
        return self.ask(put_budget, self.operator, scope=scope, scope_id=scope_id, amount=amount, at_limit=at_limit)

    def _guarantee(self, house: Organization) -> None:
        """A part of the cloud for an organization, some of it for each of its projects; the rest is borrowed."""
        rng = self._rng
        whole = {"gpu_milli": 1000 * rng.between(1, 3), "cpu_milli": 8000 * rng.between(1, 2)}
        borrow = rng.pick(({}, {"gpu_milli": 2000}, {"gpu_milli": 0, "cpu_milli": 16_000}))
        self.ask(
            put_quota, self.operator, scope=Scope.ORGANIZATION, scope_id=house.id, guaranteed=whole, borrow=borrow,
            lend=rng.pick(({}, {"gpu_milli": 1000})), weight=rng.pick((500, 1000, 2000)),
        ).result()  # fmt: skip
        for project in [each for each in self.projects if each.organization_id == house.id]:
            part = {"gpu_milli": whole["gpu_milli"] // 2, "cpu_milli": whole["cpu_milli"] // 2}
            self.ask(
                put_quota, self.operator, scope=Scope.PROJECT, scope_id=project.id, guaranteed=part,
                borrow=rng.pick(({}, {"gpu_milli": 1000})),
            ).result()  # fmt: skip

    def _credit(self, house: Organization) -> Future[Any]:
        rng = self._rng
        amount = f"{rng.below(4)}.{rng.between(1, 10**9 - 1):09d} USD"
        expires_us = self._now_us() + rng.between(HOUR_US // 4, 3 * HOUR_US) if rng.chance(250) else None
        return self.ask(
            grant_credit, self.operator, organization=house.id, amount=amount, given=rng.chance(300),
            priority=rng.pick((50, 50, 10)), expires=None if expires_us is None else format_moment(expires_us),
        )  # fmt: skip

    # When the world is to end.

    def end(self) -> None:
        """Bring all nodes back; nobody starts anything any more."""
        for cluster in range(self._scenario.clusters):
            self.ask(resume_cluster, self.operator, f"cluster-{cluster}")
            for place in range(self._scenario.nodes):
                self.ask(resume_node, self.operator, f"nod_{cluster}_{place}")

    def end_schedules(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.parent and job.spec.cron and not job.stop_reason:
                self.ask(stop_job, self.operator, job.id)

    def _known(self) -> list[Job]:
        """Jobs that were taken in."""
        done = [each for each in self._jobs if each.done() and not each.cancelled() and each.exception() is None]
        return [each.result() for each in done]
