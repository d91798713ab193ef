"""Worlds of several clusters: what they are to show does happen, and each of their checkers sees what it is for."""

import dataclasses

import pytest

from headframe.base.changes import Changes, Event
from headframe.control import clusters, observe
from headframe.control.dispatch import Dispatch
from headframe.control.observe import observed
from headframe.fleet.engine_words import Seen
from headframe.scheduling import choose
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.where import Places
from headframe.sim import checkers_clusters as checkers
from headframe.sim.run import Simulation, every

TRIES = 8  # seeds


def problem(scenario, checker, tries=TRIES):
    """What the checker, with those of a steady clock, says first of some worlds."""
    for seed in range(tries):
        outcome = Simulation(seed, scenario, checkers=[checker]).run()
        if outcome.problem:
            return outcome.problem
    return ""


def test_what_is_to_go_wrong_does():
    """In a few worlds clusters are drained, cut off, given up and heard of again, and jobs choose between them."""
    seen: dict[str, int] = {}
    for scenario in ("away", "spread"):
        for seed in range(2):
            world = Simulation(seed, scenario)
            kept, world.inner_store.close = world.inner_store.close, lambda: None
            outcome = world.run()
            assert outcome.problem == "", f"{outcome.command}\n{outcome.problem}"
            for event in every_event(world):
                seen[event.kind] = seen.get(event.kind, 0) + 1
                if " It is in cluster-" in event.reason:
                    seen["chosen"] = seen.get("chosen", 0) + 1
            kept()
    kinds = ("unreachable", "reachable", "draining", "ready", "lost")
    for kind in (*(f"cluster_{one}" for one in kinds), "chosen"):
        assert seen.get(kind, 0) >= 1, kind


def every_event(world):
    return every(world.inner_store, Event)


def take_work_anywhere(patch):
    patch.setattr(Capacity, "_takes_work", lambda self, node: True)


def forget_where_data_stays(patch):
    mask = Places._mask
    patch.setattr(Places, "_mask", lambda self, where: mask(self, dataclasses.replace(where, within=())))


def forget_checkpoints(patch):
    mask = Places._mask
    patch.setattr(Places, "_mask", lambda self, where: mask(self, dataclasses.replace(where, home="")))


def hear_nothing_of_silence(patch):
    patch.setattr(clusters, "unreachable", lambda *_: Changes())


def let_live_what_was_given_up(patch):
    patch.setattr(Dispatch, "kill", lambda *_: None)


def dearest_first(patch):
    price = choose.price
    patch.setattr(choose, "price", lambda *given: -price(*given))


def end_a_second_early(patch):
    def early(this, seen, now_us):
        sooner = seen.at_us - 1_000_000 if seen.seen is Seen.EXITED else seen.at_us
        return observed(this, dataclasses.replace(seen, at_us=max(sooner, this.allocation.held_us)), now_us)

    patch.setattr(observe, "observed", early)


@pytest.mark.parametrize(
    ("rule", "scenario", "checker", "name"),
    [
        (take_work_anywhere, "spread", checkers.WhereAllowed, "WhereAllowed"),
        (forget_where_data_stays, "spread", checkers.WhereAllowed, "WhereAllowed"),
        (forget_checkpoints, "spread", checkers.WhereAllowed, "WhereAllowed"),
        (hear_nothing_of_silence, "away", checkers.Silence, "Silence"),
        (let_live_what_was_given_up, "away", checkers.Silence, "Silence"),
        (dearest_first, "spread", checkers.Cheapest, "Cheapest"),
        (end_a_second_early, "away", checkers.AsEnginesSay, "AsEnginesSay"),
    ],
)
def test_a_broken_rule_is_seen(monkeypatch, rule, scenario, checker, name):
    rule(monkeypatch)
    assert problem(scenario, checker).startswith(f"{name}: ")
