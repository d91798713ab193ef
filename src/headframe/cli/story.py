"""The command `show`: a job's story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from headframe.base.quantities import counted, format_mib, format_span
from headframe.cli import printing
from headframe.cli.jobs import compare, gpus_of, reason_of, state_of
from headframe.cli.naming import Names
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
    Column("GPU BUSY", lambda row: _busy(row.get("sampled") or {}), right=True),
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
CHILDREN = (
    Column("INDEX", lambda row: row["array_index"], right=True),
    Column("JOB", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"], spare=True),
    Column("STATE", lambda row: row["state"], whole=True),
    Column("RAN", lambda row: printing.lasted(row["started_us"], row["ended_us"])),
    Column("EXIT", lambda row: "" if row["exit_code"] is None else row["exit_code"], right=True),
    Column("REASON", lambda row: row["reason"] if row["reason"] != row["state"] else ""),
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
    _head(story["job"], Names(session))
    if story.get("children"):
        _children(story["children"], story["job"])
    if story["waiting"]:
        printing.heading("Why it waits")
        _waiting(story["waiting"])
    _part("Attempts", ATTEMPTS, story["attempts"])
    _part("Allocations", ALLOCATIONS, story["allocations"])
    if story["cost"]:
        printing.heading("Cost")
        _cost(story["cost"])
    _part("Events", EVENTS, story["events"])


def _head(job: Mapping[str, Any], known: Names) -> None:
    spec = job["spec"]
    resources = spec["resources"]
    printing.facts(
        [
            ("job", job["id"]),
            ("name", job["name"]),
            ("state", state_of(job)),
            ("reason", reason_of(job)),
            ("project", known.of(job["project_id"])),
            ("member", known.of(job.get("member_id"))),
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
            *_asked(spec),
            ("run", _first_line(spec["run"])),
        ]
    )


def _asked(spec: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What the job file says beyond its resources; of variables the names alone, as values may be secret."""
    retry, array = spec.get("retry"), spec.get("array")
    longest, budget = spec.get("max_duration_us"), spec.get("budget_nano")
    checkpoints = spec.get("checkpoints")
    return [
        ("schedule", spec.get("cron")),
        ("array", f"{array['first']}..{array['last']}" if array else ""),
        ("image", spec.get("image")),
        ("python", spec.get("python")),
        ("packages", ", ".join(spec.get("packages") or ())),
        ("variables", ", ".join(sorted(spec.get("env") or ()))),
        ("secrets", ", ".join(spec.get("secrets") or ())),
        ("datasets", ", ".join(f"{name}@{number}" for _, name, number in spec.get("datasets") or ())),
        ("checkpoints", f"{checkpoints['path']}, the newest {checkpoints['keep']}" if checkpoints else ""),
        ("retry", f"{counted(retry['max'], 'time')} after {', '.join(retry['on'])}" if retry and retry["max"] else ""),
        ("max_duration", "" if longest is None else format_span(longest)),
        ("budget", "" if budget is None else printing.money(budget, spec["currency"])),
    ]


def _children(children: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """How many jobs of an array or a schedule are in which state, and the first of those to look after."""
    printing.heading(f"Jobs of this {'schedule' if job['spec'].get('cron') else 'array'}")
    states = ", ".join(f"{count} {state}" for state, count in children["states"].items())
    printing.paragraph(f"{children['count']} in all{f': {states}' if states else ''}.")
    if children["jobs"]:
        printing.table(CHILDREN, children["jobs"])
    if children["count"] > len(children["jobs"]):
        printing.paragraph(f"`headframe jobs --parent {job['id']} --all` lists all of them.")


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
    printing.document(waiting, leave_out=("text", "clusters"))
    if waiting.get("clusters"):
        compare(waiting["clusters"])


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


def _busy(sampled: Mapping[str, int]) -> str:
    """How busy its accelerators were in the mean, as far as they were looked at."""
    looked_us = sampled.get("gpu_us", 0)
    return f"{100 * sampled.get('gpu_busy_us', 0) // looked_us} %" if looked_us else ""


def _held(slices: Sequence[Mapping[str, Any]]) -> str:
    """`8 GPU, 32 CPU, 256 GiB`, over all tasks."""
    gpu = sum(share["milli"] for part in slices for share in part["shares"])
    cpu, memory = sum(part["cpu_milli"] for part in slices), sum(part["memory_mib"] for part in slices)
    text = f"{printing.milli(cpu)} CPU, {format_mib(memory)}"
    return f"{printing.milli(gpu)} GPU, {text}" if gpu else text
