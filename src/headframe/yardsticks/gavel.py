"""Gavel's simulations: a stream of jobs, and a batch, on three kinds of GPU with measured speeds.

Rules: 36 GPUs of each kind, one to a server; decisions every 360 s, at which a job may change its kind at no cost; of a
stream only jobs 4,000 to 4,999 count, with later ones arriving until those have ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from headframe.base.errors import Invalid
from headframe.base.quantities import HOUR_US, SECOND_US
from headframe.scheduling.packing import packing_named
from headframe.sim.trace_jobs import MILLION, Fleet, Group, TraceJob
from headframe.sim.trace_policies import POLICIES
from headframe.sim.trace_readers import Reading, read_trace, table
from headframe.sim.trace_replay import Replay
from headframe.yardsticks.records import AIM, MUST, SHOWN, Options, Row, need

SOURCE = "Gavel (OSDI 2020), github.com/stanford-futuredata/gavel"
RATES, PUBLISHED = "simulation_throughputs.csv", "published_continuous_single.csv"
BATCHES = "published_makespan_static_multi.csv"
FLEET = Fleet((Group(36, "v100", 1), Group(36, "p100", 1), Group(36, "k80", 1)))
ROUND_US = 360 * SECOND_US
COUNTED = slice(4000, 5000)
STREAM, SEED = re.compile(r"continuous_single_seed([0-9]{1,9})\.csv"), 0
LOW, HIGH = 0.4, 5.2  # jobs per hour
AIM_JCT_H, AIM_MAKESPAN_H = 21.0, 165.0
POLICY = {"by-kind": "max_min_fairness_perf", "by-kind-shortest": "allox", "fifo": "fifo"}
BATCH, BATCH_POLICY = 500, "by-kind-longest"


def parts(data: Path | None, options: Options) -> list[Options]:
    """One for each seed, rate and policy; unless others are asked for, by age at the low rate, by kind at the high."""
    files, policies = _files(data), options.chosen(tuple(POLICY))
    unknown = [seed for seed in options.seeds if seed not in files]
    if unknown:
        raise Invalid(f"There is no stream of seed {unknown[0]}.", field="--seeds", value=str(unknown[0]),
                      allowed=", ".join(map(str, files)))  # fmt: skip
    return [
        options.only(str(rate), name, seed)
        for seed in options.seeds or files
        for rate in _rates(options)
        for name in policies
        if (name == "fifo") == (rate <= LOW) or options.policies
    ]


def gavel(data: Path | None, options: Options) -> Iterator[Row]:
    """Mean completion time and fairness of a stream, by jobs per hour; `workloads` may name other rates."""
    files = _files(data)
    for part in parts(data, options):
        (rate,), (seed,), (name,) = _rates(part), part.seeds, part.policies
        options.tell(f"gavel: seed {seed}, {rate:g} jobs an hour, {name}")
        published = files[seed].parent / PUBLISHED
        told = _published(published) if seed == SEED else {}  # what is published is for one seed
        yield from _stream(files[seed], seed, rate, name, told)


def _files(data: Path | None) -> dict[int, Path]:
    """The streams by seed."""
    _, published = need(data, RATES, PUBLISHED, source=SOURCE)
    found = {
        int(match[1]): file for file in published.parent.glob("continuous_single_seed*.csv")
        if (match := STREAM.fullmatch(file.name))
    }  # fmt: skip
    return dict(sorted(found.items())) or {SEED: need(data, "continuous_single_seed0.csv", source=SOURCE)[0]}


def _stream(file: Path, seed: int, rate: float, name: str, told: dict[tuple[str, float, str], float]) -> Iterator[Row]:
    """One policy at one rate, beside what is published of the one that it stands for."""
    jobs, other = read_trace(file, Reading(rate)), POLICY[name]
    alone = _isolated(jobs)
    counted = [job.id for job in sorted(jobs, key=lambda job: job.id)[COUNTED]] or [job.id for job in jobs]
    replay = Replay(jobs, FLEET, POLICIES[name].make(ROUND_US), FLEET.capacity(packing_named("first")), until=counted)
    ended = {one.id: one for one in replay.run().ended}
    jct_h = sum(ended[job_id].took_us for job_id in counted) / len(counted) / HOUR_US
    ftf = sum(ended[job_id].took_us / alone[job_id] for job_id in counted) / len(counted)
    case = f"seed {seed}, {rate:g} jobs/h, {name}"
    goal, fair = told.get(("avg_jct_h", rate, other)), told.get(("avg_ftf", rate, other))
    if name == "fifo":
        level = MUST if rate == LOW and goal is not None else SHOWN
        passed = abs(jct_h - goal) <= 0.01 * goal if goal is not None and level == MUST else None
        yield Row("gavel", case, "avg_jct_h", goal, jct_h, passed, level, "within 1 %" if level == MUST else "")
        return
    must = MUST if name == "by-kind" and rate == HIGH else AIM
    for metric, ours, limit in (("avg_jct_h", jct_h, goal), ("avg_ftf", ftf, fair)):
        passed = None if limit is None else ours <= limit
        yield Row("gavel", case, metric, limit, ours, passed, must if limit is not None else SHOWN,
                  f"no more than {other}" if limit is not None else "")  # fmt: skip
    if rate == HIGH and name == "by-kind" and goal is not None:
        yield Row("gavel", case, "avg_jct_h", goal, jct_h, jct_h <= AIM_JCT_H, AIM, f"no more than {AIM_JCT_H:g} h")


def batches(data: Path | None, options: Options) -> list[Options]:
    """One for each size of a batch of which Gavel's makespan is published."""
    _, published, _ = need(data, RATES, BATCHES, "continuous_multi_seed0.csv", source=SOURCE)
    options.chosen((BATCH_POLICY,))
    sizes = [str(size) for size in sorted(_batches(published))]
    unknown = [name for name in options.workloads if name not in sizes]
    if unknown or not sizes:
        raise Invalid(f"No makespan of such a batch is published in {published}.", field="--workload",
                      value=", ".join(unknown), allowed=", ".join(sizes) or "lines of the policy Gavel")  # fmt: skip
    return [options.only(size) for size in sizes if options.wants(size)]


