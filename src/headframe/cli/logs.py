"""Commands that read what a job said and did: logs, events, metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from headframe.cli import printing
from headframe.cli.options import Session, command, common
from headframe.cli.printing import Column

EVENTS = (
    Column("SEQ", lambda event: event["seq"], whole=True, right=True, spare=True),
    Column("TIME", lambda event: printing.moment(event["at_us"]), whole=True),
    Column("EVENT", lambda event: event["kind"], whole=True),
    Column("SUBJECT", lambda event: event["subject"], whole=True),
    Column("REASON", lambda event: event["reason"], wrap=True),
)


class Lines:
    """Prints pieces of a log where they belong: standard error stays standard error.

    One task's output goes out as it comes. With marks before the lines (`ranks`, `stamps`) a line goes out when it is
    whole, as the tasks of a gang write at the same time and many programs write a line in parts.
    """

    def __init__(self, *, ranks: bool = False, stamps: bool = False) -> None:
        self._ranks, self._stamps = ranks, stamps
        self._begun: dict[tuple[int, int, str], tuple[str, Mapping[str, Any]]] = {}  # what still lacks its end

    def add(self, piece: Mapping[str, Any]) -> None:
        if not (self._ranks or self._stamps):
            self._put(piece["stream"], piece["text"])
            return
        source = piece["attempt"], piece["rank"], piece["stream"]
        begun, first = self._begun.pop(source, ("", piece))
        *whole, rest = (begun + piece["text"]).split("\n")
        for line in whole:
            self._put(piece["stream"], f"{self._mark(first)}{line}\n")
            first = piece
        if rest:
            self._begun[source] = rest, first

    def end(self) -> None:
        """Print what never got its end."""
        for line, first in self._begun.values():
            self._put(first["stream"], f"{self._mark(first)}{line}\n")
        self._begun.clear()

    def _mark(self, piece: Mapping[str, Any]) -> str:
        moment = printing.moment(piece["at_us"]) + " " if self._stamps else ""
        return f"{moment}[{piece['rank']}] " if self._ranks else moment

    @staticmethod
    def _put(name: str, text: str) -> None:
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
    lines = Lines(ranks=rank is None and found["spec"]["nodes_max"] > 1, stamps=timestamps)
    for piece in session.client.logs(found["id"], follow=follow, tail=tail):
        if rank is not None and piece["rank"] != rank and piece["stream"] != "system":
            continue
        if session.json:
            _json_line(piece)
        else:
            lines.add(piece)
    lines.end()


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


@command("headframe metrics train-7b", "headframe metrics train-7b --json")
@click.argument("job")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="The last so many lines.")
@common
def metrics(session: Session, job: str, limit: int) -> None:
    """Print what a job wrote to $HEADFRAME_OUTPUTS/metrics.jsonl."""
    found = session.client.metrics(job)
    if session.json:
        printing.as_json(found)
        return
    rows = found[-limit:]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [Column(printing.safe(name).upper(), _cell_of(name), right=True) for name in names]
    session.rows(rows, columns, "The job wrote no metrics.", key=names[0] if names else "")


def _cell_of(name: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda row: _number(row.get(name))


def _number(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _json_line(row: Mapping[str, Any]) -> None:
    """One JSON document to a line, for programs that read along."""
    import json

    print(json.dumps(row, ensure_ascii=False), flush=True)


def _chain(*parts: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for part in parts:
        yield from part
