"""The command `headframe sim`: one world from a seed, or a swarm of them on all cores."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import click

from headframe.sim.children import end_with_parent
from headframe.sim.report import as_json, swarm_told, told
from headframe.sim.run import Outcome, scenario_of, simulate
from headframe.sim.scenarios import SCENARIOS


def _world(job: tuple[int, str, int | None]) -> Outcome:
    return simulate(job[0], job[1], ticks=job[2])


@click.command("sim", epilog="Example: headframe sim --seed 7 --scenario storm")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Where all chance comes from.")
@click.option("--scenario", type=click.Choice(sorted(SCENARIOS)), help="The kind of world [default: by the seed].")
@click.option("--ticks", type=click.IntRange(min=1), help="End after so many ticks, before everything has ended.")
@click.option("--swarm", type=click.IntRange(min=1), help="Run so many seeds, from --seed on, on all cores.")
@click.option("--json", "wants_json", is_flag=True, help="Print JSON.")
def sim(seed: int, scenario: str | None, ticks: int | None, swarm: int | None, wants_json: bool) -> int:
    """Run the loop and the store in a simulated world and check that everything holds.

    The same seed and scenario give the same digest, bit for bit. Exit code 1 says that something did not hold.
    """
    jobs = [(number, scenario or scenario_of(number), ticks) for number in range(seed, seed + (swarm or 1))]
    if swarm is None:
        outcome = _world(jobs[0])
        click.echo(json.dumps(as_json(outcome), indent=2) if wants_json else told(outcome))
        return 1 if outcome.problem else 0
    began_s = time.monotonic()
    outcomes = _run_all(jobs)
    wall_s = time.monotonic() - began_s
    if wants_json:
        failed = [as_json(each) for each in outcomes if each.problem]
        click.echo(json.dumps({"seeds": len(outcomes), "failed": failed, "wall_s": round(wall_s, 3)}, indent=2))
    else:
        click.echo(swarm_told(outcomes, wall_s))
    return 1 if any(each.problem for each in outcomes) else 0


def _run_all(jobs: list[tuple[int, str, int | None]]) -> list[Outcome]:
    """All worlds, with a line of progress on a terminal."""
    outcomes = []
    shows = sys.stderr.isatty()
    # Fresh processes: nothing of this one may leak into a world.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=end_with_parent) as pool:
        for outcome in pool.map(_world, jobs, chunksize=4):
            outcomes.append(outcome)
            if shows:
                failed = sum(bool(each.problem) for each in outcomes)
                click.echo(f"\r{len(outcomes)} of {len(jobs)} seeds, {failed} failed", err=True, nl=False)
    if shows:
        click.echo("", err=True)
    return outcomes


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code."""
    try:
        code = sim.main(list(arguments), prog_name="headframe sim", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
