"""One seed is one world; and the program may die at any point of it."""

import json
import re

import pytest

from headframe.sim.main import main
from headframe.sim.run import Simulation, simulate
from headframe.sim.scenarios import SCENARIOS


def test_the_same_seed_gives_the_same_world():
    one, other = simulate(11, "storm"), simulate(11, "storm")
    assert one == other
    assert one.digest != simulate(12, "storm").digest


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_brings_what_it_is_for(name):
    weather = SCENARIOS[name].weather
    outcome = simulate(3, name)
    assert outcome.problem == ""
    assert outcome.jobs
    assert outcome.audit is not None
    assert outcome.audit.charges > 0
    assert (outcome.deaths > 0) is (weather.crossings_to_death > 0)


@pytest.mark.parametrize("part", range(4))
def test_the_program_may_die_at_any_point(part):
    """Each commit and each order is a point at which it dies once, and starts again on what is on record."""
    name, seed = "calm", 6
    world = Simulation(seed, name)
    first = world.doom.crossed  # the cloud is open from here on
    assert world.run().problem == ""
    points = range(first + 1 + part, world.doom.crossed, 4)
    assert len(points) > 10
    places = set()
    for point in points:
        dying = Simulation(seed, name, deaths=[point])
        outcome = dying.run()
        assert outcome.problem == "", f"killed at crossing {point} ({dying.doom.deaths}): {outcome.problem}"
        places.update(dying.doom.deaths)
    assert {"before a commit", "after a commit"} <= places


def test_the_command_tells_a_world_and_its_digest(capsys):
    assert main(["--seed", "5", "--scenario", "calm"]) == 0
    out = capsys.readouterr().out
    assert "everything held" in out
    assert re.search(r"digest [0-9a-f]{64}$", out.strip())
    assert main(["--seed", "5", "--scenario", "calm", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problem"] == ""
    assert told["digest"] in out
    assert told["command"] == "headframe sim --seed 5 --scenario calm"


def test_the_command_ends_early_when_it_is_told_to(capsys):
    assert main(["--seed", "5", "--scenario", "calm", "--ticks", "60", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ticks"] == 60


def test_the_command_refuses_what_it_does_not_know(capsys):
    assert main(["--scenario", "sunshine"]) == 2
    assert "sunshine" in capsys.readouterr().err


def test_a_swarm_runs_every_seed(capsys):
    assert main(["--seed", "40", "--swarm", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == 4
