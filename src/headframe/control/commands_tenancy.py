"""What people may ask for about tenancy: organizations, projects, members, and the very first of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event
from headframe.base.errors import Conflict, Forbidden, Invalid, VersionConflict
from headframe.base.money import EXPONENTS
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization, organization_of, seen
from headframe.control.world import World
from headframe.tenants.keys import key_text, secret_hash
from headframe.tenants.names import label, slug
from headframe.tenants.records import Key, Member, Organization, Project, Role
from headframe.tenants.roles import Caller, Permission

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Opening:
    """The first organization and what its owner needs. `key_text` is shown once: only its hash is kept."""

    organization: Organization
    project: Project
    member: Member
    key: Key
    key_text: str


def open_cloud(world: World, context: Context) -> tuple[Changes, Opening]:
    """Make the operator's organization with an owner, a project and a key. Raises `Conflict` when it is there."""
    if world.all(Organization):
        raise Conflict("This cloud is open already.", next_step="Use a key of the operator's owner or admins.")
    now, new = context.now_us, context.ids.new
    organization = Organization(new("org"), "operator", now, operator=True, number=1)
    project = Project(new("prj"), organization.id, DEFAULT_PROJECT, now)
    member = Member(new("mem"), organization.id, "owner", Role.OWNER, now)
    secret = context.ids.secret()
    key = Key(new("key"), organization.id, member.id, "first", secret_hash(secret), now)
    rows = (organization, project, member, key)
    told = event(context, "cloud_opened", organization, "The cloud was opened and its first key made.")
    return Changes(rows, (told,)), Opening(organization, project, member, key, key_text(key.id, secret))


def create_organization(
    world: World,
    context: Context,
    caller: Caller,
    *,
    name: str,
    prepaid: bool = False,
    currency: str = "USD",
    owner: str | None = None,
) -> tuple[Changes, Organization]:
    """A new organization with its default project and, when `owner` names one, its first member."""
    caller.need(Permission.ORGANIZATIONS_WRITE, caller.organization_id)
    _check_free(world.all(Organization).values(), slug(name, field="name"), "organization")
    if currency not in EXPONENTS:
        raise Invalid(
            f"currency is {currency!r}, which is not known.",
            field="currency", value=currency, allowed=", ".join(EXPONENTS),
        )  # fmt: skip
    number = 1 + max((each.number for each in world.all(Organization).values()), default=0)
    organization = Organization(
        context.ids.new("org"), name, context.now_us, prepaid=prepaid, currency=currency, number=number
    )
    project = Project(context.ids.new("prj"), organization.id, DEFAULT_PROJECT, context.now_us)
    rows: tuple[Any, ...] = (organization, project)
    if owner is not None:
        name_of_owner = label(owner, field="owner")
        rows += (Member(context.ids.new("mem"), organization.id, name_of_owner, Role.OWNER, context.now_us),)
    told = event(context, "organization_created", organization, f"The organization {name} was made.", by=caller)
    return Changes(rows, (told,)), organization


def change_organization(
    world: World,
    context: Context,
    caller: Caller,
    organization_id: str,
    *,
    name: str | None = None,
    prepaid: bool | None = None,
    version: int | None = None,
) -> tuple[Changes, Organization]:
    """Rename an organization, or let it pay in advance or afterwards."""
    old = seen(world, caller, Organization, organization_id, Permission.ORGANIZATIONS_WRITE)
    expect(old, version)
    if name is not None and name != old.name:
        _check_free(world.all(Organization).values(), slug(name, field="name"), "organization")
    new = replace(old, name=name or old.name, prepaid=old.prepaid if prepaid is None else prepaid)
    return _changed(context, caller, old, new, "organization_changed", f"The organization {new.name} was changed.")


