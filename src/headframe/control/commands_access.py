"""What people may ask for about access and limits: keys, quotas, secrets, and versions of datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headframe.base.changes import NOTHING, Changes
from headframe.base.errors import Forbidden, Invalid
from headframe.base.quantities import counted
from headframe.control.commands_tenancy import event, expect, only_owner
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization, find_project, is_same_house, nothing_here, seen
from headframe.control.world import World
from headframe.fleet.records import Cluster, Region
from headframe.scheduling.where import marks
from headframe.tenants.keys import key_text, secret_hash
from headframe.tenants.names import label, secret_name, slug
from headframe.tenants.quotas import check_quota
from headframe.tenants.records import Key, Member, Organization, Project, Quota, Role, Scope, Secret
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.readers import cluster
from headframe.workloads.records import Dataset

SECRET_LIMIT = 64 << 10  # characters of one secret's value


def create_key(
    world: World,
    context: Context,
    caller: Caller,
    *,
    name: str,
    member: str | None = None,
    project: str | None = None,
    scopes: tuple[str, ...] = (),
    lives_us: int | None = None,
) -> tuple[Changes, tuple[Key, str]]:
    """A new key and its text, which is shown this once. No key reaches further than the one that makes it."""
    owner = _member_for_key(world, caller, member)
    home: Project | None = None
    if project is not None or caller.project_id is not None:
        home = find_project(world, context, caller, project, owner.organization_id)
        if home.organization_id != owner.organization_id:
            raise nothing_here("project", project or "")
    caller.need(Permission.KEYS_WRITE, owner.organization_id, home.id if home else None)
    scopes = _scopes_within(caller, scopes)
    making = world.get(Key, caller.key_id)
    ends = [context.now_us + lives_us] if lives_us is not None else []
    if making is not None and making.expires_us is not None:
        ends.append(making.expires_us)
    secret = context.ids.secret()
    key = Key(
        id=context.ids.new("key"),
        organization_id=owner.organization_id,
        member_id=owner.id,
        name=label(name, field="name"),
        secret_sha256=secret_hash(secret),
        created_us=context.now_us,
        project_id=home.id if home else None,
        scopes=scopes,
        expires_us=min(ends, default=None),
    )
    told = event(context, "key_created", key, f"A key {key.name!r} for {owner.name} was made.", by=caller)
    return Changes((key,), (told,)), (key, key_text(key.id, secret))


def revoke_key(world: World, context: Context, caller: Caller, key_id: str) -> tuple[Changes, Key]:
    """End a key at once. Anybody may end the very key in use."""
    found = world.get(Key, key_id)
    if found is None or found.id != caller.key_id:
        found = seen(world, caller, Key, key_id, Permission.KEYS_WRITE)
        if found.member_id != caller.member_id:
            caller.need(Permission.MEMBERS_WRITE, found.organization_id, found.project_id)
            if world.all(Member)[found.member_id].role is Role.OWNER:
                only_owner(caller)
    if found.revoked_us is not None:
        return NOTHING, found
    gone = replace(found, revoked_us=context.now_us, version=found.version + 1)
    told = event(context, "key_revoked", gone, f"The key {gone.name!r} was revoked.", by=caller)
    return Changes((gone,), (told,)), gone


def put_quota(
    world: World,
    context: Context,
    caller: Caller,
    *,
    scope: Scope,
    scope_id: str | None = None,
    gpu_milli: int | None = None,
    cpu_milli: int | None = None,
    memory_mib: int | None = None,
    jobs: int | None = None,
    guaranteed: Mapping[str, int] | None = None,
    borrow: Mapping[str, int] | None = None,
    lend: Mapping[str, int] | None = None,
    weight: int = 1000,
    parent: str | None = None,
    kinds: Mapping[str, int] | None = None,
    version: int | None = None,
) -> tuple[Changes, Quota]:
    """Set what a scope may hold at once; None takes a limit away. An organization's own is set by the operator.

    Raises `QuotaContradiction` and `QuotaCycle` when it cannot stand beside the other quotas.
    """
    organization_id, scope_id = scope_place(world, context, caller, scope, scope_id)
    above = find_organization(world, context, caller, parent).id if parent else ""
    old = next((each for each in world.all(Quota).values() if each.scope is scope and each.scope_id == scope_id), None)
    expect(old, version)
    quota = Quota(
        id=old.id if old else context.ids.new("quo"),
        organization_id=organization_id,
        scope=scope,
        scope_id=scope_id,
        gpu_milli=gpu_milli,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        jobs=jobs,
        guaranteed=dict(sorted((guaranteed or {}).items())),
        borrow=dict(sorted((borrow or {}).items())),
        lend=dict(sorted((lend or {}).items())),
        weight=weight,
        parent_id=above,
        kinds=dict(sorted((kinds or {}).items())),
        version=old.version if old else 1,
    )
    names = {one.id: one.name for one in world.all(Organization).values() if is_same_house(caller, one.id)}
    check_quota(quota, world.derived.quotas, names)
    if quota == old:
        return NOTHING, quota
    quota = replace(quota, version=quota.version + 1) if old else quota
    told = event(context, "quota_set", quota, f"The quota of {scope.value} {scope_id} was set.", by=caller)
    return Changes((quota,), (told,)), quota


def scope_place(world: World, context: Context, caller: Caller, scope: Scope, scope_id: str | None) -> tuple[str, str]:
    """(organization id, id) of what a limit is put on, once the caller may put it there."""
    if scope is Scope.ORGANIZATION:
        house = find_organization(world, context, caller, scope_id)
        caller.need(Permission.LIMITS_WRITE, house.id)
        caller.need(Permission.ORGANIZATIONS_WRITE, house.id)
        return house.id, house.id
    if scope_id is None:
        raise Invalid(
            "scope_id is missing.", field="scope_id", allowed=f"the id of a {scope.value}",
            next_step=f"Name the {scope.value} that the limit is for.",
        )  # fmt: skip
    kind: type[Any] = Project if scope is Scope.PROJECT else Member
    record = seen(world, caller, kind, scope_id, Permission.LIMITS_WRITE)
    return record.organization_id, record.id


def put_secret(
    world: World,
    context: Context,
    caller: Caller,
    name: str,
    *,
    value: str,
    project: str | None = None,
    version: int | None = None,
) -> tuple[Changes, Secret]:
    """Keep a value for the jobs of a project, sealed."""
    home = find_project(world, context, caller, project)
    caller.need(Permission.SECRETS_WRITE, home.organization_id, home.id)
    name = secret_name(name, field="name")
    if not value or len(value) > SECRET_LIMIT:
        raise Invalid("value is empty or too long.", field="value", allowed=f"1 to {SECRET_LIMIT} characters")
    old = _stored_secret(context, home.id, name)
    expect(old if old is not None and old.deleted_us is None else None, version)
    secret = Secret(
        id=old.id if old else context.ids.new("sec"),
        organization_id=home.organization_id,
        project_id=home.id,
        name=name,
        sealed=context.vault.seal(value),
        created_us=context.now_us,
        version=old.version + 1 if old else 1,
    )
    told = event(context, "secret_set", secret, f"The secret {name!r} was set.", by=caller)
    return Changes((secret,), (told,)), secret


def delete_secret(
    world: World,
    context: Context,
    caller: Caller,
    name: str,
    *,
    project: str | None = None,
    version: int | None = None,
) -> tuple[Changes, Secret]:
    """Take a secret away: its sealed value is wiped, jobs that start later do not find it."""
    home = find_project(world, context, caller, project)
    caller.need(Permission.SECRETS_WRITE, home.organization_id, home.id)
    old = _stored_secret(context, home.id, name)
    if old is None or old.deleted_us is not None:
        raise nothing_here("secret", name)
    expect(old, version)
    gone = replace(old, sealed="", deleted_us=context.now_us, version=old.version + 1)
    told = event(context, "secret_deleted", gone, f"The secret {name!r} was deleted.", by=caller)
    return Changes((gone,), (told,)), gone


def create_dataset(
    world: World,
    context: Context,
    caller: Caller,
    *,
    name: str,
    manifest: str,
    size_bytes: int,
    files: int,
    project: str | None = None,
    lives_in: Sequence[str] = (),
    stays: bool = False,
) -> tuple[Changes, Dataset]:
    """The next version of a named set of files. The caller has looked into the manifest.

    `lives_in` says where it is near (clusters, regions or labels of clusters); with `stays` jobs read it only there.
    """
    home = find_project(world, context, caller, project)
    caller.need(Permission.DATASETS_WRITE, home.organization_id, home.id)
    places = tuple(dict.fromkeys(str(cluster(name, "lives_in")) for name in lives_in))
    _check_places(world, places, stays)
    last = context.reads.find(
        Dataset, organization_id=home.organization_id, name=slug(name, field="name"), newest=True, limit=1
    )
    dataset = Dataset(
        id=context.ids.new("dat"),
        organization_id=home.organization_id,
        project_id=home.id,
        name=name,
        number=last[0].number + 1 if last else 1,
        manifest=manifest,
        size_bytes=size_bytes,
        files=files,
        created_us=context.now_us,
        lives_in=places,
        stays=stays,
    )
    told = event(context, "dataset_created", dataset, f"{name}@{dataset.number}: {counted(files, 'file')}.", by=caller)
    return Changes((dataset,), (told,)), dataset


def _check_places(world: World, places: Sequence[str], stays: bool) -> None:
    """Every place must be one of now: a word that is wrong would keep all jobs away for ever."""
    regions = world.all(Region)
    known = {
        name for one in world.all(Cluster).values() for name in (one.name, regions[one.region_id].name, *marks(one))
    }
    for name in places:
        if name not in known:
            raise Invalid(
                f"There is no cluster, region or label {name!r}.",
                field="lives_in", value=name, allowed=", ".join(sorted(known)),
            )  # fmt: skip
    if stays and not places:
        raise Invalid("Where it stays is not said.", field="lives_in", allowed="clusters, regions or label=value")


def _member_for_key(world: World, caller: Caller, member: str | None) -> Member:
    """Whom the key is for. One's own needs no more right than to make keys; an owner's can only be made by owners."""
    if member is None or member == caller.member_id:
        own: Member = world.all(Member)[caller.member_id]
        return own
    other: Member = seen(world, caller, Member, member, Permission.MEMBERS_WRITE)
    if other.role is Role.OWNER:
        only_owner(caller)
    return other


def _scopes_within(caller: Caller, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """The rights of the new key, sorted; those of the making key when none are named and it is narrowed itself."""
    known = [each.value for each in Permission]
    for scope in scopes:
        if scope not in known:
            raise Invalid(
                f"scopes holds {scope!r}, which is not a right.",
                field="scopes", value=scope, allowed=", ".join(known),
            )  # fmt: skip
        if caller.scopes and scope not in caller.scopes:
            raise Forbidden(
                f"This key lacks the right {scope!r} and cannot give it.",
                next_step="Name only rights that this key has.",
                details={"permission": scope},
            )
    return tuple(sorted({*scopes} or {*caller.scopes}))


def _stored_secret(context: Context, project_id: str, name: str) -> Secret | None:
    found = context.reads.find(Secret, project_id=project_id, name=name, limit=1)
    return found[0] if found else None
