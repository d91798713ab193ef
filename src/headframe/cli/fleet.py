"""Commands about the fleet: clusters, nodes, GPUs, drain and resume."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click

from headframe.base.errors import NotFound
from headframe.base.quantities import counted, format_mib
from headframe.cli import printing
from headframe.cli.options import Session, command, common, group, part
from headframe.cli.printing import Column

CLUSTERS = (
    Column("CLUSTER", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("REGION", lambda row: row["region_id"]),
    Column("ENGINE", lambda row: row["engine"]),
    Column("STATE", lambda row: "unreachable" if row["unreachable_us"] is not None else row["state"], whole=True),
    Column("SINCE", lambda row: printing.moment(row["unreachable_us"]), whole=True),
    Column("REASON", lambda row: row["trouble"] or row["reason"]),
    Column("LABELS", lambda row: ", ".join(f"{name}={value}" for name, value in sorted(row["labels"].items()))),
)
MAYBE = ("SINCE", "REASON", "LABELS")  # columns that are shown where they say something
NODES = (
    Column("NODE", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"], spare=True),
    Column("STATE", lambda row: row["state"], whole=True),
    Column("GPU USED", lambda row: _used(row["held"]["gpu_milli"], 1000 * row["held"]["gpus"]), right=True),
    Column("CPU USED", lambda row: _used(row["held"]["cpu_milli"], row["cpu_milli"]), right=True),
    Column("MEMORY USED", lambda row: _used_mib(row["held"]["memory_mib"], row["memory_mib"]), right=True, whole=True),
    Column("DISK", lambda row: format_mib(row["disk_mib"]), right=True, spare=True),
    Column("PRETENDED", lambda row: "yes" if row["fake"] else "", spare=True),
    Column("TOPOLOGY", lambda row: "/".join(row["topology"]), spare=True),
    Column("REASON", lambda row: row["reason"]),
)
GPUS = (
    Column("GPU", lambda row: row["id"], whole=True),
    Column("NODE", lambda row: row["node_id"], spare=True),
    Column("INDEX", lambda row: row["index"], right=True, spare=True),
    Column("KIND", lambda row: row["kind"], whole=True),
    Column("VENDOR", lambda row: row["vendor"], spare=True),
    Column("MEMORY", lambda row: format_mib(row["memory_mib"]), right=True),
    Column("USED", lambda row: _share(sum(one["milli"] for one in row["holders"])), whole=True),
    Column("BY", lambda row: ", ".join(dict.fromkeys(_holder(one) for one in row["holders"]))),
    Column("HEALTH", lambda row: "" if row["healthy"] else "unhealthy"),
    Column("PRETENDED", lambda row: "yes" if row["fake"] else "", spare=True),
    Column("LINKS", lambda row: row["links"], spare=True),
    Column("REASON", lambda row: row["reason"]),
)


DEVICES = (
    Column("GPU", lambda row: row["accelerator"]["index"], right=True),
    Column("KIND", lambda row: row["accelerator"]["kind"], whole=True),
    Column("USED", lambda row: _share(sum(one["milli"] for one in row["holders"])), whole=True),
    Column("BY", lambda row: ", ".join(dict.fromkeys(_holder(one) for one in row["holders"]))),
    Column("BUSY", lambda row: _gauge(row, "use_percent", " %"), right=True),
    Column("MEMORY", lambda row: _gauge(row, "memory_mib", " MiB"), right=True),
    Column("POWER", lambda row: _gauge(row, "power_w", " W"), right=True),
    Column("TEMPERATURE", lambda row: _gauge(row, "temperature_c", " °C"), right=True),
    Column("HEALTH", lambda row: "" if row["accelerator"]["healthy"] else "unhealthy"),
    Column("REASON", lambda row: row["accelerator"]["reason"]),
)
STAYS = (
    Column("FROM", lambda row: printing.moment(row["from_us"]), whole=True),
    Column("TO", lambda row: printing.moment(row["to_us"]) if row["to_us"] else "still", whole=True),
    Column("HELD", lambda row: printing.lasted(row["from_us"], row["to_us"])),
    Column("GPUS", lambda row: ", ".join(map(str, row["devices"]))),
    Column("CPU", lambda row: printing.milli(row["cpu_milli"]), right=True),
    Column("BY", lambda row: row["job_name"] or row["job_id"] or "another organization"),
)

LOSSES = (
    Column("JOB", lambda row: row["job_id"], whole=True),
    Column("NAME", lambda row: row["job_name"]),
    Column("ORGANIZATION", lambda row: row["organization_id"], spare=True),
    Column("STATE", lambda row: row["state"], whole=True),
    Column("RUNNING SINCE", lambda row: printing.moment(row["running_us"]), whole=True),
    Column("CHARGED UNTIL", lambda row: printing.moment(row["until_us"]) if row["running_us"] else "never", whole=True),
    Column("THEN", lambda row: row["then"], whole=True),
)


def _gauge(row: Mapping[str, Any], name: str, unit: str) -> str:
    """What was measured of an accelerator; nothing where nobody did."""
    value = (row["gauge"] or {}).get(name)
    return "" if value is None else f"{value}{unit}"


def _used(held_milli: int, all_milli: int) -> str:
    """`3 of 8`; nothing where there is none."""
    return f"{printing.milli(held_milli)} of {printing.milli(all_milli)}" if all_milli else ""


def _used_mib(held: int, all_mib: int) -> str:
    return f"{format_mib(held) if held else 0} of {format_mib(all_mib)}"


def _share(milli: int) -> str:
    return "free" if not milli else "whole" if milli >= 1000 else f"{milli / 10:g} %"


def _holder(one: Mapping[str, Any]) -> str:
    """The job's name, or that somebody else holds it."""
    return one["job_name"] or one["job_id"] or "another organization"


