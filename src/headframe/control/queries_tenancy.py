"""What people may see of tenancy: who calls, and the records of organizations that the caller may look into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headframe.base.errors import NotFound, Unauthenticated
from headframe.control.context import Context
from headframe.control.world import World
from headframe.tenants.keys import is_key, is_live, read_key
from headframe.tenants.records import Key, Member, Organization, Project, Session
from headframe.tenants.roles import Caller, Permission
from headframe.tenants.sessions import is_open, is_session, read_cookie

ByName = Callable[..., Any | None]  # (class, column=value ...) -> the row with those values


def authenticate(world: World, now_us: int, text: str) -> Caller:
    """The caller behind a key as it was sent. Looks rows up by id only, so that any thread may ask."""
    read = read_key(text)
    key: Key | None = world.get(Key, read[0]) if read else None
    known = is_key(key, read[1] if read else "")
    caller = _behind(world, now_us, key) if key is not None and known else None
    if caller is not None:
        return caller
    raise Unauthenticated(
        "The API key is not known, has expired or was revoked.",
        next_step="Send a live key as `Authorization: Bearer hf_...`; an admin of the organization can make one.",
    )


def authenticate_session(world: World, now_us: int, text: str) -> tuple[Caller, Session, str]:
    """The caller behind what a browser keeps, its session, and the session's secret. Any thread may ask."""
    read = read_cookie(text)
    session: Session | None = world.get(Session, read[0]) if read else None
    known = is_session(session, read[1] if read else "")
    if read is not None and session is not None and known and is_open(session, now_us):
        key: Key | None = world.get(Key, session.key_id)
        caller = _behind(world, now_us, key) if key is not None else None
        if caller is not None:
            return replace(caller, session_id=session.id), session, read[1]
    raise Unauthenticated("You are signed out.", next_step="Sign in again.")


def _behind(world: World, now_us: int, key: Key) -> Caller | None:
    """Whom a key speaks for, while it and its member are welcome."""
    member: Member | None = world.get(Member, key.member_id)
    organization: Organization | None = world.get(Organization, key.organization_id)
    if not is_live(key, now_us) or member is None or organization is None or member.disabled:
        return None
    return Caller(
        organization_id=organization.id,
        member_id=member.id,
        key_id=key.id,
        role=member.role,
        operator=organization.operator,
        project_id=key.project_id,
        scopes=key.scopes,
    )


def is_welcome(world: World, now_us: int, caller: Caller) -> bool:
    """Whether a caller who was let in may stay, with the same rights: streams ask this again and again."""
    key: Key | None = world.get(Key, caller.key_id)
    if key is None or _behind(world, now_us, key) != replace(caller, session_id=""):
        return False
    if not caller.session_id:
        return True
    session: Session | None = world.get(Session, caller.session_id)
    return session is not None and is_open(session, now_us)


def nothing_here(what: str, named: str) -> NotFound:
    """The error for what is not there, or is not for the caller's eyes: both look the same."""
    return NotFound(
        f"There is no {what} {named!r} here.",
        next_step=f"Check the name or id of the {what}, and the key in use.",
        details={what: named, "field": what, "value": named},
    )


def seen(world: World, caller: Caller, kind: type[Any], record_id: str, permission: Permission, what: str = "") -> Any:
    """A record of an organization by its id, if the caller has the right there; else it does not exist."""
    record = world.get(kind, record_id)
    what = what or kind.__name__.lower()
    if record is None or not is_same_house(caller, organization_of(record)):
        raise nothing_here(what, record_id)
    project_id = record.id if kind is Project else getattr(record, "project_id", None)
    if caller.project_id is not None and project_id not in (None, caller.project_id):
        raise nothing_here(what, record_id)
    caller.need(permission, organization_of(record), project_id)
    return record


def find_organization(world: World, context: Context, caller: Caller, named: str | None) -> Organization:
    """An organization by id or name; the caller's own when none is named."""
    return organization_for(world, caller, named, _in(world))


def find_project(
    world: World, context: Context, caller: Caller, named: str | None, organization_id: str | None = None
) -> Project:
    """A project by id or name; when none is named the key's, else the one called "default"."""
    return project_for(world, caller, named, organization_id, _in(world))


def organization_for(world: World, caller: Caller, named: str | None, by_name: ByName) -> Organization:
    """As `find_organization`, with the way to look a name up handed in: other threads must not walk the world."""
    named = caller.organization_id if named is None else named
    found: Organization | None = world.get(Organization, named) or by_name(Organization, name=named)
    if found is None or not is_same_house(caller, found.id):
        raise nothing_here("organization", named)
    return found


def project_for(
    world: World, caller: Caller, named: str | None, organization_id: str | None, by_name: ByName
) -> Project:
    """As `find_project`, with the way to look a name up handed in."""
    organization_id = organization_id or caller.organization_id
    if named is None and organization_id == caller.organization_id:
        named = caller.project_id
    named = "default" if named is None else named
    found: Project | None = world.get(Project, named) or by_name(Project, name=named, organization_id=organization_id)
    if found is None or not is_same_house(caller, found.organization_id) or caller.project_id not in (None, found.id):
        raise nothing_here("project", named)
    return found


def _in(world: World) -> ByName:
    def by_name(kind: type[Any], **where: object) -> Any | None:
        wanted = list(where.items())
        return next(
            (row for row in world.all(kind).values() if all(getattr(row, name) == value for name, value in wanted)),
            None,
        )

    return by_name


def organization_of(record: Any) -> str:
    """The id of the organization that a record belongs to."""
    owner = record.id if isinstance(record, Organization) else record.organization_id
    assert isinstance(owner, str)
    return owner


def is_same_house(caller: Caller, organization_id: str) -> bool:
    """Whether the caller may know of the organization at all."""
    return organization_id == caller.organization_id or caller.operator
