"""The command `reservations`: capacity promised for a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from headframe.base.errors import Invalid
from headframe.base.quantities import counted
from headframe.cli import printing
from headframe.cli.naming import Names
from headframe.cli.options import Session, common, confirm, group, part
from headframe.cli.printing import Column

MOST_GPUS = 1_000_000


def _size(row: Mapping[str, Any]) -> str:
    """`32 x H100`, or `4 nodes`."""
    kind = row["kind"] or "any"
    return f"{counted(row['nodes'], 'node')} ({kind})" if row["nodes"] else f"{row['count']} x {kind}"


RESERVATIONS = (
    Column("RESERVATION", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("STATE", lambda row: row["state"], whole=True),
    Column("HOLDS", _size),
    Column("FROM", lambda row: printing.moment(row["from_us"]), whole=True),
    Column("TO", lambda row: printing.moment(row["to_us"]), whole=True),
    Column("LACKS", lambda row: row["lacking"] or "", right=True),
    Column("FOR", lambda row: row.get("whose", row["organization_id"])),
    Column("NODES", lambda row: ", ".join(row.get("on", [part["node_id"] for part in row["slices"]])), spare=True),
    Column("REASON", lambda row: row["reason"]),
)


def _whose(row: Mapping[str, Any], known: Names) -> str:
    """Whom it is for: the organization, or `organization / project`."""
    house = known.of(row["organization_id"])
    return f"{house} / {known.of(row['project_id'])}" if row["project_id"] else house


@group("headframe reservations", "headframe reservations create spring-run --gpu H100:32 --for 3d --org acme")
def reservations() -> None:
    """Reservations: capacity promised for a time."""


@part(reservations, "list", "headframe reservations list --json")
@click.option("--org", "organization", metavar="NAME", help="Only this organization's.")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@common
def list_reservations(session: Session, organization: str | None, everything: bool) -> None:
    """List reservations, newest first."""
    states = None if everything else ["planned", "active"]
    rows = session.client.reservations(organization=organization, state=states)
    known = Names(session)
    for row in rows if not session.json else ():
        row["whose"] = _whose(row, known)
    session.rows(rows, RESERVATIONS, "No reservations.")


@part(
    reservations, "create",
    "headframe reservations create spring-run --gpu H100:32 --from 2027-03-01 --to 2027-03-08 --org acme",
    "headframe reservations create exam --nodes 4 --for 6h",
)  # fmt: skip
@click.argument("name")
@click.option("--gpu", metavar="KIND:COUNT", help="Accelerators, such as H100:32 or 8; with --nodes only the kind.")
@click.option("--nodes", type=click.IntRange(1), help="Whole nodes.")
@click.option("--from", "starts", metavar="MOMENT", help="A date or a moment (UTC) [default: now].")
@click.option("--to", "ends", metavar="MOMENT", help="A date or a moment (UTC).")
@click.option("--for", "lasts", metavar="TIME", help="How long, such as 3d, instead of --to.")
@click.option("--cluster", "clusters", multiple=True, metavar="NAME", help="A cluster, a region or label=value.")
@click.option("--org", "organization", metavar="NAME", help="For whom, when it is not your own organization.")
@click.option("--project", metavar="NAME", help="For this project only.")
@common
def create_reservation(
    session: Session, name: str, gpu: str | None, nodes: int | None, clusters: tuple[str, ...], **fields: Any
) -> None:
    """Promise capacity for a time; jobs run in it with `reservation: NAME`."""
    kind, count = _gpu(gpu, nodes)
    row = session.client.create_reservation(
        name=name, kind=kind, count=count, nodes=nodes, clusters=list(clusters) or ["any"], **fields
    )
    span = f"{printing.moment(row['from_us'])} to {printing.moment(row['to_us'])}"
    session.done(row, f"Reserved {_size(row)} as {printing.safe(row['name'])} ({row['id']}), {span}.")


@part(reservations, "cancel", "headframe reservations cancel spring-run --yes")
@click.argument("reservation")
@click.option("--reason", default="", help="Why, for those who look.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
def cancel_reservation(session: Session, reservation: str, reason: str, yes: bool) -> None:
    """Give a reservation back; its jobs are stopped."""
    confirm(f"Cancel the reservation {reservation}?", yes)
    row = session.client.cancel_reservation(reservation, reason)
    session.done(row, f"{printing.safe(row['name'])} is {row['state']}.")


@part(reservations, "show", "headframe reservations show spring-run")
@click.argument("reservation")
@common
def show_reservation(session: Session, reservation: str) -> None:
    """Show one reservation: its place, and what happened to it."""
    row = session.client.reservation(reservation)
    events = session.client.events(subject=row["id"])
    if session.json:
        printing.as_json({**row, "events": events})
        return
    if session.quiet:
        printing.say(row["id"])
        return
    known = Names(session)
    row["whose"] = _whose(row, known)
    nodes = {node["id"]: node["name"] for node in session.client.nodes()} if row["slices"] else {}
    row["on"] = [nodes.get(part["node_id"], part["node_id"]) for part in row["slices"]]
    printing.facts([(column.head.lower(), column.cell(row)) for column in RESERVATIONS])
    for event in events:
        printing.say(f"{printing.moment(event['at_us'])}  {event['kind']}  {printing.safe(event['reason'])}")


def _gpu(text: str | None, nodes: int | None) -> tuple[str | None, int | None]:
    """(kind, count) of KIND:COUNT, KIND or COUNT; with whole nodes there is no count."""
    if text is None:
        return None, None
    kind, _, number = text.rpartition(":") if ":" in text else ("", "", text) if text.isdecimal() else (text, "", "")
    counts = number.isascii() and number.isdecimal() and 0 < int(number) <= MOST_GPUS
    if (number and not counts) or (nodes and number) or (not nodes and not number):
        raise Invalid(
            f"--gpu {text!r} is not {'a kind' if nodes else 'a kind and a count'}.",
            field="--gpu", value=text,
            allowed="H100 beside --nodes" if nodes else "KIND:COUNT such as H100:32, or 8: from 1 to 1000000",
        )  # fmt: skip
    return kind or None, int(number) if number else None
