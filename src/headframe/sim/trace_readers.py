"""How traces are read: each published form by its columns, and a plain form of our own.

A file is known by the names in its first line, never by its own name. Every value is checked: what is missing, not a
number, not finite, negative or beyond bounds is refused with the file, the line and the column.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headframe.base.errors import Invalid, NotFound
from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US
from headframe.sim.trace_jobs import MILLION, TraceJob

MOST_JOBS = 1_000_000
MOST_BYTES = 1 << 30
MOST_GPUS = 100_000
LONGEST_US = 3650 * DAY_US  # of one job, and of the whole trace
FASTEST = 1000 * MILLION
MURI_STRETCH_MILLI = 1015  # the simulator that these traces come from stretches every iteration by this
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader may be told: `rate` is jobs per hour where arrivals are told at unit rate; `spans_us` how long
    jobs of an application run, where the trace does not say."""

    rate: float | None = None
    spans_us: Mapping[str, int] = field(default_factory=dict)


class Line:
    """One line of a file, whose values are read with care. `number` counts from 1; the first line holds the names."""

    def __init__(self, file: Path, number: int, values: Mapping[str, str]) -> None:
        self.file, self.number, self._values = file, number, values

    def refused(self, column: str, why: str, allowed: str) -> Invalid:
        return refused(self.file, f"{column} is {self.text(column)!r}, which {why}.", column, self.number, allowed)

    def text(self, column: str) -> str:
        return (self._values.get(column) or "").strip()[:200]

    def number_of(self, column: str, low: float, high: float) -> float:
        """A finite number within bounds."""
        try:
            value = float(self.text(column))
        except ValueError:
            raise self.refused(column, "is not a number", f"{low:g} to {high:g}") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise self.refused(column, "is out of bounds", f"{low:g} to {high:g}")
        return value

    def whole(self, column: str, low: int, high: int) -> int:
        value = self.number_of(column, low, high)
        if value != int(value):
            raise self.refused(column, "is not a whole number", f"{low} to {high}")
        return int(value)

    def us(self, column: str, unit_us: int = SECOND_US) -> int:
        """A moment or a length of time that is told in units of `unit_us`."""
        return round(self.number_of(column, 0, LONGEST_US // unit_us) * unit_us)

    def gpus(self, column: str) -> int:
        return self.whole(column, 1, MOST_GPUS)


def refused(file: Path, message: str, column: str, line: int, allowed: str) -> Invalid:
    """The one form of a refusal: the file, the line, what is wrong and what would be right."""
    error = Invalid(message, field=column, allowed=allowed, line=line, next_step=f"Allowed: {allowed}.")
    error.details["file"] = str(file)
    return error


@dataclass(frozen=True, slots=True)
class Form:
    """A published form: the columns by which it is known, and what makes jobs of its lines."""

    name: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[Line], Reading], Iterator[TraceJob]]


def read_trace(file: Path, reading: Reading | None = None) -> list[TraceJob]:
    """All jobs of a file, by the moment of submission. Raises `NotFound` and `Invalid`."""
    names, lines = _lines(file)
    form = form_of(names)
    if form is None:
        known = "; ".join(f"{one.name}: {', '.join(one.columns)}" for one in FORMS)
        raise refused(file, "The columns are not those of a trace.", "columns", 1, f"one of these forms: {known}")
    jobs = sorted(form.read(lines, reading or Reading()), key=lambda job: (job.submitted_us, job.id))
    if not jobs:
        raise refused(file, "There is no job in it.", "columns", 2, "at least one line below the names")
    return jobs


def form_of(names: Sequence[str]) -> Form | None:
    """The first form all of whose columns are there."""
    return next((one for one in FORMS if set(one.columns) <= set(names)), None)


