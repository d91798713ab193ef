"""Muri's simulator and testbed: shortest first on 64 GPUs, by the published rules.

Rules: decisions at arrivals and ends only; all jobs in order, each at the first node with room, on an emptied cluster;
the cost of a restart is taken off the progress of every running job at each decision.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from headframe.base.quantities import SECOND_US
from headframe.scheduling.order import ORDERS
from headframe.scheduling.packing import packing_named
from headframe.sim.trace_jobs import Fleet, Group, TraceJob
from headframe.sim.trace_policies import POLICIES, TakingTurns
from headframe.sim.trace_readers import read_trace, refused
from headframe.sim.trace_replay import Costs, Outcome, Policy, Replay
from headframe.yardsticks.records import AIM, MUST, SHOWN, Options, Row, need

SOURCE = "Muri (SIGCOMM 2022), github.com/Rivendile/Muri, simulator and cluster_exp"
PUBLISHED = "published_sim_results.csv"
EXACT = {"SRTF": "shortest-first", "SRSF": "shortest-service"}
METRICS = ("avg_jct_s", "makespan_s", "p99_jct_s")
NO_DURATIONS = ("las", "learned")  # ours that know no durations
WITH_DURATIONS = "srsf"
CLOSE, TESTBED_CLOSE = 0.001, 0.03


def muri(data: Path | None, options: Options) -> Iterator[Row]:
    """Every published number of SRTF and SRSF again; then our own policies beside those of others."""
    (published,) = need(data, PUBLISHED, source=SOURCE)
    told = _published(published)
    fleet = cluster(published.parent)
    for trace in dict.fromkeys(trace for trace, _ in told):
        file = published.parent / f"{trace}.csv"
        if not options.wants(trace) or not file.is_file():
            continue
        jobs = read_trace(file)
        for name, order in EXACT.items():
            if (trace, name) in told and (not options.policies or name in options.policies):
                options.tell(f"muri: {trace}, {name}")
                found = numbers(exactly(jobs, fleet, order))
                for metric in METRICS:
                    goal = told[trace, name][metric]
                    passed = abs(found[metric] - goal) <= CLOSE * goal
                    yield Row("muri", f"{trace} {name}", metric, goal, found[metric], passed, MUST, "within 0.1 %")
        yield from _ours(trace, jobs, fleet, told, options)


def _ours(
    trace: str, jobs: Sequence[TraceJob], fleet: Fleet, told: dict[tuple[str, str], dict[str, float]], options: Options
) -> Iterator[Row]:
    """Our own policies, with restarts paid where they happen."""
    blind = dict.fromkeys(NO_DURATIONS, ("Tiresias_L", "themis"))
    rivals: dict[str, tuple[str, ...]] = {**blind, WITH_DURATIONS: ("SRSF",), "no-straggler": ()}
    for name, others in rivals.items():
        if options.policies and name not in options.policies:
            continue
        options.tell(f"muri: {trace}, {name}")
        replay = Replay(jobs, fleet, POLICIES[name].make(None), fleet.capacity(packing_named("fullest")),
                        costs=Costs(10 * SECOND_US))  # fmt: skip
        found = numbers(replay.run())
        compared = ("avg_jct_s", "p99_jct_s") if name in NO_DURATIONS else ("avg_jct_s",)
        for metric in METRICS:
            for other in others if metric in compared else ():
                goal = told.get((trace, other), {}).get(metric)
                if goal is not None:
                    rule = f"no more than {other}"
                    yield Row("muri", f"{trace} {name}", metric, goal, found[metric], found[metric] <= goal, AIM, rule)
            if metric not in compared or not others:
                yield Row("muri", f"{trace} {name}", metric, None, found[metric], None, SHOWN)


def testbed(data: Path | None, options: Options) -> Iterator[Row]:
    """The trace of the real cluster under the same rules, beside what was measured there."""
    trace, summary = need(data, "cluster_trace.csv", "testbed_summary.csv", source=SOURCE)
    with summary.open(encoding="utf-8", newline="") as text:
        told = {row["policy"]: row for row in csv.DictReader(text)}
    options.tell("muri-testbed: SRTF")
    found = numbers(exactly(read_trace(trace), cluster(trace.parent), EXACT["SRTF"]))
    for metric in METRICS:
        goal = float(told["SRTF"][metric])
        must = metric != "p99_jct_s"
        passed = abs(found[metric] - goal) <= TESTBED_CLOSE * goal
        yield Row("muri-testbed", "SRTF", metric, goal, found[metric], passed if must else None,
                  MUST if must else SHOWN, "within 3 %" if must else "")  # fmt: skip


def exactly(jobs: Sequence[TraceJob], fleet: Fleet, order: str) -> Outcome:
    """A replay by the published rules."""
    policy: Policy = TakingTurns(ORDERS[order].key, settle=False)
    capacity = fleet.capacity(packing_named("first"))
    return Replay(jobs, fleet, policy, capacity, costs=Costs(10 * SECOND_US, at_decisions=True)).run()


def numbers(outcome: Outcome) -> dict[str, float]:
    """Seconds: the mean and the 99th percentile of submission to end, and when the last job ended."""
    took = sorted(one.took_us for one in outcome.ended)
    return {
        "avg_jct_s": sum(took) / len(took) / SECOND_US,
        "makespan_s": max(one.ended_us for one in outcome.ended) / SECOND_US,
        "p99_jct_s": took[int(0.99 * len(took))] / SECOND_US,
    }


def cluster(folder: Path) -> Fleet:
    """The cluster of constants.json, else 8 nodes of 8 GPUs."""
    file = folder / "constants.json"
    if not file.is_file():
        return Fleet((Group(8, "V100", 8),))
    try:
        found = json.loads(file.read_text("utf-8"))["cluster"]
        return Fleet((Group(int(found["nodes"]), "V100", int(found["gpus_per_node"])),))
    except (ValueError, KeyError, TypeError) as error:
        raise refused(file, f"The cluster cannot be read: {error!r}.", "cluster", 1, "nodes, gpus_per_node") from None


def _published(file: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Published numbers by (trace, policy)."""
    with file.open(encoding="utf-8", newline="") as text:
        return {
            (row["trace"], row["policy"]): {metric: float(row[metric]) for metric in METRICS}
            for row in csv.DictReader(text)
        }
