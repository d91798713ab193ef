"""Runs many seeds in one process and prints one line of JSON for each: `worker.py FIRST END`."""

import json
import sys

from headframe.sim.run import scenario_of, simulate

for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    outcome = simulate(seed, scenario_of(seed))
    row = {"digest": outcome.digest, "problem": outcome.problem, "command": outcome.command, "deaths": outcome.deaths}
    print(json.dumps(row), flush=True)
