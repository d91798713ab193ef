"""Policies side by side on one trace: who waits how long, how full the machines are, how even it is; drawn in text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headframe.base.quantities import SECOND_US, format_span
from headframe.scheduling.packing import packing_named
from headframe.sim.trace_jobs import Fleet, TraceJob
from headframe.sim.trace_policies import policy_named
from headframe.sim.trace_replay import Costs, Outcome, Replay
from headframe.sim.trace_report import curve, shares, summary

BLOCKS = " ▁▂▃▄▅▆▇█"
FAIRNESS_LIMITS = (0.5, 0.9, 1.1, 1.5, 2.0, 4.0, 10.0)
LABEL_WIDTH = 18
NO_COSTS = Costs()


@dataclass(frozen=True, slots=True)
class Run:
    """One policy's replay."""

    policy: str
    outcome: Outcome
    numbers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all policies of a comparison share. `every_us`: decisions at multiples of this only."""

    fleet: Fleet
    packing: str = "default"
    costs: Costs = NO_COSTS
    every_us: int | None = None
    one_speed: bool = False


def run(jobs: Sequence[TraceJob], policies: Sequence[str], setting: Setting, tell: Callable[[str], None]) -> list[Run]:
    """Replay the trace under each policy. Raises `Invalid` for a policy or a packing that is not known."""
    made = [(name, policy_named(name).make(setting.every_us)) for name in policies]
    packing = packing_named(setting.packing, field="--packing")
    if setting.one_speed:
        jobs = [replace(job, speeds={}) for job in jobs]
    found = []
    for name, policy in made:

        def progress(line: str, name: str = name) -> None:
            tell(line and f"{name}: {line}")

        outcome = Replay(
            jobs, setting.fleet, policy, setting.fleet.capacity(packing), costs=setting.costs, tell=progress
        ).run()
        found.append(Run(name, outcome, summary(outcome)))
    return found


def drawn(runs: Sequence[Run], width: int = 80) -> str:
    """Curves in text, no wider than `width`: time runs to the right over the same span for all."""
    room = max(width - LABEL_WIDTH - 6, 10)
    last_us = max((one.outcome.last_us for one in runs), default=0)
    first_us = min((one.outcome.first_us for one in runs), default=0)
    curves = {one.policy: curve(one.outcome, room, last_us) for one in runs}
    most = max((max(each.waiting) for each in curves.values()), default=0.0)
    lines = [f"GPUs held, of all, over {format_span(last_us - first_us)}"]
    lines += [_bar(one.policy, curves[one.policy].used, 1.0, f"{one.numbers['utilization']:4.0%}") for one in runs]
    lines += ["", f"Jobs waiting, at most {most:,.0f} at once"]
    lines += [_bar(name, each.waiting, most, f"{max(each.waiting):,.0f}") for name, each in curves.items()]
    lines += ["", "Fairness: jobs that took at most so many times as long as with an equal share"]
    lines.append(" " * LABEL_WIDTH + "".join(f"{limit:>7g}x" for limit in FAIRNESS_LIMITS))
    for one in runs:
        parts = shares([ended.fairness for ended in one.outcome.ended], FAIRNESS_LIMITS)
        lines.append(_label(one.policy) + "".join(f"{part:>8.0%}" for part in parts))
    return "\n".join(line.rstrip() for line in lines)


def _label(name: str) -> str:
    return (name if len(name) < LABEL_WIDTH else name[: LABEL_WIDTH - 2] + "…").ljust(LABEL_WIDTH)


def _bar(name: str, parts: Sequence[float], most: float, tail: str) -> str:
    """One line of blocks; whatever is not nothing is seen."""
    cells = ""
    for part in parts:
        level = round(part / most * (len(BLOCKS) - 1)) if most else 0
        cells += BLOCKS[max(min(level, len(BLOCKS) - 1), 1 if part > 0 else 0)]
    return f"{_label(name)}{cells} {tail:>5}"


def as_json(trace: str, one: Run) -> dict[str, Any]:
    """A run as plain values, with its curves."""
    each = curve(one.outcome)
    return {
        "trace": trace, "policy": one.policy, **one.numbers,
        "curve": {"span_s": each.span_us / SECOND_US, "used": [round(part, 4) for part in each.used],
                  "waiting": [round(part, 2) for part in each.waiting]},
    }  # fmt: skip
