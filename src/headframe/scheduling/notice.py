"""Who may run where a reservation begins later: whoever can be stopped then, if it is far enough away to be worth it.

A reservation that is kept on named devices would leave them idle until it begins, but for jobs that have ended by then
for certain. Others may use them, too, if they come back by themselves after being stopped: they are told when they
start, warned in time, and stopped when it begins. The more such a stop throws away, the further off it has to be.
"""

from __future__ import annotations

from headframe.base.quantities import DAY_US, MINUTE_US
from headframe.workloads.spec import Spec

STOPPABLE = frozenset({"spot", "filler"})  # purchases that can be stopped at any time
USEFUL_US = 15 * MINUTE_US  # what loses nothing, or does not mind, starts where a reservation is so far off
AFRESH_US = DAY_US  # and what would start from the beginning, and of which nobody knows how long it runs


def notice_us(spec: Spec) -> int | None:
    """How far off a reservation must be for this job to start on its place; None: it may never be stopped for one."""
    if spec.reservation is not None:
        return None
    if spec.purchase in STOPPABLE:
        return USEFUL_US
    if "preemption" not in spec.retry.on:
        return None
    return USEFUL_US if spec.checkpoints is not None else AFRESH_US
