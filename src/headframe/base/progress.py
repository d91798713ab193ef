"""How far a long piece of work has come: one value, and the one line of text that carries it through a job's log."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"(.{1,200}?): ([0-9]{1,15}) of ([0-9]{1,15}) (packages|bytes)")


@dataclass(frozen=True, slots=True)
class Progress:
    """`what` is being done, `done` of `total` in `unit` ("packages" or "bytes"). A total of 0: it cannot be counted."""

    what: str
    done: int = 0
    total: int = 0
    unit: str = "packages"

    def __str__(self) -> str:
        return f"{self.what}: {self.done} of {self.total} {self.unit}"


def read_progress(line: str) -> Progress | None:
    """The progress that a line tells (`installing: 3 of 13 packages`); None when it tells none."""
    match = _LINE.fullmatch(line.strip())
    return Progress(match[1], int(match[2]), int(match[3]), match[4]) if match else None
