"""Commands that read what a job said and did: logs, events."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from headframe.cli import printing
from headframe.cli.options import Session, command, common
from headframe.cli.printing import Bar, Column

if TYPE_CHECKING:
    from headframe.client import Client

EVENTS = (
    Column("SEQ", lambda event: event["seq"], whole=True, right=True, spare=True),
    Column("TIME", lambda event: printing.moment(event["at_us"]), whole=True),
    Column("EVENT", lambda event: event["kind"], whole=True),
    Column("SUBJECT", lambda event: event["subject"], whole=True),
    Column("REASON", lambda event: event["reason"], wrap=True),
)


class Lines:
    """Prints pieces of a log where they belong: standard error stays standard error.

    One task's output goes out as it comes. With marks before the lines (`ranks`, `stamps`, or an `index` in the piece,
    which tells the jobs of an array apart) a line goes out when it is whole, as tasks write at the same time and many
    programs write a line in parts. With a `bar`, pieces of the stream "progress" move it while nothing else is said.
    """

    def __init__(self, *, ranks: bool = False, stamps: bool = False, bar: Bar | None = None) -> None:
        self._ranks, self._stamps, self._bar = ranks, stamps, bar
        # What still lacks its end, by where it comes from.
        self._begun: dict[tuple[object, ...], tuple[str, Mapping[str, Any]]] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        if piece["stream"] == "progress":
            if self._bar is not None:
                self._bar.show(piece["text"])
            return
        if not (self._ranks or self._stamps or "index" in piece):
            self._put(piece["stream"], piece["text"])
            return
        source = piece.get("index"), piece["attempt"], piece["rank"], piece["stream"]
        begun, first = self._begun.pop(source, ("", piece))
        *whole, rest = (begun + piece["text"]).split("\n")
        for line in whole:
            self._put(piece["stream"], f"{self._mark(first)}{line}\n")
            first = piece
        if rest:
            self._begun[source] = rest, first

    def end(self) -> None:
        """Print what never got its end."""
        if self._bar is not None:
            self._bar.clear()
        for line, first in self._begun.values():
            self._put(first["stream"], f"{self._mark(first)}{line}\n")
        self._begun.clear()

    def _mark(self, piece: Mapping[str, Any]) -> str:
        moment = printing.moment(piece["at_us"]) + " " if self._stamps else ""
        index = f"[{printing.safe(piece['index'])}] " if "index" in piece else ""
        return f"{moment}{index}" + (f"[{piece['rank']}] " if self._ranks else "")

    def _put(self, name: str, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        stream = sys.stdout if name == "stdout" else sys.stderr
        stream.write(printing.style(text, "yellow", stream) if name == "system" else text)
        stream.flush()


@command("headframe logs -f train-7b", "headframe logs --tail 20 --rank 3 train-7b")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends, across restarts of the server.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Begin so many lines before the end.")
@click.option("--rank", type=click.IntRange(0), help="Only what this task of the gang wrote.")
@click.option("--timestamps", is_flag=True, help="Put the moment before each line.")
@common
def logs(session: Session, job: str, follow: bool, tail: int | None, rank: int | None, timestamps: bool) -> None:
    """Print a job's log."""
    # A name may mean another job by the time that a connection is taken up again: hold on to the id.
    found = session.client.job(job)
    tasks = found["spec"]["nodes_max"]
    if rank is not None and rank >= tasks:
        many = "1 task, rank 0" if tasks == 1 else f"{tasks} tasks, ranks 0 to {tasks - 1}"
        raise click.UsageError(f"There is no rank {rank}: {printing.safe(found['name'])} has {many}.")
    bar = Bar() if follow and not session.json else None
    lines = Lines(ranks=rank is None and tasks > 1, stamps=timestamps, bar=bar)
    for piece in said_by(session.client, found, follow=follow, tail=tail):
        if rank is not None and piece["rank"] != rank and piece["stream"] not in ("system", "progress"):
            continue
        if session.json:
            _json_line(piece)
        else:
            lines.add(piece)
    lines.end()


def said_by(client: Client, job: Mapping[str, Any], *, follow: bool, tail: int | None = None) -> Iterator[Any]:
    """Pieces of a job's log; of an array or a schedule those of its jobs, each with the `index` of its job."""
    if not job.get("parent"):
        return client.logs(job["id"], follow=follow, tail=tail, progress=True)
    from headframe.client.family import family_logs

    return family_logs(client, job["id"], follow=follow, tail=tail)


@command("headframe events -f", "headframe events train-7b")
@click.argument("job", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="The newest so many.")
@common
def events(session: Session, job: str | None, follow: bool, limit: int) -> None:
    """Print what happened, with the reasons: to one job or to all."""
    subject = session.client.job(job)["id"] if job else None
    found = session.client.events(subject=subject)
    shown = found[-limit:]
    if not follow:
        columns = [column for column in EVENTS if column.head != "SUBJECT" or job is None]
        session.rows(shown, columns, "Nothing has happened.", key="seq")
        return
    coming = session.client.follow_events(after=found[-1]["seq"] if found else 0, subject=subject)
    for event in _chain(shown, coming):
        if session.json:
            _json_line(event)
        else:
            line = f"{printing.moment(event['at_us'])}  {event['kind']}  {event['subject']}  {event['reason']}"
            print(printing.safe(line), flush=True)


def _json_line(row: Mapping[str, Any]) -> None:
    """One JSON document to a line, for programs that read along."""
    import json

    print(json.dumps(row, ensure_ascii=False), flush=True)


def _chain(*parts: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for part in parts:
        yield from part
