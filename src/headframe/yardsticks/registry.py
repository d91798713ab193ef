"""The one list of yardsticks: what each is called, which function makes its rows, what it measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from headframe.yardsticks.records import Options, Row


@dataclass(frozen=True, slots=True)
class Yardstick:
    """`function` is in `module` and takes (data folder or None, `Options`); it is loaded when it is run."""

    module: str
    function: str
    what: str


YARDSTICKS: dict[str, Yardstick] = {
    "fgd": Yardstick("fgd", "fgd", "Packing a cluster of 6,212 GPUs: how many are given out at 130 % of demand."),
    "muri": Yardstick("muri", "muri", "Shortest job first on five traces of a 64-GPU cluster, to the second."),
    "muri-testbed": Yardstick("muri", "testbed", "The same against a real cluster of 64 GPUs."),
    "gavel": Yardstick("gavel", "gavel", "A stream of jobs on three kinds of GPU: completion time and fairness."),
    "gavel-makespan": Yardstick("gavel", "makespan", "A batch of jobs on three kinds of GPU: when the last one ends."),
    "shockwave": Yardstick("shockwave", "shockwave", "Jobs that change while they run, on 32 GPUs."),
    "kueue-15k": Yardstick("kueue", "kueue_15k", "15,000 workloads of 30 queues that share quotas in 5 cohorts."),
    "kueue-50k": Yardstick("kueue", "kueue_50k", "50,000 workloads of 1,000 queues."),
}


def rows(name: str, data: Path | None, options: Options) -> Iterator[Row]:
    """The rows of one yardstick, as they are found. Raises `NotFound` when files are missing."""
    yardstick = YARDSTICKS[name]
    function = getattr(import_module(f"headframe.yardsticks.{yardstick.module}"), yardstick.function)
    yield from function(data, options)
