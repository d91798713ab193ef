"""Muri's simulator and testbed: shortest first on 64 GPUs, by the published rules.

Rules: decisions at arrivals and ends only; all jobs in order, each at the first node with room, on an emptied cluster;
the cost of a restart is taken off the progress of every running job at each decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from headframe.base.errors import Invalid
from headframe.base.quantities import SECOND_US
from headframe.scheduling.order import ORDERS
from headframe.scheduling.packing import packing_named
from headframe.sim.trace_jobs import Fleet, Group, TraceJob
from headframe.sim.trace_policies import POLICIES, TakingTurns
from headframe.sim.trace_readers import read_trace, refused, table
from headframe.sim.trace_replay import Costs, Outcome, Policy, Replay
from headframe.yardsticks.records import AIM, MUST, SHOWN, Options, Row, need

SOURCE = "Muri (SIGCOMM 2022), github.com/Rivendile/Muri, simulator and cluster_exp"
PUBLISHED = "published_sim_results.csv"
EXACT = {"SRTF": "shortest-first", "SRSF": "shortest-service"}
METRICS = ("avg_jct_s", "makespan_s", "p99_jct_s")
NO_DURATIONS = ("las", "learned")  # ours that know no durations
RIVALS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(NO_DURATIONS, ("Tiresias_L", "themis")), "srsf": ("SRSF",), "no-straggler": (),
}  # fmt: skip
MOST_S = 1e12
CLOSE, TESTBED_CLOSE = 0.001, 0.03


def parts(data: Path | None, options: Options) -> list[Options]:
    """One for each trace and policy."""
    (published,) = need(data, PUBLISHED, source=SOURCE)
    told = _published(published)
    policies = options.chosen((*EXACT, *RIVALS))
    traces = [
        name for name in dict.fromkeys(trace for trace, _ in told) if (published.parent / f"{name}.csv").is_file()
    ]
    unknown = [name for name in options.workloads if name not in traces]
    if unknown or not traces:
        raise Invalid(f"No trace of {published} that is wanted lies beside it.", field="--workload",
                      value=", ".join(unknown), allowed=", ".join(traces) or "TRACE.csv beside it")  # fmt: skip
    return [
        options.only(trace, name)
        for trace in traces
        if options.wants(trace)
        for name in policies
        if name in RIVALS or (trace, name) in told
    ]


def muri(data: Path | None, options: Options) -> Iterator[Row]:
    """Every published number of SRTF and SRSF again; our own policies beside those of others."""
    (published,) = need(data, PUBLISHED, source=SOURCE)
    told = _published(published)
    fleet = cluster(published.parent)
    for part in parts(data, options):
        (trace,), (name,) = part.workloads, part.policies
        options.tell(f"muri: {trace}, {name}")
        jobs = read_trace(published.parent / f"{trace}.csv")
        if name in EXACT:
            found = numbers(exactly(jobs, fleet, EXACT[name]))
            for metric in METRICS:
                goal = told[trace, name][metric]
                passed = abs(found[metric] - goal) <= CLOSE * goal
                yield Row("muri", f"{trace} {name}", metric, goal, found[metric], passed, MUST, "within 0.1 %")
        else:
            yield from _ours(trace, name, jobs, fleet, told)


def _ours(
    trace: str, name: str, jobs: Sequence[TraceJob], fleet: Fleet, told: dict[tuple[str, str], dict[str, float]]
) -> Iterator[Row]:
    """One of our own policies, with restarts paid where they happen."""
    replay = Replay(jobs, fleet, POLICIES[name].make(None), fleet.capacity(packing_named("fullest")),
                    costs=Costs(10 * SECOND_US))  # fmt: skip
    found, others = numbers(replay.run()), RIVALS[name]
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
    told = {line.text("policy"): line for line in table(summary, ("policy", *METRICS))}
    if "SRTF" not in told:
        raise refused(summary, "There is no line of SRTF in it.", "policy", 1, "SRTF among the policies")
    options.tell("muri-testbed: SRTF")
    found = numbers(exactly(read_trace(trace), cluster(trace.parent), EXACT["SRTF"]))
    for metric in METRICS:
        goal = told["SRTF"].number_of(metric, 0, MOST_S)
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
    return {
        (line.text("trace"), line.text("policy")): {metric: line.number_of(metric, 0, MOST_S) for metric in METRICS}
        for line in table(file, ("trace", "policy", *METRICS))
    }
