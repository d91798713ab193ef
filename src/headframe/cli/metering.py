"""Commands about what is used: use and its cost, events of use, the forecast, meters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from headframe.base.cells import text_cell
from headframe.base.money import plain
from headframe.cli import printing
from headframe.cli.money import _ORGANIZATION, _money, _quantity
from headframe.cli.naming import Names
from headframe.cli.options import Session, common, group, part
from headframe.cli.printing import Column

METERS = (
    Column("METER", lambda row: row["id"], whole=True),
    Column("EVENTS", lambda row: row["event_type"], whole=True),
    Column("COUNTS", lambda row: row["aggregation"]),
    Column("OF", lambda row: row["path"]),
    Column("BY", lambda row: ",".join(row["group_by"]), spare=True),
    Column("WINDOW", lambda row: row["window"], spare=True),
    Column("USED", lambda row: "yes" if row["used"] else ""),
)


@group("headframe usage", "headframe usage --from 2026-11-01 --by project,member,meter", "headframe usage forecast",
       "headframe usage import events.jsonl")  # fmt: skip
def usage() -> None:
    """What was used, what it cost, and what it will come to."""


@part(usage, "show", "headframe usage", "headframe usage --from 2026-11-01 --by project,member,meter",
      "headframe usage --by label:team,day --csv > november.csv")  # fmt: skip
@click.option("--from", "start", metavar="MOMENT", help="From this date or moment; the month's first day when absent.")
@click.option("--to", "end", metavar="MOMENT", help="To this date or moment.")
@click.option("--by", default="project,meter", show_default=True,
              help="What to sum by: organization, project, member, job, meter, kind, accelerator, purchase, region, "
                   "contract, day, month, label:KEY.")  # fmt: skip
@click.option("--project", metavar="NAME", help="Of one project.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with exact amounts.")
@_ORGANIZATION
@common
def show_usage(session: Session, start: str | None, end: str | None, by: str, as_csv: bool, **where: Any) -> None:
    """Print use and what it cost."""
    found = session.client.usage(start=start, end=end, by=by, **where)
    if session.json:
        printing.as_json(found)
        return
    names = list(found["items"][0]["by"]) if found["items"] else [name.strip() for name in by.split(",")]
    known = Names(session, None if where["organization"] == "all" else where["organization"])
    if as_csv:
        _csv(found, names, known)
        return
    columns = [Column(name.rpartition(":")[2].upper(), _named(known, name)) for name in names]
    columns += [
        Column("QUANTITY", _quantity, right=True),
        Column("COST", lambda row: _money(row, row["amount_nano"]), whole=True, right=True),
        Column("NOT YET CHARGED", lambda row: _money(row, row["accrued_nano"]) if row["accrued_nano"] else "",
               right=True, spare=True),
    ]  # fmt: skip
    rows = [{**row["by"], **row} for row in found["items"]]
    session.rows(rows, columns, "Nothing was charged in that time.", key=names[0])
    if not session.quiet and found["currency"]:
        total = sum(row["amount_nano"] for row in found["items"])
        printing.note(
            f"In all {_money(found, total)}; running and not yet charged {_money(found, found['accrued_nano'])}."
        )


def _csv(found: Mapping[str, Any], names: list[str], known: Names) -> None:
    """One line for each sum, amounts to the nano-unit. A text that a spreadsheet would calculate is quoted by '."""
    import csv

    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow([*names, "quantity", "amount", "not_yet_charged", "currency"])
    for row in found["items"]:
        texts = [str(known.of(row["by"][name])) for name in names]
        amounts = (plain(row[name], row["currency"]) for name in ("amount_nano", "accrued_nano"))
        quantity = "" if row["quantity"] is None else row["quantity"]
        lines.writerow([*map(text_cell, texts), quantity, *amounts, row["currency"]])


