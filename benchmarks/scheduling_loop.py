"""Placements a second through the whole loop: command, placing, one transaction, launch. Used by scheduling.py."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from headframe.base.quantities import MINUTE_US
from headframe.control.commands_fleet import open_cluster
from headframe.control.commands_jobs import submit_job
from headframe.control.commands_prices import set_price
from headframe.control.commands_tenancy import open_cloud
from headframe.control.loop import Loop
from headframe.engines.scripted import ScriptedEngine, Temper
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.jobs.records import Job, JobState
from headframe.sim.clock import CountedIds, SeededRng, VirtualClock
from headframe.sim.run import NoBlobs, PlainVault
from headframe.sim.trace_jobs import TraceJob, parse_fleet
from headframe.sim.trace_policies import policy_named
from headframe.sim.trace_replay import Replay
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Role
from headframe.tenants.roles import Caller

GPUS, ARRAY = 8_000, 4_000
MEMORY = "sqlite://"


class Town:
    """The real loop and store with a scripted engine of 8-GPU nodes, on a virtual clock."""

    def __init__(self, url: str, gpus: int) -> None:
        self.clock = VirtualClock()
        nodes = [Node(f"nod_{n:04}", "clu_1", f"node-{n}", 128_000, 1_048_576, 100_000) for n in range(gpus // 8)]
        devices = [
            Accelerator(f"acc_{node.id}_{at}", node.id, at, "H100", "nvidia", 81_559)
            for node in nodes
            for at in range(8)
        ]
        self.engine = ScriptedEngine(
            nodes, devices, true_us=lambda: self.clock.true_us, stamp_us=self.clock.machine_us,
            rng=SeededRng(1, "engine"), temper=Temper(),
        )  # fmt: skip
        if url != MEMORY:
            migrate(url)
        self.store = SqlStore(url)
        self.loop = Loop(self.store, {"clu_1": self.engine}, CountedIds(1), PlainVault(), NoBlobs(), self.clock.true_us)
        self.loop.complain = _complain
        self.engine.start(lambda item: self.loop.deliver("clu_1", item))
        opening = self.run(open_cloud)
        self.owner = Caller(opening.organization.id, opening.member.id, opening.key.id, Role.OWNER, operator=True)
        self.run(open_cluster, Region("reg_1", "north"), Cluster("clu_1", "reg_1", "main", "scripted"))
        self.run(set_price, self.owner, meter="gpu:H100", amount="2 USD")
        self.pass_time(1_000_000)
        assert len(self.loop.world.all(Node)) == len(nodes)

    def run(self, command: Any, *args: Any, **kwargs: Any) -> Any:
        answer = self.loop.run(command, *args, **kwargs)
        self.loop.tick(self.clock.true_us)
        return answer.result(timeout=0)

    def pass_time(self, span_us: int) -> None:
        """Let everything happen that is due within a span, a millisecond of the engine at a time at most."""
        end_us = self.clock.true_us + span_us
        while self.clock.true_us < end_us:
            due = self.engine.next_due_us()
            self.clock.advance_to(min(end_us, max(due or end_us, self.clock.true_us + 1_000)))
            self.engine.advance()
            self.loop.tick(self.clock.true_us)

    def count(self, *states: JobState) -> int:
        return sum(job.state in states and not job.parent for job in self.loop.world.all(Job).values())


def _complain(error: BaseException) -> None:
    raise error


def placements(url: str) -> tuple[float, float]:
    """(starts, whole lives) a second: 8,000 jobs of one GPU each that wait for an empty cloud, in two arrays."""
    town = Town(url, GPUS)
    loop, now = town.loop, town.clock
    began = time.perf_counter()
    for _ in range(GPUS // ARRAY):
        document = {
            "run": "run 60s; exit 0", "array": {"index": f"0..{ARRAY - 1}"}, "resources": {"gpu": 1, "cpu": 1},
        }  # fmt: skip
        loop.run(submit_job, town.owner, document)
    ticks = 0
    while ticks == 0 or town.count(JobState.QUEUED):
        loop.tick(now.true_us)
        ticks += 1
        assert ticks < 1000, "not everything was placed"
    starts_s = time.perf_counter() - began
    while town.count(JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.STOPPING):
        town.pass_time(1_000_000)
    lives_s = time.perf_counter() - began
    town.store.close()
    return GPUS / starts_s, GPUS / lives_s


def both() -> dict[str, dict[str, int]]:
    """Rates with SQLite in memory and on disk."""
    found: dict[str, dict[str, int]] = {"placements_per_second": {}, "lives_per_second": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, url in (("memory", MEMORY), ("disk", f"sqlite:///{Path(folder) / 'town.db'}")):
            starts, lives = placements(url)
            found["placements_per_second"][name] = round(starts)
            found["lives_per_second"][name] = round(lives)
    return found


def trace_seconds(count: int) -> float:
    """Seconds to replay a trace of so many jobs, made up: 1 to 64 GPUs, a minute to a day, on 2,000 GPUs at 90 % load.

    Who comes first is fair share; everything is placed by the product's queue and `fit`.
    """
    rng, fleet = SeededRng(1, "trace"), parse_fleet("250xH100:8")
    sizes = (1, 1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 64)
    jobs, now_us, shares = [], 0, []
    for number in range(count):
        gpus, work_us = sizes[rng.below(len(sizes))], MINUTE_US * 2 ** rng.below(10) + rng.below(MINUTE_US)
        shares.append((gpus, work_us))
        jobs.append(TraceJob(f"job_{number:06}", 0, gpus, work_us, owner=f"owner-{rng.below(50)}"))
    mean_us = sum(gpus * work_us for gpus, work_us in shares) // count * 10 // (9 * fleet.gpus)
    for number, job in enumerate(jobs):
        now_us += rng.below(2 * mean_us)
        jobs[number] = replace(job, submitted_us=now_us)
    began = time.perf_counter()
    outcome = Replay(jobs, fleet, policy_named("fair").make(None), fleet.capacity()).run()
    assert len(outcome.ended) == count, "every job ends"
    return time.perf_counter() - began
