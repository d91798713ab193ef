"""Shockwave's 32-GPU run: makespan, completion time and fairness in one policy.

Rules: 32 GPUs, decisions every 120 s. The jobs of the original change their batch size while they run, and the trace
does not say when; here each runs for as long as the trace says that it would without (`static_duration_s`). That is
more work than the original had: what it ran adds up to its published utilization times makespan.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headframe.base.quantities import SECOND_US
from headframe.scheduling.packing import packing_named
from headframe.sim.trace_jobs import Fleet, Group
from headframe.sim.trace_policies import POLICIES
from headframe.sim.trace_readers import read_trace, refused, table
from headframe.sim.trace_replay import Costs, Replay
from headframe.yardsticks.records import MUST, SHOWN, Options, Row, need

SOURCE = "Shockwave (NSDI 2023), github.com/uw-mad-dash/shockwave"
TRACE, PUBLISHED = "trace_120jobs.csv", "published_32gpu_results.csv"
METRICS = ("makespan_s", "avg_jct_s", "worst_ftf", "unfair_frac")
MOST = 1e9
FLEET = Fleet((Group(8, "v100", 4),))
ROUND_US = 120 * SECOND_US
RESTART_US = 20 * SECOND_US  # shown beside: what restarts would cost
UNFAIR = 1.1
OURS = "no-straggler"
BESIDE = {"srtf": "max_sum_throughput_perf", "las": "max_min_fairness", "by-kind": "finish_time_fairness"}


def parts(data: Path | None, options: Options) -> list[Options]:
    """One for each policy."""
    need(data, TRACE, PUBLISHED, source=SOURCE)
    return [options.only(policy=name) for name in options.chosen((OURS, *BESIDE))]


def shockwave(data: Path | None, options: Options) -> Iterator[Row]:
    """The must for one policy of ours; others, and what restarts would cost, are shown."""
    trace, published = need(data, TRACE, PUBLISHED, source=SOURCE)
    told = {
        line.text("policy"): line
        for line in table(published, ("setup", "mode", "policy", *METRICS, "cluster_util"))
        if line.text("mode") == "simulation" and line.text("setup") == "tacc_32gpus"
    }
    missing = [name for name in ("shockwave", *BESIDE.values()) if name not in told]
    if missing:
        raise refused(
            published, f"There is no simulation of {missing[0]} on tacc_32gpus in it.", "policy", 1, missing[0]
        )
    jobs = read_trace(trace)
    asked_s = sum(job.work_us * job.gpus for job in jobs) / FLEET.gpus / SECOND_US
    best = told["shockwave"]
    ran_s = best.number_of("makespan_s", 0, MOST) * best.number_of("cluster_util", 0, 1)
    if not options.policies or OURS in options.policies:
        yield Row("shockwave", "all jobs", "gpu_seconds_per_gpu", ran_s, asked_s, None, SHOWN)
    for name, other, restart_us in ((OURS, "shockwave", 0), (OURS, "shockwave", RESTART_US),
                                    *((name, other, 0) for name, other in BESIDE.items())):  # fmt: skip
        if options.policies and name not in options.policies:
            continue
        options.tell(f"shockwave: {name}")
        capacity = FLEET.capacity(packing_named("fullest"))
        outcome = Replay(jobs, FLEET, POLICIES[name].make(ROUND_US), capacity, costs=Costs(restart_us)).run()
        count = len(outcome.ended)
        found = {
            "makespan_s": outcome.last_us / SECOND_US,
            "avg_jct_s": sum(one.took_us for one in outcome.ended) / count / SECOND_US,
            "worst_ftf": max(one.fairness for one in outcome.ended),
            "unfair_frac": sum(one.fairness > UNFAIR for one in outcome.ended) / count,
        }
        case = f"{name}, {restart_us // SECOND_US} s for a restart" if restart_us else name
        for metric, ours in found.items():
            goal = told[other].number_of(metric, 0, MOST)
            must = name == OURS and not restart_us and metric in ("makespan_s", "avg_jct_s")
            yield Row("shockwave", case, metric, goal, ours, ours <= goal if must else None, MUST if must else SHOWN,
                      f"no more than {other}" if must else "")  # fmt: skip
