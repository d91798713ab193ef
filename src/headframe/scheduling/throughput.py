"""Which kind of accelerator each job gets, when kinds differ in what they are worth to it.

Every kind has a price: the least at which no more of it is wanted than there is. A job takes the kind that is worth the
most to it above its price, so that those who gain the most from what is scarce get it, and who gains little leaves it.
What a place is worth to a job is its speed there times its weight; the weight says who comes first:

- fair: 1 / sqrt(what it has had), so that who has had little counts more. No duration need be known.
- shortest: 1 / sqrt(what it has left), when durations are known.
- longest: what it has left, so that the last job ends early (a batch that is waited for as a whole).

With one kind this is an order and no more. The square root lies half-way between the greatest sum of speeds (no root of
it at all) and proportional fairness (the thing itself); both ends are worse than the middle in what users feel.
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
    size of the gang, `free` [kinds] how many devices there are. Prices rise from nothing, kind by kind, to where what
    is wanted fits; as a device of one kind stands in for one of another, they only rise, and settle.
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
            found[kind] = max(0.0, float(bids[order[over]])) if over < len(order) else 0.0
        if np.allclose(found, before, rtol=CLOSE, atol=0.0):
            break
    return found


def choose(worth: Floats, gpus: Ints, free: Ints) -> Ints:
    """The kind that each job gets, -1 for none. Shape [jobs]; arguments as for `prices`.

    Whoever gains the most above the price chooses first; ties end on the place in the list. What is left over goes to
    whoever can use it at all, so that nothing stands idle that is worth something to somebody.
    """
    left = [int(number) for number in free]
    chosen = np.full(len(gpus), -1, np.int64)
    if not len(gpus):
        return chosen
    surplus = worth - prices(worth, gpus, free)
    ranked = np.argsort(-surplus, axis=1, kind="stable")
    for place in np.argsort(-surplus.max(axis=1), kind="stable"):
        size = int(gpus[place])
        for kind in ranked[place]:
            if worth[place, kind] > 0 and left[kind] >= size:
                chosen[place] = kind
                left[kind] -= size
                break
        if not any(left):
            break
    return chosen