@group("headframe clusters", "headframe clusters drain lab --reason 'new switches'")
def clusters() -> None:
    """Clusters, each under one engine."""


@part(clusters, "list", "headframe clusters", "headframe clusters list --json")
@common
def list_clusters(session: Session) -> None:
    """List the clusters, whether they take work, and since when one cannot be reached."""
    rows = session.client.clusters()
    shown = [column for column in CLUSTERS if column.head not in MAYBE or any(column.cell(row) for row in rows)]
    session.rows(rows, shown, "No clusters.")


@part(clusters, "drain", "headframe clusters drain lab", "headframe clusters drain lab --move --reason 'new switches'")
@click.argument("cluster")
@click.option("--reason", default="", help="Why, for those who look.")
@click.option("--move", is_flag=True, help="Let jobs that can go on elsewhere from a checkpoint do so.")
@common
def drain_cluster(session: Session, cluster: str, reason: str, move: bool) -> None:
    """Let a cluster finish what it has and take nothing new."""
    row = session.client.drain_cluster(cluster, reason, move)
    session.done(row, f"{row['name']} is {row['state']}.")


@part(clusters, "lost", "headframe clusters lost lab --reason 'the hall burned down'")
@click.argument("cluster")
@click.option("--reason", required=True, help="Why, for those whose jobs it ends.")
@click.option("--confirm", metavar="NAME", help="The cluster's name once more, where there is no terminal to ask on.")
@common
def lose_cluster(session: Session, cluster: str, reason: str, confirm: str | None) -> None:
    """Give up a cluster that cannot be reached and never comes back. This cannot be undone.

    What it held ends, charged until it was last heard of; jobs go on elsewhere by their retry rules. It takes nothing
    until it is resumed, and what still runs there then is stopped.
    """
    losses = session.client.losses(cluster)
    if confirm is None:
        session.rows(losses["items"], LOSSES, f"Nothing is held in cluster {losses['cluster']}.")
        if not sys.stdin.isatty():
            raise click.UsageError(f"This cannot be undone. Add --confirm {losses['cluster']} to say so.")
        confirm = click.prompt("This cannot be undone. The cluster's name, to go on", err=True)
    row = session.client.lose_cluster(cluster, confirm, reason)
    ended = counted(len(losses["items"]), "job")
    session.done(row, f"{row['name']} is {row['state']}; it held something for {ended}.")


@part(clusters, "resume", "headframe clusters resume lab")
@click.argument("cluster")
@common
def resume_cluster(session: Session, cluster: str) -> None:
    """Let a cluster take work again that was drained, or declared lost."""
    row = session.client.resume_cluster(cluster)
    session.done(row, f"{row['name']} is {row['state']}.")


@command("headframe nodes")
@click.option("--cluster", metavar="ID", help="Only this cluster's.")
@common
def nodes(session: Session, cluster: str | None) -> None:
    """List the machines, and how much of them is used."""
    session.rows(session.client.nodes(cluster=cluster), NODES, "No nodes.")


