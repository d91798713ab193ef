"""The command `show`: a job's story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from headframe.base.quantities import format_mib, format_span
from headframe.cli import printing
from headframe.cli.jobs import gpus_of
from headframe.cli.options import Session, command, common
from headframe.cli.printing import Column

ATTEMPTS = (
    Column("TRY", lambda row: row["number"], right=True),
    Column("OUTCOME", lambda row: row["outcome"] or "under way"),
    Column("BEGAN", lambda row: printing.moment(row["started_us"]), whole=True),
    Column("RAN", lambda row: printing.lasted(row["running_us"], row["ended_us"])),
    Column("EXIT", lambda row: "" if row["exit_code"] is None else row["exit_code"], right=True),
    Column("CPU", lambda row: format_span(row["cpu_us"]) if row["cpu_us"] else ""),
    Column("MEMORY", lambda row: format_mib(row["memory_peak_mib"]) if row["memory_peak_mib"] else ""),
    Column("PID", lambda row: row["pid"] or "", right=True, spare=True),
    Column("RESUMED FROM", lambda row: (row["resumed_from"] or "").rpartition("/")[2]),
    Column("DETAIL", lambda row: "" if row["detail"] == f"exit code {row['exit_code']}" else row["detail"], wrap=True),
)
ALLOCATIONS = (
    Column("ALLOCATION", lambda row: row["id"], whole=True),
    Column("STATE", lambda row: row["state"]),
    Column("NODES", lambda row: ", ".join(dict.fromkeys(part["node_id"] for part in row["slices"])), spare=True),
    Column("HOLDS", lambda row: _held(row["slices"])),
    Column("FROM", lambda row: printing.moment(row["held_us"]), whole=True, spare=True),
    Column("HELD", lambda row: printing.lasted(row["held_us"], row["released_us"])),
)
EVENTS = (
    Column("TIME", lambda row: printing.moment(row["at_us"]), whole=True),
    Column("EVENT", lambda row: row["kind"], whole=True),
    Column("REASON", lambda row: row["reason"], wrap=True),
)


@command("headframe show train-7b")
@click.argument("job")
@common
def show(session: Session, job: str) -> None:
    """Tell a job's story: states, attempts, what it held, why it waits, what it cost."""
    story = session.client.story(job)
    if session.json:
        printing.as_json(story)
        return
    if session.quiet:
        printing.say(story["job"]["id"])
        return
    _head(story["job"])
    if story["waiting"]:
        printing.heading("Why it waits")
        _waiting(story["waiting"])
    _part("Attempts", ATTEMPTS, story["attempts"])
    _part("Allocations", ALLOCATIONS, story["allocations"])
    if story["cost"]:
        printing.heading("Cost")
        _cost(story["cost"])
    _part("Events", EVENTS, story["events"])


def _head(job: Mapping[str, Any]) -> None:
    spec = job["spec"]
    resources = spec["resources"]
    printing.facts(
        [
            ("job", job["id"]),
            ("name", job["name"]),
            ("state", job["state"]),
            ("reason", job["reason"] if job["reason"] != job["state"] else ""),
            ("project", job["project_id"]),
            ("parent", job["parent_id"]),
            ("array index", job["array_index"]),
            ("gpu", gpus_of(job)),
            ("cpu, memory", f"{printing.milli(resources['cpu_milli'])} cores, {format_mib(resources['memory_mib'])}"),
            ("submitted", printing.moment(job["submitted_us"])),
            ("started", printing.moment(job["started_us"])),
            ("ended", printing.moment(job["ended_us"])),
            ("ran", printing.lasted(job["started_us"], job["ended_us"])),
            ("exit code", job["exit_code"]),
            ("told to stop", job["stop_reason"]),
            ("run", _first_line(spec["run"])),
        ]
    )


def _first_line(text: str) -> str:
    """The first line of a command, and how many follow."""
    first, _, rest = text.strip().partition("\n")
    return f"{first} … ({rest.count(chr(10)) + 1} more lines)" if rest else first


def _waiting(waiting: Any) -> None:
    """The sentence first, then the numbers behind it."""
    if isinstance(waiting, str):
        printing.paragraph(waiting)
        return
    if waiting.get("text"):
        printing.paragraph(waiting["text"])
    printing.document(waiting, leave_out=("text",))


def _cost(cost: Any) -> None:
    if isinstance(cost, Mapping):
        printing.document(cost, leave_out=("currency",))
    elif isinstance(cost, list):
        for each in cost:
            printing.document(each)
    else:
        printing.say(printing.safe(cost))


def _part(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table under its heading, without columns that are empty in every row."""
    if not rows:
        return
    printing.heading(title)
    printing.table([column for column in columns if any(column.cell(row) not in ("", None) for row in rows)], rows)


def _held(slices: Sequence[Mapping[str, Any]]) -> str:
    """`8 GPU, 32 CPU, 256 GiB`, over all tasks."""
    gpu = sum(share["milli"] for part in slices for share in part["shares"])
    cpu, memory = sum(part["cpu_milli"] for part in slices), sum(part["memory_mib"] for part in slices)
    text = f"{printing.milli(cpu)} CPU, {format_mib(memory)}"
    return f"{printing.milli(gpu)} GPU, {text}" if gpu else text
