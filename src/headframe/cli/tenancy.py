"""Commands about who there is: organizations, projects, members, keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from headframe.base.errors import NotFound
from headframe.cli import printing
from headframe.cli.options import Session, common, confirm, group, part
from headframe.cli.printing import Column

ORGANIZATIONS = (
    Column("ORGANIZATION", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("OPERATOR", lambda row: "yes" if row["operator"] else ""),
    Column("PAYS", lambda row: "in advance" if row["prepaid"] else "by invoice"),
    Column("CURRENCY", lambda row: row["currency"]),
    Column("CREATED", lambda row: printing.age(row["created_us"])),
)
PROJECTS = (
    Column("PROJECT", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("ARCHIVED", lambda row: "yes" if row["archived"] else ""),
    Column("CREATED", lambda row: printing.age(row["created_us"])),
)
MEMBERS = (
    Column("MEMBER", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("ROLE", lambda row: row["role"]),
    Column("DISABLED", lambda row: "yes" if row["disabled"] else ""),
    Column("CREATED", lambda row: printing.age(row["created_us"])),
)
KEYS = (
    Column("KEY", lambda row: row["id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("MEMBER", lambda row: row["member_id"], spare=True),
    Column("PROJECT", lambda row: row["project_id"] or "all", spare=True),
    Column("RIGHTS", lambda row: ", ".join(row["scopes"]) or "all of the member's"),
    Column("EXPIRES", lambda row: printing.moment(row["expires_us"]) or "never", whole=True),
    Column("STATE", lambda row: "revoked" if row["revoked_us"] else "live"),
)
_ORGANIZATION = click.option("--org", "organization", metavar="NAME", help="The organization, when it is not your own.")
_YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def named(rows: Sequence[Mapping[str, Any]], text: str, what: str) -> Mapping[str, Any]:
    """The row with this id or name."""
    for key in ("id", "name"):
        for row in rows:
            if row[key] == text:
                return row
    raise NotFound(f"There is no {what} {text!r}.", next_step=f"`headframe {what}s` lists them.")


def _listed(parent: click.Group, columns: Sequence[Column], text: str) -> None:
    """Give a command its `list`: what an organization has of that kind."""
    what = str(parent.name)

    @part(parent, "list", f"headframe {what} list --org acme")
    @_ORGANIZATION
    @common
    def listed(session: Session, organization: str | None) -> None:
        session.rows(getattr(session.client, what)(organization=organization), columns, f"No {what}.")

    listed.help = text


@group("headframe orgs", "headframe orgs create acme --owner ada@acme.example")
def orgs() -> None:
    """Organizations: who is billed on its own."""


@part(orgs, "list", "headframe orgs list --json")
@common
def list_orgs(session: Session) -> None:
    """List organizations."""
    session.rows(session.client.organizations(), ORGANIZATIONS, "No organizations.")


@part(orgs, "create", "headframe orgs create acme --owner ada@acme.example")
@click.argument("name")
@click.option("--owner", metavar="MEMBER", help="Its first member, who owns it (usually an e-mail address).")
@click.option("--prepaid", is_flag=True, help="It pays in advance: jobs stop when its credit is used up.")
@click.option("--currency", default="USD", show_default=True, help="What it pays in.")
@common
def create_org(session: Session, **fields: Any) -> None:
    """Make an organization with a default project."""
    row = session.client.create_organization(**fields)
    session.done(row, f"Made the organization {printing.safe(row['name'])} ({row['id']}).")


@group("headframe projects", "headframe projects create research")
def projects() -> None:
    """Projects: what jobs, secrets and costs belong to."""


_listed(projects, PROJECTS, "List projects.")


@part(projects, "create", "headframe projects create research")
@click.argument("name")
@_ORGANIZATION
@common
def create_project(session: Session, name: str, organization: str | None) -> None:
    """Make a project."""
    row = session.client.create_project(name=name, organization=organization)
    session.done(row, f"Made the project {printing.safe(row['name'])} ({row['id']}).")


@part(projects, "archive", "headframe projects archive old-plans")
@click.argument("name")
@_ORGANIZATION
@_YES
@common
def archive_project(session: Session, name: str, organization: str | None, yes: bool) -> None:
    """Archive a project: it takes no new jobs."""
    row = named(session.client.projects(organization=organization), name, "project")
    confirm(f"Archive the project {row['name']}?", yes)
    changed = session.client.edit_project(row["id"], row["version"], archived=True)
    session.done(changed, f"Archived {printing.safe(changed['name'])}.")


@group("headframe members", "headframe members add ada@acme.example --role admin")
def members() -> None:
    """Members: people and programs, each with a role."""


_ROLE = click.Choice(("owner", "admin", "finance", "member", "viewer"))


_listed(members, MEMBERS, "List members.")


@part(members, "add", "headframe members add ada@acme.example --role admin")
@click.argument("name")
@click.option("--role", type=_ROLE, default="member", show_default=True, help="What the member may do.")
@_ORGANIZATION
@common
def add_member(session: Session, name: str, role: str, organization: str | None) -> None:
    """Add a member; make a key for it next."""
    row = session.client.create_member(name=name, role=role, organization=organization)
    session.done(row, f"Added {printing.safe(row['name'])} ({row['id']}) as {row['role']}.")
    if not session.json and not session.quiet:
        whose = f" --org {organization}" if organization else ""
        printing.note(f"Next: headframe keys create KEYNAME --member {printing.safe(row['name'])}{whose}")


@part(members, "edit", "headframe members edit ada@acme.example --disable")
@click.argument("name")
@click.option("--role", type=_ROLE, help="The new role.")
@click.option("--disable/--enable", "disabled", default=None, help="Shut the member out, or let it in again.")
@_ORGANIZATION
@common
def edit_member(session: Session, name: str, role: str | None, disabled: bool | None, organization: str | None) -> None:
    """Give a member another role, or shut it out."""
    if role is None and disabled is None:
        raise click.UsageError("Say what to change: --role, --disable or --enable.")
    row = named(session.client.members(organization=organization), name, "member")
    changed = session.client.edit_member(row["id"], row["version"], role=role, disabled=disabled)
    state = ", disabled" if changed["disabled"] else ""
    session.done(changed, f"{printing.safe(changed['name'])} is {changed['role']}{state}.")


@group("headframe keys", "headframe keys create ci --expires 90d --scope jobs:write --scope files:write")
def keys() -> None:
    """Keys: what programs and the command line prove with who they are."""


_listed(keys, KEYS, "List keys; their texts are not kept.")


@part(keys, "create", "headframe keys create ci --expires 90d --scope jobs:write --scope files:write")
@click.argument("name")
@click.option("--member", metavar="NAME", help="Whose key, when it is not your own.")
@_ORGANIZATION
@click.option("--project", help="Narrow it to one project.")
@click.option("--scope", "scopes", multiple=True, metavar="RIGHT", help="Narrow it to rights such as jobs:read.")
@click.option("--expires", "expires_in", metavar="TIME", help="When it ends, such as 90d.")
@common
def create_key(
    session: Session, scopes: tuple[str, ...], member: str | None, organization: str | None, **fields: Any
) -> None:
    """Make a key and print it: this once."""
    if organization is not None and member is None:
        raise click.UsageError("A key belongs to a member: name one with --member.")
    if member is not None:
        member = named(session.client.members(organization=organization), member, "member")["id"]
    row = session.client.create_key(scopes=list(scopes), member=member, **fields)
    if session.json:
        printing.as_json(row)
        return
    printing.say(row["key"])
    printing.note(f"This is the key {printing.safe(row['name'])} ({row['id']}). It is not shown again.")


@part(keys, "revoke", "headframe keys revoke ci", "headframe keys revoke ci --org acme")
@click.argument("key")
@_ORGANIZATION
@_YES
@common
def revoke_key(session: Session, key: str, organization: str | None, yes: bool) -> None:
    """End a key at once."""
    row = named(session.client.keys(organization=organization), key, "key")
    confirm(f"Revoke the key {row['name']} ({row['id']})?", yes)
    session.client.revoke_key(row["id"])
    session.done({"id": row["id"]}, f"Revoked {row['id']}.")