def _batches(file: Path) -> dict[int, float]:
    """Gavel's makespan in hours by the number of jobs."""
    return {
        line.whole("num_jobs", 1, 10**6): line.number_of("makespan_h", 0, 1e9)
        for line in table(file, ("policy", "num_jobs", "makespan_h"))
        if line.text("policy") == "Gavel"
    }


def makespan(data: Path | None, options: Options) -> Iterator[Row]:
    """When the last job of a batch ends, by the size of the batch."""
    _, published, file = need(data, RATES, BATCHES, "continuous_multi_seed0.csv", source=SOURCE)
    jobs = sorted(read_trace(file), key=lambda job: job.id)
    told = _batches(published)
    for size, goal in ((int(part.workloads[0]), told[int(part.workloads[0])]) for part in batches(data, options)):
        options.tell(f"gavel-makespan: {size} jobs")
        batch = jobs[:size]
        policy = POLICIES[BATCH_POLICY].make(ROUND_US)
        outcome = Replay(batch, FLEET, policy, FLEET.capacity(packing_named("first"))).run()
        ours, case = outcome.last_us / HOUR_US, f"{size} jobs, {BATCH_POLICY}"
        least = max(job.work_us * MILLION / max(job.speeds.values()) for job in batch) / HOUR_US
        must = size == BATCH
        yield Row("gavel-makespan", case, "makespan_h", goal, ours, ours <= goal if must else None,
                  MUST if must else SHOWN, "no more than Gavel" if must else "")  # fmt: skip
        if must:
            yield Row("gavel-makespan", case, "makespan_h", goal, ours, ours <= AIM_MAKESPAN_H, AIM,
                      f"no more than {AIM_MAKESPAN_H:g} h")  # fmt: skip
        yield Row("gavel-makespan", f"{size} jobs", "longest_job_alone_h", None, least, None, SHOWN)


def _isolated(jobs: Sequence[TraceJob]) -> dict[str, int]:
    """How long each job takes (microseconds) when all who are there have an equal part of every kind, all the time.

    This is what fairness is measured against: a job of n GPUs among m has 1 / (m n) of every kind, all of its time at
    most. The parts change at rounds.
    """
    kinds, total = FLEET.kinds, np.array([group.nodes * group.gpus for group in FLEET.groups], float)
    gpus = np.array([job.gpus for job in jobs], float)
    speeds = np.array([[job.speed(kind) for kind in kinds] for job in jobs], float) / MILLION
    left = np.array([job.work_us for job in jobs], float)
    arrivals = [job.submitted_us for job in jobs]
    active, following, now_us = np.zeros(0, np.int64), 0, 0
    took: dict[str, int] = {}
    while following < len(jobs) or len(active):
        if not len(active):
            now_us = max(now_us, -(-arrivals[following] // ROUND_US) * ROUND_US)
        arrived = following
        while following < len(jobs) and arrivals[following] <= now_us:
            following += 1
        active = np.concatenate([active, np.arange(arrived, following)])
        part = total / len(active) / gpus[active][:, None]
        part /= max(float(part.sum(axis=1).max()), 1.0)
        speed = (part * speeds[active]).sum(axis=1)
        done = left[active] <= speed * ROUND_US
        for place in np.flatnonzero(done):
            job = jobs[active[place]]
            took[job.id] = now_us + round(left[active[place]] / speed[place]) - job.submitted_us
        left[active] -= speed * ROUND_US
        active = active[~done]
        now_us += ROUND_US
    return took


def _rates(options: Options) -> list[float]:
    """Jobs per hour to run at."""
    if not options.workloads:
        return [LOW, HIGH]
    try:
        rates = [float(text) for text in options.workloads]
    except ValueError:
        rates = [0.0]
    if not all(0 < rate <= 1000 for rate in rates):
        raise Invalid("A workload of gavel is a number of jobs per hour.", field="--workload",
                      value=", ".join(options.workloads), allowed="such as 5.2")  # fmt: skip
    return rates


def _published(file: Path) -> dict[tuple[str, float, str], float]:
    """Published numbers by (metric, jobs per hour, policy)."""
    return {
        (line.text("metric"), line.number_of("jobs_per_hour", 0, 1000), line.text("policy")):
            line.number_of("value", 0, 1e9)
        for line in table(file, ("metric", "jobs_per_hour", "policy", "value"))
    }  # fmt: skip
