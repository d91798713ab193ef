"""The records of tenancy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What a member may do, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    FINANCE = "finance"  # sees all of its organization's money, runs nothing
    MEMBER = "member"
    VIEWER = "viewer"


class Scope(StrEnum):
    """What a limit is put on."""

    ORGANIZATION = "organization"
    PROJECT = "project"
    MEMBER = "member"


class AtLimit(StrEnum):
    """What happens when a budget is used up; each but the first does what the ones before do, too."""

    WARN = "warn"  # it is told
    BLOCK = "block"  # nothing new is started
    STOP = "stop"  # what runs is stopped, after the warning that it asked for


@dataclass(frozen=True, slots=True)
class Organization:
    """A customer, or a department that is billed on its own. `operator` marks the one that runs this cloud."""

    id: str
    name: str
    created_us: int
    operator: bool = False
    prepaid: bool = False
    currency: str = "USD"
    number: int = 0  # small and stable: the engine derives the user id of its jobs from it
    version: int = 1


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    organization_id: str
    name: str
    created_us: int
    archived: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A person or a program inside one organization; `name` is unique there (usually an e-mail address)."""

    id: str
    organization_id: str
    name: str
    role: Role
    created_us: int
    disabled: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: `hf_<id without prefix>_<secret>`; only the SHA-256 of the secret is kept.

    `project_id` narrows it to one project, `scopes` to some permissions (empty: all that the member has).
    """

    id: str
    organization_id: str
    member_id: str
    name: str
    secret_sha256: str
    created_us: int
    project_id: str | None = None
    scopes: tuple[str, ...] = ()
    expires_us: int | None = None
    revoked_us: int | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has signed in with a key, and reaches as far as that key; only the SHA-256 of its secret is kept.

    `device` is what the browser calls itself, `address` where it signed in from; both are text of others. `seen_us` is
    when it was last used, to a few minutes. `reason` says why it ended: "signed_out" or "expired".
    """

    id: str
    organization_id: str
    member_id: str
    key_id: str
    secret_sha256: str
    created_us: int
    seen_us: int
    expires_us: int
    device: str = ""
    address: str = ""
    ended_us: int | None = None
    reason: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Quota:
    """What a scope may hold at one moment. One per (scope, scope_id).

    The limits are hard (None: no limit). `guaranteed` is its own, by meter (`gpu_milli`, `cpu_milli`, `memory_mib`);
    beyond that it borrows what its siblings do not use, at most `borrow` (a meter that is absent: any amount); they
    borrow at most `lend` of it (absent: all). `weight` is its part of fair shares, in thousandths. `parent_id` is the
    organization that an organization borrows under ("": the cloud). `kinds` are hard limits on accelerators of one
    kind, in thousandths, by kind.
    """

    id: str
    organization_id: str
    scope: Scope
    scope_id: str
    gpu_milli: int | None = None
    cpu_milli: int | None = None
    memory_mib: int | None = None
    jobs: int | None = None  # not yet ended
    guaranteed: dict[str, int] = field(default_factory=dict)
    borrow: dict[str, int] = field(default_factory=dict)
    lend: dict[str, int] = field(default_factory=dict)
    weight: int = 1000
    parent_id: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """Money that a scope may spend in a month (UTC). Warns at `warn_percent`; `at_limit` says what follows at 100.

    One that is `removed` binds nobody; the next budget of its scope is a new one. `operator`: whoever runs the cloud
    put it on a customer, who cannot change it.
    """

    id: str
    organization_id: str
    scope: Scope
    scope_id: str
    amount_nano: int
    currency: str = "USD"
    warn_percent: int = 80
    at_limit: AtLimit = AtLimit.STOP
    warned_month: str = ""  # the month whose warning has been given
    stopped_month: str = ""
    removed: bool = False
    operator: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class Secret:
    """A named value for jobs of a project; `sealed` is encrypted with the key that lies beside the store."""

    id: str
    organization_id: str
    project_id: str
    name: str
    sealed: str
    created_us: int
    deleted_us: int | None = None
    version: int = 1