def traces_in(path: Path) -> list[Path]:
    """The file itself, or every file of a folder whose columns are those of a trace, by name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFound(f"There is no trace {path}.", next_step="Give a CSV file, or a folder with some.")
    found = [file for file in sorted(path.glob("*.csv")) if file.is_file() and form_of(_names(file)) is not None]
    if not found:
        raise NotFound(f"No file in {path} has the columns of a trace.", next_step="docs/scheduling.md lists them.")
    return found


def _names(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        return [name.strip() for name in next(csv.reader(io.StringIO(text.readline(10_000))), [])]


def table(file: Path, columns: Sequence[str]) -> list[Line]:
    """The lines of a file that has at least these columns. Raises `NotFound` and `Invalid`."""
    names, lines = _lines(file)
    missing = [column for column in columns if column not in names]
    if missing:
        raise refused(file, f"There is no column {missing[0]}.", missing[0], 1, f"the columns {', '.join(columns)}")
    if not lines:
        raise refused(file, "There is nothing in it.", columns[0], 2, "at least one line below the names")
    return lines


def _lines(file: Path) -> tuple[list[str], list[Line]]:
    """The names of the columns, and the lines below them."""
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", next_step="Give a CSV file.")
    if file.stat().st_size > MOST_BYTES:
        raise refused(file, "The file is too large.", "columns", 1, f"at most {MOST_BYTES >> 20} MiB")
    names: list[str] = []
    lines: list[Line] = []
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        rows = csv.reader(text)
        try:
            for row in rows:
                if not names:
                    names = [name.strip() for name in row]
                elif row:
                    if len(row) != len(names):
                        raise refused(file, f"The line has {len(row)} values.", "columns", rows.line_num,
                                      f"{len(names)} values, one for each column")  # fmt: skip
                    lines.append(Line(file, rows.line_num, dict(zip(names, row, strict=True))))
                    if len(lines) > MOST_JOBS:
                        raise refused(file, "There are too many jobs in it.", "columns", rows.line_num,
                                      f"at most {MOST_JOBS:,} jobs")  # fmt: skip
        except csv.Error as error:
            raise refused(file, f"The line cannot be read: {error}.", "columns", rows.line_num, "CSV") from None
    return names, lines


def _named(place: int) -> str:
    """An id that sorts by the place in the file."""
    return f"{place:07d}"


def _plain(lines: Sequence[Line], _reading: Reading) -> Iterator[TraceJob]:
    """Our own form. Columns `speed:KIND` tell the speed on a kind; `owner`, `model`, `restart` may be there."""
    for place, line in enumerate(lines):
        kinds = [column for column in line._values if column.startswith("speed:")]
        yield TraceJob(
            _named(place), line.us("submitted"), line.gpus("gpus"), line.us("duration"), line.text("owner"),
            line.text("model"), line.us("restart") if line.text("restart") else None,
            {kind.partition(":")[2]: round(line.number_of(kind, 0, FASTEST / MILLION) * MILLION) for kind in kinds},
        )  # fmt: skip


def _muri(lines: Sequence[Line], _reading: Reading) -> Iterator[TraceJob]:
    """Times in milliseconds; the work is iterations x iteration_time. Restart costs stand in constants.json beside."""
    costs = _muri_costs(lines[0].file.parent) if lines else {}
    for place, line in enumerate(lines):
        work_us = line.whole("iterations", 0, 10**12) * round(line.number_of("iteration_time", 0, 10**9) * 1000)
        if work_us > LONGEST_US:
            raise line.refused("iterations", "makes the job too long", "below ten years in all")
        gpus, model = line.gpus("num_gpu"), line.text("model_name")
        yield TraceJob(
            _named(place), line.us("submit_time", 1000), gpus, work_us * MURI_STRETCH_MILLI // 1000, model=model,
            restart_us=costs.get((str(gpus), model), costs.get(("", ""), 10 * SECOND_US)),
        )  # fmt: skip


def _muri_costs(folder: Path) -> dict[tuple[str, str], int]:
    """What a restart costs by (GPUs, model), from constants.json where it is there; ("", "") is for all others."""
    file = folder / "constants.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text("utf-8"))
        table = found["overhead_s_by_num_gpu_and_model"]
        costs = {(gpus, model): int(cost * SECOND_US) for gpus, row in table.items() for model, cost in row.items()}
        costs["", ""] = int(found["default_overhead_s"] * SECOND_US)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise refused(file, f"The costs of restarts cannot be read: {error!r}.", "overhead", 1, "numbers") from None
    if not all(0 <= cost <= DAY_US for cost in costs.values()):
        raise refused(file, "A restart costs less than nothing or more than a day.", "overhead", 1, "0 to 86400")
    return costs


def _seconds(
    submitted: str, duration: str, gpus: str, model: str = ""
) -> Callable[[Sequence[Line], Reading], Iterator[TraceJob]]:
    """A form with times in seconds, counted from the first submission."""

    def read(lines: Sequence[Line], _reading: Reading) -> Iterator[TraceJob]:
        first_us = min((line.us(submitted) for line in lines), default=0)
        for place, line in enumerate(lines):
            yield TraceJob(
                _named(place), line.us(submitted) - first_us, line.gpus(gpus), line.us(duration), model=line.text(model)
            )

    return read


def _philly(lines: Sequence[Line], _reading: Reading) -> Iterator[TraceJob]:
    """Moments as dates; the virtual cluster is the owner."""
    moments = []
    for line in lines:
        try:
            moment = datetime.fromisoformat(line.text("timestamp"))
        except ValueError:
            raise line.refused("timestamp", "is not a moment", "2017-09-04 10:30:41") from None
        moments.append((moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH).total_seconds())
    first_s = min(moments, default=0.0)
    for place, (line, moment_s) in enumerate(zip(lines, moments, strict=True)):
        yield TraceJob(
            _named(place), round((moment_s - first_s) * SECOND_US), line.gpus("num_gpus"), line.us("duration"),
            line.text("vc"),
        )  # fmt: skip


def _gavel(lines: Sequence[Line], reading: Reading) -> Iterator[TraceJob]:
    """A stream at unit rate, told in time on a V100; speeds stand in simulation_throughputs.csv beside."""
    rates = throughputs(lines[0].file.parent / "simulation_throughputs.csv") if lines else {}
    if reading.rate is not None and not 0 < reading.rate <= 10**6:
        raise Invalid(f"The rate is {reading.rate:g}.", field="--rate", value=reading.rate, allowed="above 0, to 10^6")
    for place, line in enumerate(lines):
        gpus, model = line.gpus("num_gpus"), line.text("job_type")
        by_kind = rates.get((model, gpus), {})
        if not by_kind.get("v100"):
            raise line.refused("job_type", "has no rate on a V100 beside it", "a job type of simulation_throughputs")
        hours = line.number_of("unit_rate_arrival", 0, 10**7) / reading.rate if reading.rate else 0.0
        if hours * HOUR_US > LONGEST_US:
            raise line.refused("unit_rate_arrival", "comes too late at this rate", "within ten years")
        speeds = {kind: round(rate / by_kind["v100"] * MILLION) for kind, rate in by_kind.items()}
        yield TraceJob(
            _named(place), round(hours * HOUR_US), gpus, line.us("v100_duration_s"), model=model, speeds=speeds
        )


def _steps(lines: Sequence[Line], _reading: Reading) -> Iterator[TraceJob]:
    """Work in steps and arrivals in seconds; rates on each kind stand in the folder's throughputs beside."""
    rates: dict[tuple[str, int], dict[str, float]] = {}
    for file in sorted(lines[0].file.parent.glob("*throughputs.csv")) if lines else []:
        if {"gpu", "job_type", "num_gpus", "steps_per_s"} <= set(_names(file)):
            for what, row in throughputs(file).items():
                rates.setdefault(what, {}).update(row)
    for place, line in enumerate(lines):
        gpus, model = line.gpus("num_gpus"), line.text("job_type")
        by_kind = {kind: rate for kind, rate in rates.get((model, gpus), {}).items() if rate > 0}
        best = max(by_kind.values(), default=0.0)
        if line.text("static_duration_s"):
            work_us = line.us("static_duration_s")
        elif best:
            work_us = round(min(line.number_of("total_steps", 0, 10**12) / best * SECOND_US, LONGEST_US))
        else:
            raise line.refused("job_type", "has no rate beside it", "a job type of a file *throughputs.csv")
        speeds = {kind: round(rate / best * MILLION) for kind, rate in by_kind.items()}
        yield TraceJob(_named(place), line.us("arrival_s"), gpus, work_us, model=model, speeds=speeds)


