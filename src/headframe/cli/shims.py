"""What Slurm users type: squeue, sinfo and scancel, answered from Headframe. Partitions are the clusters."""

from __future__ import annotations

import getopt
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from headframe.base.errors import HeadframeError
from headframe.base.quantities import SECOND_US
from headframe.cli import printing
from headframe.cli.options import Session
from headframe.cli.shim_format import Format
from headframe.cli.shim_rows import FLEET, JOBS, STATES, Cloud, node_rows

QUEUE = "%.20i %.9P %.12j %.8u %.2t %.10M %.6D %R"
QUEUE_LONG = "%.20i %.9P %.12j %.8u %.8T %.10M %.9l %.6D %R"
INFO = "%9P %.5a %.10l %.6D %.6t %N"
INFO_BY_NODE = "%N %.6D %9P %.6t"
ACTIVE = ("pending", "queued", "starting", "running", "stopping")


def squeue(words: list[str]) -> int:
    """`squeue`: -u -j -h -o -t -p -n -A -l -r --me --json."""
    given = _read(
        "squeue", words, "u:j:ho:t:p:n:A:w:lraM:S:",
        ["user=", "jobs=", "noheader", "format=", "states=", "partition=", "name=", "account=", "nodelist=", "long",
         "array", "all", "me", "sort=", "json", "start", "clusters=", "url=", "profile="],
    )  # fmt: skip
    text = given.get("format") or os.environ.get("SQUEUE_FORMAT") or (QUEUE_LONG if "long" in given else QUEUE)
    shape = Format(text, JOBS, "squeue")
    with _Open(given) as session:
        cloud = Cloud(session)
        rows = cloud.jobs(_states(given.get("states"), given), wanted=_ids(given.get("jobs")))
        rows = [row for row in rows if _fits(row, given, cloud)]
        if "json" in given:
            printing.as_json({"jobs": [_plain(row) for row in rows]})
            return 0
        cloud.place(rows if {"N", "R", "P", "n"} & set(shape.letters) else [])
    _print(shape, rows, "noheader" in given)
    if _ids(given.get("jobs")) and not rows:
        printing.note("slurm_load_jobs error: Invalid job id specified")
        return 1
    return 0


def sinfo(words: list[str]) -> int:
    """`sinfo`: -h -o -p -n -t -N -s -R --json."""
    given = _read(
        "sinfo", words, "ho:p:n:t:NslRaM:",
        ["noheader", "format=", "partition=", "nodes=", "states=", "Node", "summarize", "long", "list-reasons", "all",
         "json", "clusters=", "url=", "profile="],
    )  # fmt: skip
    by_node = "Node" in given
    text = given.get("format") or os.environ.get("SINFO_FORMAT") or (INFO_BY_NODE if by_node else INFO)
    if "summarize" in given and "format" not in given:
        text = "%9P %.5a %.10l %.16F %N"
    if "list-reasons" in given and "format" not in given:
        text = "%20E %9P %.6t %N"
    shape = Format(text, FLEET, "sinfo")
    with _Open(given) as session:
        rows = Cloud(session).nodes(devices="G" in shape.letters)
    for name, column in (("partition", "partition"), ("nodes", "name")):
        if given.get(name):
            rows = [row for row in rows if row[column] in given[name].split(",")]
    if given.get("states"):
        wanted = {word.strip().lower() for word in given["states"].split(",")}
        rows = [row for row in rows if {row["state"], row["compact"].rstrip("*"), row["base"]} & wanted]
    if "list-reasons" in given:
        rows = [row for row in rows if row["reason"]]
    if "json" in given:
        printing.as_json({"nodes": rows})
        return 0
    _print(shape, node_rows(rows, shape.letters, apart=by_node), "noheader" in given)
    return 0


def scancel(words: list[str]) -> int:
    """`scancel`: job ids, -n -u -t -p -A -s -f -q -v --me."""
    given = _read(
        "scancel", words, "n:u:t:p:A:s:fbqvHM:w:",
        ["name=", "user=", "state=", "partition=", "account=", "signal=", "full", "batch", "quiet", "verbose", "me",
         "hurry", "ctld", "nodelist=", "clusters=", "url=", "profile="],
        arguments=True,
    )  # fmt: skip
    signal = (given.get("signal") or "TERM").upper().removeprefix("SIG")
    if signal not in ("TERM", "15", "KILL", "9"):
        raise click.UsageError(f"scancel: error: {signal} cannot be sent; TERM and KILL end a job.")
    names = given["arguments"].split()
    chosen = any(given.get(name) is not None for name in ("name", "user", "state", "partition", "account", "me"))
    if not names and not chosen:
        raise click.UsageError("scancel: error: No job identification provided")
    failed = False
    with _Open(given) as session:
        cloud = Cloud(session)
        found = [str(row["id"]) for row in _chosen(cloud, given, names)] if chosen else cloud.resolved(names)
        for name in found:
            try:
                session.client.stop(name, "0s" if signal in ("KILL", "9") else None)
            except HeadframeError as error:
                failed = True
                if "quiet" not in given:
                    printing.note(printing.safe(f"scancel: error: Kill job error on job id {name}: {error.message}"))
            else:
                if "verbose" in given:
                    printing.note(f"scancel: Terminating job {name}")
    return 1 if failed else 0


