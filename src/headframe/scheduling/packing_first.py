"""The packing that looks at nothing: the first node that fits. For comparison with what others publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headframe.scheduling.packing_simple import Ints, Plain, tightest
from headframe.scheduling.task import Task

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity


class First(Plain):
    """The first node in the order of ids on which the task fits."""

    name = "first"
    meaning = "The first node that fits, in the order of ids."

    def score(self, capacity: Capacity, task: Task, rows: Ints) -> tuple[Ints, Ints]:
        return np.zeros(len(rows), np.int64), tightest(rows)
