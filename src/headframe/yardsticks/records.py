"""What a yardstick yields, what it can be told, and what it says when its files are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid, NotFound

MUST, AIM, SHOWN = "must", "aim", "shown"
DOCUMENTED = (
    "docs/benchmarks.md says where each yardstick's files can be had, and under which names they are looked for."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One number of ours beside the published one; `ours` is None where it could not be measured.

    `passed` is None where there is nothing to pass. `level` is must, aim or shown; `rule` says in words what passes.
    """

    yardstick: str
    case: str
    metric: str
    published: float | None
    ours: float | None
    passed: bool | None = None
    level: str = MUST
    rule: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as plain values: `passed` is called `pass`."""
        return {
            "yardstick": self.yardstick, "case": self.case, "metric": self.metric, "published": self.published,
            "ours": self.ours, "pass": self.passed, "level": self.level, "rule": self.rule,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is narrowed to; empty means all. `tell` takes a line of progress."""

    workloads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    policies: tuple[str, ...] = ()
    tell: Callable[[str], None] = lambda _line: None

    def wants(self, workload: str) -> bool:
        return not self.workloads or workload in self.workloads

    def chosen(self, policies: Sequence[str]) -> list[str]:
        """Those of a yardstick's policies that are wanted. Raises `Invalid` for one that it does not have."""
        unknown = [name for name in self.policies if name not in policies]
        if unknown:
            raise Invalid(f"This yardstick has no policy {unknown[0]!r}.", field="--policy", value=unknown[0],
                          allowed=", ".join(policies))  # fmt: skip
        return [name for name in policies if not self.policies or name in self.policies]

    def only(self, workload: str | None = None, policy: str | None = None, seed: int | None = None) -> Options:
        """The same, narrowed to one case."""
        return replace(
            self,
            workloads=self.workloads if workload is None else (workload,),
            policies=self.policies if policy is None else (policy,),
            seeds=self.seeds if seed is None else (seed,),
        )

    @property
    def text(self) -> str:
        """What it is narrowed to, in words."""
        seeds = [f"seed {self.seeds[0]}"] if len(self.seeds) == 1 else []
        return ", ".join([*self.workloads, *seeds, *self.policies])


def need(data: Path | None, *names: str, source: str) -> list[Path]:
    """The files of these names under `data`; raises `NotFound`, with what is missing and where it can be had.

    `source` names who published them.
    """
    if data is None:
        raise NotFound(
            f"This yardstick reads published data: {source}.", next_step=f"Give its folder with --data. {DOCUMENTED}"
        )
    if not data.is_dir():
        raise NotFound(
            f"There is no folder {data}.", next_step=f"Give the folder of {source} with --data. {DOCUMENTED}"
        )
    missing = [name for name in names if not (data / name).exists()]
    if missing:
        raise NotFound(
            f"{data} has no {_listed(missing)}, which come{'s' if len(missing) == 1 else ''} from {source}.",
            next_step=DOCUMENTED,
        )
    return [data / name for name in names]


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
