"""Routes of tenancy: organizations, projects, members, keys, quotas, secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import document, page_shape, shape
from headframe.api.wire import Authenticated, Body, Call, Count, Cursor, Limit, Named, Text, answer
from headframe.base.quantities import parse_span_us
from headframe.control import commands_access as access
from headframe.control import commands_sessions
from headframe.control import commands_tenancy as tenancy
from headframe.control.queries_tenancy import seen
from headframe.tenants.records import Key, Member, Organization, Project, Quota, Role, Scope, Secret, Session
from headframe.tenants.roles import PERMISSIONS, Permission

router = APIRouter(prefix="/v1", tags=["tenancy"])

Id = Annotated[str, Path(max_length=200)]


class NewOrganization(Body):
    name: Text
    prepaid: bool = False
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    owner: Text | None = None


class OrganizationEdit(Body):
    name: Text | None = None
    prepaid: bool | None = None


class NewProject(Body):
    name: Text
    organization: Text | None = None


class ProjectEdit(Body):
    name: Text | None = None
    archived: bool | None = None


class NewMember(Body):
    name: Text
    role: Annotated[Role, Field(strict=False)] = Role.MEMBER
    organization: Text | None = None


class MemberEdit(Body):
    role: Annotated[Role | None, Field(strict=False)] = None
    disabled: bool | None = None


class NewKey(Body):
    name: Text
    member: Text | None = None
    project: Text | None = None
    scopes: Annotated[list[Text], Field(max_length=50)] = []
    expires_in: Text | None = None  # such as 30d


Kind = Annotated[str, Field(min_length=1, max_length=100)]
Amounts = dict[Literal["gpu_milli", "cpu_milli", "memory_mib"], Count]


class QuotaEdit(Body):
    """Limits, and what is guaranteed, borrowed at most and lent at most, by meter; `weight` in thousandths.

    `parent` is the organization that an organization borrows under; `kinds` are limits on one kind of accelerator each.
    """

    scope: Annotated[Scope, Field(strict=False)]
    scope_id: Text | None = None
    gpu_milli: Count | None = None
    cpu_milli: Count | None = None
    memory_mib: Count | None = None
    jobs: Count | None = None
    guaranteed: Amounts = {}
    borrow: Amounts = {}
    lend: Amounts = {}
    weight: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    parent: Text | None = None
    kinds: Annotated[dict[Kind, Count], Field(max_length=100)] = {}


class SecretEdit(Body):
    value: Annotated[str, Field(min_length=1, max_length=access.SECRET_LIMIT)]


@dataclass
class MadeKey(shape(Key)):  # type: ignore[misc]
    """A new key; `key` is its text, shown this once."""

    key: str


@dataclass
class WhoAmI:
    """Who a key speaks for, and what it may do."""

    organization: shape(Organization)  # type: ignore[valid-type]
    member: shape(Member)  # type: ignore[valid-type]
    key: shape(Key)  # type: ignore[valid-type]
    project: shape(Project) | None  # type: ignore[valid-type]
    rights: list[str]


@router.get("/whoami", response_model=WhoAmI)
def whoami(call: Authenticated) -> Response:
    """Who the key speaks for, and what it may do."""
    caller, world = call.caller, call.control.world
    rights = [
        each.value for each in PERMISSIONS[caller.role] if caller.may(each, caller.organization_id, caller.project_id)
    ]
    found = {
        "organization": world.get(Organization, caller.organization_id),
        "member": world.get(Member, caller.member_id),
        "key": world.get(Key, caller.key_id),
        "project": world.get(Project, caller.project_id) if caller.project_id else None,
        "rights": sorted(rights),
    }
    return answer(found)


def _offer_one(kind: type[Any], place: str, text: str) -> None:
    """The route of one record of a kind by its id."""
    name = kind.__name__.lower()

    def one(call: Authenticated, record_id: str = Path(alias=place, max_length=200)) -> Response:
        return answer(seen(call.control.world, call.caller, kind, record_id, Permission.TENANTS_READ))

    router.get(f"/{name}s/{{{place}}}", response_model=shape(kind), name=name, description=text)(one)  # type: ignore[arg-type]


_offer_one(Organization, "organization_id", "One organization.")
_offer_one(Project, "project_id", "One project.")


@router.get("/organizations", response_model=page_shape(Organization))
def organizations(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """One's own organization; all of them for the operator."""
    caller = call.caller
    caller.need(Permission.TENANTS_READ, caller.organization_id, caller.project_id)
    everyone = caller.may(Permission.ORGANIZATIONS_WRITE, caller.organization_id)
    only: dict[str, Any] = {} if everyone else {"id": caller.organization_id}
    return call.page(Organization, limit=limit, cursor=cursor, **only)


@router.post("/organizations", status_code=201, response_model=shape(Organization))
def create_organization(call: Authenticated, body: NewOrganization) -> Response:
    """A new organization with a default project (operator only)."""
    return call.run(tenancy.create_organization, status=201, **dict(body))


@router.patch("/organizations/{organization_id}", response_model=shape(Organization))
def change_organization(call: Authenticated, organization_id: Id, body: OrganizationEdit) -> Response:
    """Rename an organization or change how it pays (operator only)."""
    return call.run(tenancy.change_organization, organization_id, version=call.version, **dict(body))


