"""What is said of a replayed trace: numbers, and curves over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headframe.base.quantities import SECOND_US
from headframe.sim.trace_replay import Outcome

POINTS = 240  # of a curve, as it is reported
UNFAIR = 1.1


@dataclass(frozen=True, slots=True)
class Curve:
    """Means over equal spans of time. `used` is the part of the GPUs that was held, `waiting` how many jobs waited."""

    span_us: int
    used: tuple[float, ...]
    waiting: tuple[float, ...]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value of which `percent` of a hundred are smaller; 0 when there is none. `values` are in order."""
    return values[min(len(values) * percent // 100, len(values) - 1)] if values else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def summary(outcome: Outcome) -> dict[str, Any]:
    """The numbers of a replay. Seconds from submission to end, of waiting, and until the last end; parts of one."""
    took = sorted(one.took_us / SECOND_US for one in outcome.ended)
    waited = sorted(one.waited_us / SECOND_US for one in outcome.ended)
    fairness = sorted(one.fairness for one in outcome.ended)
    span_us = max(outcome.last_us - outcome.first_us, 1)
    return {
        "jobs": len(outcome.ended), "impossible": len(outcome.impossible), "unfinished": outcome.unfinished,
        "jct_mean_s": mean(took), "jct_p50_s": percentile(took, 50), "jct_p99_s": percentile(took, 99),
        "wait_mean_s": mean(waited), "wait_p50_s": percentile(waited, 50), "wait_p99_s": percentile(waited, 99),
        "makespan_s": span_us / SECOND_US, "utilization": outcome.held_us / (span_us * outcome.gpus),
        "fairness_mean": mean(fairness), "fairness_worst": max(fairness, default=0.0),
        "unfair": mean([one > UNFAIR for one in fairness]), "starts_mean": mean([one.starts for one in outcome.ended]),
        "gpus": outcome.gpus, "decisions": outcome.decisions,
    }  # fmt: skip


def curve(outcome: Outcome, points: int = POINTS, until_us: int | None = None) -> Curve:
    """How much was held and how many waited, over time, from the first submission to the last end (or `until_us`)."""
    end_us = max(outcome.last_us if until_us is None else until_us, outcome.first_us + points)
    span_us = -(-(end_us - outcome.first_us) // points)
    held, waiting = [0] * points, [0] * points
    moments = [*(moment for moment, _, _ in outcome.curve), outcome.last_us]
    for place, (moment, used, waits) in enumerate(outcome.curve):
        at_us, until = moment, moments[place + 1]
        while at_us < until:
            bucket = min((at_us - outcome.first_us) // span_us, points - 1)
            next_us = min(until, outcome.first_us + (bucket + 1) * span_us) if bucket < points - 1 else until
            held[bucket] += used * (next_us - at_us)
            waiting[bucket] += waits * (next_us - at_us)
            at_us = next_us
    full = span_us * outcome.gpus
    return Curve(span_us, tuple(part / full for part in held), tuple(part / span_us for part in waiting))


def shares(values: Sequence[float], limits: Sequence[float]) -> list[float]:
    """Which part of the values is at most each limit."""
    ordered = sorted(values)
    return [bisect_right(ordered, limit) / len(ordered) if ordered else 0.0 for limit in limits]
