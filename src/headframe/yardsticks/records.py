"""What a yardstick yields, what it can be told, and what it says when its files are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headframe.base.errors import NotFound

MUST, AIM, SHOWN = "must", "aim", "shown"
DOCUMENTED = (
    "docs/benchmarks.md says where each yardstick's files can be had, and under which names they are looked for."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One number of ours beside the published one.

    `passed` is None where there is nothing to pass. `level` is must, aim or shown; `rule` says in words what passes.
    """

    yardstick: str
    case: str
    metric: str
    published: float | None
    ours: float
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


def need(data: Path | None, *names: str, source: str) -> list[Path]:
    """The files of these names under `data`; raises `NotFound`, with what is missing and where it can be had.

    `source` names who published them.
    """
    if data is None:
        raise NotFound(
            f"This yardstick reads published data: {source}.", next_step=f"Give its folder with --data. {DOCUMENTED}"
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
