"""The command `headframe sim`: worlds made of seeds, and traces replayed under policies."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headframe.base.errors import Invalid
from headframe.base.quantities import format_span, parse_span_us
from headframe.cli import printing
from headframe.cli.bench import progress_lines
from headframe.cli.options import group, part
from headframe.cli.printing import Column

if TYPE_CHECKING:
    from headframe.sim.compare import Run, Setting
    from headframe.sim.trace_readers import Reading

F = TypeVar("F", bound=Callable[..., Any])


def seconds(value: float) -> str:
    """A length of time for people: two units at most."""
    return format_span(round(value * 1_000_000))


COLUMNS = (
    Column("TRACE", lambda row: row["trace"]),
    Column("POLICY", lambda row: row["policy"], whole=True),
    Column("JOBS", lambda row: row["jobs"], right=True, spare=True),
    Column("IMPOSSIBLE", lambda row: row["impossible"] or "", right=True),
    Column("TOOK", lambda row: seconds(row["jct_mean_s"]), whole=True, right=True),
    Column("P99", lambda row: seconds(row["jct_p99_s"]), whole=True, right=True),
    Column("WAITED", lambda row: seconds(row["wait_mean_s"]), whole=True, right=True),
    Column("ALL DONE", lambda row: seconds(row["makespan_s"]), whole=True, right=True),
    Column("USED", lambda row: f"{row['utilization']:.0%}", whole=True, right=True),
    Column("UNFAIR", lambda row: f"{row['unfair']:.0%}", whole=True, right=True, spare=True),
    Column("STARTS", lambda row: f"{row['starts_mean']:.1f}", right=True, spare=True),
)


@group("headframe sim --seed 7 --scenario storm",
       "headframe sim trace jobs.csv --fleet 8xH100:8 --policy fair --policy srtf",
       "headframe sim compare --policies fair,srtf --trace jobs.csv --fleet 8xH100:8 --out compare.png")  # fmt: skip
def sim() -> None:
    """Run the scheduler without machines: worlds made of seeds, and traces of jobs."""


@sim.command(
    "world",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog="\b\nExample:\n  headframe sim world --seed 1 --scenario storm",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def world(arguments: tuple[str, ...]) -> int:
    """Run the loop and the store on a virtual clock, with faults and checkers; `--help` lists the options."""
    code = import_module("headframe.sim.main").main(list(arguments))
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def replaying(function: F) -> F:
    """Give a command what every replay can be told."""
    for option in reversed((
        click.option("--fleet", metavar="NODESxKIND:GPUS", help="The machines, such as 8xH100:8,4xA100:4."),
        click.option("--nodes", type=click.IntRange(1, 100_000), help="So many nodes of 8 GPUs, instead of --fleet."),
        click.option("--packing", default="default", show_default=True, metavar="NAME",
                     help="How places are chosen, as in the label `packing` of a cluster."),
        click.option("--restart", default="0s", show_default=True, metavar="TIME",
                     help="What a start costs a job, where the trace does not say."),
        click.option("--round", "every", metavar="TIME", help="Decide at multiples of this only."),
        click.option("--rate", type=float, metavar="JOBS", help="Jobs per hour, for a trace that has no times."),
        click.option("--runs", multiple=True, metavar="APPLICATION=TIME",
                     help="How long jobs of an application run, for a trace that does not say."),
        click.option("--one-speed", is_flag=True, help="Leave out what the trace says of speeds by kind."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )):  # fmt: skip
        function = option(function)
    return function


@part(sim, "trace", "headframe sim trace jobs.csv --fleet 8xH100:8 --policy fair --policy srtf",
      "headframe sim trace traces/muri --nodes 8 --policy srsf --restart 10s --json")  # fmt: skip
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--policy", "policies", multiple=True, default=("fair",), show_default=True, metavar="NAME",
              help="Who comes first; may be repeated.")  # fmt: skip
@replaying
def trace(path: Path, policies: tuple[str, ...], as_json: bool, **told: Any) -> int:
    """Replay a trace of jobs, or every trace in a folder, and say how long jobs took and waited."""
    from headframe.sim import compare as comparing
    from headframe.sim.trace_readers import read_trace, traces_in

    setting, reading, tell = _setting(told), _reading(told), progress_lines()
    rows: list[dict[str, Any]] = []
    for file in traces_in(path):
        jobs = read_trace(file, reading)
        rows += [comparing.as_json(file.stem, one) for one in comparing.run(jobs, policies, setting, tell)]
    _show(rows, as_json)
    return 0


@part(sim, "compare",
      "headframe sim compare --policies fair,srtf --trace jobs.csv --fleet 8xH100:8 --out compare.png")  # fmt: skip
@click.option("--policies", required=True, metavar="A,B", help="What to compare, with commas between.")
@click.option("--trace", "file", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The trace.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into a PNG, SVG or PDF.")
@replaying
def compare(policies: str, file: Path, out: Path | None, as_json: bool, **told: Any) -> int:
    """Draw utilization, waiting and fairness of several policies side by side, here and as a picture."""
    from headframe.sim import compare as comparing
    from headframe.sim.compare_picture import check_file, picture
    from headframe.sim.trace_readers import read_trace

    names = list(dict.fromkeys(name.strip() for name in policies.split(",") if name.strip()))
    if not names:
        raise Invalid("--policies names none.", field="--policies", value=policies, allowed="names with commas between")
    if out is not None:
        check_file(out)
    setting = _setting(told)
    runs = comparing.run(read_trace(file, _reading(told)), names, setting, progress_lines())
    if out is not None:
        picture(runs, f"{file.stem} on {setting.fleet.text}", out)
    _show([comparing.as_json(file.stem, one) for one in runs], as_json, runs)
    if out is not None and not as_json:
        printing.note(f"Drawn in {out}.")
    return 0


def _setting(told: dict[str, Any]) -> Setting:
    from headframe.sim.compare import Setting
    from headframe.sim.trace_jobs import Fleet, Group, parse_fleet
    from headframe.sim.trace_replay import Costs

    if bool(told["fleet"]) == bool(told["nodes"]):
        raise click.UsageError("Say on which machines: either --fleet 8xH100:8 or --nodes 8.")
    fleet = parse_fleet(told["fleet"]) if told["fleet"] else Fleet((Group(told["nodes"], "GPU", 8),))
    every_us = parse_span_us(told["every"], field="--round") if told["every"] else None
    if every_us == 0:
        raise Invalid("--round is no time at all.", field="--round", value=told["every"], allowed="1s or more")
    costs = Costs(parse_span_us(told["restart"], field="--restart"))
    return Setting(fleet, told["packing"], costs, every_us, told["one_speed"])


def _reading(told: dict[str, Any]) -> Reading:
    from headframe.sim.trace_readers import Reading

    rate: float | None = told["rate"]
    if rate is not None and not 0 < rate < math.inf:
        raise Invalid(f"--rate is {rate:g}.", field="--rate", value=rate, allowed="jobs per hour, above 0")
    spans: dict[str, int] = {}
    for text in told["runs"]:
        application, equals, span = text.partition("=")
        if not equals:
            raise Invalid(f"--runs {text} names no time.", field="--runs", value=text, allowed="APPLICATION=2h")
        spans[application] = parse_span_us(span, field="--runs")
    return Reading(rate, spans)


def _show(rows: list[dict[str, Any]], as_json: bool, runs: list[Run] | None = None) -> None:
    if as_json:
        printing.as_json(rows)
        return
    printing.table(COLUMNS, rows)
    if runs is not None:
        from headframe.sim.compare import drawn

        printing.say()
        printing.say(drawn(runs, shutil.get_terminal_size().columns))
