"""The checkers of time are not vacuous: a rule is broken on purpose, and the one that is for it sees it."""

import pytest

from headframe.control import reservations
from headframe.scheduling import elastic
from headframe.scheduling.agenda import Agenda
from headframe.scheduling.backfill import Outlook
from headframe.sim.checkers_time import HONEST, TIME, FirstInLine, InTime, Reserved, Steadiness
from headframe.sim.run import Simulation

TRIES = 12  # seeds
SEEDS = {"backfill": (22, 24, 54)}  # worlds in which somebody from behind would take the place of the first: few do


def problem(scenario, checker):
    """What the checker, left alone, says first of some worlds of a scenario."""
    for seed in SEEDS.get(scenario, range(TRIES)):
        simulation = Simulation(seed, scenario, checkers=[checker])
        simulation.checkers = [one for one in simulation.checkers if isinstance(one, checker)]
        outcome = simulation.run()
        if outcome.problem:
            return outcome.problem
    return ""


def place_anywhere(patch):
    patch.setattr(Agenda, "room", lambda self, bucket, job=None: self._capacity)


def leave_everybody(patch):
    patch.setattr(reservations, "_clear", lambda *args: iter(()))


def keep_no_place(patch):
    patch.setattr(Outlook, "promise", lambda self, promise: None)


def flap(patch):
    patch.setattr(elastic, "STAY_US", 0)
    patch.setattr(elastic, "MARGIN", 0)


BROKEN = [
    (place_anywhere, "reservations", Reserved),
    (leave_everybody, "reservations", InTime),
    (keep_no_place, "backfill", FirstInLine),
    (flap, "elastic", Steadiness),
]


@pytest.mark.parametrize(("breaks", "scenario", "checker"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_rule_of_time_is_seen(breaks, scenario, checker, monkeypatch):
    breaks(monkeypatch)
    assert problem(scenario, checker).startswith(f"{checker.__name__}: ")


def test_every_checker_of_time_is_shown_to_see_something():
    assert {checker for _, _, checker in BROKEN} == {*TIME, *HONEST}