def _chosen(cloud: Cloud, given: Mapping[str, str], names: Sequence[str]) -> list[dict[str, Any]]:
    """The jobs that all filters admit, of those that are named where any are."""
    ids = set(cloud.resolved(names))  # only asked
    rows = [row for row in cloud.jobs(_states(given.get("state"), given)) if _fits(row, given, cloud)]
    return [row for row in rows if not names or row["id"] in ids]


def _fits(row: dict[str, Any], given: Mapping[str, str], cloud: Cloud) -> bool:
    """Whether a job passes the filters of a command line."""
    users = set(_words(given.get("user")))
    if "me" in given:
        users.add(cloud.me)
    if users and row["user"] not in users:
        return False
    for name, column in (("name", "name"), ("account", "project")):
        if given.get(name) and row[column] not in _words(given[name]):
            return False
    if given.get("partition") or given.get("nodelist"):
        cloud.place([row])
        wanted = _words(given.get("nodelist"))
        if wanted and not set(wanted) & set(row["nodes"]):
            return False
        parts = _words(given.get("partition"))
        return not parts or row["partition"] in parts or bool(set(parts) & set(row["clusters"]))
    return True


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _ids(text: str | None) -> list[str]:
    return _words(text)


def _states(text: str | None, given: Mapping[str, str]) -> tuple[str, ...]:
    """Our states behind Slurm's words, long or short, in any case; `all` is every one."""
    if not text:
        return ACTIVE if "jobs" not in given else tuple(STATES)
    found: list[str] = []
    for word in _words(text.upper()):
        ours = [state for state, names in STATES.items() if word in names or word == "ALL"]
        if not ours:
            known = ", ".join(names[0] for names in STATES.values())
            raise click.UsageError(f"error: Invalid state name specified: {word}. There are: {known}, all")
        found += ours
    return tuple(dict.fromkeys(found))


def _print(shape: Format, rows: Sequence[Mapping[str, Any]], noheader: bool) -> None:
    if not noheader:
        printing.say(printing.safe(shape.title()))
    for row in rows:
        printing.say(printing.safe(shape.line(row)))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A job as Slurm names its fields in JSON."""
    spec = row["spec"]
    return {
        "job_id": row["id"], "name": row["name"], "user_name": row["user"], "account": row["project"],
        "job_state": STATES[row["state"]][0], "state_reason": row["why"], "node_count": spec["nodes_min"],
        "array_job_id": row["parent_id"], "array_task_id": row["array_index"],
        "submit_time": row["submitted_us"] // SECOND_US,
        "start_time": (row["started_us"] or 0) // SECOND_US, "end_time": (row["ended_us"] or 0) // SECOND_US,
        "time_limit": None if spec["max_duration_us"] is None else spec["max_duration_us"] // (60 * SECOND_US),
    }  # fmt: skip


class _Given(dict[str, str]):
    """The options that were given, by their long names."""


_LONG_OF = {
    "squeue": {"u": "user", "j": "jobs", "h": "noheader", "o": "format", "t": "states", "p": "partition", "n": "name",
               "A": "account", "w": "nodelist", "l": "long", "r": "array", "a": "all", "S": "sort", "M": "clusters"},
    "sinfo": {"h": "noheader", "o": "format", "p": "partition", "n": "nodes", "t": "states", "N": "Node",
              "s": "summarize", "l": "long", "R": "list-reasons", "a": "all", "M": "clusters"},
    "scancel": {"n": "name", "u": "user", "t": "state", "p": "partition", "A": "account", "s": "signal", "f": "full",
                "b": "batch", "q": "quiet", "v": "verbose", "H": "hurry", "M": "clusters", "w": "nodelist"},
}  # fmt: skip


def _read(command: str, words: list[str], short: str, long: list[str], arguments: bool = False) -> _Given:
    """Options as Slurm reads them; raises `UsageError` for one that is not known here."""
    try:
        found, rest = getopt.gnu_getopt(words, short, long)
    except getopt.GetoptError as error:
        raise click.UsageError(f"{command}: error: {error.msg}. See: headframe shim --help") from None
    if rest and not arguments:
        raise click.UsageError(f"{command}: error: Unrecognized option: {rest[0]}")
    given = _Given()
    for name, value in found:
        plain = name.lstrip("-")
        given[_LONG_OF[command].get(plain, plain) if len(name) == 2 else plain] = value
    given["arguments"] = " ".join(rest)
    return given


class _Open:
    """A session that is closed at the end."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._session = Session(url=given.get("url"), profile=given.get("profile"))

    def __enter__(self) -> Session:
        return self._session

    def __exit__(self, *_: object) -> None:
        self._session.close()
