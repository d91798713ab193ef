"""The collector of what nobody holds any more: set so that it does not stand in the way of decisions."""

from __future__ import annotations

import gc

YOUNG = 20_000  # objects made beyond those let go, after which the youngest are looked through


def keep_start() -> None:
    """What is there now stays and is not looked through again; of what comes, the young seldom.

    Nearly all that a decision makes is let go by counting, at once. By the usual setting every 700 new objects are a
    reason to look, which was a seventh of the time of a busy scheduler, and most of its slowest passes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
