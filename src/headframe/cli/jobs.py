"""Commands about jobs that are there: list, stop, wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from headframe.base.quantities import DAY_US, SECOND_US, counted, parse_span_us
from headframe.cli import exits, printing
from headframe.cli.options import Session, command, common, confirm
from headframe.cli.printing import Column

JOB_STATES = ("pending", "queued", "starting", "running", "stopping", "succeeded", "failed", "stopped")


def gpus_of(job: Mapping[str, Any]) -> str:
    """The GPUs that a job asks for, for a cell: `2x H100:8`."""
    found = []
    for one in job["spec"]["resources"]["gpus"]:
        count = printing.milli(one["milli"]) if one["milli"] < 1000 else str(one["count"])
        low, high = one["memory_min_gib"], one["memory_max_gib"]
        memory = "" if low is None and high is None else f":{low or ''}..{high or ''}GB" if low != high else f":{low}GB"
        found.append(f"{one['kind'] or 'any'}{memory}:{count}")
    nodes = job["spec"]["nodes_min"]
    if not found:
        return f"{nodes} tasks" if nodes > 1 else "-"
    return (f"{nodes}x " if nodes > 1 else "") + " or ".join(found)


def state_of(job: Mapping[str, Any]) -> str:
    """The state for a cell: a schedule is `scheduled` until it is stopped."""
    return "scheduled" if job.get("parent") and job["spec"].get("cron") and job["state"] == "pending" else job["state"]


def reason_of(job: Mapping[str, Any], short: bool = False) -> str:
    """What stands behind the state, for a cell; `short`: of a moment the hour, or the day when it is not near."""
    if state_of(job) == "scheduled":
        at_us = job["not_before_us"]
        moment, near = printing.moment(at_us), at_us - printing.now_us() < DAY_US
        return f"next at {(moment[11:16] if near else moment[:10]) if short else moment}"
    return job["reason"] if job["reason"] != job["state"] else ""


COMPARED = (
    Column("CLUSTER", lambda row: row["cluster"]),
    Column("VERDICT", lambda row: row["verdict"].replace("_", " "), whole=True),
    Column("PER HOUR", lambda row: row["price"], right=True),
    Column("WHY", lambda row: row["text"], wrap=True),
)


def compare(rows: Sequence[Mapping[str, Any]], currency: str = "") -> None:
    """How each cluster stands to a job, the best first."""
    printing.heading("Clusters")
    prices = [printing.money(row.get("per_hour_nano"), currency) if currency else "" for row in rows]
    columns = COMPARED if any(prices) else [one for one in COMPARED if one.head != "PER HOUR"]
    printing.table(columns, [{**row, "price": price} for row, price in zip(rows, prices, strict=True)])


COLUMNS = (
    Column("JOB", lambda job: job["id"], whole=True),
    Column("NAME", lambda job: job["name"]),
    Column("STATE", state_of, whole=True),
    Column("GPU", gpus_of),
    Column("SUBMITTED", lambda job: printing.age(job["submitted_us"])),
    Column("RAN", lambda job: printing.lasted(job["started_us"], job["ended_us"])),
    Column("TRY", lambda job: job["attempt"] or "", right=True, spare=True),
    Column("EXIT", lambda job: "" if job["exit_code"] is None else job["exit_code"], right=True, spare=True),
    Column("REASON", lambda job: reason_of(job, short=True), wrap=True),
)


@command("headframe jobs", "headframe jobs --state running --json")
@click.option("--state", multiple=True, type=click.Choice(JOB_STATES), help="Only these states (may be repeated).")
@click.option("--name", help="Only jobs of this name.")
@click.option("--project", help="Only jobs of this project.")
@click.option("--owner", metavar="MEMBER", help="Only jobs of this member; me: your own.")
@click.option("--org", "organization", metavar="NAME", help="The organization, when it is not your own.")
@click.option("--parent", metavar="JOB", help="Only the jobs of this array or schedule.")
@click.option("-n", "--limit", type=click.IntRange(1), default=30, show_default=True, help="How many.")
@click.option("-a", "--all", "everything", is_flag=True, help="All of them.")
@common
def jobs(session: Session, state: tuple[str, ...], limit: int, everything: bool, **query: str | None) -> None:
    """List jobs, newest first."""
    many = None if everything else limit
    if query.get("parent"):
        query["parent"] = session.client.job(str(query["parent"]))["id"]
    found = session.client.jobs(limit=many, state=list(state) or None, **query)
    narrowed = bool(state) or any(query.values())
    empty = "No such jobs." if narrowed else "No jobs. Submit one: headframe submit -- echo hello"
    session.rows(found, COLUMNS, empty)
    if not session.json and not session.quiet and many is not None and len(found) == many:
        printing.note(f"These are the newest {many}; --all or --limit shows more.")


@command("headframe stop train-7b", "headframe stop --state queued --yes")
@click.argument("job", nargs=-1)
@click.option("--state", multiple=True, type=click.Choice(JOB_STATES[:5]), help="All jobs in this state.")
@click.option("--project", help="With --state: only jobs of this project.")
@click.option("--grace", metavar="TIME", help="How long a job may take to end, such as 30s, before it is killed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask when there are several.")
@common
def stop(
    session: Session, job: tuple[str, ...], state: tuple[str, ...], project: str | None, grace: str | None, yes: bool
) -> None:
    """Stop jobs by name or id, or all in a state."""
    if bool(job) == bool(state):
        raise click.UsageError("Name jobs, or choose them with --state.")
    wanted = list(job)
    if state:
        wanted = [found["id"] for found in session.client.jobs(limit=None, state=list(state), project=project)]
    if len(wanted) > 1:
        confirm(f"Stop {counted(len(wanted), 'job')}?", yes)
    stopped = [session.client.stop(one, grace) for one in wanted]
    if session.json:
        printing.as_json(stopped)
        return
    for found in stopped:
        # An array's own row still says that it runs: its children are the ones that end.
        words = {"running": "is stopping", "succeeded": "has already succeeded", "failed": "has already failed"}
        word = words.get(found["state"], f"is {found['state']}")
        session.done(found, f"{found['id']} ({printing.safe(found['name'])}) {word}.")
    if not stopped:
        printing.note("No job to stop.")


@command("headframe wait train-7b && headframe outputs train-7b --download .", "headframe wait a b --timeout 1h")
@click.argument("job", nargs=-1, required=True)
@click.option("--timeout", metavar="TIME", help="Give up after so long in all, such as 30s; the exit code is then 124.")
@common
def wait(session: Session, job: tuple[str, ...], timeout: str | None) -> int:
    """Wait until jobs have ended; the exit code is the job's (of several: the first that is not 0)."""
    span_s = None if timeout is None else parse_span_us(timeout, field="--timeout") / SECOND_US
    try:
        ended = session.client.wait_all(job, timeout_s=span_s)
    except TimeoutError:
        printing.note(f"Not ended after {timeout}: `headframe jobs` and `headframe show JOB` tell what they do.")
        return exits.TIMED_OUT
    if session.json:
        printing.as_json(ended if len(ended) > 1 else ended[0])
    else:
        for found in ended:
            session.done(found, f"{found['id']} ({printing.safe(found['name'])}) {found['state']}{why(found)}.")
    return next((code for code in map(exits.of_job, ended) if code), 0)


def why(job: Mapping[str, Any]) -> str:
    """What stands behind the state of a job that has ended: ` (exit code 7, error)`."""
    parts = [f"exit code {job['exit_code']}" if job["exit_code"] else "", printing.safe(job["reason"])]
    text = ", ".join(part for part in parts if part and part != job["state"])
    return f" ({text})" if text else ""
