"""Which kind of accelerator each job gets, when kinds differ in what they are worth to it.

Every kind has a price at which no more of it is wanted than there is. A job takes the kind that is worth the
most to it above its price, so that those who gain the most from what is scarce get it, and who gains little leaves it.
What a place is worth to a job is its speed there times its weight; the weight says who comes first:

- fair: 1 / sqrt(what it has had), so that who has had little counts more. No duration need be known.
- shortest: 1 / sqrt(what it has left), when durations are known.
- longest: what it has left, so that the last job ends early (a batch that is waited for as a whole).

With one kind this is an order and no more. The square root lies half-way between the greatest sum of speeds (no weight
at all: whoever is slow everywhere starves) and proportional fairness (no root: what is scarce is spread thin).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROUNDS = 100  # of bidding, after which prices are good enough: whoever is last takes what is left
CLOSE = 1e-6  # prices that move by less than this part have settled


def _fair(had: Floats, _left: Floats, _gpus: Ints) -> Floats:
    return 1.0 / np.sqrt(had)


def _shortest(_had: Floats, left: Floats, _gpus: Ints) -> Floats:
    return 1.0 / np.sqrt(left)


def _longest(_had: Floats, left: Floats, gpus: Ints) -> Floats:
    return left * gpus


WEIGHTS: dict[str, Callable[[Floats, Floats, Ints], Floats]] = {
    "fair": _fair,
    "shortest": _shortest,
    "longest": _longest,
}


def weigh(name: str, had_us: Ints, left_us: Ints, gpus: Ints, least_us: int) -> Floats:
    """The weight of each job. `had_us` is the work it has had and `left_us` what it has left, at its best speed;
    both count as at least `least_us`, so that new jobs are all the same. Shape [jobs]."""
    return WEIGHTS[name](np.maximum(had_us, least_us).astype(float), np.maximum(left_us, least_us).astype(float), gpus)


def prices(worth: Floats, gpus: Ints, free: Ints) -> Floats:
    """The price of one device of each kind. Shape [kinds].

    `worth` [jobs, kinds] is what one device of its gang is worth to a job (0: it cannot run there), `gpus` [jobs] the
    size of the gang, `free` [kinds] how many devices there are. Kind by kind, what a job would give for it rather than
    take its next best is its bid; the price lies half-way between the last bid that gets one and the first that does
    not, and is nothing where there is enough. As one kind stands in for another, this goes on until prices settle.
    """
    found = np.zeros(len(free))
    if not len(gpus):
        return found
    for _ in range(ROUNDS):
        before = found.copy()
        for kind in range(len(free)):
            surplus = worth - found
            surplus[:, kind] = 0.0
            bids = worth[:, kind] - np.maximum(surplus.max(axis=1), 0.0)
            order = np.argsort(-bids, kind="stable")
            over = int(np.searchsorted(np.cumsum(gpus[order]), free[kind], side="right"))
            first_out = float(bids[order[over]]) if over < len(order) else 0.0
            last_in = float(bids[order[over - 1]]) if over else first_out
            found[kind] = (last_in + first_out) / 2 if first_out > 0 else 0.0
        if np.allclose(found, before, rtol=CLOSE, atol=0.0):
            break
    return found


def choose(worth: Floats, gpus: Ints, free: Ints) -> Ints:
    """The kind that each job gets, -1 for none. Shape [jobs]; arguments as for `prices`.

    First everybody chooses among what is worth its price, whoever would lose the most with the next best before others.
    Then what is left over goes to whoever it is worth something to, the least above its worth first, so that nothing
    stands idle that somebody could use. Ties end on the place in the list.
    """
    left = [int(number) for number in free]
    chosen = np.full(len(gpus), -1, np.int64)
    if not len(gpus):
        return chosen
    worth = np.where(free > 0, worth, 0.0)
    asked = prices(worth, gpus, free)
    surplus = worth - asked
    ranked = np.argsort(-surplus - CLOSE * asked, axis=1, kind="stable")  # among equals the dearer: it must not idle
    best = np.take_along_axis(surplus, ranked, axis=1)
    loss = best[:, 0] - (np.maximum(best[:, 1], 0.0) if len(free) > 1 else 0.0)
    for least, order in (
        (-CLOSE * asked, np.lexsort((-best[:, 0], -loss))),
        (np.full(len(free), -np.inf), np.argsort(-best[:, 0], kind="stable")),
    ):
        for place in order:
            if not any(left):
                return chosen
            size = int(gpus[place])
            for kind in ranked[place] if chosen[place] < 0 else ():
                if worth[place, kind] > 0 and left[kind] >= size and surplus[place, kind] >= least[kind]:
                    chosen[place] = kind
                    left[kind] -= size
                    break
    return chosen
