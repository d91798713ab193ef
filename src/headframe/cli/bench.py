"""The command `headframe bench`: our numbers beside published ones, by the code that decides in production."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from headframe.base.errors import Invalid, NotFound
from headframe.cli import printing
from headframe.cli.options import group, part
from headframe.cli.printing import Column
from headframe.yardsticks.records import DOCUMENTED
from headframe.yardsticks.registry import YARDSTICKS

_SPEAK_EVERY_S = 5.0
COLUMNS = (
    Column("YARDSTICK", lambda row: row["yardstick"], whole=True),
    Column("CASE", lambda row: row["case"]),
    Column("METRIC", lambda row: row["metric"]),
    Column("PUBLISHED", lambda row: number(row["published"]), whole=True, right=True),
    Column("OURS", lambda row: number(row["ours"]), whole=True, right=True),
    Column("PASS", lambda row: {True: "yes", False: "NO", None: ""}[row["pass"]], whole=True),
    Column("RULE", lambda row: f"{row['level']}: {row['rule']}" if row["rule"] else "", spare=True),
)


def number(value: float | None) -> str:
    """A number for people: thousands apart, and no more digits than mean something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.2f}"


@group("headframe bench scheduling fgd --data ~/traces/fgd")
def bench() -> None:
    """Measure ours against what others have published."""


@part(bench, "scheduling", "headframe bench scheduling muri --data traces/muri",
      "headframe bench scheduling fgd --data traces/fgd --workload default --seeds 42-51 --policy fgd",
      "headframe bench scheduling all --data traces --json")  # fmt: skip
@click.argument("name", metavar="NAME", type=click.Choice((*YARDSTICKS, "all")))
@click.option("--data", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where the published files are; for all: a folder with one folder each.")  # fmt: skip
@click.option("--workload", "workloads", multiple=True, metavar="NAME", help="Only this case; may be repeated.")
@click.option("--seeds", metavar="42-51", help="Only these seeds: a range, or numbers with commas between.")
@click.option("--policy", "policies", multiple=True, metavar="NAME", help="Only this policy; may be repeated.")
@click.option("--processes", type=click.IntRange(1, 1024), metavar="N",
              help="So many cases at once, instead of one for each core.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scheduling(
    name: str, data: Path | None, workloads: tuple[str, ...], seeds: str | None, policies: tuple[str, ...],
    processes: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Run a yardstick of scheduling, or all.

    NAME is fgd, muri, muri-testbed, gavel, gavel-makespan, shockwave, kueue-15k, kueue-50k or all. Exit code 1 says
    that a number that must pass does not, or could not be measured. docs/benchmarks.md says where the published files
    can be had.
    """
    from headframe.yardsticks.records import MUST, Options
    from headframe.yardsticks.side_by_side import rows_of

    if name == "all" and (workloads or seeds or policies):
        raise click.UsageError("--workload, --seeds and --policy narrow one yardstick: name it instead of all.")
    options = Options(workloads, _seeds(seeds), policies, progress_lines())
    names = tuple(YARDSTICKS) if name == "all" else (name,)
    folders = {one: folder_of(data, one, alone=name != "all") for one in names}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = rows_of(folders, options, processes or cores, lambda line: printing.note(printing.safe(line)))
    show([row.as_json() for row in found], as_json)
    return 1 if any(row.level == MUST and row.passed is False for row in found) else 0


def folder_of(data: Path | None, name: str, *, alone: bool = True) -> Path | None:
    """The folder of a yardstick: the one in `data` that is called after its module, or, run alone, `data` itself.

    Raises `NotFound` when `data` is not there, and for all of them also when it is not given.
    """
    yardstick = YARDSTICKS[name]
    if data is None and not alone and yardstick.reads:
        next_step = f"Give the folder that they lie in, one folder each, with --data. {DOCUMENTED}"
        raise NotFound("These yardsticks read published files.", next_step=next_step)
    if data is None:
        return None
    if not data.is_dir():
        raise NotFound(f"There is no folder {data}.", next_step=DOCUMENTED)
    inner = data / yardstick.module
    return inner if inner.is_dir() or not alone else data


def show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        printing.as_json(list(rows))
    else:
        printing.table(COLUMNS, rows)


def _seeds(text: str | None) -> tuple[int, ...]:
    """`42-44,50` as (42, 43, 44, 50)."""
    if not text:
        return ()
    found: list[int] = []
    for piece in text.split(","):
        low, dash, high = piece.partition("-")
        if not low.isascii() or not low.isdigit() or (dash and not high.isdigit()) or len(piece) > 20:
            raise _bad_seeds(text)
        first, last = int(low), int(high or low)
        if last < first or last - first > 10_000:
            raise _bad_seeds(text)
        found += range(first, last + 1)
    return tuple(found)


def _bad_seeds(text: str) -> Invalid:
    return Invalid(f"--seeds {text} is not a list of seeds.", field="--seeds", value=text, allowed="42-51 or 42,43,50")


def progress_lines() -> Callable[[str], None]:
    """Lines of progress on standard error: the last one in place on a terminal, else one every few seconds."""
    shows = sys.stderr.isatty()
    spoken_s = time.monotonic()

    def tell(line: str) -> None:
        nonlocal spoken_s
        now_s = time.monotonic()
        if shows:
            sys.stderr.write(f"\r\x1b[K{printing.safe(line)}" if line else "\r\x1b[K")
            sys.stderr.flush()
        elif line and now_s - spoken_s >= _SPEAK_EVERY_S:
            printing.note(printing.safe(line))
            spoken_s = now_s

    return tell
