"""What each role may do: one table, and the caller who is asked against it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headframe.base.errors import Forbidden, NotFound
from headframe.tenants.records import Role


class Permission(StrEnum):
    """A right. The part before the colon is the subject; keys can be narrowed to a list of these."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"  # submit, and stop one's own
    JOBS_ADMIN = "jobs:admin"  # stop those of others
    FILES_WRITE = "files:write"
    DATASETS_WRITE = "datasets:write"
    SECRETS_READ = "secrets:read"  # names only, never values
    SECRETS_WRITE = "secrets:write"
    TENANTS_READ = "tenants:read"
    PROJECTS_WRITE = "projects:write"
    MEMBERS_WRITE = "members:write"
    KEYS_WRITE = "keys:write"  # one's own; those of others need MEMBERS_WRITE
    LIMITS_WRITE = "limits:write"  # quotas and budgets of projects and members
    USAGE_READ = "usage:read"
    USAGE_WRITE = "usage:write"  # tell of use by events, for which the organization pays
    INVOICES_READ = "invoices:read"
    BILLING_WRITE = "billing:write"  # how the organization stands on its invoices
    FLEET_READ = "fleet:read"
    RESERVATIONS_READ = "reservations:read"
    RESERVATIONS_WRITE = "reservations:write"  # within the organization's quota of GPUs; the operator's admins: any
    PRICES_READ = "prices:read"
    # Only for the organization that runs the cloud:
    ORGANIZATIONS_WRITE = "organizations:write"
    FLEET_WRITE = "fleet:write"
    PRICES_WRITE = "prices:write"
    CREDITS_WRITE = "credits:write"
    INVOICES_WRITE = "invoices:write"  # who sells, rules of tax, credit notes
    LEDGER_READ = "ledger:read"


OPERATOR_ONLY = frozenset(
    {
        Permission.ORGANIZATIONS_WRITE,
        Permission.FLEET_WRITE,
        Permission.PRICES_WRITE,
        Permission.CREDITS_WRITE,
        Permission.INVOICES_WRITE,
        Permission.LEDGER_READ,
    }
)
_VIEWER = frozenset(
    {
        Permission.JOBS_READ, Permission.TENANTS_READ, Permission.USAGE_READ, Permission.FLEET_READ,
        Permission.PRICES_READ, Permission.SECRETS_READ, Permission.RESERVATIONS_READ,
    }
)  # fmt: skip
_MEMBER = _VIEWER | {
    Permission.JOBS_WRITE, Permission.FILES_WRITE, Permission.DATASETS_WRITE, Permission.KEYS_WRITE,
}  # fmt: skip
_ADMIN = _MEMBER | OPERATOR_ONLY | {
    Permission.JOBS_ADMIN, Permission.SECRETS_WRITE, Permission.PROJECTS_WRITE, Permission.MEMBERS_WRITE,
    Permission.LIMITS_WRITE, Permission.USAGE_WRITE, Permission.INVOICES_READ, Permission.BILLING_WRITE,
    Permission.RESERVATIONS_WRITE,
}  # fmt: skip
_FINANCE = _VIEWER | {
    Permission.INVOICES_READ, Permission.BILLING_WRITE, Permission.LEDGER_READ, Permission.INVOICES_WRITE,
    Permission.PRICES_WRITE, Permission.CREDITS_WRITE,
}  # fmt: skip
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: _ADMIN,  # and, beyond the table: only an owner makes or unmakes an owner
    Role.ADMIN: _ADMIN,
    Role.FINANCE: _FINANCE,
    Role.MEMBER: _MEMBER,
    Role.VIEWER: _VIEWER,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a member of an organization, through a key that may be narrowed to a project or to some rights.

    `session_id` is that of the browser that signed in with the key, "" where the key itself was sent.
    """

    organization_id: str
    member_id: str
    key_id: str
    role: Role
    operator: bool = False
    project_id: str | None = None
    scopes: tuple[str, ...] = ()
    session_id: str = ""

    def may(self, permission: Permission, organization_id: str, project_id: str | None = None) -> bool:
        """Whether the caller has the right there. The operator's admins and finance have it in every organization."""
        if permission not in PERMISSIONS[self.role] or (self.scopes and permission not in self.scopes):
            return False
        if permission in OPERATOR_ONLY and not self.operator:
            return False
        if self.project_id is not None and project_id != self.project_id:
            return False
        if organization_id == self.organization_id:
            return True
        return self.operator and self.role in (Role.OWNER, Role.ADMIN, Role.FINANCE)

    def need(self, permission: Permission, organization_id: str, project_id: str | None = None) -> None:
        """Raise when the right is missing: `NotFound` for what the caller may not even see, else `Forbidden`."""
        if self.may(permission, organization_id, project_id):
            return
        if organization_id != self.organization_id and not self.operator:
            raise NotFound("There is no such thing here.", next_step="Check the name or id, and the key in use.")
        raise Forbidden(
            f"The key may not do this: it needs the right {permission.value!r}.",
            next_step="Ask an admin of the organization, or use a key with that right.",
            details={"permission": permission.value, "role": self.role.value},
        )
