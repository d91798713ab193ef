"""The one list of yardsticks: what each is called, which function makes its rows, what it measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid
from headframe.yardsticks.records import Options, Row


@dataclass(frozen=True, slots=True)
class Yardstick:
    """`function` is in `module` and takes (data folder or None, `Options`); it is loaded when it is run.

    `parts` takes the same and gives the `Options` of cases that can be run apart. `closing` takes (data, rows of all
    cases) and yields what is said of several together. `alone`: it measures time, so nothing else is to run beside it.
    `reads`: it reads published files.
    """

    module: str
    function: str
    what: str
    parts: str = ""
    closing: str = ""
    alone: bool = False
    reads: bool = True

    def _named(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(import_module(f"headframe.yardsticks.{self.module}"), name)
        return found

    def cases(self, data: Path | None, options: Options) -> list[Options]:
        """What it consists of. Raises `NotFound` when files are missing, `Invalid` when they or options are wrong."""
        if not self.parts and (options.workloads or options.seeds or options.policies):
            raise Invalid(
                "This yardstick is a single case, and cannot be narrowed.", field="--workload, --seeds, --policy",
                next_step="Leave out --workload, --seeds and --policy.",
            )  # fmt: skip
        found: list[Options] = self._named(self.parts)(data, options) if self.parts else [options]
        return found

    def rows(self, data: Path | None, case: Options) -> list[Row]:
        """The rows of one case."""
        return list(self._named(self.function)(data, case))

    def close(self, data: Path | None, rows: Sequence[Row]) -> list[Row]:
        """What is said of several cases together."""
        return list(self._named(self.closing)(data, rows)) if self.closing else []


YARDSTICKS: dict[str, Yardstick] = {
    "fgd": Yardstick(
        "fgd", "fgd", "Packing a cluster of 6,212 GPUs: how many are given out at 130 % of demand.", "parts", "closing"
    ),
    "muri": Yardstick("muri", "muri", "Shortest job first on five traces of a 64-GPU cluster, to the second.", "parts"),
    "muri-testbed": Yardstick("muri", "testbed", "The same against a real cluster of 64 GPUs."),
    "gavel": Yardstick(
        "gavel", "gavel", "A stream of jobs on three kinds of GPU: completion time and fairness.", "parts"
    ),
    "gavel-makespan": Yardstick(
        "gavel", "makespan", "A batch of jobs on three kinds of GPU: when the last one ends.", "batches"
    ),
    "shockwave": Yardstick("shockwave", "shockwave", "Jobs that change while they run, on 32 GPUs.", "parts"),
    "kueue-15k": Yardstick(
        "kueue", "kueue_15k", "15,000 workloads of 30 queues that share quotas in 5 cohorts.", alone=True, reads=False
    ),
    "kueue-50k": Yardstick("kueue", "kueue_50k", "50,000 workloads of 1,000 queues.", alone=True, reads=False),
}


def rows(name: str, data: Path | None, options: Options) -> Iterator[Row]:
    """The rows of one yardstick, one case after the other. Raises `NotFound` when files are missing."""
    yardstick = YARDSTICKS[name]
    found: list[Row] = []
    for case in yardstick.cases(data, options):
        found += yardstick.rows(data, case)
    yield from found
    yield from yardstick.close(data, found)