@command("headframe gpus", "headframe gpus --json")
@click.option("--node", metavar="ID", help="Only this node's.")
@common
def gpus(session: Session, node: str | None) -> None:
    """List the accelerators, and who uses them."""
    session.rows(session.client.accelerators(node=node), GPUS, "No GPUs. `headframe doctor` says what it finds.")


@command("headframe node node_1", "headframe node node_1 --from 2026-11-20 --json")
@click.argument("node")
@click.option("--from", "from_", metavar="TIME", help="Tell who held it since then (the last day).")
@click.option("--to", metavar="TIME", help="Until then (now).")
@common
def node(session: Session, node: str, from_: str | None, to: str | None) -> None:
    """Show one machine: its accelerators, and who held it when."""
    found = session.client.node(node)
    past = session.client.node_past(node, **{"from": from_, "to": to})
    if session.json:
        printing.as_json({**found, "past": past})
        return
    row = found["node"]
    parts = [found["state"], counted(found["held"]["gpus"], "GPU"), counted(row["cpu_milli"] / 1000, "CPU"),
             format_mib(row["memory_mib"]), row["reason"]]  # fmt: skip
    printing.paragraph(f"{row['id']} ({row['name']}): {', '.join(part for part in parts if part)}.")
    for title, columns, rows in (("Accelerators", DEVICES, found["devices"]), ("Held by", STAYS, past["stays"])):
        if rows:
            printing.heading(title)
            printing.table([column for column in columns if any(column.cell(one) != "" for one in rows)], rows)
    if found["state"] == "draining" and found["running"]:
        printing.paragraph(
            f"Still held by {counted(found['running'], 'job')}; {found['movable']} could go on elsewhere."
        )


@command("headframe drain node_1 --reason 'new fans'", "headframe drain node_1 --move")
@click.argument("node")
@click.option("--reason", default="drained by an operator", show_default=True, help="Why, for those who look.")
@click.option("--move", is_flag=True, help="Let jobs that can go on elsewhere from a checkpoint do so.")
@common
def drain(session: Session, node: str, reason: str, move: bool) -> None:
    """Let a node finish what it has and take nothing new."""
    row = session.client.drain(_node_id(session, node), reason, move)
    session.done(row, f"{row['id']} is {row['state']}.")


@command("headframe resume node_1")
@click.argument("node")
@common
def resume(session: Session, node: str) -> None:
    """Let a drained node take work again."""
    row = session.client.resume(_node_id(session, node))
    session.done(row, f"{row['id']} is {row['state']}.")


@command("headframe label node_1 disk=nvme", "headframe label node_1 disk-",
         "headframe label --cluster local packing=best-fit")  # fmt: skip
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@click.option("--cluster", is_flag=True, help="NAME is a cluster's.")
@common
def label(session: Session, name: str, labels: tuple[str, ...], cluster: bool) -> None:
    """Set labels of a node or a cluster, or take them away.

    Jobs ask for a node's with node_labels or clusters. A cluster's label packing says how its nodes are filled.
    """
    if cluster:
        row = session.client.mark_cluster(name, labels=labels)
    else:
        row = session.client.mark(_node_id(session, name), labels=labels)
    session.done(row, f"{row['id']} {_has('labels', (f'{k}={v}' for k, v in row['labels'].items()))}.")


@command("headframe taint node_1 dedicated=research", "headframe taint node_1 dedicated-")
@click.argument("node")
@click.argument("taints", nargs=-1, required=True, metavar="KEY[=VALUE]|KEY-...")
@common
def taint(session: Session, node: str, taints: tuple[str, ...]) -> None:
    """Keep jobs away from a node that do not tolerate it.

    Jobs name what they tolerate in tolerations. What runs there goes on.
    """
    row = session.client.mark(_node_id(session, node), taints=taints)
    session.done(row, f"{row['id']} {_has('taints', row['taints'])}.")


def _has(what: str, marks: Iterable[str]) -> str:
    listed = ", ".join(sorted(marks))
    return f"has the {what} {listed}" if listed else f"has no {what}"


def _node_id(session: Session, node: str) -> str:
    """The id of a node that is named by its id or its name."""
    found = session.client.nodes()
    for key in ("id", "name"):
        matching = [str(row["id"]) for row in found if row[key] == node]
        if len(matching) > 1:
            raise click.UsageError(f"Several nodes are named {node}: {', '.join(matching)}. Name one by its id.")
        if matching:
            return matching[0]
    raise NotFound(f"There is no node {node!r}.", next_step="`headframe nodes` lists them.")
