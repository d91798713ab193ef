"""Turns: who holds what under policies by which running jobs make way."""

from __future__ import annotations

from headframe.scheduling.order import Facts
from headframe.scheduling.packing import packing_named
from headframe.scheduling.turns import Turns, drained_us, no_straggler
from headframe.scheduling.want import Want
from headframe.sim.trace_jobs import parse_fleet

FLEET = parse_fleet("2xH100:4")


def want(gpus: int) -> Want:
    found = FLEET.want(gpus)
    assert found is not None
    return found


def turns(*jobs: tuple[str, int]) -> Turns:
    """Jobs in this order, each with its GPUs."""
    made = Turns()
    for place, (name, gpus) in enumerate(jobs):
        made.put(name, want(gpus), (place, name))
    return made


def nodes(slices: tuple) -> list[str]:
    return [part.node_id for part in slices]


def test_who_comes_first_runs_and_what_fits_beside_does_too() -> None:
    dealt = turns(("a", 4), ("b", 8), ("c", 2), ("d", 2), ("e", 1)).deal(FLEET.capacity())
    assert list(dealt) == ["a", "c", "d"]


def test_strictly_nothing_overtakes() -> None:
    assert list(turns(("a", 4), ("b", 8), ("c", 2)).deal(FLEET.capacity(), strict=True)) == ["a"]


def test_a_gang_larger_than_a_node_gets_whole_nodes() -> None:
    dealt = turns(("a", 8)).deal(FLEET.capacity())
    assert nodes(dealt["a"]) == ["node_000000", "node_000001"]


def test_a_new_key_moves_a_job() -> None:
    made = turns(("a", 4), ("b", 4), ("c", 4))
    made.put("c", want(4), (-1, "c"))
    assert list(made.deal(FLEET.capacity())) == ["c", "a"]
    made.remove("c")
    assert list(made.deal(FLEET.capacity())) == ["a", "b"]
    assert len(made) == 2


def test_who_keeps_the_turn_keeps_the_place() -> None:
    capacity = FLEET.capacity(packing_named("first"))
    made = turns(("a", 4), ("b", 4))
    held = made.deal(capacity.emptied())
    made.put("c", want(2), (-1, "c"))
    dealt = made.deal(capacity.emptied())
    assert list(dealt) == ["c", "a"]
    assert dealt["a"] != held["a"], "dealt anew it would move"
    settled = made.settle(capacity.emptied(), dealt, held)
    assert settled["a"] == held["a"]
    assert nodes(settled["c"]) != nodes(settled["a"])


def test_a_turn_is_not_lost_to_avoid_a_move() -> None:
    """Two jobs of two GPUs sit on two nodes; one of four needs one of the nodes whole."""
    capacity = FLEET.capacity(packing_named("first"))
    made = turns(("a", 2), ("x", 2), ("b", 2))
    held = made.deal(capacity.emptied())
    made.remove("x")
    made.put("c", want(4), (9, "c"))
    assert nodes(held["a"]) != nodes(held["b"])
    settled = made.settle(capacity.emptied(), made.deal(capacity.emptied()), held)
    assert sorted(settled) == ["a", "b", "c"]


def test_all_could_have_ended_when_the_longest_has_or_all_work_is_done() -> None:
    assert drained_us([(100, 1), (10, 1)], 8) == 100
    assert drained_us([(100, 4), (100, 4), (100, 4)], 8) == 150
    assert drained_us([], 8) == 0


def test_who_would_hold_up_the_end_goes_before_the_short_ones() -> None:
    long, short = Facts("long", 0, remaining_us=100), Facts("short", 0, remaining_us=1)
    assert no_straggler(long, 100) < no_straggler(short, 100)
    assert no_straggler(short, 101) < no_straggler(long, 101)
