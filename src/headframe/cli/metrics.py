"""The command that shows what was measured of a job and what it reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from headframe.cli import printing
from headframe.cli.options import Session, command, common
from headframe.cli.printing import Column

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40  # of a chart, in characters
# How a figure that a machine measures is shown: the unit in the name gives way to one that people read.
_SHOWN: dict[str, tuple[str, float, str]] = {
    "cpu_milli": ("cpu", 1000, "cores"), "memory_mib": ("memory", 1024, "GiB"),
    "gpu_busy_milli": ("gpu busy", 10, "%"), "gpu_memory_mib": ("gpu memory", 1024, "GiB"),
    "power_mw": ("power", 1000, "W"), "temperature_c": ("temperature", 1, "°C"),
    "memory_errors": ("memory errors", 1, ""),
}  # fmt: skip


def chart(values: Sequence[float | None], width: int = WIDTH) -> str:
    """Values as a line of bars from the lowest to the highest; a dot where there is no number.

    >>> chart([0, 1, 2, 3, None, 7], width=6)
    '▁▂▃▄·█'
    """
    size = -(-len(values) // width)
    means: list[float | None] = []
    for place in range(0, len(values), size):
        told = [value for value in values[place : place + size] if value is not None]
        means.append(sum(told) / len(told) if told else None)
    known = [value for value in means if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    step = (high - low) / (len(BARS) - 1)
    return "".join("·" if value is None else BARS[round((value - low) / step) if step else 0] for value in means)


@command("headframe metrics train-7b", "headframe metrics train-7b --lines", "headframe metrics train-7b --json")
@click.argument("job")
@click.option("--lines", is_flag=True, help="The lines that the job wrote to $HEADFRAME_OUTPUTS/metrics.jsonl.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="The last so many lines.")
@common
def metrics(session: Session, job: str, lines: bool, limit: int) -> None:
    """Show what was measured of a job, and what it reported."""
    if lines:
        _lines(session, session.client.metric_lines(job), limit)
        return
    found = session.client.metrics(job)
    if session.json:
        printing.as_json(found)
        return
    columns = [
        Column("METRIC", lambda one: _head(one)[0], wrap=True),
        Column("OF", lambda one: one["part"]),
        Column("LAST", lambda one: _figure(one, one["mean"][-1]), right=True, whole=True),
        Column("LOWEST", lambda one: _figure(one, min(_told(one["low"]), default=None)), right=True, whole=True),
        Column("HIGHEST", lambda one: _figure(one, max(_told(one["high"]), default=None)), right=True, whole=True),
        Column("UNIT", lambda one: _head(one)[2]),
        Column("", lambda one: chart(one["mean"]), whole=True),
    ]
    session.rows(found, columns, "Nothing has been measured of it yet.", key="name")


def _lines(session: Session, found: Sequence[Mapping[str, Any]], limit: int) -> None:
    if session.json:
        printing.as_json(list(found))
        return
    rows = found[-limit:]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [Column(printing.safe(name).upper(), _cell_of(name), right=True) for name in names]
    session.rows(rows, columns, "The job wrote no metrics.", key=names[0] if names else "")


def _head(one: Mapping[str, Any]) -> tuple[str, float, str]:
    return (one["name"], 1, "") if one["reported"] else _SHOWN.get(one["name"], (one["name"], 1, ""))


def _told(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _figure(one: Mapping[str, Any], value: float | None) -> str:
    return "not a number" if value is None else f"{value / _head(one)[1]:.4g}"


def _cell_of(name: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda row: f"{row.get(name):.6g}" if isinstance(row.get(name), float) else row.get(name)
