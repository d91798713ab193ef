"""Commands about limits and secrets: quotas, secrets."""

from __future__ import annotations

import math
import sys
from typing import Any

import click

from headframe.base.errors import NotFound
from headframe.base.quantities import format_mib
from headframe.cli import printing
from headframe.cli.naming import Names
from headframe.cli.options import Session, common, confirm, group, part
from headframe.cli.printing import Column


class Amount(click.FloatRange):
    """A number within bounds; what is no number or without end is refused, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


QUOTAS = (
    Column("GPU", lambda row: _limit(printing.milli(row["gpu_milli"])), right=True),
    Column("CPU", lambda row: _limit(printing.milli(row["cpu_milli"])), right=True),
    Column(
        "MEMORY", lambda row: _limit("" if row["memory_mib"] is None else format_mib(row["memory_mib"])), right=True
    ),
    Column("KINDS", lambda row: ",".join(f"{kind}={milli / 1000:g}" for kind, milli in row["kinds"].items())),
    Column("JOBS", lambda row: _limit("" if row["jobs"] is None else str(row["jobs"])), right=True),
    Column("GUARANTEED", lambda row: _amounts(row["guaranteed"], "")),
    Column("BORROWS", lambda row: _amounts(row["borrow"], "any")),
    Column("LENDS", lambda row: _amounts(row["lend"], "all")),
    Column("WEIGHT", lambda row: f"{row['weight'] / 1000:g}", right=True),
)
NAMES = {"gpu": "gpu_milli", "cpu": "cpu_milli", "memory": "memory_mib"}
SECRETS = (
    Column("SECRET", lambda row: row["name"], whole=True),
    Column("PROJECT", lambda row: row["project_id"]),
    Column("SET", lambda row: printing.age(row["created_us"])),
)


def _quotas(known: Names) -> tuple[Column, ...]:
    scope = Column("SCOPE", lambda row: row["scope"])
    return (scope, Column("OF", lambda row: known.of(row["scope_id"]), whole=True), *QUOTAS)


def _limit(text: str) -> str:
    return text or "no limit"


def _amounts(amounts: dict[str, int], otherwise: str) -> str:
    """`gpu=8,memory=512 GiB`."""
    told = (
        f"{name}={format_mib(amounts[meter]) if name == 'memory' else format(amounts[meter] / 1000, 'g')}"
        for name, meter in NAMES.items()
        if meter in amounts
    )
    return ",".join(told) or otherwise


def _read_amounts(text: str | None, option: str) -> dict[str, int]:
    """Read `gpu=8,cpu=64,memory=512GB` into amounts by meter."""
    from headframe.base.quantities import parse_mib

    amounts: dict[str, int] = {}
    for word in text.split(",") if text else ():
        name, _, value = word.strip().partition("=")
        if name not in NAMES or NAMES[name] in amounts:
            raise click.UsageError(f"{option} {word.strip()!r}: write gpu=8,cpu=64,memory=512GB, each at most once.")
        if name == "memory":
            amounts[NAMES[name]] = 0 if value == "0" else parse_mib(value, field=option)
            continue
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not 0 <= amount < 1 << 40:
            raise click.UsageError(f"{option} {word.strip()!r}: {value!r} is not a number from 0 on.")
        amounts[NAMES[name]] = round(amount * 1000)
    return amounts


def _read_kinds(text: str | None) -> dict[str, int]:
    """Read `H100=16,A100=8` into thousandths by kind."""
    kinds: dict[str, int] = {}
    for word in text.split(",") if text else ():
        kind, _, value = word.strip().partition("=")
        if not kind or kind in kinds or not value.replace(".", "", 1).isdecimal() or float(value) >= 1 << 40:
            raise click.UsageError(f"--kinds {word.strip()!r}: write H100=16,A100=8, each kind at most once.")
        kinds[kind] = round(float(value) * 1000)
    return kinds


def scope_of(session: Session, organization: str | None, project: str | None, member: str | None) -> dict[str, Any]:
    """What a limit is put on: a project or member (of `organization`, when named), else an organization."""
    from headframe.cli.tenancy import named

    if project is not None and member is not None:
        raise click.UsageError("Name one of --project and --member.")
    if project is not None:
        found = named(session.client.projects(organization=organization), project, "project")
        return {"scope": "project", "scope_id": found["id"]}
    if member is not None:
        found = named(session.client.members(organization=organization), member, "member")
        return {"scope": "member", "scope_id": found["id"]}
    return {"scope": "organization", "scope_id": organization}


@group("headframe quotas", "headframe quotas set --project research --gpu 16 --jobs 100")
def quotas() -> None:
    """Quotas: the most that may be held at one moment, and what is guaranteed."""


@part(quotas, "list", "headframe quotas list")
@click.option("--org", "organization", metavar="NAME", help="The organization, when it is not your own.")
@common
def list_quotas(session: Session, organization: str | None) -> None:
    """List quotas."""
    rows = session.client.quotas(organization=organization)
    session.rows(rows, _quotas(Names(session, organization)), "No quotas: nothing is limited.")


@part(quotas, "set", "headframe quotas set --project research --gpu 16 --jobs 100")
@click.option(
    "--org", "organization", metavar="NAME", help="Limit this organization, or its project or member that is named."
)
@click.option("--project", metavar="NAME", help="Limit this project.")
@click.option("--member", metavar="NAME", help="Limit this member.")
@click.option("--gpu", type=Amount(0), help="GPUs.")
@click.option("--cpu", type=Amount(0), help="CPU cores.")
@click.option("--memory", metavar="SIZE", help="Memory, such as 512GB.")
@click.option("--kinds", metavar="AMOUNTS", help="GPUs of one kind each, such as H100=16,A100=8.")
@click.option("--jobs", type=click.IntRange(0), help="Jobs that have not ended.")
@click.option("--guaranteed", metavar="AMOUNTS", help="What is its own, such as gpu=8,cpu=64,memory=512GB.")
@click.option("--borrow", metavar="AMOUNTS", help="The most that it borrows beyond that [default: any amount].")
@click.option("--lend", metavar="AMOUNTS", help="The most of its own that others borrow [default: all].")
@click.option("--weight", type=Amount(0.001, 1000), default=1.0, show_default=True, help="Of its fair share.")
@click.option("--parent", metavar="NAME", help="The organization that this organization borrows under.")
@common
def set_quota(
    session: Session,
    organization: str | None,
    project: str | None,
    member: str | None,
    gpu: float | None,
    cpu: float | None,
    memory: str | None,
    kinds: str | None,
    jobs: int | None,
    guaranteed: str | None,
    borrow: str | None,
    lend: str | None,
    weight: float,
    parent: str | None,
) -> None:
    """Set a quota; what is not named is taken away."""
    from headframe.base.quantities import parse_mib

    row = session.client.set_quota(
        gpu_milli=None if gpu is None else round(gpu * 1000),
        cpu_milli=None if cpu is None else round(cpu * 1000),
        memory_mib=None if memory is None else parse_mib(memory, field="--memory"),
        kinds=_read_kinds(kinds),
        jobs=jobs,
        guaranteed=_read_amounts(guaranteed, "--guaranteed"),
        borrow=_read_amounts(borrow, "--borrow"),
        lend=_read_amounts(lend, "--lend"),
        weight=round(weight * 1000),
        parent=parent,
        **scope_of(session, organization, project, member),
    )
    if session.json or session.quiet:
        session.done(row, "")
    else:
        printing.table(_quotas(Names(session, organization)), [row])


@group("headframe secrets", "headframe secrets set hf-token < token.txt")
def secrets() -> None:
    """Secrets: named values that jobs of a project get; never shown again."""


@part(secrets, "list", "headframe secrets list --project research")
@click.option("--project", help="Which project's.")
@common
def list_secrets(session: Session, project: str | None) -> None:
    """List the names of secrets."""
    session.rows(session.client.secrets(project), SECRETS, "No secrets.", key="name")


@part(secrets, "set", "headframe secrets set hf-token < token.txt")
@click.argument("name")
@click.option("--project", help="Which project's.")
@common
def set_secret(session: Session, name: str, project: str | None) -> None:
    """Set a secret. The value is asked for, or read from standard input: never from the command line."""
    if sys.stdin.isatty():
        value = click.prompt("Value", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise click.UsageError("The value is empty. Pipe it in: headframe secrets set NAME < FILE")
    session.client.set_secret(name, value, project)
    session.done({"name": name}, f"Set the secret {printing.safe(name)}.", key="name")


@part(secrets, "delete", "headframe secrets delete hf-token")
@click.argument("name")
@click.option("--project", help="Which project's.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
def delete_secret(session: Session, name: str, project: str | None, yes: bool) -> None:
    """Delete a secret: its value is wiped."""
    if not any(row["name"] == name for row in session.client.secrets(project)):
        raise NotFound(f"There is no secret {name!r}.", next_step="`headframe secrets` lists them.")
    confirm(f"Delete the secret {name}?", yes)
    session.client.delete_secret(name, project)
    session.done({"name": name}, f"Deleted the secret {printing.safe(name)}.", key="name")
