"""Kinds by price in a pass over the queue: jobs that say how fast they run on each kind leave what is scarce to others.

What waits bids for what is free (see `throughput`), and each such job then tries the kinds by its gain above the price
instead of by speed alone. Jobs that do not say keep to the order of preference that they gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from headframe.scheduling import throughput
from headframe.scheduling.task import WHOLE, Task

if TYPE_CHECKING:
    from headframe.scheduling.capacity import Capacity
    from headframe.scheduling.want import Want

BIDDERS = 512  # so many waiting jobs bid at most, so that a long queue does not make a pass long
ALIKE = 64  # of one want


def asked(capacity: Capacity, waiting: Iterable[tuple[Want, int]]) -> dict[str, float]:
    """The price of each kind, as a part of what its fastest is worth to a job; empty when nobody says how fast it is.

    `waiting` is how many jobs wait for each want that says so.
    """
    bidders: list[Want] = []
    for want, count in waiting:
        if len(want.alternatives) > 1 or any(one is not None and one.kind is None for one in want.alternatives):
            bidders += [want] * min(count, ALIKE)
        if len(bidders) >= BIDDERS:
            break
    if not bidders:
        return {}
    kinds = capacity.kinds
    whole = (capacity.gpu == WHOLE) & capacity.usable & capacity.ready[:, None]
    free = np.array([int((whole & (capacity.kind == number)).sum()) for number in range(len(kinds))], np.int64)
    worth = np.array([[gain(want.resources.speeds, kind) for kind in kinds] for want in bidders], float)
    gpus = np.array([max(want.nodes_min * (one.count if (one := want.alternatives[0]) else 1), 1) for want in bidders])
    found = throughput.prices(np.where(free > 0, worth, 0.0), gpus, free)
    return {kind: float(price) for kind, price in zip(kinds, found, strict=True)}


def gain(speeds: tuple[tuple[str, int], ...], kind: str | None) -> float:
    """How fast it is on this kind, as a part of its fastest; 0 where it does not say."""
    return next((speed / speeds[0][1] for name, speed in speeds if name.lower() == (kind or "").lower()), 0.0)


def by_gain(want: Want, tasks: tuple[Task, ...], prices: Mapping[str, float]) -> tuple[Task, ...]:
    """The tasks that a want may consist of, by gain above the price; ties stay in the order of preference."""
    if not prices or len(tasks) < 2 or not want.resources.speeds:
        return tasks

    def surplus(one: Task) -> float:
        kind = one.gpus.kind if one.gpus is not None else None
        return gain(want.resources.speeds, kind) - next(
            (price for name, price in prices.items() if name.lower() == (kind or "").lower()), 0.0
        )

    return tuple(sorted(tasks, key=lambda one: -surplus(one)))
