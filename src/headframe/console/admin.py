"""Admin: organizations, projects, members, keys and quotas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from headframe.api.wire import Cursor, Named, read_cursor, write_cursor
from headframe.base.errors import CallerError, Invalid
from headframe.base.money import EXPONENTS
from headframe.base.quantities import parse_mib, parse_span_us
from headframe.console.forms import EMPTY, Form, Sent
from headframe.console.page import Page, Signed, page_router
from headframe.control import commands_access as access
from headframe.control import commands_sessions
from headframe.control import commands_tenancy as tenancy
from headframe.tenants.records import Key, Member, Organization, Project, Quota, Role, Scope, Session
from headframe.tenants.roles import Permission

router = page_router()
ROWS = 100  # of a page of a list
LIFETIMES = (("30d", "30 days"), ("90d", "90 days"), ("365d", "a year"), ("", "until it is revoked"))
ROLES = (
    (Role.MEMBER, "member: runs jobs"),
    (Role.VIEWER, "viewer: looks, changes nothing"),
    (Role.FINANCE, "finance: sees all money, runs nothing"),
    (Role.ADMIN, "admin: everything but owners"),
    (Role.OWNER, "owner: everything"),
)


def links(page: Page) -> list[tuple[str, str, str]]:
    """The pages of this section that the caller has a use for."""
    operator = page.house is None
    found = [("organizations", "Organizations", "/admin/organizations")] if operator else []
    found += [
        ("projects", "Projects", "/admin/projects"),
        ("members", "Members", "/admin/members"),
        ("keys", "Keys", "/admin/keys"),
        ("quotas", "Quotas", "/admin/quotas"),
        ("prices", "Prices", "/admin/prices"),
        ("clusters", "Clusters", "/admin/clusters"),
        ("sessions", "Sessions", "/admin/sessions"),
        ("audit", "Audit log", "/admin/audit"),
    ]
    return found


def show(page: Page, name: str, title: str, organization: Organization | None, **values: Any) -> Response:
    """A page of this section. The operator may look at any organization: `houses` are those to choose from."""
    houses = []
    if page.house is None and organization is not None:
        houses = sorted((one.name, one.id) for one in page.ask(_all_of, Organization))
    return page.show(
        f"admin_{name}.html", section="admin", title=title, links=links(page), here=name, shown=organization,
        houses=houses, **values,
    )  # fmt: skip


def _all_of(world: Any, context: Any, caller: Any, kind: type[Any]) -> list[Any]:
    return list(world.all(kind).values())


def rows_of(page: Page, kind: type[Any], cursor: str | None, *, newest: bool = False, **where: Any) -> dict[str, Any]:
    """A page of a list: its rows, and the cursor of the following ones."""
    found = page.control.reads.find(kind, after=read_cursor(cursor), limit=ROWS + 1, newest=newest, **where)
    return {"rows": found[:ROWS], "following": write_cursor(found[ROWS - 1].id) if len(found) > ROWS else None}


@router.get("/admin")
def admin(page: Signed) -> Response:
    """The first page of the section."""
    return page.go(links(page)[0][2])


@router.get("/admin/organizations")
def organizations(page: Signed, cursor: Cursor = None) -> Response:
    """All organizations (the operator's)."""
    return _organizations(page, cursor)


@router.post("/admin/organizations")
def make_organization(page: Signed, form: Sent) -> Response:
    """A new organization."""
    try:
        made = page.run(
            tenancy.create_organization, name=form.text("name"), prepaid=form.ticked("prepaid"),
            currency=form.text("currency", "USD"), owner=form.maybe("owner"),
        )  # fmt: skip
    except CallerError as error:
        return _organizations(page, None, form, error)
    return page.go("/admin/organizations", said=f"The organization {made.name} was made.")


def _organizations(page: Page, cursor: str | None, form: Form = EMPTY, error: CallerError | None = None) -> Response:
    page.caller.need(Permission.TENANTS_READ, page.caller.organization_id, page.caller.project_id)
    where: dict[str, Any] = {} if page.house is None else {"id": page.house}
    return show(
        page, "organizations", "Organizations", None, form=form, error=error, currencies=[(c, c) for c in EXPONENTS],
        **rows_of(page, Organization, cursor, **where),
    )  # fmt: skip


def _list(
    page: Page, name: str, title: str, kind: type[Any], organization: str | None, cursor: str | None,
    more: Callable[[Organization], dict[str, Any]] = lambda house: {}, form: Form = EMPTY,
    error: CallerError | None = None, **where: Any,
) -> Response:  # fmt: skip
    """A list of what belongs to an organization."""
    house = page.call.organization(organization)
    page.caller.need(Permission.TENANTS_READ, house.id, page.caller.project_id)
    found = rows_of(page, kind, cursor, organization_id=house.id, **where)
    return show(page, name, title, house, form=form, error=error, **found, **more(house))


def _projects(page: Page, organization: str | None, cursor: str | None = None, **more: Any) -> Response:
    only: dict[str, Any] = {} if page.caller.project_id is None else {"id": page.caller.project_id}
    return _list(page, "projects", "Projects", Project, organization, cursor, **only, **more)


@router.get("/admin/projects")
def projects(page: Signed, organization: Named = None, cursor: Cursor = None) -> Response:
    """The projects of an organization."""
    return _projects(page, organization, cursor)


@router.post("/admin/projects")
def make_project(page: Signed, form: Sent, organization: Named = None) -> Response:
    """A new project."""
    try:
        made = page.run(tenancy.create_project, name=form.text("name"), organization=organization)
    except CallerError as error:
        return _projects(page, organization, form=form, error=error)
    return page.go(back("projects", organization), said=f"The project {made.name} was made.")


@router.post("/admin/projects/{project_id}/archive")
def archive(page: Signed, form: Sent, project_id: str, organization: Named = None) -> Response:
    """Put a project away, or take it up again."""
    away = form.text("archived") == "yes"
    changed = page.run(tenancy.change_project, project_id, archived=away)
    return page.go(
        back("projects", organization), said=f"The project {changed.name} is {'archived' if away else 'open again'}."
    )  # fmt: skip


def _members(page: Page, organization: str | None, cursor: str | None = None, **more: Any) -> Response:
    return _list(page, "members", "Members", Member, organization, cursor, lambda house: {"roles": ROLES}, **more)


@router.get("/admin/members")
def members(page: Signed, organization: Named = None, cursor: Cursor = None) -> Response:
    """The members of an organization, and their roles."""
    return _members(page, organization, cursor)


@router.post("/admin/members")
def make_member(page: Signed, form: Sent, organization: Named = None) -> Response:
    """A new member."""
    try:
        made = page.run(
            tenancy.create_member, name=form.text("name"), role=_role(form), organization=organization
        )  # fmt: skip
    except CallerError as error:
        return _members(page, organization, form=form, error=error)
    return page.go(back("members", organization), said=f"{made.name} was added. Make a key for them next.")


@router.post("/admin/members/{member_id}")
def change_member(page: Signed, form: Sent, member_id: str, organization: Named = None) -> Response:
    """Another role, or the door."""
    disabled = {"yes": True, "no": False}.get(form.text("disabled"))
    try:
        role = _role(form) if form.text("role") else None
        changed = page.run(tenancy.change_member, member_id, role=role, disabled=disabled)
    except CallerError as error:
        return _members(page, organization, form=form, error=error)
    words = f"{changed.name} is {changed.role.value}{', shut out' if changed.disabled else ''}."
    return page.go(back("members", organization), said=words)


def _role(form: Form) -> Role:
    try:
        return Role(form.text("role"))
    except ValueError:
        raise Invalid("role is not one.", field="role", allowed=", ".join(Role)) from None


def _keys(page: Page, organization: str | None, cursor: str | None = None, **more: Any) -> Response:
    def known(house: Organization) -> dict[str, Any]:
        everyone = page.may(Permission.MEMBERS_WRITE, house.id)
        people = page.control.reads.find(Member, organization_id=house.id, limit=500)
        homes = page.control.reads.find(Project, organization_id=house.id, limit=500)
        return {
            "people": [(one.id, one.name) for one in people if everyone or one.id == page.caller.member_id],
            "names": {one.id: one.name for one in [*people, *homes]},
            "homes": [("", "all that the member may see"), *((one.id, one.name) for one in homes)],
            "lifetimes": LIFETIMES, "everyone": everyone, "made": "",
        }  # fmt: skip

    house = page.call.organization(organization)
    only: dict[str, Any] = {}
    if not page.may(Permission.MEMBERS_WRITE, house.id):
        only = {"member_id": page.caller.member_id}
    made = more.pop("made", "")
    return _list(
        page, "keys", "Keys", Key, organization, cursor, lambda house: {**known(house), "made": made}, newest=True,
        **only, **more,
    )  # fmt: skip


@router.get("/admin/keys")
def keys(page: Signed, organization: Named = None, cursor: Cursor = None) -> Response:
    """The keys of an organization for its admins, one's own for everybody else."""
    return _keys(page, organization, cursor)


@router.post("/admin/keys")
def make_key(page: Signed, form: Sent, organization: Named = None) -> Response:
    """A new key, shown this once: in the answer itself, so that no address and no cookie ever holds it."""
    try:
        lives = form.maybe("lives")
        _, text = page.run(
            access.create_key, name=form.text("name"), member=form.maybe("member"), project=form.maybe("project"),
            lives_us=None if lives is None else parse_span_us(lives, field="lives"),
        )  # fmt: skip
    except CallerError as error:
        return _keys(page, organization, form=form, error=error)
    return _keys(page, organization, made=text)


@router.post("/admin/keys/{key_id}/revoke")
def revoke_key(page: Signed, form: Sent, key_id: str, organization: Named = None) -> Response:
    """End a key, and with it the sessions that it signed in."""
    gone = page.run(access.revoke_key, key_id)
    if gone.id == page.caller.key_id:
        return page.go("/sign-in", said="The key of this session was revoked.")
    return page.go(back("keys", organization), said=f"The key {gone.name} is revoked.")


def _quotas(page: Page, organization: str | None, cursor: str | None = None, **more: Any) -> Response:
    def known(house: Organization) -> dict[str, Any]:
        reads = page.control.reads
        people = reads.find(Member, organization_id=house.id, limit=500)
        homes = reads.find(Project, organization_id=house.id, limit=500)
        scopes = [(f"project {one.id}", f"project {one.name}") for one in homes]
        scopes += [(f"member {one.id}", f"member {one.name}") for one in people]
        if page.may(Permission.ORGANIZATIONS_WRITE, house.id):
            scopes.insert(0, (f"organization {house.id}", f"organization {house.name}"))
        names = {one.id: one.name for one in [house, *homes, *people]}
        return {"scopes": scopes, "names": names, "holds": page.ask(_held, list(names))}

    return _list(page, "quotas", "Quotas", Quota, organization, cursor, known, **more)


def _held(world: Any, context: Any, caller: Any, ids: list[str]) -> dict[str, dict[str, int]]:
    """What each scope holds now."""
    meters = ("gpu_milli", "cpu_milli", "memory_mib")
    return {one: {meter: world.derived.holdings.of(one, meter) for meter in meters} for one in ids}


@router.get("/admin/quotas")
def quotas(page: Signed, organization: Named = None, cursor: Cursor = None) -> Response:
    """What an organization, its projects and its members may hold at once, and what they hold."""
    return _quotas(page, organization, cursor)


@router.post("/admin/quotas")
def put_quota(page: Signed, form: Sent, organization: Named = None) -> Response:
    """Set limits; an empty field is no limit."""
    try:
        scope, _, scope_id = form.text("scope").partition(" ")
        if scope not in set(Scope):
            raise Invalid("scope is not one.", field="scope", allowed=", ".join(Scope))
        memory = form.maybe("memory_mib")
        made = page.run(
            access.put_quota, scope=Scope(scope), scope_id=scope_id, gpu_milli=_milli(form, "gpu_milli"),
            cpu_milli=_milli(form, "cpu_milli"), jobs=form.number("jobs"),
            memory_mib=None if memory is None else parse_mib(memory, field="memory_mib"),
            **_kept(page, scope, scope_id),
        )  # fmt: skip
    except CallerError as error:
        return _quotas(page, organization, form=form, error=error)
    return page.go(back("quotas", organization), said=f"The quota of the {made.scope.value} is set.")


def _kept(page: Page, scope: str, scope_id: str) -> dict[str, Any]:
    """What a quota says besides its limits, which the form leaves as it is."""
    known = page.control.reads.find(Quota, scope=scope, scope_id=scope_id, limit=1)
    if not known:
        return {}
    old = known[0]
    return {
        "guaranteed": old.guaranteed, "borrow": old.borrow, "lend": old.lend, "weight": old.weight,
        "parent": old.parent_id or None,
    }  # fmt: skip


def _milli(form: Form, name: str) -> int | None:
    """A field such as `1.5` in thousandths."""
    text = form.text(name)
    if not text:
        return None
    whole, _, part = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) <= 9) or not (part + "0").isdigit() or len(part) > 3:
        raise Invalid(f"{name} is {text[:50]!r}.", field=name, value=text[:50], allowed="a number such as 8 or 0.5")
    return int(whole) * 1000 + int(part.ljust(3, "0"))


@router.get("/admin/sessions")
def sessions(page: Signed, organization: Named = None, cursor: Cursor = None) -> Response:
    """The browsers that are signed in."""
    house = page.call.organization(organization)
    only: dict[str, Any] = {} if page.may(Permission.MEMBERS_WRITE, house.id) else {"member_id": page.caller.member_id}

    def known(house: Organization) -> dict[str, Any]:
        people = page.control.reads.find(Member, organization_id=house.id, limit=500)
        return {"names": {one.id: one.name for one in people}}

    return _list(
        page, "sessions", "Sessions", Session, organization, cursor, known, newest=True, ended_us=None, **only
    )  # fmt: skip


@router.post("/admin/sessions/{session_id}/end")
def end_session(page: Signed, form: Sent, session_id: str, organization: Named = None) -> Response:
    """Sign somebody's browser out."""
    page.run(commands_sessions.end_session, session_id)
    return page.go(back("sessions", organization), said="That browser is signed out.")


def back(name: str, organization: str | None) -> str:
    """The list again, of the same organization."""
    return f"/admin/{name}" + (f"?{urlencode({'organization': organization})}" if organization else "")