def create_project(
    world: World, context: Context, caller: Caller, *, name: str, organization: str | None = None
) -> tuple[Changes, Project]:
    """A new project of an organization."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.PROJECTS_WRITE, house.id)
    _check_free(_of(world, Project, house.id), slug(name, field="name"), "project")
    project = Project(context.ids.new("prj"), house.id, name, context.now_us)
    told = event(context, "project_created", project, f"The project {name} was made.", by=caller)
    return Changes((project,), (told,)), project


def change_project(
    world: World,
    context: Context,
    caller: Caller,
    project_id: str,
    *,
    name: str | None = None,
    archived: bool | None = None,
    version: int | None = None,
) -> tuple[Changes, Project]:
    """Rename a project, or put it away: an archived project takes no new jobs."""
    old = seen(world, caller, Project, project_id, Permission.PROJECTS_WRITE)
    expect(old, version)
    if old.name == DEFAULT_PROJECT and (name not in (None, DEFAULT_PROJECT) or archived):
        raise Conflict(
            "The default project keeps its name and stays open: jobs that name no project go there.",
            next_step="Make another project and use that.",
        )
    if name is not None and name != old.name:
        _check_free(_of(world, Project, old.organization_id), slug(name, field="name"), "project")
    new = replace(old, name=name or old.name, archived=old.archived if archived is None else archived)
    return _changed(context, caller, old, new, "project_changed", f"The project {new.name} was changed.")


def create_member(
    world: World, context: Context, caller: Caller, *, name: str, role: Role, organization: str | None = None
) -> tuple[Changes, Member]:
    """A new member of an organization. It can do nothing before somebody makes a key for it."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.MEMBERS_WRITE, house.id)
    name = label(name, field="name")
    _check_free(_of(world, Member, house.id), name, "member")
    if role is Role.OWNER:
        only_owner(caller)
    member = Member(context.ids.new("mem"), house.id, name, role, context.now_us)
    told = event(context, "member_created", member, f"{name} became {role.value}.", by=caller)
    return Changes((member,), (told,)), member


def change_member(
    world: World,
    context: Context,
    caller: Caller,
    member_id: str,
    *,
    role: Role | None = None,
    disabled: bool | None = None,
    version: int | None = None,
) -> tuple[Changes, Member]:
    """Give a member another role, or shut it out (its keys stop working at once)."""
    old = seen(world, caller, Member, member_id, Permission.MEMBERS_WRITE)
    expect(old, version)
    new = replace(old, role=role or old.role, disabled=old.disabled if disabled is None else disabled)
    if Role.OWNER in (old.role, new.role):
        only_owner(caller)
    if (
        _leads(old)
        and not _leads(new)
        and not any(_leads(each) and each.id != old.id for each in _of(world, Member, old.organization_id))
    ):
        raise Conflict("This is the last owner of the organization.", next_step="Make another member owner first.")
    words = f"{new.name} is {new.role.value}" + (", shut out." if new.disabled else ".")
    return _changed(context, caller, old, new, "member_changed", words)


def only_owner(caller: Caller) -> None:
    """Raise unless the caller is an owner: nobody else makes, unmakes or speaks for one."""
    if caller.role is not Role.OWNER:
        raise Forbidden("Only an owner can do that to an owner.", next_step="Ask an owner of the organization.")


def expect(record: Any, version: int | None) -> None:
    """Raise when the record is not at the version that the caller has seen. None: any will do."""
    found = record.version if record is not None else 0
    if version is not None and version != found:
        raise VersionConflict(
            f"It was changed meanwhile: the version is {found}, not {version}.",
            next_step="Read it again, and send its ETag as If-Match.",
            details={"version": found},
        )


def event(context: Context, kind: str, record: Any, reason: str, by: Caller | None = None) -> Event:
    """Something that happened to a record of an organization."""
    return Event(
        at_us=context.now_us,
        kind=kind,
        subject=record.id,
        reason=reason,
        organization_id=organization_of(record),
        project_id=(record.id if isinstance(record, Project) else getattr(record, "project_id", None)) or "",
        detail={} if by is None else {"member_id": by.member_id, "key_id": by.key_id},
    )


def _changed(context: Context, caller: Caller, old: Any, new: Any, kind: str, words: str) -> tuple[Changes, Any]:
    """The new version of a record, or nothing when it says the same."""
    if new == old:
        return NOTHING, old
    new = replace(new, version=old.version + 1)
    return Changes((new,), (event(context, kind, new, words, by=caller),)), new


def _of(world: World, kind: type[Any], organization_id: str) -> Iterable[Any]:
    return (each for each in world.all(kind).values() if each.organization_id == organization_id)


def _check_free(records: Iterable[Any], name: str, what: str) -> None:
    if any(each.name == name for each in records):
        raise Conflict(f"There is a {what} {name!r} already.", next_step="Choose another name.", details={"name": name})


def _leads(member: Member) -> bool:
    return member.role is Role.OWNER and not member.disabled