def _named(known: Names, column: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda row: known.of(row[column])


@part(usage, "forecast", "headframe usage forecast", "headframe usage forecast --project research")
@click.option("--project", metavar="NAME", help="Of one project.")
@_ORGANIZATION
@common
def forecast(session: Session, project: str | None, organization: str | None) -> None:
    """Print what this month will come to."""
    found = session.client.forecast(project=project, organization=organization)
    if session.json:
        printing.as_json(found)
        return
    told = found["forecast"]
    if not told["days"]:
        printing.facts([("month", found["month"]), ("so far", _money(found, told["spent_nano"]))])
        printing.note("Too little is known to tell what is to come: ask again after a whole day (UTC) of use.")
        return
    printing.facts(
        [
            ("month", found["month"]),
            ("so far", _money(found, told["spent_nano"])),
            ("expected", _money(found, told["expected_nano"])),
            ("eight times in ten", f"{_money(found, told['low_nano'])} to {_money(found, told['high_nano'])}"),
        ]
    )


@part(usage, "import", "headframe usage import events.jsonl")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@common
def import_events(session: Session, file: Path) -> None:
    """Tell of use from a file of CloudEvents: a JSON list, or one event on each line; - reads standard input.

    An event is known by its source and id: the same file again changes nothing.
    """
    found = session.client.tell_usage(_events(file))
    session.done(found, f"{found['new']} of {found['events']} events are new.", key="new")


def _events(file: Path) -> Iterator[Mapping[str, Any]]:
    """The events of a file, line by line when it has one on each."""
    with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if number == 1 and line.lstrip().startswith("["):
                    yield from json.loads(line + lines.read())
                    return
                if line.strip():
                    yield json.loads(line)
            except json.JSONDecodeError as error:
                raise click.ClickException(f"{file}:{number} is not JSON: {error.msg}.") from None


@group("headframe meters", "headframe meters define calls com.acme.call --count")
def meters() -> None:
    """How events of use are counted."""


@part(meters, "list", "headframe meters list")
@common
def list_meters(session: Session) -> None:
    """List meters of events."""
    session.rows(session.client.meters(), METERS, "Nothing is counted.")


@part(meters, "define", "headframe meters define images com.acme.image --sum pixels --by model",
      "headframe meters define seats com.acme.seat --unique user")  # fmt: skip
@click.argument("name")
@click.argument("event_type", metavar="TYPE")
@click.option("--count", is_flag=True, help="Count the events.")
@click.option("--sum", "total", metavar="PATH", help="Add up the numbers there.")
@click.option("--max", "most", metavar="PATH", help="The greatest number there.")
@click.option("--unique", metavar="PATH", help="How many different values are there.")
@click.option("--latest", metavar="PATH", help="The newest number there.")
@click.option("--level", metavar="PATH", help="A level that holds until the next event, weighed by time.")
@click.option("--by", "group_by", metavar="PATHS", default="", help="What is told apart, with commas.")
@click.option("--unit", default="one", show_default=True, help="What one is called.")
@click.option("--window", type=click.Choice(("hour", "day", "month")), help="Over which time events are put together.")
@common
def define_meter(
    session: Session, name: str, event_type: str, group_by: str, unit: str, window: str | None, **ways: Any
) -> None:
    """Define how events of a type are counted. What has counted anything stays as it is."""
    words = {
        "count": "count", "total": "sum", "most": "max", "unique": "unique", "latest": "latest",
        "level": "time_weighted",
    }  # fmt: skip
    chosen = [(words[way], path) for way, path in ways.items() if path]
    if len(chosen) != 1:
        raise click.UsageError("Say in one way how to count: --count, --sum, --max, --unique, --latest or --level.")
    aggregation, path = chosen[0]
    paths = [each.strip() for each in group_by.split(",") if each.strip()]
    row = session.client.define_meter(
        name=name, event_type=event_type, aggregation=aggregation, path="" if path is True else path, group_by=paths,
        unit=unit, window=window,
    )  # fmt: skip
    session.done(row, f"{row['id']} counts {row['event_type']}.")
