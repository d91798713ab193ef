"""Kinds by price, on markets small enough to solve by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headframe.scheduling.throughput import choose, prices, weigh
from headframe.sim.clock import SeededRng


def chosen(worth: list[list[float]], gpus: list[int], free: list[int]) -> list[int]:
    return [int(kind) for kind in choose(np.array(worth, float), np.array(gpus), np.array(free))]


def test_with_room_for_all_everybody_takes_the_best_kind_and_nothing_costs_anything() -> None:
    worth = [[3.0, 1.0], [1.0, 2.0]]
    assert list(prices(np.array(worth), np.array([1, 1]), np.array([1, 1]))) == [0.0, 0.0]
    assert chosen(worth, [1, 1], [1, 1]) == [0, 1]


def test_the_scarce_kind_goes_to_whom_it_gains_the_most() -> None:
    """Both would rather have the first kind; the second job gains 9 by it, the first only 1: the price lies between."""
    worth = [[10.0, 9.0], [10.0, 1.0]]
    assert chosen(worth, [1, 1], [1, 1]) == [1, 0]
    assert prices(np.array(worth), np.array([1, 1]), np.array([1, 1]))[0] == pytest.approx(5.0)


def test_with_one_kind_the_weight_alone_decides() -> None:
    assert chosen([[1.0], [3.0], [2.0]], [1, 1, 1], [2]) == [-1, 0, 0]


def test_nobody_gets_a_kind_on_which_it_cannot_run() -> None:
    assert chosen([[0.0, 0.0], [0.0, 1.0]], [1, 1], [5, 5]) == [-1, 1]


def test_a_gang_that_does_not_fit_leaves_the_place_to_smaller_ones() -> None:
    assert chosen([[9.0], [1.0]], [4, 1], [2]) == [-1, 0]


def test_what_is_left_over_goes_to_whoever_can_use_it() -> None:
    worth = [[5.0, 1.0], [5.0, 1.0], [5.0, 1.0]]
    assert sorted(chosen(worth, [1, 1, 1], [1, 2])) == [0, 1, 1]


def test_no_jobs_is_no_trouble() -> None:
    assert chosen([], [], [3]) == []


@pytest.mark.parametrize("seed", range(100))
def test_two_kinds_of_single_devices_are_shared_out_as_well_as_can_be(seed: int) -> None:
    """Against all ways to share them out, on worths without ties."""
    rng = SeededRng(seed, "market")
    count, free = rng.between(1, 5), [rng.below(4), rng.below(4)]
    worth = np.array([[rng.between(1, 10**9), rng.between(1, 10**9)] for _ in range(count)], float)
    found = choose(worth, np.ones(count, np.int64), np.array(free))
    for kind in (0, 1):
        assert int((found == kind).sum()) <= free[kind]
    total = sum(worth[job, kind] for job, kind in enumerate(found) if kind >= 0)
    best = max(
        sum(worth[job, kind] for job, kind in enumerate(option) if kind < 2)
        for option in itertools.product(range(3), repeat=count)
        if all(option.count(kind) <= free[kind] for kind in (0, 1))
    )
    assert total == pytest.approx(best, rel=1e-3)


@given(st.data())
def test_ties_cost_a_little_at_most_and_never_room(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    worth = np.array([[data.draw(st.integers(0, 3)) for _ in range(3)] for _ in range(count)], float)
    gpus = np.array([data.draw(st.integers(1, 4)) for _ in range(count)])
    free = np.array([data.draw(st.integers(0, 4)) for _ in range(3)])
    found = choose(worth, gpus, free)
    assert list(found) == list(choose(worth, gpus, free))
    for kind in range(3):
        assert int(gpus[found == kind].sum()) <= free[kind]
    for job, kind in enumerate(found):
        assert kind < 0 or worth[job, kind] > 0
        if kind < 0:
            left = [int(free[one] - gpus[found == one].sum()) for one in range(3)]
            assert not any(worth[job, one] > 0 and left[one] >= gpus[job] for one in range(3)), "nothing idles in vain"


def test_who_has_had_little_weighs_more_and_who_has_little_left_too() -> None:
    had, left, gpus = np.array([100, 400]), np.array([900, 100]), np.array([1, 2])
    assert list(weigh("fair", had, left, gpus, 1)) == [0.1, 0.05]
    assert list(weigh("shortest", had, left, gpus, 1)) == pytest.approx([1 / 30, 0.1])
    assert list(weigh("longest", had, left, gpus, 1)) == [900.0, 200.0]


def test_new_jobs_all_weigh_the_same() -> None:
    had = np.array([0, 50])
    assert len(set(weigh("fair", had, had, np.array([1, 1]), 60))) == 1