@router.get("/projects", response_model=page_shape(Project))
def projects(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The projects of an organization that the key may see."""
    caller = call.caller
    house = call.organization(organization)
    caller.need(Permission.TENANTS_READ, house.id, caller.project_id)
    only: dict[str, Any] = {} if caller.project_id is None else {"id": caller.project_id}
    return call.page(Project, limit=limit, cursor=cursor, organization_id=house.id, **only)


@router.post("/projects", status_code=201, response_model=shape(Project))
def create_project(call: Authenticated, body: NewProject) -> Response:
    """A new project."""
    return call.run(tenancy.create_project, status=201, **dict(body))


@router.patch("/projects/{project_id}", response_model=shape(Project))
def change_project(call: Authenticated, project_id: Id, body: ProjectEdit) -> Response:
    """Rename a project, or archive it."""
    return call.run(tenancy.change_project, project_id, version=call.version, **dict(body))


@router.get("/members", response_model=page_shape(Member))
def members(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The members of an organization."""
    return _page_of_house(call, Member, organization, limit, cursor)


@router.post("/members", status_code=201, response_model=shape(Member))
def create_member(call: Authenticated, body: NewMember) -> Response:
    """A new member; make a key for it next."""
    return call.run(tenancy.create_member, status=201, **dict(body))


@router.patch("/members/{member_id}", response_model=shape(Member))
def change_member(call: Authenticated, member_id: Id, body: MemberEdit) -> Response:
    """Give a member another role, or shut it out."""
    return call.run(tenancy.change_member, member_id, version=call.version, **dict(body))


@router.get("/keys", response_model=page_shape(Key))
def keys(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The keys of an organization for its admins, one's own for everybody else."""
    house = call.organization(organization)
    call.caller.need(Permission.TENANTS_READ, house.id)
    everyone = call.caller.may(Permission.MEMBERS_WRITE, house.id)
    only: dict[str, Any] = {} if everyone else {"member_id": call.caller.member_id}
    return call.page(Key, limit=limit, cursor=cursor, organization_id=house.id, **only)


@router.post("/keys", status_code=201, response_model=MadeKey)
def create_key(call: Authenticated, body: NewKey) -> Response:
    """A new key, shown once. It reaches no further than its member and than the key that makes it."""
    fields = dict(body)
    lives = fields.pop("expires_in")
    fields["scopes"] = tuple(body.scopes)
    fields["lives_us"] = None if lives is None else parse_span_us(lives, field="expires_in")
    return call.run(access.create_key, status=201, show=_made_key, sealed=True, **fields)


@router.delete("/keys/{key_id}", response_model=shape(Key))
def revoke_key(call: Authenticated, key_id: Id) -> Response:
    """End a key at once."""
    return call.run(access.revoke_key, key_id)


@router.get("/sessions", response_model=page_shape(Session))
def sessions(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The browsers that are signed in: of an organization for its admins, one's own for everybody else."""
    house = call.organization(organization)
    call.caller.need(Permission.TENANTS_READ, house.id)
    everyone = call.caller.may(Permission.MEMBERS_WRITE, house.id)
    only: dict[str, Any] = {} if everyone else {"member_id": call.caller.member_id}
    return call.page(Session, limit=limit, cursor=cursor, organization_id=house.id, ended_us=None, **only)


@router.delete("/sessions/{session_id}", response_model=shape(Session))
def end_session(call: Authenticated, session_id: Id) -> Response:
    """Sign a browser out at once."""
    return call.run(commands_sessions.end_session, session_id)


@router.get("/quotas", response_model=page_shape(Quota))
def quotas(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The limits of an organization, its projects and its members."""
    return _page_of_house(call, Quota, organization, limit, cursor)


@router.put("/quotas", response_model=shape(Quota))
def put_quota(call: Authenticated, body: QuotaEdit) -> Response:
    """Set what a scope may hold at once, and what is guaranteed to it; a limit that is absent or null is none."""
    return call.run(access.put_quota, version=call.version, **dict(body))


@router.get("/secrets", response_model=page_shape(Secret))
def secrets(call: Authenticated, project: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The names of a project's secrets. Values never leave."""
    home = call.project(project)
    call.caller.need(Permission.SECRETS_READ, home.organization_id, home.id)
    return call.page(Secret, limit=limit, cursor=cursor, project_id=home.id, deleted_us=None)


@router.put("/secrets/{name}", response_model=shape(Secret))
def put_secret(call: Authenticated, name: Id, body: SecretEdit, project: Named = None) -> Response:
    """Set a secret of a project."""
    return call.run(access.put_secret, name, value=body.value, project=project, version=call.version)


@router.delete("/secrets/{name}", response_model=shape(Secret))
def delete_secret(call: Authenticated, name: Id, project: Named = None) -> Response:
    """Delete a secret of a project: its value is wiped."""
    return call.run(access.delete_secret, name, project=project, version=call.version)


def _page_of_house(call: Call, kind: type[Any], organization: str | None, limit: int, cursor: str | None) -> Response:
    house = call.organization(organization)
    call.caller.need(Permission.TENANTS_READ, house.id)
    return call.page(kind, limit=limit, cursor=cursor, organization_id=house.id)


def _made_key(made: tuple[Key, str]) -> dict[str, Any]:
    key, text = made
    return {**document(key), "key": text}