def throughputs(file: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Steps per second by (job type, GPUs), then by kind; spread over servers counts as no kind."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for line in table(file, ("gpu", "job_type", "num_gpus", "steps_per_s")):
        kind = line.text("gpu")
        if not kind.endswith("_unconsolidated"):
            row = found.setdefault((line.text("job_type"), line.gpus("num_gpus")), {})
            row[kind] = line.number_of("steps_per_s", 0, 10**9)
    return found


def _pollux(lines: Sequence[Line], reading: Reading) -> Iterator[TraceJob]:
    """The form does not say how long jobs run: the reader has to be told, by application."""
    for place, line in enumerate(lines):
        model = line.text("application")
        if model not in reading.spans_us:
            raise line.refused("application", "does not say how long it runs", f"--runs {model}=2h, say")
        yield TraceJob(_named(place), line.us("time"), line.gpus("num_replicas"), reading.spans_us[model], model=model)


FORMS: tuple[Form, ...] = (
    Form("plain", ("submitted", "duration", "gpus"), _plain),
    Form("muri", ("submit_time", "num_gpu", "iterations", "iteration_time", "model_name"), _muri),
    Form("tiresias", ("submit_time", "num_gpu", "duration", "model_name"),
         _seconds("submit_time", "duration", "num_gpu", "model_name")),
    Form("elasticflow", ("submission_time", "duration", "num_gpu"),
         _seconds("submission_time", "duration", "num_gpu", "model_name")),
    Form("philly", ("timestamp", "duration", "num_gpus", "vc"), _philly),
    Form("gavel", ("job_type", "num_gpus", "v100_duration_s", "unit_rate_arrival"), _gavel),
    Form("shockwave", ("job_type", "num_gpus", "total_steps", "arrival_s"), _steps),
    Form("pollux", ("time", "application", "num_replicas"), _pollux),
)  # fmt: skip
